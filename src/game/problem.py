"""What is to be decided: the interactions, how unwilling their users are to have each used, and what they forbid."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.errors import InputError
from ..common.share import WHOLE
from ..config import Config
from ..dataset import Dataset, load_dataset
from ..sources.unwillingness import ALL_VETOED, load_unwillingness, vetoed
from .prefix import SLACK, first_by_keys


@dataclass
class Problem:
    """What is to be decided.

    dataset: Dataset.
    unwillingness: (n,) array in [0, 1], in the order of dataset.user.
    allowed: (n,) bool, what is not vetoed.
    """
    dataset: Dataset
    unwillingness: np.ndarray
    allowed: np.ndarray


def load_problem(config: Config) -> Problem:
    """The Problem that the settings name.

    Raises:
        InputError: the dataset or the unwillingness is missing or unfit, or everything is vetoed.
    """
    return problem_of(load_dataset(config), config)


def problem_of(dataset: Dataset, config: Config) -> Problem:
    """The Problem about a dataset, or about a rank's share of it; raises as load_problem does."""
    unwillingness = dataset.share.unwillingness
    if unwillingness is None:
        unwillingness = load_unwillingness(dataset, config)
    allowed = ~vetoed(dataset, unwillingness, config)
    if not dataset.share.total(allowed.sum()):
        raise InputError(ALL_VETOED)
    return Problem(dataset, unwillingness, allowed)


def limit_of(problem: Problem, budget: float) -> float:
    """Largest sum of unwillingness over all users at a budget, a share."""
    return budget * float(problem.dataset.share.total(problem.unwillingness.sum()))


@dataclass
class Kept:
    """Where an interrupted computation leaves its results.

    folder: Path.
    key: dict that they depend on beside the options: data and checkpoints.
    """
    folder: Path
    key: dict


def first_of_keys(keys: tuple[np.ndarray, ...], problem: Problem, limit: float) -> np.ndarray:
    """(n,) bool: of the allowed interactions the first ones in ascending order of keys, as far as the limit reaches.

    Args:
        keys: (n,) arrays, the first of which counts most; no two interactions agree in all.
        problem, limit: see first_in_order.
    """
    if problem.dataset.share is WHOLE:
        return first_in_order(np.lexsort(keys[::-1]), problem, limit)
    disclosed, allowed = np.zeros(len(problem.allowed), bool), problem.allowed
    disclosed[allowed] = first_by_keys(tuple(key[allowed] for key in keys), problem.unwillingness[allowed], limit,
                                       problem.dataset.share)
    return disclosed


def first_in_order(order: np.ndarray, problem: Problem, limit: float) -> np.ndarray:
    """(n,) bool: of the allowed interactions of `order` the first ones, as far as the limit of unwillingness reaches.

    Args:
        order: (m,) positions, those to disclose first in front.
        problem: Problem.
        limit: largest sum of unwillingness.
    """
    order = order[problem.allowed[order]]
    disclosed = np.zeros(len(problem.allowed), bool)
    disclosed[order[np.cumsum(problem.unwillingness[order]) <= limit * SLACK]] = True
    return disclosed
