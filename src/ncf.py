"""Neural collaborative filtering (He et al., WWW 2017): GMF beside a ReLU MLP, and its checkpoints.

The logit of user u and item i is  w_gmf . (p_u * q_i)  +  w_out . MLP([r_u, t_i])  +  b  with the GMF embeddings p, q
(num_factors wide) and the MLP embeddings r, t (layers[0] / 2 wide each). Items come in groups that share their user,
a positive with its negatives or the candidates of one user: what depends on the user alone is computed once a group.
"""
import errno
import json
import os
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from .constants import MOVIES_FILE, RATINGS_FILE
from .errors import InputError
from .stage import digest, whole_file
from .stat_utils import generator
from .terminal import progress

TABLES = ("user_gmf", "user_mlp", "item_gmf", "item_mlp")
BEST, ANCHOR = "best.", "anchor{}."  # prefixes of the sets of parameters in a checkpoint; {} is the number of an epoch


class Repeat(nn.Cell):
    """Repeats every row: (g, width) and a number n -> (g * n, width).

    Its gradient sums over the repeats by a product with stacked identities, on a CPU several times faster than a
    reduction over the middle axis.
    """

    def __init__(self, width):
        super().__init__()
        self.identity = Tensor(np.eye(width, dtype=np.float32))
        self.matmul = ops.MatMul()
        self.tile = ops.Tile()

    def construct(self, x, n):
        return self.tile(x, (1, n)).reshape(-1, x.shape[1])

    def bprop(self, x, n, out, dout):
        return self.matmul(dout.reshape(x.shape[0], -1), self.tile(self.identity, (n, 1))), n


class Head(nn.Cell):
    """Everything behind the embeddings: maps gathered rows to logits.

    Args:
        num_factors: width of the GMF embeddings.
        layers: widths of the MLP; layers[0] is its input.
        rng: NumPy generator of the initial weights.
    """

    def __init__(self, num_factors, layers, rng):
        super().__init__()
        half, widths = layers[0] // 2, layers[1:]
        first = widths[0] if widths else 1  # without a hidden layer the MLP embeddings go straight to the logit
        self.gmf_weight = _uniform(rng, (num_factors,), num_factors + layers[-1], "gmf_weight")
        self.user_weight = _uniform(rng, (first, half), layers[0], "user_weight")
        self.item_weight = _uniform(rng, (first, half), layers[0], "item_weight")
        self.first_bias = Parameter(Tensor(np.zeros(first, np.float32)), name="first_bias")
        self.weights = ms.ParameterTuple([_uniform(rng, (b, a), a, f"weight_{k + 2}")
                                          for k, (a, b) in enumerate(zip(widths, widths[1:]))])
        self.biases = ms.ParameterTuple([Parameter(Tensor(np.zeros(b, np.float32)), name=f"bias_{k + 2}")
                                         for k, b in enumerate(widths[1:])])
        self.has_hidden = bool(widths)
        if self.has_hidden:
            self.out_weight = _uniform(rng, (1, layers[-1]), num_factors + layers[-1], "out_weight")
            self.out_bias = Parameter(Tensor(np.zeros(1, np.float32)), name="out_bias")
        self.matmul = ops.MatMul(transpose_b=True)
        self.relu = ops.ReLU()
        self.bias_add = ops.BiasAdd()
        self.repeat_gmf, self.repeat_mlp = Repeat(num_factors), Repeat(first)

    def construct(self, user_gmf, user_mlp, item_gmf, item_mlp):
        """(g, f), (g, h), (g*n, f), (g*n, h) rows of g users and n items for each -> (g, n) logits."""
        g = user_gmf.shape[0]
        n = item_gmf.shape[0] // g
        hidden = self.bias_add(self.matmul(user_mlp, self.user_weight), self.first_bias)  # (g, l1)
        hidden = self.repeat_mlp(hidden, n) + self.matmul(item_mlp, self.item_weight)  # (g*n, l1)
        gmf = self.matmul(self.repeat_gmf(user_gmf, n) * item_gmf, self.gmf_weight.reshape(1, -1))  # (g*n, 1)
        return (self.after_first(hidden) + gmf).reshape(g, n)

    def after_first(self, hidden):
        """(p, l1) inputs of the first ReLU -> (p, 1) MLP part of the logit."""
        if self.has_hidden:
            hidden = self.relu(hidden)
            for k in range(len(self.weights)):
                hidden = self.relu(self.bias_add(self.matmul(hidden, self.weights[k]), self.biases[k]))
            hidden = self.bias_add(self.matmul(hidden, self.out_weight), self.out_bias)
        return hidden


def _uniform(rng, shape, fan_in, name):
    bound = fan_in ** -0.5
    return Parameter(Tensor(rng.uniform(-bound, bound, shape).astype(np.float32)), name=name)


class NCF(nn.Cell):
    """The network: four embedding tables and the head.

    Args:
        num_users, num_items: rows of the tables.
        num_factors, layers: widths, see Head.
        seed: of the initial weights.
        embedding_std: standard deviation of the initial embeddings.
    """

    def __init__(self, num_users, num_items, num_factors, layers, seed, embedding_std=0.01):
        super().__init__()
        rng = generator(seed, "initial weights")
        self.shape = {"num_users": num_users, "num_items": num_items, "num_factors": num_factors, "layers": list(layers)}
        widths = {"gmf": num_factors, "mlp": layers[0] // 2}
        rows = {"user": num_users, "item": num_items}
        tables = [rng.normal(0, embedding_std, (rows[name[:4]], widths[name[5:]])).astype(np.float32) for name in TABLES]
        self.user_gmf, self.user_mlp, self.item_gmf, self.item_mlp = (
            Parameter(Tensor(table), name=name) for name, table in zip(TABLES, tables))
        self.head = Head(num_factors, layers, rng)
        self.gather = ops.Gather()

    def construct(self, user, item):
        """(g,) users and (g, n) items of each, int32 -> (g, n) logits."""
        item = item.reshape(-1)
        return self.head(self.gather(self.user_gmf, user, 0), self.gather(self.user_mlp, user, 0),
                         self.gather(self.item_gmf, item, 0), self.gather(self.item_mlp, item, 0))

    def values(self):
        """Copies of all parameters: dict of name to float32 array."""
        # the path of attributes, since a parameter's own name changes with the cells that contain it
        return {name: p.asnumpy().copy() for name, p in self.parameters_and_names()}

    def set_values(self, values):
        """Puts back what `values` returned."""
        for name, p in self.parameters_and_names():
            p.set_data(Tensor(values[name]))


def build(dataset, config):
    """A fresh NCF for the dataset, as wide as the settings say."""
    return NCF(dataset.num_users, dataset.num_items, config.num_factors, config.layers, config.seed, config.embedding_std)


def score(net, candidates, batch_size):
    """Logits of each user's candidates.

    Args:
        net: NCF.
        candidates: (num_users, n) int32 items; row k belongs to user k.
        batch_size: pairs scored in one call.

    Returns:
        (num_users, n) float32 logits.
    """
    num_users, n = candidates.shape
    size = min(num_users, max(1, batch_size // n))
    users = np.arange(num_users, dtype=np.int32)
    scores = np.empty(candidates.shape, np.float32)
    with progress(num_users, "scoring", "user") as bar:
        for start in range(0, num_users, size):
            start = min(start, num_users - size)  # every call has the same shape, so that the graph is compiled once
            chunk = slice(start, start + size)
            scores[chunk] = net(Tensor(users[chunk]), Tensor(candidates[chunk])).asnumpy()
            bar.update(size)
    return scores


def score_all(net, users, num_items, batch_size):
    """Logits of all items, for a few users at a time; at most `batch_size` pairs in one call, but at least one user.

    Args:
        net: NCF.
        users: (u,) int array.
        num_items: of the network.
        batch_size: pairs.

    Yields:
        part: (c,) int array, the next users.
        scores: (c, num_items) float32, their logits.
    """
    users = np.asarray(users, np.int32)
    size = min(len(users), max(1, batch_size // num_items))
    items = Tensor(np.tile(np.arange(num_items, dtype=np.int32), (size, 1)))
    with progress(len(users), "scoring all items", "user") as bar:
        for first in range(0, len(users), size):
            start = min(first, len(users) - size)  # every call has the same shape, so that the graph is compiled once
            scores = net(Tensor(users[start:start + size]), items).asnumpy()[first - start:]
            yield users[first:first + size], scores
            bar.update(len(scores))


def save_checkpoint(path, sets, info):
    """Writes several sets of arrays whole to `path`.

    Args:
        path: of the checkpoint.
        sets: dict of prefix to dict of name to array, such as NCF.values() gives.
        info: dict of what belongs to them, as JSON can hold it.
    """
    parameters = [{"name": prefix + name, "data": Tensor(value)} for prefix, values in sets.items()
                  for name, value in values.items()]
    with whole_file(path) as temporary:
        try:
            ms.save_checkpoint(parameters, str(temporary), append_dict={"info": json.dumps(info)})
        except RuntimeError as e:  # MindSpore's word for what the system refused
            cause = e.__cause__ or e.__context__
            raise cause if isinstance(cause, OSError) else OSError(errno.EIO, str(e).splitlines()[0], str(path)) from e
        temporary.chmod(0o666 & ~_umask())


def _umask():
    """The process's mask of permissions, which MindSpore does not go by."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_checkpoint(path, remedy):
    """What save_checkpoint wrote.

    Returns:
        values: dict of prefixed name to array.
        info: dict.

    Raises:
        InputError: no checkpoint of this program, or a damaged one; `remedy` ends the message.
    """
    try:
        content = ms.load_checkpoint(str(path))
        info = json.loads(content.pop("info"))
        return {name: p.asnumpy() for name, p in content.items()}, info
    except (ValueError, KeyError, TypeError, RuntimeError) as e:
        raise InputError(f"{path}: is no checkpoint of this program, or is damaged; {remedy}") from e


def with_prefix(values, prefix):
    """The entries whose names begin with `prefix`, by the rest of their names."""
    return {name[len(prefix):]: value for name, value in values.items() if name.startswith(prefix)}


def check_checkpoint(path, info, wanted, remedy):
    """Raises InputError naming the first field of `wanted` that the checkpoint at `path` does not agree with."""
    for field, value in wanted.items():
        if info.get(field) != value:
            if field == "catalogue_sha256":
                raise InputError(f"{path}: was trained with other items or users than {MOVIES_FILE} and {RATINGS_FILE} have "
                                 f"now; {remedy}")
            if field == "ratings_sha256":
                raise InputError(f"{path}: was trained on another {RATINGS_FILE} than the one that is there now; {remedy}")
            raise InputError(f"{path}: was trained with {field}={info.get(field)}, but {field}={value} is needed here; "
                             f"{remedy}")


def load_checkpoint(path, dataset, config, ratings):
    """The network of a checkpoint, with the parameters that rank best.

    Args:
        path: written by save_checkpoint.
        dataset: Dataset that it must have been trained for.
        config: num_factors, layers and holdout must be those of the checkpoint.
        ratings: path of the ratings.csv that it must have been trained on.

    Returns:
        net: NCF.
        info: dict of what was saved with it.

    Raises:
        InputError: no such file, no checkpoint of this program, or one that differs: the message says in what.
    """
    (values,), info = _read_sets(path, dataset, config, ratings, lambda info: [BEST])
    net = build(dataset, config)
    net.set_values(values)
    return net, info


def load_anchors(path, dataset, config, ratings):
    """The parameters of a checkpoint that influences are computed from.

    Takes and raises what load_checkpoint does.

    Returns:
        anchors: dict of epoch to parameters, see NCF.values; the last is the anchor.
        info: dict of what was saved with them.
    """
    def prefixes(info):
        if "anchor_epochs" not in info:
            raise InputError(f"{path}: was written by an earlier version, without the epochs that influences come from; "
                             f"train anew with train.py --dataset {config.dataset} --overwrite")
        return [ANCHOR.format(epoch) for epoch in info["anchor_epochs"]]
    sets, info = _read_sets(path, dataset, config, ratings, prefixes)
    return dict(zip(info["anchor_epochs"], sets)), info


def _read_sets(path, dataset, config, ratings, prefixes):
    """The sets of parameters under `prefixes(info)` of a checkpoint that must fit, and its info."""
    command = f"train.py --dataset {config.dataset}" + " --masked" * config.masked
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; make it with {command} first, or set --checkpoint_path")
    values, info = read_checkpoint(path, f"train anew with {command}")
    check_checkpoint(path, info, {"dataset": config.dataset, "holdout": config.holdout, "num_users": dataset.num_users,
                                  "num_items": dataset.num_items, "num_factors": config.num_factors,
                                  "layers": list(config.layers), "ratings_sha256": digest(ratings),
                                  "catalogue_sha256": dataset.catalogue_sha256()},
                     f"train anew with {command}, or name another --checkpoint_path")
    sets = [with_prefix(values, prefix) for prefix in prefixes(info)]
    shapes = {name: value.shape for name, value in build(dataset, config).values().items()}
    if any({name: value.shape for name, value in one.items()} != shapes for one in sets):
        raise InputError(f"{path}: lacks parameters or has others than this network; train anew with {command}")
    return sets, info
