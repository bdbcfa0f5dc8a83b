"""Strategy `ask-first`: nothing is trained on before its user has disclosed it.

The least unwilling interactions, until the first share of the budget is spent, train a first model. With its shared
parameters each user's row is refitted from all that they know themselves; influences are computed at these rows, and the
game decides what else is disclosed within the next share; and so on. An instalment contains those before it, so that all
that any model was trained on is part of the mask; no file holds such a model. What leaves a user beside what they disclose
is their part in sums: those of the regression behind the expected influence, and of the search for the price. See
docs/maths.md, section 8.
"""
from __future__ import annotations

import logging
import time
from itertools import islice

import numpy as np

from ..config import Config
from ..influence.anchor import Anchor
from ..influence.chunks import Chunks
from ..influence.refit import refitted
from ..influence_function import expected_at
from ..network import build
from ..stat_utils import generator
from ..training.trainer import Trainer, train_on
from .decisions import Decisions
from .mirror_descent import critical_payoff, price_within_budget
from .problem import Problem, first_of_keys

logger = logging.getLogger("ifrqe")

EPOCHS = 0.6, 0.8  # after these shares of its epochs a training's parameters are taken for influences
STEPS = 2  # of a refit: rows that were trained on are near the optimum already


class AskFirst:
    """The strategy.

    Args:
        problem: Problem.
        config: instalments, the options of training, influence and game.
        device: name of the device in use.
    """

    def __init__(self, problem: Problem, config: Config, device: str):
        self.problem, self.config, self.device = problem, config, device
        self.dataset, self.unwillingness = problem.dataset, problem.unwillingness
        self.epochs = sorted({max(1, round(share * config.train_epochs)) for share in EPOCHS})
        self.critical = critical_payoff(config.prior, config.rounds, config.game_rate)
        self.seconds = {"training": 0.0, "influence": 0.0}
        self.net = build(self.dataset, config)  # refits rows, with one graph for all of them
        self.jacobian = self.net.rows_of_users(Chunks(self.dataset, config).pairs_per_call)

    def __call__(self, limit: float, weight: float | None = None) -> Decisions:
        """The decision within a limit of unwillingness, or at a price.

        Args:
            limit: largest sum of unwillingness.
            weight: lambda; given, instalments are shares of what it would spend at the influences known by then. Before
                any are known, the first is a share of `limit` all the same.

        Returns:
            Decisions.
        """
        b, shares = self.unwillingness, self.config.instalments
        disclosed = self._least_unwilling(limit * shares[0])
        instalment, spent, weights = disclosed.astype(np.int8), [self._sum(b[disclosed])], []
        found = price = None
        for number, share in enumerate(shares[1:], 2):
            if self._sum(disclosed):
                found = self._influences(disclosed, number)
                expected = found[1]
                within = limit if weight is None else self._sum(b[disclosed | (expected - weight * b > self.critical)])
                more, price = self._play(expected, disclosed, share * within, weight)
                weights.append(price)
            else:  # the shares so far were too small for anything
                more = self._least_unwilling(limit * share)
            instalment[more] = number
            disclosed = disclosed | more
            spent.append(self._sum(b[disclosed]))
            logger.info("instalment %d of %d: %s more interactions are disclosed, %s in all", number, len(shares),
                        f"{self._sum(more):,.0f}", f"{self._sum(disclosed):,.0f}")
        users = len(self.dataset.all_user_ids)
        return self._decisions(disclosed, instalment, found, price, {
            "instalment_wv": [float(x / users) for x in spent], "instalment_weights": weights})

    def _sum(self, values):
        """Of all ranks."""
        return float(self.dataset.share.total(values.sum()))

    def _play(self, expected, disclosed, limit, weight):
        """What is disclosed beside (n,) `disclosed`, and the price."""
        b, left = self.unwillingness, ~disclosed
        price = price_within_budget(expected[left], b[left], max(limit - self._sum(b[disclosed]), 0), self.critical,
                                    self.dataset.share)
        price = price if weight is None else max(price, weight)
        return left & (expected - price * b > self.critical), price

    def _least_unwilling(self, limit):
        """(n,) bool: those of the least unwillingness, ties in random order, as far as the limit reaches."""
        b, share = self.unwillingness, self.dataset.share
        keys = b, share.shuffled(generator(self.config.seed, "first instalment"), len(b))
        return first_of_keys(keys, self.problem, limit)

    def _influences(self, disclosed, number):
        """What expected_at finds at rows that are refitted, the shared parameters trained on `disclosed`."""
        start, config, dataset = time.perf_counter(), self.config, self.dataset
        sets = self._model(disclosed, number)
        trained = np.bincount(dataset.user[disclosed], minlength=dataset.num_users) > 0
        between = time.perf_counter()
        anchor = Anchor([lambda values=values: refitted(self.net, values, dataset, trained, config, STEPS, self.jacobian)
                         for values in sets])
        if config.solver == "lissa":  # its recursion samples all users: of each the trained row, and what is disclosed
            anchor = Anchor(sets, disclosed)
        found = expected_at(anchor, dataset, config)
        self.seconds["training"] += between - start
        self.seconds["influence"] += time.perf_counter() - between
        return found

    def _model(self, disclosed, number):
        """Sets of parameters, trained on `disclosed` and nothing else; no file holds them."""
        config, part = self.config, self.dataset.part(disclosed)
        trainer = Trainer(build(part, config), part, config, self.device)
        logger.info("instalment %d of %d: %s is trained on the %s interactions that are disclosed by now, batch_size %s",
                    number - 1, len(config.instalments), config.plain_model, f"{part.all_interactions:,}",
                    f"{trainer.batch_size:,}")
        epochs = islice(train_on(trainer), self.epochs[-1])
        return [epoch.values for epoch in epochs if epoch.number in self.epochs]

    def _decisions(self, disclosed, instalment, found, price, record):
        decisions = Decisions(disclosed, self.unwillingness, price, record=record, instalment=instalment)
        if found is not None:
            decisions.influence, decisions.expected = found[:2]
            decisions.record = {**found[2], **record, "parameter_sets": len(self.epochs)}
        return decisions
