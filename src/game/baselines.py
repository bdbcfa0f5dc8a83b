"""Baselines: orders in which interactions are disclosed until the budget of unwillingness is spent.

An order is a function of
    dataset: Dataset,
    unwillingness: (n,) array in [0, 1], in the order of dataset.user,
    parameters: list of sets of parameters of the plain model (see Network.values), empty unless the baseline needs a model,
    config: the settings,
and returns the interactions as an (m,) int array, m <= n, those to disclose first in front.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..common import plugins
from ..common.errors import InputError
from ..config import Config
from ..dataset import Dataset, without_test_items
from ..influence.block import TINY
from ..network import model_class
from ..stat_utils import generator


@dataclass(frozen=True)
class Baseline:
    """A baseline.

    order: see above.
    disclosed, withheld: why, as the end of a sentence about one interaction.
    needs_model: whether it looks at the plain model.
    keys: instead of order, where several ranks can follow it: a function of dataset, unwillingness and config to the keys
        of problem.first_of_keys.
    """
    order: Callable | None
    disclosed: str
    withheld: str
    needs_model: bool = False
    keys: Callable | None = None


def at_random(dataset: Dataset, unwillingness: np.ndarray, config: Config) -> tuple:
    return (dataset.share.shuffled(generator(config.seed, "random disclosure"), dataset.num_interactions),)


def least_unwilling(dataset: Dataset, unwillingness: np.ndarray, config: Config) -> tuple:
    return unwillingness, dataset.share.positions(dataset.num_interactions)


def latest(dataset: Dataset, unwillingness: np.ndarray, parameters: list, config: Config) -> np.ndarray:
    length = np.bincount(dataset.user, minlength=dataset.num_users)
    age = (np.cumsum(length)[dataset.user] - np.arange(dataset.num_interactions)) / length[dataset.user]
    return np.argsort(age, kind="stable")


def most_similar(dataset: Dataset, unwillingness: np.ndarray, parameters: list, config: Config) -> np.ndarray:
    total, model = np.zeros(dataset.num_interactions), model_class(config.model)
    for values in parameters:
        embedding = model.item_embeddings(values)
        total += np.einsum("nd,nd->n", embedding[dataset.item], embedding[dataset.validation[dataset.user]])
    similarity = total / len(parameters)
    order = np.argsort(-similarity / np.maximum(unwillingness, TINY), kind="stable")
    return order[similarity[order] > 0]


BASELINES = {
    "random": Baseline(None, "it was drawn at random", "it was not drawn before the budget was spent", keys=at_random),
    "threshold": Baseline(None, "it is among what users mind least", "the budget went to what users mind less",
                          keys=least_unwilling),
    "recent": Baseline(latest, "it is among their latest", "it is not among their latest, or exceeds the budget"),
    "similarity": Baseline(most_similar, "it is like the item they chose last, for what they mind",
                           "it is too unlike the item they chose last, for what they mind", needs_model=True),
}


def find(name: str) -> Baseline:
    """The baseline of a name, or from a file that defines `order` and, if need be, NEEDS_MODEL = True.

    Raises:
        InputError: the file is missing or unfit.
    """
    if not plugins.is_file(name):
        return BASELINES[name]
    module = plugins.load(name, "strategy", "order")

    def order(dataset, unwillingness, parameters, config):
        own = without_test_items(dataset.part(np.ones(dataset.num_interactions, bool)))  # copies: it may write into them
        with plugins.guarded(name, "strategy", "order() failed"):
            found = np.asarray(module.order(own, unwillingness.copy(), parameters, config))
        if found.ndim != 1 or found.dtype.kind not in "iu" or len(np.unique(found)) != len(found) \
                or len(found) and not (0 <= found.min() and found.max() < dataset.num_interactions):
            raise InputError(f"--strategy {name}: order() must return different positions of interactions, from 0 to "
                             f"{dataset.num_interactions - 1}, as one array of whole numbers")
        return found
    return Baseline(order, "the strategy chose it", "the strategy did not choose it", getattr(module, "NEEDS_MODEL", False))
