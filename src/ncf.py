"""Neural collaborative filtering (He et al., WWW 2017): GMF beside a ReLU MLP, and what influences need of it.

The logit of user u and item i is  w_gmf . (p_u * q_i)  +  w_out . MLP([r_u, t_i])  +  b  with the GMF embeddings p, q
(num_factors wide) and the MLP embeddings r, t (layers[0] / 2 wide each). Items come in groups that share their user,
a positive with its negatives or the candidates of one user: what depends on the user alone is computed once a group.
See docs/maths.md, section 1.
"""
import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from scipy.linalg import block_diag

from .config import Config
from .network import Network, Pairs, Repeat
from .stat_utils import generator

BLOCK = 4096  # pairs that NCFPairs looks at together


class Head(nn.Cell):
    """Everything behind the embeddings: maps gathered rows to logits. `layers`: widths of the MLP, its input first."""

    def __init__(self, num_factors: int, layers: list[int], rng: np.random.Generator):
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
        self.matmul, self.relu, self.bias_add = ops.MatMul(transpose_b=True), ops.ReLU(), ops.BiasAdd()
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


class NCF(Network):
    """The network: four embedding tables and the head; config: num_factors, layers; of the start embedding_std and seed."""
    TABLES, USER_TABLES = ("user_gmf", "user_mlp", "item_gmf", "item_mlp"), 2

    def __init__(self, num_users: int, num_items: int, config: Config):
        rng, rows = generator(config.seed, "initial weights"), {"user": num_users, "item": num_items}
        widths = {"gmf": config.num_factors, "mlp": config.layers[0] // 2}
        tables = {name: rng.normal(0, config.embedding_std, (rows[name[:4]], widths[name[5:]])) for name in self.TABLES}
        super().__init__(tables, Head(config.num_factors, config.layers, rng), {
            "num_users": num_users, "num_items": num_items, "num_factors": config.num_factors,
            "layers": list(config.layers)})

    @classmethod
    def in_layers(cls, named: dict) -> list:
        """Arrays or parameters by name as training/compiled.c takes them: tables, GMF weight, weight and bias of each layer.

        The first layer has two weights: the user's half, then the item's.
        """
        further = range(2, 2 + sum(name.startswith("head.weight_") for name in named))
        names = [f"head.{name}" for name in ("gmf_weight", "user_weight", "item_weight", "first_bias",
                                             *(f"{kind}_{k}" for k in further for kind in ("weight", "bias")),
                                             "out_weight", "out_bias")]
        return [named[name] for name in (*cls.TABLES, *names) if name in named]

    def pairs(self, size: int, of_items: bool = False) -> Pairs:
        if ms.get_context("device_target") != "CPU":
            return super().pairs(size, of_items)  # a graph, on the accelerator
        return NCFPairs(of_items)


class NCFPairs:
    """network.Pairs of an NCF, in blocks that a processor's cache holds: no graph is faster, and none has to be compiled.

    A user's row enters as its GMF part and its share of the first ReLU's inputs, an item's as it is. All blocks have one
    shape, for that moves the last bits of a product of matrices.
    """

    def __init__(self, of_items: bool = False):
        self.of_items = of_items

    def at(self, values: dict) -> None:
        *tables, self.gmf_weight, self.user_weight, self.item_weight, self.bias = (arrays := NCF.in_layers(values))[:8]
        self.layers = list(zip(arrays[8::2], arrays[9::2]))
        user_gmf, user_mlp, item_gmf, item_mlp = tables
        self.item_gmf, self.item_hidden = item_gmf * self.gmf_weight, item_mlp @ self.item_weight.T
        gmf, mlp = (np.eye(table.shape[1], dtype=np.float32) for table in (item_gmf, item_mlp))
        self.entry = block_diag(gmf, mlp if self.of_items else self.user_weight)
        self.take(np.concatenate([user_gmf, user_mlp], 1))

    def take(self, rows: np.ndarray) -> None:
        f = len(self.gmf_weight)
        self.user_gmf, self.user_hidden = rows[:, :f], rows[:, f:] @ self.user_weight.T + self.bias

    def __call__(self, user: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logit, gradient = np.empty(len(user), np.float32), np.empty((len(user), len(self.entry)), np.float32)
        for start in range(0, len(user), BLOCK):
            part = slice(start, start + BLOCK)
            number = len(user[part])
            found = self._block(np.resize(user[part], BLOCK), np.resize(item[part], BLOCK))
            logit[part], gradient[part] = found[0][:number], found[1][:number]
        return logit, gradient

    def of_all_items(self, user: int) -> np.ndarray:
        """(num_items,) logits of one user, several times as fast as by the graph."""
        x = self.item_hidden + self.user_hidden[user]
        for weight, bias in self.layers:
            x = np.maximum(x, 0, out=x) @ weight.T + bias
        return x[:, 0] + self.item_gmf @ self.user_gmf[user]

    def _block(self, user, item):
        x, inside = self.user_hidden.take(user, 0), []
        x += self.item_hidden.take(item, 0)
        for weight, bias in self.layers:
            inside.append(x > 0)
            x = (x * inside[-1]) @ weight.T + bias
        gradient = np.ones_like(x)
        for (weight, _), on in zip(self.layers[::-1], inside[::-1]):
            gradient = (gradient @ weight) * on
        user_gmf, item_gmf = self.user_gmf.take(user, 0), self.item_gmf.take(item, 0)
        logit = x[:, 0] + np.einsum("pf,pf->p", user_gmf, item_gmf)
        if self.of_items:
            return logit, np.concatenate([user_gmf * self.gmf_weight, gradient @ self.item_weight], 1)
        return logit, np.concatenate([item_gmf, gradient], 1)
