"""Withdrawing interactions from a trained model, without training it again.

The rows of the users who withdraw are refitted without what they take back; one influence (Newton) step moves the rows of
the items in their histories by the change in gradient that this makes; their own rows are refitted to these. What the dense
weights and the rows of other users have learnt from it stays: a step of the weights was measured, and changed nothing. See
docs/maths.md, section 12.
"""
import numpy as np

from ..common.machine import one_blas_thread
from ..config import Config
from ..dataset import Dataset
from ..history import History
from ..network import Network
from ..stat_utils import generator, sigmoid
from .block import gram
from .rows import Rows, expected_draws, prior_of

ITEM_PRIOR = 0.1  # weight of the prior of items: it only has to keep the rows of rare ones
SAMPLED = 64, 128  # positives, and as many negatives, that the Hessian of an item is summed over: at least, and at most
ALL_SAMPLED = 1 << 15  # of all items of a request together, where that leaves each the least


class Withdrawal:
    """Takes interactions out of sets of parameters of a model that was trained on a Dataset.

    `net`: is given whatever parameters it is used with; not one that propagates over a graph.
    """

    def __init__(self, net: Network, dataset: Dataset, config: Config):
        self.net, self.dataset, self.config = net, dataset, config
        order = np.argsort(dataset.item, kind="stable")
        self.by_item, self.of_items = dataset.user[order], History(dataset.item[order], dataset.num_items)
        self.rows, self.items = Rows(net, dataset, config), net.pairs(dataset.num_items, True)

    def __call__(self, sets: dict[str, dict], withdrawn: np.ndarray) -> dict[str, dict]:
        """The same sets, see Network.values, without what is withdrawn, (n,) bool; FloatingPointError if not finite."""
        users, history = np.unique(self.dataset.user[withdrawn]), self.dataset.history
        place = history.of_users(users)
        pairs = history.owners(users), self.dataset.item[place], ~withdrawn[place]
        with one_blas_thread():
            found = {name: self._without(values, users, *pairs) for name, values in sets.items()}
        if not all(np.isfinite(value).all() for values in found.values() for value in values.values()):
            raise FloatingPointError("the rows without what is withdrawn are not finite; train the model anew without it")
        return found

    def _without(self, values, users, owner, item, stays):
        """One set of parameters without some pairs of (u,) users: (p,) place of the user, item, and whether each stays."""
        kept = np.zeros((len(users), self.dataset.num_items), bool)
        kept[owner[stays], item[stays]] = True
        self.rows.at(values, but=users)  # their own rows are what is to be forgotten
        self.items.at(values)
        old = self._of_pairs(users[owner], item)
        refitted = self._refit(users, kept, self.rows.trained[users])
        moved = self._with_rows(values, users, refitted)
        self.items.at(moved)
        moved = self.net.with_item_rows(moved, self._item_rows(moved, users, owner, item, stays, old))
        self.rows.share(moved)
        return self._with_rows(moved, users, self._refit(users, kept, refitted))

    def _refit(self, users, kept, start):
        rows, some = np.tile(self.rows.prior.mean, (len(users), 1)), kept.any(1)
        rows[some] = self.rows.selected(users[some], kept[some], start[some])[0]
        return rows

    def _with_rows(self, values, users, rows):
        whole = self.net.user_rows(values).copy()
        whole[users] = rows
        return self.net.with_user_rows(values, whole)

    def _of_pairs(self, user, item):
        """(p,) probabilities of pairs and (p, d) gradients of their logits in the item's row."""
        logit, gradient = self.items(user.astype(np.int32), item)
        return sigmoid(logit.astype(np.float64)), gradient

    def _item_rows(self, values, users, owner, item, stays, old):
        """(num_items, d) rows of all items after one Newton step of those that the users had.

        The step is that of the change in gradient from the old rows of the users to the refitted ones, since a trained row
        is no minimum and must stay where nothing changes.
        """
        dataset = self.dataset
        number = np.bincount(owner[stays], minlength=len(users))
        negative = expected_draws(number, dataset.num_items, self.config.num_neg)[owner]
        probability, gradient = self._of_pairs(users[owner], item)
        weight = np.where(stays, 1, negative)  # what is withdrawn may be drawn as a negative from now on
        change = (weight * (probability - stays))[:, None] * gradient - (old[0] - 1)[:, None] * old[1]
        items, at = np.unique(item, return_inverse=True)
        slope = np.zeros((len(items), gradient.shape[1]))
        np.add.at(slope, at, change)
        rows = self.net.item_rows(values).copy()
        hessian = self._hessian_of_others(items, users) + ITEM_PRIOR * prior_of(rows).precision
        curved = gradient * np.sqrt(weight * probability * (1 - probability))[:, None]
        for k, own in enumerate(np.split(curved[np.argsort(at, kind="stable")], np.cumsum(np.bincount(at))[:-1])):
            hessian[k] += own.T @ own
        rows[items] = rows[items] - np.linalg.solve(hessian, slope[..., None])[..., 0]
        return rows

    def _hessian_of_others(self, items, users):
        """(t, d, d) Hessians in the rows of (t,) items of the losses of all users but those who withdraw, from a sample."""
        dataset, rng = self.dataset, generator(self.config.seed, "withdrawal", int(items[0]), len(items))
        length, size = self.of_items.length[items], int(np.clip(ALL_SAMPLED // len(items), *SAMPLED))
        spread = (np.arange(size) + rng.random((len(items), 1))) / size
        place = self.of_items.first[items][:, None] + (spread * length[:, None]).astype(np.int64)
        positive = self.by_item[np.minimum(place, len(self.by_item) - 1)]
        drawn = expected_draws(dataset.history.length, dataset.num_items, self.config.num_neg)  # of each user, an item
        cumulated = np.cumsum(drawn)
        negative = np.searchsorted(cumulated, rng.random((len(items), size)) * cumulated[-1])
        negative = np.minimum(negative, dataset.num_users - 1)
        weight = np.repeat(np.stack([length, cumulated[-1] * (1 - length / dataset.num_users)], 1) / size, size, 1)
        user = np.concatenate([positive, negative], 1)
        weight[np.isin(user, users)] = 0
        probability, gradient = self._of_pairs(user.ravel(), np.repeat(items, 2 * size))
        scale = np.sqrt(weight.ravel() * probability * (1 - probability)).astype(np.float32)
        return gram((gradient * scale[:, None]).reshape(*user.shape, -1))
