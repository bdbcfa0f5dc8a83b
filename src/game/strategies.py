"""What each strategy discloses: the game at one anchor or at several, and the baselines that it is measured against.

All but none spend the same budget of unwillingness; none of them discloses what is vetoed. The table of strategies is in
docs/method.md. See docs/maths.md, sections 5 and 6.
"""
from __future__ import annotations

import logging
import time

import numpy as np

from ..config import Config
from ..influence.anchor import Anchor
from ..influence_function import expected_at
from ..options import INFLUENCES
from ..stat_utils import generator
from .anchors import Retrained, parameter_sets
from .ask_first import AskFirst
from .baselines import BASELINES, find
from .decisions import Decisions
from .mirror_descent import Game
from .problem import Problem, first_in_order, first_of_keys, limit_of

logger = logging.getLogger("ifrqe")

NONE, IFRQE, IFRQE_PP, ASK_FIRST = "none", "ifrqe", "ifrqe++", "ask-first"
PLAYED = (IFRQE, IFRQE_PP, ASK_FIRST)
STRATEGIES = (NONE, *BASELINES, *PLAYED)


def needs_model(strategy: str) -> bool:
    """Whether a strategy looks at the plain model, which was trained on everything."""
    if strategy in (NONE, ASK_FIRST):
        return False
    return strategy in PLAYED or find(strategy).needs_model


def influence_groups(config: Config, solvers: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Groups of options that the influences depend on; the samples of `lissa` are drawn by chunk."""
    return (*INFLUENCES, "chunks") if "lissa" in (config.solver, *solvers) else INFLUENCES


def play(expected: list[np.ndarray], problem: Problem, config: Config, limit: float, weight: float | None = None,
         selections: list[np.ndarray] | None = None) -> tuple[np.ndarray, float, Game]:
    """Plays the game, at a price or at the one that just keeps within the limit.

    Args:
        expected: list of (n,) expected influences, one for each anchor.
        problem: Problem.
        config: the options of the game.
        limit: largest sum of unwillingness.
        weight: lambda; None finds it.
        selections: list of (n,) bool, the anchors; needed if there are several.

    Returns:
        disclosed: (n,) bool.
        weight: lambda.
        game: the Game.
    """
    game = Game(np.stack(expected), problem.unwillingness, config, None if selections is None else np.stack(selections),
                problem.dataset.user, problem.dataset.share)
    disclosed, weight = game.within(limit) if weight is None else (game.play(weight)[0], weight)
    return disclosed, weight, game


class Strategies:
    """Decides for the users of a dataset; influences are computed once, when they are first needed.

    Args:
        problem: Problem.
        model: see anchors.load_model; None for strategies that need no model.
        config: the options of influence and game.
        device: name of the device in use.
    """

    def __init__(self, problem: Problem, model: tuple[dict, dict] | None, config: Config, device: str):
        self.problem, self.model, self.config, self.device = problem, model, config, device
        self.seconds = {"influence": 0.0, "game": 0.0}
        self._anchors = {}  # by number, the last selection and what is expected there: of another budget it may be the same
        self._first = None

    def __call__(self, strategy: str, budget: float, weight: float | None = None) -> Decisions:
        """The decision of a strategy.

        Args:
            strategy: one of STRATEGIES, or a file.
            budget: largest share of the total unwillingness that may be violated.
            weight: lambda; given, the game is played at this price instead of within the budget.

        Returns:
            Decisions.
        """
        problem = self.problem
        limit = limit_of(problem, budget)
        if strategy == NONE:
            return Decisions(np.ones(len(problem.unwillingness), bool), problem.unwillingness)
        if strategy not in PLAYED:
            baseline = find(strategy)
            if baseline.keys:
                keys = baseline.keys(problem.dataset, problem.unwillingness, self.config)
                return Decisions(first_of_keys(keys, problem, limit), problem.unwillingness)
            parameters = parameter_sets(self.model) if baseline.needs_model else []
            order = baseline.order(problem.dataset, problem.unwillingness, parameters, self.config)
            return Decisions(first_in_order(order, problem, limit), problem.unwillingness)
        if strategy == ASK_FIRST:
            ask_first = AskFirst(problem, self.config, self.device)
            decisions = ask_first(budget, weight)
            self.seconds.update(ask_first.seconds)
            return decisions
        return self._played(strategy, limit, weight)

    def _played(self, strategy, limit, weight):
        """The Decisions of IFRQE or IFRQE_PP."""
        problem = self.problem
        influence, expected, report = self._at_everything()
        if strategy == IFRQE:
            disclosed, weight, _ = self._play([expected], limit, weight)
        else:
            selections, found = self._place_anchors(expected, limit, weight)
            report = {**report, "anchor_wv": [float(problem.unwillingness[o].sum() / problem.dataset.num_users)
                                              for o in selections]}
            disclosed, weight, game = self._play(found, limit, weight, selections)
            expected = game.play(weight)[1]
        return Decisions(disclosed, problem.unwillingness, influence=influence, expected=expected, record=report,
                         weight=weight)

    def _play(self, expected, limit, weight, selections=None):
        start = time.perf_counter()
        found = play(expected, self.problem, self.config, limit, weight, selections)
        self.seconds["game"] += time.perf_counter() - start
        return found

    def _at_everything(self):
        if self._first is None:
            self._first = self._at(Anchor(parameter_sets(self.model)))
        return self._first

    def _at(self, anchor):
        """See expected_at."""
        start = time.perf_counter()
        found = expected_at(anchor, self.problem.dataset, self.config)
        self.seconds["influence"] += time.perf_counter() - start
        return found

    def _place_anchors(self, expected, limit, weight):
        """Selection vectors of `anchors` anchors, everything first, and the expected influences there, first `expected`."""
        problem, config = self.problem, self.config
        selections, found = [np.ones(len(expected), bool)], [expected]
        for number in range(1, config.anchors):
            if config.anchor_placing == "binomial":
                selection = generator(config.seed, "anchor", number).random(len(expected)) < config.prior
            else:
                selection = self._play(found, limit, weight, selections)[0]
            if not selection.any():
                logger.warning("anchor %d of %d would withhold everything: there are no more", number + 1, config.anchors)
                break
            if number not in self._anchors or not np.array_equal(self._anchors[number][0], selection):
                logger.info("anchor %d of %d: %s is trained on %.1f%% of the interactions", number + 1, config.anchors,
                            config.plain_model, 100 * selection.mean())
                retrained = Retrained(self.model, problem.dataset, selection, config, self.device)
                self._anchors[number] = selection, self._at(retrained.anchor())[1]
            selections.append(selection)
            found.append(self._anchors[number][1])
        return selections, found
