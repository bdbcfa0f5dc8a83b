"""Neural collaborative filtering (He et al., WWW 2017): GMF beside a ReLU MLP, and what influences need of it.

The logit of user u and item i is  w_gmf . (p_u * q_i)  +  w_out . MLP([r_u, t_i])  +  b  with the GMF embeddings p, q
(num_factors wide) and the MLP embeddings r, t (layers[0] / 2 wide each). Items come in groups that share their user,
a positive with its negatives or the candidates of one user: what depends on the user alone is computed once a group.
See docs/maths.md, section 1.
"""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from .config import Config
from .network import Network, Repeat, Rows, build, score, score_all  # noqa: F401 - the last three, for who imports them here
from .stat_utils import generator

TABLES = ("user_gmf", "user_mlp", "item_gmf", "item_mlp")
NUM_TABLES, USER_TABLES = len(TABLES), 2  # the tables of users come first


class Head(nn.Cell):
    """Everything behind the embeddings: maps gathered rows to logits.

    Args:
        num_factors: width of the GMF embeddings.
        layers: widths of the MLP; layers[0] is its input.
        rng: NumPy generator of the initial weights.
    """

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


class NCF(Network):
    """The network: four embedding tables and the head.

    Args:
        num_users, num_items: rows of the tables.
        num_factors, layers: widths, see Head.
        seed: of the initial weights.
        embedding_std: standard deviation of the initial embeddings.
    """
    TABLES, USER_TABLES = TABLES, USER_TABLES

    def __init__(self, num_users: int, num_items: int, num_factors: int, layers: list[int], seed: int,
                 embedding_std: float = 0.01):
        rng = generator(seed, "initial weights")
        widths = {"gmf": num_factors, "mlp": layers[0] // 2}
        rows = {"user": num_users, "item": num_items}
        tables = {name: rng.normal(0, embedding_std, (rows[name[:4]], widths[name[5:]])) for name in TABLES}
        super().__init__(tables, Head(num_factors, layers, rng), {
            "num_users": num_users, "num_items": num_items, "num_factors": num_factors, "layers": list(layers)})

    @classmethod
    def of(cls, num_users: int, num_items: int, config: Config) -> NCF:
        return cls(num_users, num_items, config.num_factors, config.layers, config.seed, config.embedding_std)

    def in_layers(self) -> list[Parameter]:
        """All parameters as training/compiled.c takes them: tables, then the weights with the bias of each layer."""
        head = self.head
        further = [p for both in zip(head.weights, head.biases) for p in both]
        last = [head.out_weight, head.out_bias] if head.has_hidden else []
        return [*(getattr(self, name) for name in TABLES), head.gmf_weight, head.user_weight, head.item_weight,
                head.first_bias, *further, *last]

    def rows_of_users(self, size: int, graph: bool = True) -> UserRows | PlainRows:
        return UserRows(self, size) if graph else PlainRows(self)

    def rows_of_items(self, size: int, graph: bool = True) -> PlainRows:
        return PlainRows(self, of_items=True)


class _AfterFirst(nn.Cell):
    """The MLP part of the logit as a function of the inputs of the first ReLU."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def construct(self, hidden):
        return self.head.after_first(hidden)


class Jacobian(nn.Cell):
    """Logits of user-item pairs, and their gradients in what the user's embedding row enters the network by.

    The row enters linearly: its GMF part as it is, its MLP part as the user's share of the first ReLU's inputs. The chain
    rule for that last, linear step is left to the caller: it is the same for all pairs.
    """

    def __init__(self, net: NCF):
        super().__init__()
        self.net = net
        self.value_and_grad = ms.value_and_grad(_AfterFirst(net.head), 0)
        self.gather = ops.Gather()

    def construct(self, user, item, user_gmf, user_hidden, item_hidden):
        """(p,) users and items, (u, f) GMF parts, (u, l1) and (num_items, l1) shares of the first ReLU's inputs.

        Returns:
            (p, 1) logits and (p, f + l1) gradients.
        """
        net = self.net
        logits, grads = self.value_and_grad(self.gather(user_hidden, user, 0) + self.gather(item_hidden, item, 0))
        weighted = self.gather(net.item_gmf, item, 0) * net.head.gmf_weight.reshape(1, -1)
        logits = logits + (self.gather(user_gmf, user, 0) * weighted).sum(1, keepdims=True)
        return logits, ops.concat((weighted, grads), 1)


class UserRows(Rows):
    """See network.Rows; the user's row enters as its GMF part and its share of the first ReLU's inputs."""

    def __init__(self, net: NCF, size: int):
        self.net, self.cell, self.size = net, Jacobian(net), size

    def start(self) -> None:
        values = self.net.values()
        weight, f = values["head.user_weight"], values["user_gmf"].shape[1]
        self.bias, self.item_hidden = values["head.first_bias"], Tensor(values["item_mlp"] @ values["head.item_weight"].T)
        self.entry = np.zeros((f + weight.shape[0], f + weight.shape[1]), np.float32)
        self.entry[:f, :f], self.entry[f:, f:] = np.eye(f), weight
        self.take(self.net.user_rows(values))

    def take(self, rows: np.ndarray) -> None:
        f = self.net.user_gmf.shape[1]
        self.tables = {"gmf": Tensor(np.ascontiguousarray(rows[:, :f])),
                       "hidden": Tensor(rows[:, f:] @ self.entry[f:, f:].T + self.bias), "items": self.item_hidden}


class PlainRows:
    """What UserRows is, for either side and without a graph, which takes longer to compile than ten thousand pairs take."""

    def __init__(self, net: NCF, of_items: bool = False):
        self.net, self.of_items = net, of_items

    def start(self) -> None:
        values = self.net.values()
        self.gmf_weight, f = values["head.gmf_weight"], values["user_gmf"].shape[1]
        first, self.bias, *further = dense_weights(values)[1:]
        half = values["user_mlp"].shape[1]
        self.user_weight, self.item_weight = first[:, :half], first[:, half:]
        self.layers = list(zip(further[::2], further[1::2]))
        self.item_gmf = values["item_gmf"] * self.gmf_weight
        self.item_hidden = values["item_mlp"] @ self.item_weight.T
        self.entry = np.eye(f + half, dtype=np.float32)
        if not self.of_items:
            self.entry = np.zeros((f + len(first), f + half), np.float32)
            self.entry[:f, :f], self.entry[f:, f:] = np.eye(f), self.user_weight
        self.take(self.net.user_rows(values))

    def take(self, rows: np.ndarray) -> None:
        f = len(self.gmf_weight)
        self.user_gmf, self.user_hidden = rows[:, :f], rows[:, f:] @ self.user_weight.T + self.bias

    def __call__(self, user: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, inside = self.user_hidden[user] + self.item_hidden[item], []
        for weight, bias in self.layers:
            inside.append(x > 0)
            x = (x * inside[-1]) @ weight.T + bias
        gradient = np.ones_like(x)
        for (weight, _), on in zip(self.layers[::-1], inside[::-1]):
            gradient = (gradient @ weight) * on
        user_gmf, item_gmf = self.user_gmf[user], self.item_gmf[item]
        logit = x[:, 0] + np.einsum("pf,pf->p", user_gmf, item_gmf)
        if self.of_items:
            return logit, np.concatenate([user_gmf * self.gmf_weight, gradient @ self.item_weight], 1)
        return logit, np.concatenate([item_gmf, gradient], 1)


def dense_weights(values: dict) -> list[np.ndarray]:
    """The weights behind the embeddings as matrices: GMF weight (f, 1), then (out, in) and (1, out) of each layer.

    The first layer's user and item halves are put side by side.
    """
    head = {name[len("head."):]: value for name, value in values.items() if name.startswith("head.")}
    arrays = [head["gmf_weight"][:, None], np.concatenate([head["user_weight"], head["item_weight"]], 1),
              head["first_bias"][None]]
    k = 2
    while f"weight_{k}" in head:
        arrays += [head[f"weight_{k}"], head[f"bias_{k}"][None]]
        k += 1
    if "out_weight" in head:
        arrays += [head["out_weight"], head["out_bias"][None]]
    return arrays


class Tangent(nn.Cell):
    """Weighted derivatives of samples' cross-entropies along a direction in parameter space, for u copies of the parameters.

    The gradient of their sum in the direction is that of the loss, the one in the parameters a Hessian-vector product.

    Args:
        arrays: number of arrays that the parameters consist of.
    """

    def __init__(self, arrays: int):
        super().__init__()
        self.arrays = arrays
        self.multiply = ops.BatchMatMul()
        self.multiply_transposed = ops.BatchMatMul(transpose_b=True)

    def construct(self, label, weight, *arguments):
        """Labels, 1 or 0, and weights that broadcast to (u, b, 1); the parameters, then the direction -> (u, b, 1).

        Either: rows of user_gmf, user_mlp, item_gmf and item_mlp of b samples, (u, b, width), and dense weights as
        `dense_weights` gives them, with u in front.
        """
        n = self.arrays
        p, r, q, t = arguments[:NUM_TABLES]
        dp, dr, dq, dt = arguments[n:n + NUM_TABLES]
        product = p * q
        gmf = self.multiply(product, arguments[NUM_TABLES])
        d_gmf = self.multiply(dp * q + p * dq, arguments[NUM_TABLES]) + self.multiply(product, arguments[n + NUM_TABLES])
        x, dx = ops.concat((r, t), 2), ops.concat((dr, dt), 2)
        for k in range(NUM_TABLES + 1, n, 2):
            if k > NUM_TABLES + 1:  # ReLU
                on = ops.cast(x > 0, ms.float32)
                x, dx = x * on, dx * on
            matrix, d_matrix = arguments[k], arguments[n + k]
            dx = self.multiply_transposed(dx, matrix) + self.multiply_transposed(x, d_matrix) + arguments[n + k + 1]
            x = self.multiply_transposed(x, matrix) + arguments[k + 1]
        return weight * (ops.sigmoid(x + gmf) - label) * (dx + d_gmf)
