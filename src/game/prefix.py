"""What fits within a limit if interactions are taken in order; over all ranks by sums. See docs/maths.md, section 11."""
from __future__ import annotations

import numpy as np

from ..common.share import WHOLE, Share

SLACK = 1 + 1e-12  # times the limit: what exceeds it by rounding fits


class Prefix:
    """Interactions in ascending order of a key, those of equal keys together.

    Args:
        key: (n,) float64, of this rank's interactions.
        weight: (n,) float64, at least 0.
        share: Share.
    """

    def __init__(self, key: np.ndarray, weight: np.ndarray, share: Share = WHOLE):
        order = np.argsort(key, kind="stable")
        self.key, self.sums, self.share = key[order], np.concatenate([[0.0], np.cumsum(weight[order])]), share

    def _look(self, value):
        """Sum of the weights of all whose keys are at most `value`; the last key among them, and the first beyond."""
        k = int(np.searchsorted(self.key, value, side="right"))
        inside, beyond = self.key[k - 1] if k else -np.inf, self.key[k] if k < len(self.key) else np.inf
        each = self.share.each(np.array([self.sums[k], inside, beyond]))
        return each[:, 0].sum(), each[:, 1].max(), each[:, 2].min()

    def within(self, limit: float) -> tuple[float, float, float]:
        """The longest prefix whose weights sum to `limit` at most; of equal keys all or none.

        Returns:
            last: largest key in it; -inf if it is empty.
            out: smallest key beyond it; inf if all fit.
            spent: sum of its weights.
        """
        limit *= SLACK
        spent, last, _ = self._look(np.inf)
        if spent <= limit:
            return last, np.inf, spent
        out = last  # of what is known not to fit, the smallest key
        spent, last, first = self._look(-np.inf)
        while first < out:
            middle = first / 2 + out / 2
            found, inside, beyond = self._look(middle if first <= middle < out else first)
            if found <= limit:
                spent, last, first = found, inside, beyond
            else:
                out = inside
        return last, out, spent


def first_by_keys(keys: tuple[np.ndarray, ...], weight: np.ndarray, limit: float, share: Share,
                  one_more: bool = False) -> np.ndarray:
    """(n,) bool: the longest prefix in the order of several keys, the second where the first are equal, and so on.

    Args:
        keys: (n,) arrays; no two interactions, of any rank, agree in all.
        weight: (n,) float64, at least 0.
        limit: largest sum of the weights.
        share: Share.
        one_more: whether the first that does not fit comes in too.
    """
    chosen, tied = np.zeros(len(weight), bool), np.ones(len(weight), bool)
    for key in keys:
        last, out, spent = Prefix(key[tied].astype(np.float64), weight[tied], share).within(limit)
        chosen |= tied & (key <= last)
        tied &= key == out
        limit -= spent
    return chosen | tied if one_more else chosen
