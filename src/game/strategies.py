"""Which interactions are disclosed: the game, and the baselines that it is measured against.

| strategy | discloses |
|---|---|
| none | everything: plain NCF |
| none+validation | everything, and the validation items are trained on as well: a control, since the game has seen them |
| random | interactions in random order |
| threshold | the least unwilling first; influence is ignored |
| recent | the latest first, of every user the same share of the history |
| similarity | by cosine of the item's and the validation item's embeddings per unwillingness, as far as it is positive |
| ifrqe | what the game says, with influences at one anchor, everything disclosed |
| ifrqe++ | the same, with influences at several anchors |
| FILE.py | what `order` in that file says (see baselines.py) |

All but the first two spend the same budget of unwillingness. A vetoed interaction is disclosed by none of them.
"""
import hashlib
import logging
import time
from dataclasses import dataclass

import numpy as np

from ..common.files import PartialResults
from ..config import INFLUENCES
from ..constants import PARTIAL_FILE
from ..dataset import load_dataset
from ..influence.cross_user import influence_on_others
from ..influence.expected import expected_influence, target_items
from ..influence_function import influences
from ..sources.unwillingness import stated_unwillingness, vetoed
from ..stat_utils import generator
from .anchors import Retrained, parameter_sets
from .baselines import BASELINES, find
from .mirror_descent import Game

logger = logging.getLogger("ifrqe")


NONE, NONE_VALIDATION, IFRQE, IFRQE_PP = "none", "none+validation", "ifrqe", "ifrqe++"
PLAYED = (IFRQE, IFRQE_PP)
STRATEGIES = (NONE, NONE_VALIDATION, *BASELINES, *PLAYED)


def needs_model(strategy):
    """Whether a strategy looks at the plain model."""
    return strategy in PLAYED or strategy not in (NONE, NONE_VALIDATION) and find(strategy).needs_model


def with_validation(dataset, disclosed, config):
    """The Dataset that NONE_VALIDATION trains on: what is disclosed and the validation items, but none that is vetoed."""
    whole = load_dataset(config.replace(holdout=1))
    left_out = np.concatenate([dataset.rows[~disclosed], vetoed_validations(dataset, config)])
    return whole.part(~np.isin(whole.rows, left_out))


def vetoed_validations(dataset, config):
    """(v,) rows of ratings.csv that hold the vetoed validation items, as far as their unwillingness is known."""
    if not config.veto:
        return np.zeros(0, np.int64)
    whole = load_dataset(config.replace(holdout=1))
    held_out = np.isin(whole.rows, dataset.held_out)
    return whole.rows[held_out & vetoed(stated_unwillingness(whole, config), config)]


@dataclass
class Decision:
    """What a strategy discloses.

    disclosed: (n,) bool.
    weight: willingness weight lambda at which the game was played; None for a baseline.
    influence: (n,) influences on the validation items at the anchor of everything; None for a baseline.
    expected: (n,) what the game went by, see expectation.py; with several anchors the mean over the rounds; or None.
    report: dict, what preprocess.json says about it.
    """
    disclosed: np.ndarray
    weight: float = None
    influence: np.ndarray = None
    expected: np.ndarray = None
    report: dict = None


def influence_groups(config, solvers=()):
    """Groups of options that the influences depend on; the samples of `lissa` are drawn by chunk."""
    return (*INFLUENCES, "chunks") if "lissa" in (config.solver, *solvers) else INFLUENCES


class Strategies:
    """Decides for the users of a dataset; influences are computed once, when they are first needed.

    Args:
        dataset: Dataset.
        unwillingness: (n,) array in [0, 1].
        allowed: (n,) bool, what is not vetoed.
        models: see anchors.load_models; may be empty for strategies that need no model.
        config: the options of influence and game.
        device: name of the device in use.
        output: folder for what an interrupted computation has left.
        key: dict that this depends on beside the options: data and checkpoints.
    """

    def __init__(self, dataset, unwillingness, allowed, models, config, device, output, key):
        self.dataset, self.unwillingness, self.allowed = dataset, unwillingness, allowed
        self.models, self.config, self.device, self.output, self.key = models, config, device, output, key
        self.seconds = {"influence": 0.0, "game": 0.0}
        self.partials = []
        self._first = None

    def __call__(self, strategy, budget, weight=None):
        """The decision of a strategy.

        Args:
            strategy: one of STRATEGIES, or a file.
            budget: largest share of the total unwillingness that may be violated.
            weight: lambda; given, the game is played at this price instead of within the budget.

        Returns:
            Decision.
        """
        limit = budget * self.unwillingness.sum()
        if strategy in (NONE, NONE_VALIDATION):
            return Decision(self.allowed.copy())
        if strategy not in PLAYED:
            baseline = find(strategy)
            parameters = parameter_sets(self.models) if baseline.needs_model else []
            return Decision(self._in_order(baseline.order(self.dataset, self.unwillingness, parameters, self.config), limit))
        influence, expected, report = self._at_everything()
        if strategy == IFRQE:
            disclosed, weight = self._play(self._game([expected]), limit, weight)
        else:
            selections, found = self._place_anchors(expected, limit, weight)
            report = {**report, "anchor_wv": [float(self.unwillingness[o].sum() / self.dataset.num_users)
                                              for o in selections]}
            game = self._game(found, selections)
            disclosed, weight = self._play(game, limit, weight)
            expected = expected.copy()
            expected[self.allowed] = game.play(weight)[1]
        return Decision(disclosed, weight, influence, expected, report)

    def forget(self):
        """Removes what was kept for the case of an interruption."""
        for partial in self.partials:
            partial.remove()

    def _in_order(self, order, limit):
        """(n,) bool: of the allowed interactions of `order` the first ones, as far as the limit reaches."""
        order = order[self.allowed[order]]
        disclosed = np.zeros(self.dataset.num_interactions, bool)
        disclosed[order[np.cumsum(self.unwillingness[order]) <= limit * (1 + 1e-12)]] = True
        return disclosed

    def _game(self, expected, selections=None):
        """The game about what is allowed, by the expected influences (n,) of each anchor."""
        allowed = self.allowed
        return Game(np.stack(expected)[:, allowed], self.unwillingness[allowed], self.config,
                    None if selections is None else np.stack(selections)[:, allowed], self.dataset.user[allowed])

    def _play(self, game, limit, weight):
        """(n,) bool, the selection within the limit or at a given weight; and the weight."""
        start = time.perf_counter()
        disclosed = np.zeros(len(self.allowed), bool)
        if weight is None:
            disclosed[self.allowed], weight = game.within(limit)
        else:
            disclosed[self.allowed], _ = game.play(weight)
        self.seconds["game"] += time.perf_counter() - start
        return disclosed, weight

    def _at_everything(self):
        if self._first is None:
            self._first = self._at(parameter_sets(self.models), None, 0)
        return self._first

    def _at(self, sets, disclosed, number):
        """Influences at one anchor.

        Returns:
            influence: (n,) on the validation items.
            expected: (n,) what the game goes by.
            report: dict.
        """
        start = time.perf_counter()
        config, dataset = self.config, self.dataset
        targets = target_items(dataset, config.influence_lags)
        selection = None if disclosed is None else hashlib.sha256(np.packbits(disclosed).tobytes()).hexdigest()
        settings = config.select("model", *INFLUENCES, "chunks")
        if number:
            settings["anchor_warm_epochs"] = config.anchor_warm_epochs
        name = PARTIAL_FILE if not number else PARTIAL_FILE.replace(".", f"_{number}.")
        partial = PartialResults(self.output / name, {**self.key, "settings": settings, "anchor": selection},
                                 config.overwrite)
        self.partials.append(partial)
        if partial.resumed:
            logger.info("%s: going on with the influences that a run before this one has left", partial.path)
        found, report = influences(sets, dataset, config, partial, disclosed, targets)
        expected, report["expectation"] = expected_influence(found, dataset)
        if config.count_others:
            others = influence_on_others(sets, dataset, config, targets, disclosed)
            added, report["expectation_others"] = expected_influence(others, dataset)
            expected = expected + added
        self.seconds["influence"] += time.perf_counter() - start
        return found[:, :dataset.validations().shape[1]].mean(1), expected, report

    def _place_anchors(self, expected, limit, weight):
        """Selection vectors of `anchors` anchors, everything allowed first, and the expected influences there.

        Args:
            expected: (n,) at the first.
            limit, weight: of the game.
        """
        selections, found = [self.allowed], [expected]
        for number in range(1, self.config.anchors):
            rng = generator(self.config.seed, "anchor", number)
            if self.config.anchor_placing == "binomial":
                selection = self.allowed & (rng.random(len(expected)) < self.config.prior)
            elif self.config.anchor_placing == "budget":
                selection = self._in_order(rng.permutation(len(expected)), limit)
            else:
                selection, _ = self._play(self._game(found, selections), limit, weight)
            if not selection.any():
                logger.warning("anchor %d of %d would withhold everything: there are no more", number + 1,
                               self.config.anchors)
                break
            logger.info("anchor %d of %d: NCF is trained on %.1f%% of the interactions", number + 1, self.config.anchors,
                        100 * selection.mean())
            retrained = Retrained(self.models, self.dataset, selection, self.config, self.device)
            selections.append(selection)
            found.append(self._at(retrained.parameter_sets(), selection, number)[1])
        return selections, found
