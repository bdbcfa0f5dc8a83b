"""What is to be decided, and what of it fits within a limit if it is taken in order. See docs/maths.md, section 11."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..common.share import here
from ..config import Config
from ..consent.unwillingness import load_stated
from ..dataset import Dataset, load_dataset

SLACK = 1 + 1e-12  # times the limit: what exceeds it by rounding fits


@dataclass
class Problem:
    """What is to be decided."""
    dataset: Dataset  # holds nothing that is vetoed or withdrawn
    unwillingness: np.ndarray  # (n,) in [0, 1], in the order of dataset.user
    line: np.ndarray = None  # (n,) int, the line of the rule that says so, see unwillingness.stated; None if none is known

    def limit(self, budget: float) -> float:
        """Largest sum of unwillingness over all users at a budget, a share of that of all that may be disclosed."""
        return budget * float(here().total(self.unwillingness.sum()))


def load_problem(config: Config, dataset: Dataset | None = None) -> Problem:
    """The Problem that the settings name, or about a Dataset; raises as load_dataset and load_stated do."""
    dataset = dataset or load_dataset(config)
    return Problem(dataset, *load_stated(dataset, config))


def prefixes(key: np.ndarray, weight: np.ndarray, limits: list[float]) -> list[tuple[float, float, float]]:
    """For each limit the longest prefix of everyone's, in ascending order of a key, whose weights sum to it at most.

    key, weight: (n,) float64; of equal keys all are in it, or none; weights are at least 0.
    Returns: For each the largest key in the prefix, -inf if it is empty; the smallest beyond it, inf if all fit; and the sum
        of its weights.
    """
    found = {}

    def search(keys, weights, spent, last, out, limits):  # what lies below the middle is in, or what lies beyond it is out
        some = np.sort(keys[::1 + len(keys) // 999])
        each = here().each(np.array([len(keys), some[len(some) // 2] if len(some) else out]))
        number, middle = each[each[:, 0].argmax()]
        if not number:
            found.update(dict.fromkeys(limits, (last, out, spent)))
            return
        below, level = keys < middle, keys == middle
        under, there = here().total(np.array([weights[below].sum(), weights[level].sum()]))
        under, there = spent + under, spent + under + there
        if reached := [limit for limit in limits if under <= limit < there]:
            found.update(dict.fromkeys(reached, (here().each(keys[below].max(initial=last)).max(), middle, under)))
        if lower := [limit for limit in limits if limit < under]:
            search(keys[below], weights[below], spent, last, middle, lower)
        if higher := [limit for limit in limits if limit >= there]:
            below = keys > middle
            search(keys[below], weights[below], there, middle, out, higher)

    search(key, weight, 0.0, -np.inf, np.inf, limits)
    return [found[limit] for limit in limits]


def first_within(limit: float, keys: tuple[np.ndarray, ...], weight: np.ndarray, one_more: bool = False) -> np.ndarray:
    """(n,) bool: everyone's longest prefix in the order of several keys, the second where the first are equal, and so on.

    limit: largest sum of the weights, (n,) float64, at least 0.
    keys: (n,) arrays, but for the first also functions of places to (k,) values; no two interactions agree in all. Where the
        first is inf it is left out.
    one_more: whether the first that does not fit comes in too.
    """
    chosen, limit = np.zeros(len(weight), bool), limit * SLACK
    at = slice(None) if (keys[0] < np.inf).all() else np.flatnonzero(keys[0] < np.inf)  # what is neither in nor out yet
    for key in keys:
        own = key(at) if callable(key) else key[at]
        ((last, out, spent),) = prefixes(own.astype(np.float64, copy=False), weight[at], [limit])
        chosen[at] = own <= last
        at = np.flatnonzero(own == out) if isinstance(at, slice) else at[own == out]
        limit -= spent
    chosen[at] = one_more
    return chosen
