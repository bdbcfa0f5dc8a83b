"""LightGCN (He et al., SIGIR 2020), trained on the loss that all models share.

The rows that logits are inner products of are means of K + 1 layers,  E = 1 / (K + 1) sum_k A^k E_0  with A the
symmetrically normalised adjacency of the graph of users and items. The graph is that of the interactions that the model
trains on, so that what is withheld is in no edge of it. See docs/maths.md, section 10.
"""
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from . import mf
from .config import Config
from .dataset import Dataset
from .network import Network
from .stat_utils import generator

MOST_PAIRS = 1 << 25  # of users and items whose adjacency is a dense matrix, 134 MB: on a CPU faster than a sparse one


class Head(mf.Head):
    """Inner product, plus a bias of all pairs, which changes no ranking but is needed by a loss of probabilities."""

    def construct(self, user, item):
        """(g, f), (g*n, f) rows of g users and n items for each -> (g, n) logits."""
        g = user.shape[0]
        n = item.shape[0] // g
        return (self.repeat(user, n) * item).sum(1).reshape(g, n) + self.bias


class Propagation(nn.Cell):
    """E of E_0: linear and symmetric, so that it also takes gradients in E to gradients in E_0.

    The edges are the training interactions of a Dataset. `layers`: K; `most_pairs`: see MOST_PAIRS.
    """

    def __init__(self, dataset: Dataset, layers: int, most_pairs: int = MOST_PAIRS):
        super().__init__()
        self.layers, self.grid = layers, (dataset.num_users, dataset.num_items)
        user, item = dataset.user, dataset.item
        degrees = dataset.history.length[user] * np.bincount(item, minlength=self.grid[1])[item]
        weight = (1 / np.sqrt(degrees)).astype(np.float32)
        self.dense = self.grid[0] * self.grid[1] <= most_pairs
        if self.dense:
            matrix = np.zeros(self.grid, np.float32)
            matrix[user, item] = weight
            self.matrix = Tensor(matrix)
            self.multiply, self.multiply_transposed = ops.MatMul(), ops.MatMul(transpose_a=True)
        else:
            self.edges, self.weight = Tensor(np.stack([user, item], 1).astype(np.int64)), Tensor(weight)
            self.multiply, self.multiply_transposed = (nn.SparseTensorDenseMatmul(adjoint_st=turned)
                                                       for turned in (False, True))

    def construct(self, user, item):
        """(num_users, f), (num_items, f) -> the same shapes."""
        users, items = user, item
        for _ in range(self.layers):
            if self.dense:
                user, item = self.multiply(self.matrix, item), self.multiply_transposed(self.matrix, user)
            else:
                user, item = (self.multiply(self.edges, self.weight, self.grid, item),
                              self.multiply_transposed(self.edges, self.weight, self.grid, user))
            users, items = users + user, items + item
        return users / (self.layers + 1), items / (self.layers + 1)


class LightGCN(Network):
    """The network: embeddings E_0, which are trained, and E, which logits are read from; before training E is E_0.

    config: num_factors, gcn_layers, num_neg; embedding_std and seed of the initial embeddings.
    """
    TABLES, SCORED = ("user_embedding", "item_embedding"), ("user_final", "item_final")

    def __init__(self, num_users: int, num_items: int, config: Config):
        rng, width = generator(config.seed, "initial weights"), config.num_factors
        tables = {name: rng.normal(0, config.embedding_std, (rows, width))
                  for name, rows in zip(self.TABLES, (num_users, num_items))}
        super().__init__(tables, Head(width, config.num_neg), {
            "num_users": num_users, "num_items": num_items, "num_factors": width, "gcn_layers": config.gcn_layers})
        for name, table in zip(self.SCORED, tables.values()):
            setattr(self, name, Parameter(Tensor(table.astype(np.float32)), name=name, requires_grad=False))

    def propagation(self, dataset: Dataset) -> Propagation:
        return Propagation(dataset, self.shape["gcn_layers"])

    @classmethod
    def with_user_rows(cls, values: dict, rows: np.ndarray) -> dict:
        """See Network. Of E; E_0, from which no training goes on, takes them too, for there may be other users."""
        rows = np.ascontiguousarray(rows, np.float32)
        return {**values, "user_embedding": rows, "user_final": rows}

    def pairs(self, size: int, of_items: bool = False) -> mf.LinearPairs:
        return mf.LinearPairs(self, of_items, biased=False)
