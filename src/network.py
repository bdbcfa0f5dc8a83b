"""What base models have in common: tables of embeddings, a head that makes logits of their rows, and what influences need.

A model is named by --model: `ncf`, `mf`, `lightgcn` (the modules of these names), or a file of one's own that defines
`Model`, a Network. See docs/maths.md, section 1, and docs/CONTRIBUTING.md.
"""
from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Protocol

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from .common import plugins
from .common.errors import InputError
from .common.terminal import progress
from .config import Config
from .constants import MODELS
from .dataset import Dataset

_TRIED = set()  # files of base models, as plugins.identity has them, whose logits were seen to have the right shape


class Repeat(nn.Cell):
    """Repeats every row: (g, width) and a number n -> (g * n, width).

    Its gradient sums over the repeats by a product with stacked identities, on a CPU several times faster than a
    reduction over the middle axis.
    """

    def __init__(self, width: int):
        super().__init__()
        self.identity = Tensor(np.eye(width, dtype=np.float32))
        self.matmul, self.tile = ops.MatMul(), ops.Tile()

    def construct(self, x, n):
        return self.tile(x, (1, n)).reshape(-1, x.shape[1])

    def bprop(self, x, n, out, dout):
        return self.matmul(dout.reshape(x.shape[0], -1), self.tile(self.identity, (n, 1))), n


class Network(nn.Cell):
    """A base model.

    tables: dict of name to initial array (num_users or num_items, width), the tables that are trained; as in TABLES.
    head: cell that maps rows of SCORED, (g, width) of each users' table and (g * n, width) of each items' table, to the (g,
        n) logits of g users and n items for each, items of a user side by side.
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

        It is a cell of as many tables to as many, linear and symmetric, so that it takes gradients the way back too.
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
        return {**values, **parted(rows, values, cls.SCORED[:cls.USER_TABLES])}

    @classmethod
    def item_rows(cls, values: dict) -> np.ndarray:
        """(num_items, d) float32: each item's embedding row, its tables side by side; see values."""
        return np.concatenate([values[name] for name in cls.SCORED[cls.USER_TABLES:]], 1)

    @classmethod
    def with_item_rows(cls, values: dict, rows: np.ndarray) -> dict:
        """The parameters with other item rows, in the form of `item_rows`."""
        return {**values, **parted(rows, values, cls.SCORED[cls.USER_TABLES:])}

    @classmethod
    def rows_by(cls, taken: Callable[[np.ndarray], np.ndarray], values: dict) -> dict:
        """The parameters with what `taken` makes of each table of users, such as Dataset.own or Dataset.of_all."""
        return {name: taken(value) if name in cls.of_users() else value for name, value in values.items()}

    @classmethod
    def of_users(cls) -> set[str]:
        """Names of the tables of users."""
        return {*cls.TABLES[:cls.USER_TABLES], *cls.SCORED[:cls.USER_TABLES]}

    def pairs(self, size: int, of_items: bool = False) -> Pairs:
        """Pairs with gradients in the user's row, or in the item's; a graph that is compiled takes `size` in one call."""
        return GraphPairs(self, size, of_items)


def parted(rows: np.ndarray, values: dict, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Rows of several tables side by side, (n, d), as one float32 array for each of the tables `names`."""
    ends = np.cumsum([values[name].shape[1] for name in names])
    return {name: np.ascontiguousarray(part, np.float32) for name, part in zip(names, np.split(rows, ends[:-1], 1))}


class Pairs(Protocol):
    """Logits of user-item pairs and their gradients in the embedding row of one side.

    Gradients are given in what the row enters the network by, w numbers: times `entry` (w, d) they are those in the row.
    """
    entry: np.ndarray

    def at(self, values: dict) -> None:
        """Goes by these parameters, see Network.values."""

    def take(self, rows: np.ndarray) -> None:
        """Goes by other user rows, (u, d) as of Network.user_rows, until `at`; of pairs with gradients in these alone."""

    def __call__(self, user: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(p,) users and items -> (p,) logits and (p, w) gradients."""


class GraphPairs:
    """Pairs of any network, by automatic differentiation of its head, which is given the parameters; see Network.pairs."""

    def __init__(self, net: Network, size: int, of_items: bool = False):
        self.net, self.size = net, size
        self.users, self.items = net.SCORED[:net.USER_TABLES], net.SCORED[net.USER_TABLES:]
        self.mine = self.items if of_items else self.users
        self.value_and_grad = ms.value_and_grad(net.head, tuple(net.SCORED.index(name) for name in self.mine))

    def at(self, values: dict) -> None:
        for name, p in self.net.head.parameters_and_names():
            p.set_data(Tensor(values[f"head.{name}"]))
        self.tables = values
        self.entry = np.eye(sum(values[name].shape[1] for name in self.mine), dtype=np.float32)

    def take(self, rows: np.ndarray) -> None:
        self.tables = {**self.tables, **parted(rows, self.tables, self.users)}

    def __call__(self, user: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, gradients = [], []
        for start in range(0, len(user), self.size):
            u, i = (np.resize(ids[start:start + self.size], self.size) for ids in (user, item))
            logit, found = self.value_and_grad(*(Tensor(self.tables[name][u]) for name in self.users),
                                               *(Tensor(self.tables[name][i]) for name in self.items))
            logits.append(logit.asnumpy()[:, 0])
            gradients.append(np.concatenate([x.asnumpy() for x in (found if isinstance(found, tuple) else (found,))], 1))
        return tuple(np.concatenate(parts)[:len(user)] for parts in (logits, gradients))


def model_class(name: str) -> type[Network]:
    """The class of a base model, built in or in a file that defines `Model`; InputError if that is missing or unfit."""
    if not plugins.is_file(name):
        return getattr(importlib.import_module(f".{name}", __package__), MODELS[name])
    found = plugins.load(name, "model", "Model").Model
    if not (isinstance(found, type) and issubclass(found, Network) and found.TABLES):
        raise InputError(f"--model {name}: Model must be a Network with TABLES; see docs/CONTRIBUTING.md")
    return found


def build(dataset: Dataset, config: Config) -> Network:
    """A fresh network for the dataset, of the model and as wide as the settings say.

    Raises InputError: a model of the user's own fails, or has logits of another shape than it should.
    """
    made = model_class(config.model)
    if not plugins.is_file(config.model):
        return _built(made, dataset, config)
    with plugins.guarded(config.model, "model", "failed"):
        net = _built(made, dataset, config)
        if (file := plugins.identity(config.model)) not in _TRIED:
            shape = tuple(net(Tensor(np.zeros(2, np.int32)), Tensor(np.zeros((2, 3), np.int32))).shape)
            if shape != (2, 3):
                raise InputError(f"--model {config.model}: has logits of shape {shape} for 2 users with 3 items each, where "
                                 "(2, 3) is needed; see docs/CONTRIBUTING.md")
            _TRIED.add(file)
    return net


def _built(made, dataset, config):
    """The network of everyone, whose first values are drawn together, with the rows of the users of the dataset alone."""
    net = made(len(dataset.all_user_ids), dataset.num_items, config)
    for table in (getattr(net, name) for name in net.of_users()):
        table.set_data(Tensor(dataset.own(table.asnumpy())), slice_shape=True)
    return net


def score(net: Network, candidates: np.ndarray, batch_size: int, users: np.ndarray | None = None) -> np.ndarray:
    """(u, n) float32 logits of (u, n) int32 items, row by row those of (u,) int32 users, None for all of the network.

    `batch_size`: pairs scored in one call.
    """
    num_users, n = candidates.shape
    users = np.arange(num_users, dtype=np.int32) if users is None else users
    scores = np.empty(candidates.shape, np.float32)
    for _, part in _parts(num_users, min(num_users, max(1, batch_size // n)), "scoring"):
        scores[part] = net(Tensor(users[part]), Tensor(candidates[part])).asnumpy()
    return scores


def _parts(number, size, what):
    """Cuts so many users into parts of one size, so that the graph is compiled once: slices, and what each repeats."""
    with progress(number, what, "user") as bar:
        for first in range(0, number, size):
            start = min(first, number - size)
            yield first - start, slice(start, start + size)
            bar.update(start + size - first)


def score_all(net: Network, users: np.ndarray, num_items: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Logits of all items for (u,) users, a few at a time: at most `batch_size` pairs in one call, but at least one user.

    By the graph, or by what the model's Pairs have for it, as NCF's on a CPU.
    Yields the next (c,) int users, and their (c, num_items) float32 logits.
    """
    users = np.asarray(users, np.int32)
    size = min(len(users), max(1, batch_size // num_items))
    pairs = net.pairs(size)
    if hasattr(pairs, "of_all_items"):
        pairs.at(net.values())
        for repeated, part in _parts(len(users), size, "scoring all items"):
            yield users[part][repeated:], np.stack([pairs.of_all_items(user) for user in users[part][repeated:]])
        return
    items = Tensor(np.tile(np.arange(num_items, dtype=np.int32), (size, 1)))
    for repeated, part in _parts(len(users), size, "scoring all items"):
        yield users[part][repeated:], net(Tensor(users[part]), items).asnumpy()[repeated:]
