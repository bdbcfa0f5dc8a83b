"""The fewest of a user's interactions without which an item leaves their list.

The shared parameters stay as they are; a user's row is refitted, see Rows.selected: with nothing withheld the list is the
model's. The search is that of ACCENT (Tran, Ghazimatin and Saha Roy, SIGIR 2021): influences propose, here refits decide.
See docs/maths.md, section 8.
"""
from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np

from .rows import Rows

MOST = 5  # interactions of a set
MARGIN = 0.2  # log-odds by which an item is below the list: what is nearer comes back by the chance of a training
BEAM = 10  # sets of each size that the search keeps
TRIED = 5  # of them, the best, that are refitted
RIVALS = 200  # unseen items, the best, that may take a place in the list


class Counterfactual(NamedTuple):
    """A set of a user's interactions without which an item leaves their list."""
    withheld: np.ndarray  # (s,) positions of the interactions, see Dataset.user
    logits: np.ndarray  # (num_items,) of the user without them
    margin: float  # log-odds by which the item is then below the last place of the list, > 0

    @property
    def clear(self) -> bool:
        return self.margin >= MARGIN


def fewest(rows: Rows, users: np.ndarray, items: np.ndarray, unseen: np.ndarray, k: int,
           exhaustive: int = 0) -> list[Counterfactual | None]:
    """For each user the smallest set, up to MOST, without which an item leaves the k best of what they have not seen.

    users, items: (u,), an item of the list of each user; unseen: (u, num_items) bool, what may be recommended.
    exhaustive: all sets of a size are refitted if there are no more than this, else TRIED, the best by influence.
    Returns: Of the smallest clear sets the one with the largest margin; where no set is clear, the same of all that just do;
        None where nothing is found.
    """
    proposed = [search(*found, item, free, k) for found, item, free in zip(rows.effects(users), items, unseen)]
    histories = [rows.dataset.history.of_users([user]) for user in users]
    clear, close = [None] * len(users), [None] * len(users)

    def tried(asked):
        """Refits without the sets of a list of pairs (place of a user, positions); keeps what is better."""
        logits = rows.without(users[[q for q, _ in asked]], [positions for _, positions in asked]) if asked else ()
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

    `logits`, `effects`: see Rows.effects; `unseen`: (num_items,) bool, what may be recommended. Returns for the sizes from 1
    to at most MOST (b, size) indices of interactions, up to BEAM sets, the best first.
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
