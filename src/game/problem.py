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
    """The Problem that the settings name, or the one about a Dataset.

    Raises:
        InputError: the dataset or the unwillingness is missing or unfit, or everything is vetoed.
    """
    dataset = dataset or load_dataset(config)
    return Problem(dataset, *load_stated(dataset, config))


def prefixes(key: np.ndarray, weight: np.ndarray, limits: list[float]) -> list[tuple[float, float, float]]:
    """For each limit the longest prefix of everyone's, in ascending order of a key, whose weights sum to it at most.

    Of equal keys all are in it, or none.

    Args:
        key, weight: (n,) float64; weights are at least 0.

    Returns:
        For each the largest key in the prefix, -inf if it is empty; the smallest beyond it, inf if all fit; and the sum
        of its weights.
    """
    order = np.argsort(key, kind="stable")
    key, sums = key[order], np.concatenate([[0.0], np.cumsum(weight[order])])

    def look(value):  # sum of the weights of all whose keys are at most `value`; the last key among them, the first beyond
        k = int(np.searchsorted(key, value, side="right"))
        each = here().each(np.array([sums[k], key[k - 1] if k else -np.inf, key[k] if k < len(key) else np.inf]))
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
        keys: (n,) arrays; no two interactions agree in all. Where the first is inf it is left out.
        one_more: whether the first that does not fit comes in too.
    """
    chosen, tied, limit = np.zeros(len(weight), bool), keys[0] < np.inf, limit * SLACK
    for key in keys:
        ((last, out, spent),) = prefixes(key[tied].astype(np.float64), weight[tied], [limit])
        chosen |= tied & (key <= last)
        tied &= key == out
        limit -= spent
    return chosen | tied if one_more else chosen
