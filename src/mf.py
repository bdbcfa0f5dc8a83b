"""Matrix factorisation with biases (Koren, Bell and Volinsky, Computer 2009), trained on the loss that all models share.

The logit of user u and item i is  p_u . q_i + b_u + b_i + b. See docs/maths.md, section 10.
"""
from __future__ import annotations

import numpy as np
from mindspore import Parameter, Tensor, nn

from .config import Config
from .network import Network, Repeat
from .stat_utils import generator


class Head(nn.Cell):
    """Inner product of factors of some width, plus biases.

    The bias begins where the probability is the share of positives among samples, by num_neg: else the loss of positives
    would be lowest before anything is learnt, and the anchor epoch the first.
    """

    def __init__(self, width: int, num_neg: int):
        super().__init__()
        self.bias = Parameter(Tensor(np.full(1, -np.log(num_neg), np.float32)), name="bias")
        self.repeat = Repeat(width)

    def construct(self, user, user_bias, item, item_bias):
        """(g, f), (g, 1), (g*n, f), (g*n, 1) rows of g users and n items for each -> (g, n) logits."""
        g = user.shape[0]
        n = item.shape[0] // g
        product = (self.repeat(user, n) * item).sum(1)
        return product.reshape(g, n) + item_bias.reshape(g, n) + user_bias + self.bias


class MF(Network):
    """The network: factors, biases that begin at 0; config: num_factors, num_neg; of the start embedding_std and seed."""
    TABLES, USER_TABLES = ("user_factors", "user_bias", "item_factors", "item_bias"), 2

    def __init__(self, num_users: int, num_items: int, config: Config):
        rng, width = generator(config.seed, "initial weights"), config.num_factors
        tables = {}
        for name, rows in (("user", num_users), ("item", num_items)):
            tables[f"{name}_factors"] = rng.normal(0, config.embedding_std, (rows, width))
            tables[f"{name}_bias"] = np.zeros((rows, 1))
        super().__init__(tables, Head(width, config.num_neg), {
            "num_users": num_users, "num_items": num_items, "num_factors": width})

    @classmethod
    def item_embeddings(cls, values: dict) -> np.ndarray:
        """See Network; without the bias, which says how popular an item is, not what it is like."""
        return super().item_embeddings({**values, "item_bias": values["item_bias"][:, :0]})

    def pairs(self, size: int, of_items: bool = False) -> LinearPairs:
        return LinearPairs(self, of_items, biased=True)


class LinearPairs:
    """network.Pairs in closed form, of logits that are linear in a row: its product with the other side's features.

    net: Network whose logit is the product of a user's and an item's row, plus head.bias; with `biased` the last columns of
        the rows are no factors but added to the logit.
    of_items: whether gradients are in the item's row.
    """

    def __init__(self, net: Network, of_items: bool, biased: bool):
        self.net, self.of_items, self.biased = net, of_items, biased

    def at(self, values: dict) -> None:
        self.rows, others = self.net.user_rows(values), self.net.item_rows(values)
        if self.of_items:
            self.rows, others = others, self.rows
        self.features, self.offset = others, np.repeat(values["head.bias"], len(others))
        if self.biased:
            self.features = np.concatenate([others[:, :-1], np.ones_like(others[:, -1:])], 1)
            self.offset = self.offset + others[:, -1]
        self.entry = np.eye(others.shape[1], dtype=np.float32)

    def take(self, rows: np.ndarray) -> None:
        self.rows = np.asarray(rows, np.float32)

    def __call__(self, user: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mine, other = (item, user) if self.of_items else (user, item)
        gradient = self.features[other]
        return np.einsum("pd,pd->p", self.rows[mine], gradient) + self.offset[other], gradient
