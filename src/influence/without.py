"""Users' lists without some of their interactions, and the fewest without which an item leaves a list.

The shared parameters stay as they are; a user's row is refitted. Its objective is that of refit.py with what the loss of all
negatives is expected to be in place of sampled ones, less a linear term which makes the trained row the optimum where
nothing is withheld: the list is then exactly the model's. The search is that of ACCENT (Tran, Ghazimatin and Saha Roy,
SIGIR 2021): influences propose, here refits decide. See docs/maths.md, section 8.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..common.machine import one_blas_thread
from ..common.terminal import progress
from ..config import Config
from ..dataset import Dataset, check_negatives
from ..network import Network
from ..stat_utils import sigmoid
from .refit import Objective, expected_draws, prior_of

MOST = 5  # interactions of a set
MARGIN = 0.1  # log-odds by which an item is below the list: what is nearer comes back by the chance of a training
STEPS = 4  # of Newton's method from the trained row
BEAM = 10  # sets of each size that the search keeps
TRIED = 5  # of them, the best, that are refitted
RIVALS = 200  # unseen items, the best, that may take a place in the list


@dataclass
class Counterfactual:
    """A set of a user's interactions without which an item leaves their list.

    withheld: (s,) positions of the interactions, see Dataset.user.
    logits: (num_items,) of the user without them.
    margin: log-odds by which the item is then below the last place of the list, > 0.
    """
    withheld: np.ndarray
    logits: np.ndarray
    margin: float

    @property
    def clear(self) -> bool:
        """Whether the margin is MARGIN or more."""
        return self.margin >= MARGIN


class Without:
    """Users' logits as they would be without some of their interactions.

    Args:
        net: Network, with the parameters as they were trained.
        dataset: Dataset that it was trained on; its held-out items are not looked at.
        config: num_neg, with which it was trained, and chunk_size.

    Raises:
        InputError: a user has interacted with every item.
    """

    def __init__(self, net: Network, dataset: Dataset, config: Config):
        self.length = np.bincount(dataset.user, minlength=dataset.num_users)
        check_negatives(dataset, self.length)
        self.dataset, self.num_neg, self.num_items = dataset, config.num_neg, dataset.num_items
        self.trained = net.user_rows(net.values()).astype(np.float64)
        self.prior = prior_of(self.trained[self.length > 0])
        self.together = max(1, config.chunk_size // self.num_items)  # rows that are refitted in one go
        self.jacobian = net.pairs(self.together * self.num_items)
        self.jacobian.at(net.values())

    def history(self, user: int) -> np.ndarray:
        """Positions of a user's interactions."""
        return np.arange(*np.searchsorted(self.dataset.user, [user, user + 1]))

    def logits(self, users: np.ndarray, withheld: list[np.ndarray]) -> np.ndarray:
        """(v, num_items) logits of (v,) users, who may recur, each without the interactions at some positions."""
        found = np.empty((len(users), self.num_items), np.float32)
        with progress(len(users), "refit", "row") as bar:
            for start in range(0, len(users), self.together):
                part = slice(start, start + self.together)
                with one_blas_thread():
                    objective = self._objective(users[part], withheld[part])
                    found[part] = objective(objective.minimum(self.trained[users[part]], STEPS))[1]
                bar.update(len(users[part]))
        return found

    def effects(self, users: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each of (u,) users their logits (num_items,), and what each interaction's absence adds to them (n, num_items).

        To first order: one step of Newton's method with the Hessian of all interactions.
        """
        nothing = np.zeros(0, int)
        for start in range(0, len(users), self.together):
            part = users[start:start + self.together]
            rows, objective = self.trained[part], self._objective(part, [nothing] * len(part))
            _, logit, gradient = objective(rows)
            hessians = objective.slopes(rows, logit, gradient)[1]
            for user, *found in zip(part, logit, gradient, hessians):
                yield found[0], self._effects(user, *found)

    def _effects(self, user, logit, gradient, hessian):
        item, probability = self.dataset.item[self.history(user)], sigmoid(logit)
        now, then = (expected_draws(len(item) - k, self.num_items, self.num_neg) for k in (0, 1))  # of a negative
        others = np.ones(self.num_items, bool)
        others[item] = False
        pull = (1 - probability[item] + then * probability[item])[:, None] * gradient[item]  # (n, w), what absence adds
        pull += (then - now) * ((probability * others) @ gradient)
        moved = -np.linalg.solve(hessian, (pull @ self.jacobian.entry).T)  # (d, n)
        return (gradient @ (self.jacobian.entry @ moved)).T

    def _objective(self, users, withheld):
        different, place = np.unique(users, return_inverse=True)
        whole = _Weighted(self, *self._samples(different, [np.zeros(0, int)] * len(different)))
        rows = self.trained[different]
        return _Weighted(self, *self._samples(users, withheld), whole.slopes(rows, *whole(rows)[1:])[0][place])

    def _samples(self, users, withheld):
        """(v, num_items) labels of all items, and their weights."""
        label = np.zeros((len(users), self.num_items))
        for row, user, positions in zip(label, users, withheld):
            row[self.dataset.item[self.history(user)]] = 1
            row[self.dataset.item[positions]] = 0
        return label, np.where(label > 0, 1, expected_draws(label.sum(1, keepdims=True), self.num_items, self.num_neg))


class _Weighted(Objective):
    """The Objective of all items, less the product of the row and a tilt (u, d)."""

    def __init__(self, without, label, weight, tilt=0.0):
        items = np.tile(np.arange(label.shape[1], dtype=np.int32), (len(label), 1))
        super().__init__(without.jacobian, items, weight, label, without.prior, without.together)
        self.tilt = tilt

    def __call__(self, rows):
        value, *parts = super().__call__(rows)
        return value - (self.tilt * rows).sum(1), *parts

    def slopes(self, rows, logit, gradient):
        slope, hessian = super().slopes(rows, logit, gradient)
        return slope - self.tilt, hessian


def fewest(without: Without, users: np.ndarray, items: np.ndarray, unseen: np.ndarray, k: int,
           exhaustive: int = 0) -> list[Counterfactual | None]:
    """For each user the smallest set, up to MOST, without which an item leaves the k best of what they have not seen.

    Args:
        users, items: (u,), an item of the list of each user.
        unseen: (u, num_items) bool, what may be recommended.
        k: length of the lists.
        exhaustive: all sets of a size are refitted if there are no more than this, else TRIED, the best by influence.

    Returns:
        Of the smallest clear sets the one with the largest margin; where no set is clear, the same of all that just do; None
        where nothing is found.
    """
    proposed = [search(*found, item, free, k) for found, item, free in zip(without.effects(users), items, unseen)]
    histories = [without.history(user) for user in users]
    clear, close = [None] * len(users), [None] * len(users)

    def tried(asked):
        """Refits without the sets of a list of pairs (place of a user, positions); keeps what is better."""
        logits = without.logits(users[[q for q, _ in asked]], [positions for _, positions in asked]) if asked else ()
        for (q, positions), found in zip(asked, logits):
            new = Counterfactual(positions, found, margin_of(found, items[q], unseen[q], k))
            if new.margin > 0:
                kept = clear if new.clear else close
                kept[q] = max(filter(None, (new, kept[q])), key=lambda one: (-len(one.withheld), one.margin))

    for size in range(1, MOST + 1):
        asked = []
        for q, history in enumerate(histories):
            if clear[q] is None and len(history) >= size:
                every = math.comb(len(history), size) <= exhaustive
                chosen = combinations(range(len(history)), size) if every else proposed[q][size - 1][:TRIED]
                asked += [(q, history[list(one)]) for one in chosen]
        tried(asked)
    while True:  # nothing in a set is there for nothing
        before = [one and len(one.withheld) for one in clear]
        tried([(q, np.delete(one.withheld, j)) for q, one in enumerate(clear) if one and len(one.withheld) > 1
               for j in range(len(one.withheld))])
        if before == [one and len(one.withheld) for one in clear]:
            return [one or other for one, other in zip(clear, close)]


def search(logits: np.ndarray, effects: np.ndarray, item: int, unseen: np.ndarray, k: int) -> list[np.ndarray]:
    """Sets of interactions whose absence should bring an item below place k, by influences alone: a beam search.

    Args:
        logits, effects: (num_items,) and (n, num_items), see Without.effects.
        unseen: (num_items,) bool, what may be recommended.

    Returns:
        For the sizes from 1 to at most MOST: (b, size) indices of interactions, up to BEAM sets, the best first.
    """
    rivals = np.flatnonzero(unseen & (np.arange(len(logits)) != item))
    rivals = rivals[np.argsort(-logits[rivals], kind="stable")[:RIVALS]]
    above, moved = logits[rivals] - logits[item], effects[:, rivals] - effects[:, [item]]
    sets, found, n = np.zeros((1, 0), int), [], len(effects)
    for size in range(1, min(MOST, n) + 1):
        margin = _kth((above + moved[sets].sum(1))[:, None] + moved, k)  # (b, n)
        margin[np.arange(len(sets))[:, None], sets] = np.nan  # what is in the set already
        best = np.argsort(-margin, axis=None, kind="stable")[:BEAM * size]  # a set is found from each of its parts
        best = best[~np.isnan(margin.ravel()[best])]
        grown = np.sort(np.column_stack([sets[best // n], best % n]), 1)
        sets = grown[np.sort(np.unique(grown, axis=0, return_index=True)[1])][:BEAM]
        found.append(sets)
    return found


def margin_of(logits: np.ndarray, item: int, unseen: np.ndarray, k: int) -> float:
    """Log-odds by which an item is below the k best others; negative while it is among the k best, see search."""
    rivals = unseen.copy()
    rivals[item] = False
    return float(_kth(logits[rivals], k) - logits[item])


def _kth(values, k):
    """The k-th largest of the last axis, minus infinity where there are fewer."""
    if values.shape[-1] < k:
        return np.full(values.shape[:-1], -np.inf)
    return np.partition(values, -k, axis=-1)[..., -k]
