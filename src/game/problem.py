"""What is to be decided, and what of it fits within a limit if it is taken in order. See docs/maths.md, section 11."""
from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ..common.share import here
from ..config import Config
from ..consent.unwillingness import load_stated
from ..dataset import Dataset, load_dataset

SLACK = 1 + 1e-12  # times the limit: what exceeds it by rounding fits
SORTED = 1 << 22  # keys that are sorted at a time, about
_SAMPLE = 1 << 16


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
    """The Problem that the settings name, or the one about a Dataset.

    Raises:
        InputError: the dataset or the unwillingness is missing or unfit, or everything is vetoed.
    """
    dataset = dataset or load_dataset(config)
    return Problem(dataset, *load_stated(dataset, config))


def _sums(key, weight, once):
    """A function of a value to the sum of the weights of all keys up to it, the last of these keys, and the first beyond.

    They are sorted part by part, with `once` two at a time, so that memory is for few of them; else each is kept, for many
    calls. Sums are as if they were sorted together.
    """
    n, number = len(key), min(256, len(key) // SORTED + 1)
    some = np.sort(key[::1 + n // _SAMPLE])
    edges = np.unique(some[len(some) * np.arange(1, number) // number])
    of_part = np.concatenate([np.searchsorted(edges, key[k:k + _SAMPLE]).astype(np.uint8) for k in range(0, n + 1, _SAMPLE)])
    before, low, high = [0.0], [], []  # sum of the weights before each part, its first key and its last

    @functools.lru_cache(2 if once else None)  # a search goes to and fro between two
    def part(k):
        place = np.flatnonzero(of_part == k)
        place = place[np.argsort(key[place], kind="stable")]
        return key[place], np.cumsum(np.append(before[k], weight[place]))

    for k in range(len(edges) + 1):
        keys, sums = part(k)
        before.append(sums[-1])
        low.append(keys[0] if len(keys) else np.inf)
        high.append(keys[-1] if len(keys) else -np.inf)

    def look(value):
        k = int(np.searchsorted(edges, value))
        keys, sums = part(k)
        place = int(np.searchsorted(keys, value, side="right"))
        return (sums[place], keys[place - 1] if place else max(high[:k], default=-np.inf),
                keys[place] if place < len(keys) else min(low[k + 1:], default=np.inf))
    return look


def prefixes(key: np.ndarray, weight: np.ndarray, limits: list[float]) -> list[tuple[float, float, float]]:
    """For each limit the longest prefix of everyone's, in ascending order of a key, whose weights sum to it at most.

    Of equal keys all are in it, or none.

    Args:
        key, weight: (n,) float64; weights are at least 0.

    Returns:
        For each the largest key in the prefix, -inf if it is empty; the smallest beyond it, inf if all fit; and the sum
        of its weights.
    """
    own = _sums(key, weight, len(limits) == 1)

    def look(value):  # of all ranks
        each = here().each(np.array(own(value)))
        return each[:, 0].sum(), each[:, 1].max(), each[:, 2].min()

    def within(limit):
        spent, last, _ = look(np.inf)
        if spent <= limit:
            return last, np.inf, spent
        out = last  # of what is known not to fit, the smallest key
        spent, last, first = look(-np.inf)
        while first < out:
            middle = first / 2 + out / 2
            found, inside, beyond = look(middle if first <= middle < out else first)
            if found <= limit:
                spent, last, first = found, inside, beyond
            else:
                out = inside
        return last, out, spent
    return [within(limit) for limit in limits]


def first_within(limit: float, keys: tuple[np.ndarray, ...], weight: np.ndarray, one_more: bool = False) -> np.ndarray:
    """(n,) bool: everyone's longest prefix in the order of several keys, the second where the first are equal, and so on.

    Args:
        limit: largest sum of the weights, (n,) float64, at least 0.
        keys: (n,) arrays, but for the first also functions of places to (k,) values; no two interactions agree in all. Where
            the first is inf it is left out.
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
