"""What is to be decided: the interactions, and how unwilling their users are to have each used."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..common.share import WHOLE
from ..config import Config
from ..consent.unwillingness import load_stated
from ..dataset import Dataset, load_dataset
from .prefix import SLACK, first_by_keys


@dataclass
class Problem:
    """What is to be decided.

    dataset: Dataset, which holds nothing that is vetoed or withdrawn.
    unwillingness: (n,) array in [0, 1], in the order of dataset.user.
    line: (n,) int, the line of the rule that says so, see unwillingness.stated; None if none is known.
    """
    dataset: Dataset
    unwillingness: np.ndarray
    line: np.ndarray = None


def load_problem(config: Config) -> Problem:
    """The Problem that the settings name.

    Raises:
        InputError: the dataset or the unwillingness is missing or unfit, or everything is vetoed.
    """
    return problem_of(load_dataset(config), config)


def problem_of(dataset: Dataset, config: Config) -> Problem:
    """The Problem about a dataset, or about a rank's share of it; raises as load_problem does."""
    return Problem(dataset, *load_stated(dataset, config))


def limit_of(problem: Problem, budget: float) -> float:
    """Largest sum of unwillingness over all users at a budget, a share of that of all that may be disclosed."""
    return budget * float(problem.dataset.share.total(problem.unwillingness.sum()))


def first_of_keys(keys: tuple[np.ndarray, ...], problem: Problem, limit: float) -> np.ndarray:
    """(n,) bool: the first interactions in ascending order of keys, as far as the limit reaches.

    Args:
        keys: (n,) arrays, the first of which counts most; no two interactions agree in all.
        problem, limit: see first_in_order.
    """
    if problem.dataset.share is WHOLE:
        return first_in_order(np.lexsort(keys[::-1]), problem, limit)
    return first_by_keys(keys, problem.unwillingness, limit, problem.dataset.share)


def first_in_order(order: np.ndarray, problem: Problem, limit: float) -> np.ndarray:
    """(n,) bool: the first interactions of `order`, as far as the limit of unwillingness reaches.

    Args:
        order: (m,) positions, those to disclose first in front.
        problem: Problem.
        limit: largest sum of unwillingness.
    """
    disclosed = np.zeros(len(problem.unwillingness), bool)
    disclosed[order[np.cumsum(problem.unwillingness[order]) <= limit * SLACK]] = True
    return disclosed
