"""What each strategy discloses: the game at one anchor or at several, asking first, and baselines to measure them against.

A baseline takes interactions in an order until the budget of unwillingness is spent. The table of strategies is in
docs/method.md. See docs/maths.md, sections 5 and 6.
"""
from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..common import plugins
from ..common.errors import InputError, logger
from ..common.share import here
from ..config import Config
from ..dataset import without_test_items
from ..influence.block import TINY
from ..influence.expected import target_items
from ..influence_function import expected_at
from ..network import model_class
from ..options import INFLUENCES
from ..stat_utils import generator
from .anchors import retrained
from .ask_first import AskFirst
from .decisions import THRESHOLD, Decisions
from .mirror_descent import Game
from .problem import Problem, first_within

NONE, IFRQE, IFRQE_PP, ASK_FIRST = "none", "ifrqe", "ifrqe++", "ask-first"


@dataclass(frozen=True)
class Strategy:
    """A way to decide, and what the rest of the program must know of it.

    decide: a function of Strategies, a budget and a price, or None for the one that keeps within it, that returns Decisions.
    """
    decide: Callable[[Strategies, float, float | None], Decisions]
    disclosed: str = "the strategy chose it"  # why, as the end of a sentence about one interaction, where no price decided
    withheld: str = "the strategy did not choose it"
    otherwise: str = ""  # the same where a decision is another than the rule at the price says; "" if no price ever decides
    needs_model: bool = False  # whether it looks at the plain model, which was trained on everything
    asks: bool = False  # whether nothing is trained on before its user has disclosed it
    sees_validation: bool = True
    whole: bool = False  # whether it discloses everything, whatever the budget


class Strategies:
    """Decides about a Problem; influences are computed once, when they are first needed.

    `model`: see anchors.load_model; None for strategies that need none. `seconds`: what was spent, by what it was spent on.
    """

    def __init__(self, problem: Problem, model: tuple[dict, dict] | None, config: Config, device: str):
        self.problem, self.model, self.config, self.device = problem, model, config, device
        self.parameters = list(model[0].values()) if model else []  # all sets that it has kept for influences
        self.seconds = {"influence": 0.0, "game": 0.0}
        self._anchors = {}  # by number, the last selection and what is expected there: of another budget it may be the same

    def __call__(self, strategy: str, budget: float, weight: float | None = None) -> Decisions:
        """The Decisions of one of STRATEGIES, or of a file, within a share of all unwillingness, or at `weight`, lambda."""
        return find(strategy).decide(self, budget, weight)

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start

    @functools.cached_property
    def at_everything(self) -> tuple[np.ndarray, np.ndarray, dict]:
        """See expected_at, where everything is disclosed."""
        with self.timed("influence"):
            return expected_at(self.parameters, self.problem.dataset, self.config)

    def play(self, expected: list[np.ndarray], budget: float, weight: float | None,
             selections: list[np.ndarray]) -> tuple[np.ndarray, float, Game]:
        """What is disclosed, (n,) bool, and lambda, at a price or within a budget; and the Game of what anchors expect."""
        b, dataset = self.problem.unwillingness, self.problem.dataset
        with self.timed("game"):
            game = Game(expected, b, self.config, selections, dataset.user)
            if weight is None:
                return *game.within(self.problem.limit(budget)), game
            return game.play(weight)[0], weight, game

    def anchors(self, most: int, expected: np.ndarray, budget: float, weight: float | None) -> tuple[list, list]:
        """Selection vectors of so many anchors, everything first, and the expected influences there, first `expected`."""
        config, dataset = self.config, self.problem.dataset
        selections, found = [np.ones(len(expected), bool)], [expected]
        for number in range(1, most):
            if config.anchor_placing == "binomial":
                drawn = generator(config.seed, "anchor", number).random(dataset.all_interactions)
                selection = drawn[dataset.share.positions(len(expected))] < config.prior
            else:
                selection = self.play(found, budget, weight, selections)[0]
            if not here().total((selection & ~dataset.yardstick).sum()):
                logger.warning("anchor %d of %d would withhold everything: there are no more", number + 1, most)
                break
            was = self._anchors.get(number)
            if here().total(was is None or (was[0] != selection).sum()):
                logger.info("anchor %d of %d: %s is trained on %.1f%% of the interactions", number + 1, most,
                            config.plain_model, 100 * here().total(selection.sum()) / dataset.all_interactions)
                with self.timed("influence"):
                    parameters = retrained(self.model, dataset, selection, config, self.device)
                    there = expected_at(parameters, dataset, config, selection)[1]
                    self._anchors[number] = selection, np.where(dataset.informed, there, expected)
            selections.append(selection)
            found.append(self._anchors[number][1])
        return selections, found


def everything(strategies: Strategies, *_) -> Decisions:
    b = strategies.problem.unwillingness
    return Decisions(np.ones(len(b), bool), b, record={THRESHOLD: 1.0})


def in_order(key: Callable[[Strategies], np.ndarray]) -> Callable:
    """The `decide` of a baseline, by a function of Strategies to the first key of first_within; the second is the place."""
    def decide(strategies, budget, _=None):
        problem, dataset = strategies.problem, strategies.problem.dataset
        keys = key(strategies), lambda at: dataset.share.positions(dataset.num_interactions)[at]
        b = problem.unwillingness
        return Decisions(first_within(problem.limit(budget), keys, b), b)
    return decide


def threshold(strategies: Strategies, budget: float, _=None) -> Decisions:
    found = in_order(lambda strategies: strategies.problem.unwillingness)(strategies, budget)
    found.record[THRESHOLD] = float(here().each(found.unwillingness[found.disclosed].max(initial=0)).max())
    return found


def ifrqe(strategies: Strategies, budget: float, weight: float | None, anchors: int | None = None) -> Decisions:
    b, users = strategies.problem.unwillingness, len(strategies.problem.dataset.all_user_ids)
    influence, expected, report = strategies.at_everything
    selections, found = strategies.anchors(anchors or 1, expected, budget, weight)
    disclosed, weight, game = strategies.play(found, budget, weight, selections)
    report = {**report, **threshold(strategies, budget * strategies.config.instalments[0]).record}
    if anchors:
        report = {**report, "anchor_wv": [float(here().total(b[selection].sum()) / users) for selection in selections]}
    return Decisions(disclosed, b, weight, influence, game.play(weight)[1], report)


def at_random(strategies: Strategies) -> np.ndarray:
    dataset = strategies.problem.dataset
    order = np.arange(dataset.all_interactions, dtype=np.int32)
    generator(strategies.config.seed, "random disclosure").shuffle(order)
    place = np.empty_like(order)
    place[order] = np.arange(len(order), dtype=np.int32)
    return place[dataset.share.positions(dataset.num_interactions)]


def latest(strategies: Strategies) -> np.ndarray:
    dataset = strategies.problem.dataset
    return (dataset.history.from_end + 1) / dataset.history.length[dataset.user]


def most_similar(strategies: Strategies) -> np.ndarray:
    dataset, model = strategies.problem.dataset, model_class(strategies.config.model)
    total, to = np.zeros(dataset.num_interactions), target_items(dataset, 1)[dataset.user, dataset.yardstick.astype(int)]
    for values in strategies.parameters:
        embedding = model.item_embeddings(values)
        total += np.einsum("nd,nd->n", embedding[dataset.item], embedding[to])
    similarity, known = total / len(strategies.parameters), dataset.informed
    similarity[~known] = here().total(similarity[known].sum()) / max(1, here().total(known.sum()))
    return np.where(similarity > 0, -similarity / np.maximum(strategies.problem.unwillingness, TINY), np.inf)


def of_file(name: str) -> Strategy:
    """The Strategy of a file that defines `order` and, if need be, NEEDS_MODEL = True.

    Raises InputError: the file is missing or unfit.
    """
    module = plugins.load(name, "strategy", "order")
    needs_model = getattr(module, "NEEDS_MODEL", False)

    def key(strategies):
        dataset, n = strategies.problem.dataset, strategies.problem.dataset.num_interactions
        own = without_test_items(dataset.part(np.ones(n, bool)))  # copies: it may write into them
        parameters = strategies.parameters if needs_model else []
        with plugins.guarded(name, "strategy", "order() failed"):
            found = np.asarray(module.order(own, strategies.problem.unwillingness.copy(), parameters, strategies.config))
        if found.ndim != 1 or found.dtype.kind not in "iu" or len(np.unique(found)) != len(found) \
                or len(found) and not (0 <= found.min() and found.max() < n):
            raise InputError(f"--strategy {name}: order() must return different positions of interactions, from 0 to "
                             f"{n - 1}, as one array of whole numbers")
        place = np.full(n, np.inf)
        place[found] = np.arange(len(found))
        return place
    return Strategy(in_order(key), needs_model=needs_model)


LEAST = "it is among what users mind least", "the budget went to what users mind less"
STRATEGIES = {
    NONE: Strategy(everything, "everything is", "", sees_validation=False, whole=True),
    "random": Strategy(in_order(at_random), "it was drawn at random", "it was not drawn before the budget was spent",
                       sees_validation=False),
    "threshold": Strategy(threshold, *LEAST, sees_validation=False),
    "recent": Strategy(in_order(latest), "it is among their latest", "it is not among their latest, or exceeds the budget",
                       sees_validation=False),
    "similarity": Strategy(in_order(most_similar), "it is like the item they chose last, for what they mind",
                           "it is too unlike the item they chose last, for what they mind", needs_model=True),
    IFRQE: Strategy(ifrqe, otherwise="a close call between the anchors", needs_model=True),
    IFRQE_PP: Strategy(lambda strategies, *limits: ifrqe(strategies, *limits, strategies.config.anchors),
                       otherwise="a close call between the anchors", needs_model=True),
    # where all instalments went by unwillingness alone it is a threshold
    ASK_FIRST: Strategy(lambda strategies, *limits: AskFirst(strategies)(*limits), *LEAST, asks=True,
                        otherwise="in an earlier instalment, by what was known then"),
}


def find(name: str) -> Strategy:
    """The Strategy of a name, or of a file; raises as of_file does."""
    return of_file(name) if plugins.is_file(name) else STRATEGIES[name]


def known(decisions: Decisions) -> Strategy:
    """The Strategy that has decided; of a file, which may be gone, what is the same of all files."""
    return STRATEGIES.get(decisions.record["strategy"], Strategy(None))


def influence_groups(config: Config, solvers: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Groups of options that the influences depend on; the samples of `lissa` are drawn by chunk."""
    return (*INFLUENCES, "chunks") if "lissa" in (config.solver, *solvers) else INFLUENCES
