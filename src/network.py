"""What base models have in common: tables of embeddings, a head that makes logits of their rows, and what influences need.

A model is named by --model: `ncf`, `mf`, `lightgcn` (the modules of these names), or a file of one's own that defines
`Model`, a Network. See docs/maths.md, section 1, and docs/CONTRIBUTING.md.
"""
from __future__ import annotations

import importlib
from collections.abc import Iterator

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from .common import plugins
from .common.errors import InputError
from .common.share import WHOLE, Share
from .common.terminal import progress
from .config import Config
from .constants import MODELS
from .dataset import Dataset


class Repeat(nn.Cell):
    """Repeats every row: (g, width) and a number n -> (g * n, width).

    Its gradient sums over the repeats by a product with stacked identities, on a CPU several times faster than a
    reduction over the middle axis.
    """

    def __init__(self, width: int):
        super().__init__()
        self.identity = Tensor(np.eye(width, dtype=np.float32))
        self.matmul = ops.MatMul()
        self.tile = ops.Tile()

    def construct(self, x, n):
        return self.tile(x, (1, n)).reshape(-1, x.shape[1])

    def bprop(self, x, n, out, dout):
        return self.matmul(dout.reshape(x.shape[0], -1), self.tile(self.identity, (n, 1))), n


class Network(nn.Cell):
    """A base model.

    Args:
        tables: dict of name to initial array (num_users or num_items, width), the tables that are trained; as in TABLES.
        head: cell that maps rows of SCORED, (g, width) of each users' table and (g * n, width) of each items' table, to the
            (g, n) logits of g users and n items for each, items of a user side by side.
        shape: dict of numbers, or lists of them, by option: what a checkpoint must agree with beside the tables.

    TABLES: names of the trained tables, those of users first.
    SCORED: names of the tables that logits are read from, in the same order; a subclass that names others than TABLES has
        them as parameters without gradient, computed from TABLES by its `propagation`.
    USER_TABLES: how many of them, in front, are of users.
    """
    TABLES: tuple[str, ...] = ()
    SCORED: tuple[str, ...] = ()
    USER_TABLES = 1

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "TABLES" in vars(cls) and "SCORED" not in vars(cls):
            cls.SCORED = cls.TABLES

    def __init__(self, tables: dict[str, np.ndarray], head: nn.Cell, shape: dict):
        super().__init__()
        self.shape = shape
        for name in self.TABLES:
            setattr(self, name, Parameter(Tensor(np.asarray(tables[name], np.float32)), name=name))
        self.head = head
        self.gather = ops.Gather()

    @classmethod
    def of(cls, num_users: int, num_items: int, config: Config) -> Network:
        """A fresh model of so many users and items, as wide as the settings say."""
        return cls(num_users, num_items, config)

    def construct(self, user, item):
        """(g,) users and (g, n) items of each, int32 -> (g, n) logits."""
        item = item.reshape(-1)
        rows = ()
        for k, name in enumerate(self.SCORED):
            rows += (self.gather(getattr(self, name), user if k < self.USER_TABLES else item, 0),)
        return self.head(*rows)

    def values(self) -> dict[str, np.ndarray]:
        """Copies of all parameters: dict of name to float32 array."""
        # the path of attributes, since a parameter's own name changes with the cells that contain it
        return {name: p.asnumpy().copy() for name, p in self.parameters_and_names()}

    def set_values(self, values: dict) -> None:
        """Puts back what `values` returned."""
        for name, p in self.parameters_and_names():
            p.set_data(Tensor(values[name]))

    def propagation(self, dataset: Dataset) -> nn.Cell | None:
        """What makes SCORED of TABLES while the model trains on a Dataset; None where they are the same.

        Returns:
            A cell of as many tables to as many, linear and symmetric, so that it takes gradients the way back too.
        """
        return None

    # What influences need; no other module knows the parameters by name.

    @classmethod
    def item_embeddings(cls, values: dict) -> np.ndarray:
        """(num_items, d) float32: all that the model knows of each item, side by side, scaled to length 1; see values."""
        embedding = cls.item_rows(values)
        return embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)

    @classmethod
    def user_rows(cls, values: dict) -> np.ndarray:
        """(num_users, d) float32: each user's own embedding row, their tables side by side; see values."""
        return np.concatenate([values[name] for name in cls.SCORED[:cls.USER_TABLES]], 1)

    @classmethod
    def with_user_rows(cls, values: dict, rows: np.ndarray) -> dict:
        """The parameters with other user rows, in the form of `user_rows`."""
        return {**values, **dict(zip(cls.SCORED, parted(rows, values, cls.SCORED[:cls.USER_TABLES])))}

    @classmethod
    def item_rows(cls, values: dict) -> np.ndarray:
        """(num_items, d) float32: each item's embedding row, its tables side by side; see values."""
        return np.concatenate([values[name] for name in cls.SCORED[cls.USER_TABLES:]], 1)

    @classmethod
    def with_item_rows(cls, values: dict, rows: np.ndarray) -> dict:
        """The parameters with other item rows, in the form of `item_rows`."""
        names = cls.SCORED[cls.USER_TABLES:]
        return {**values, **dict(zip(names, parted(rows, values, names)))}

    @classmethod
    def own_values(cls, values: dict, share: Share) -> dict:
        """Of the parameters of all users those of a rank: its own users' rows and all that is shared."""
        return {name: share.own(value) if name in cls._of_users() else value for name, value in values.items()}

    @classmethod
    def all_values(cls, values: dict, share: Share) -> dict:
        """The parameters of all users, of what each rank has; all ranks ask together."""
        return {name: share.of_all(value) if name in cls._of_users() else value for name, value in values.items()}

    @classmethod
    def _of_users(cls):
        return {*cls.TABLES[:cls.USER_TABLES], *cls.SCORED[:cls.USER_TABLES]}

    def rows_of_users(self, size: int, graph: bool = True) -> Rows:
        """Logits of user-item pairs with their gradients in the user's row, `size` pairs in one call.

        Without `graph` a model that can do without compiling one, for few pairs, does so.
        """
        return Rows(self, size)

    def rows_of_items(self, size: int, graph: bool = True) -> Rows:
        """The same with gradients in the item's row: its tables side by side."""
        return Rows(self, size, of_items=True)


def parted(rows: np.ndarray, values: dict, names: tuple[str, ...]) -> list[np.ndarray]:
    """Rows of several tables side by side, (n, d), as one float32 array for each of the tables `names`."""
    ends = np.cumsum([values[name].shape[1] for name in names])
    return [np.ascontiguousarray(part, np.float32) for part in np.split(rows, ends[:-1], 1)]


class _Gradient(nn.Cell):
    """Logits of pairs from their rows, and the gradients of these in the rows that `positions` names."""

    def __init__(self, head, positions, user_tables):
        super().__init__()
        self.value_and_grad = ms.value_and_grad(_Flat(head), positions)
        self.gather = ops.Gather()
        self.user_tables, self.several = user_tables, len(positions) > 1

    def construct(self, user, item, *tables):
        """(p,) users and items, then the tables -> (p, 1) logits, (p, d) gradients."""
        rows = ()
        for k in range(len(tables)):
            rows += (self.gather(tables[k], user if k < self.user_tables else item, 0),)
        logits, gradients = self.value_and_grad(*rows)
        return logits, ops.concat(gradients, 1) if self.several else gradients


class _Flat(nn.Cell):
    """The head for groups of one item."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def construct(self, *rows):
        return self.head(*rows)


class Rows:
    """Logits of any number of user-item pairs and their gradients in the row of one side, by automatic differentiation.

    Gradients are given in what the row enters the network by, w numbers: times `entry` (w, d) they are those in the row.
    Here that is the row itself.

    Args:
        net: Network.
        size: pairs of one call, so that the graph is compiled once.
        of_items: whether gradients are in the item's row.
    """

    def __init__(self, net: Network, size: int, of_items: bool = False):
        self.net, self.size, users = net, size, net.USER_TABLES
        names = net.SCORED
        self.mine = names[users:] if of_items else names[:users]
        positions = tuple(range(users, len(names)) if of_items else range(users))
        self.cell = _Gradient(net.head, positions, users)

    def start(self) -> None:
        """Takes over the parameters that the network has now."""
        self.shapes = values = self.net.values()
        self.tables = {name: Tensor(values[name]) for name in self.net.SCORED}
        self.entry = np.eye(sum(values[name].shape[1] for name in self.mine), dtype=np.float32)

    def take(self, rows: np.ndarray) -> None:
        """Goes by other rows than the network has: user k is then row k of (u, d) `rows`, until `start`."""
        users = self.net.SCORED[:self.net.USER_TABLES]
        self.tables.update({name: Tensor(part) for name, part in zip(users, parted(rows, self.shapes, users))})

    def __call__(self, user: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(p,) users and items -> (p,) logits and (p, w) gradients."""
        parts = []
        for start in range(0, len(user), self.size):
            u, i = user[start:start + self.size], item[start:start + self.size]
            logits, rows = self.cell(Tensor(np.resize(u, self.size)), Tensor(np.resize(i, self.size)),
                                     *self.tables.values())
            parts.append((logits.asnumpy()[:len(u), 0], rows.asnumpy()[:len(u)]))
        return tuple(part[0] if len(parts) == 1 else np.concatenate(part) for part in zip(*parts))


def model_class(name: str) -> type[Network]:
    """The class of a base model, built in or in a file that defines `Model`.

    Raises:
        InputError: the file is missing or unfit.
    """
    if not plugins.is_file(name):
        return getattr(importlib.import_module(f".{name}", __package__), MODELS[name])
    found = plugins.load(name, "model", "Model").Model
    if not (isinstance(found, type) and issubclass(found, Network) and found.TABLES):
        raise InputError(f"--model {name}: Model must be a Network with TABLES; see docs/CONTRIBUTING.md")
    return found


def build(dataset: Dataset, config: Config) -> Network:
    """A fresh network for the dataset, of the model and as wide as the settings say.

    Raises:
        InputError: a model of the user's own fails, or has logits of another shape than it should.
    """
    made = model_class(config.model)
    if not plugins.is_file(config.model):
        return _of_share(made, dataset, config)
    with plugins.guarded(config.model, "model", "failed"):
        net = _of_share(made, dataset, config)
        _try(net, config.model)
    return net


def _of_share(made, dataset, config):
    """The network of all users, or of several ranks the rank's part of it."""
    share, items = dataset.share, dataset.num_items
    if share is WHOLE:
        return made.of(dataset.num_users, items, config)
    everyone, net = made.of(len(dataset.all_user_ids), items, config), made.of(dataset.num_users, items, config)
    net.set_values(net.own_values(everyone.values(), share))
    net.shape = everyone.shape
    return net


def _try(net, name):
    """Raises InputError unless the network of a file does what one does, for two users and three items of each."""
    shape = net(Tensor(np.zeros(2, np.int32)), Tensor(np.zeros((2, 3), np.int32))).shape
    if tuple(shape) != (2, 3):
        raise InputError(f"--model {name}: has logits of shape {tuple(shape)} for 2 users with 3 items each, where "
                         "(2, 3) is needed; see docs/CONTRIBUTING.md")


def score(net: Network, candidates: np.ndarray, batch_size: int, users: np.ndarray | None = None) -> np.ndarray:
    """Logits of users' candidates.

    Args:
        net: Network.
        candidates: (u, n) int32 items, row by row those of the users.
        batch_size: pairs scored in one call.
        users: (u,) int32; None for all users of the network.

    Returns:
        (u, n) float32 logits.

    Raises:
        ValueError: there are not as many rows as users.
    """
    num_users, n = candidates.shape
    users = np.arange(net.shape["num_users"], dtype=np.int32) if users is None else users
    if len(users) != num_users:
        raise ValueError(f"candidates of {num_users} users, but {len(users)} are to be scored")
    size = min(num_users, max(1, batch_size // n))
    scores = np.empty(candidates.shape, np.float32)
    with progress(num_users, "scoring", "user") as bar:
        for start in range(0, num_users, size):
            start = min(start, num_users - size)  # every call has the same shape, so that the graph is compiled once
            chunk = slice(start, start + size)
            scores[chunk] = net(Tensor(users[chunk]), Tensor(candidates[chunk])).asnumpy()
            bar.update(size)
    return scores


def score_all(net: Network, users: np.ndarray, num_items: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Logits of all items, for a few users at a time; at most `batch_size` pairs in one call, but at least one user.

    Args:
        net: Network.
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
