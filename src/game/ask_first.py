"""Strategy `ask-first`: nothing is trained on, or looked at, before its user has disclosed it.

Two sides. The deciding side holds what is disclosed and nothing else: it trains on that, announces the parameters, and lets
a price fall. Each user's device knows its user's history and unwillingness: it computes from the announcement what each
interaction is worth, and discloses those that are worth more than the price. The budget is spent in instalments; the first
go by unwillingness alone. Here one process plays both sides and finds the order of the answers by sorting, which is what a
clock of small steps comes to. See docs/maths.md, section 8.
"""
from __future__ import annotations

from itertools import islice

import numpy as np

from ..common.errors import InputError, logger
from ..common.share import Share, here
from ..config import Config
from ..dataset import Dataset
from ..history import History
from ..influence.expected import expected_influence, on_validation, per_item, target_items
from ..influence_function import OWN_DATA, influences_of_pairs
from ..network import build
from ..stat_utils import own_numbers
from ..training.train import ANCHOR_SHARE
from ..training.trainer import Trainer, train_on
from .decisions import THRESHOLD, Decisions
from .mirror_descent import critical_payoff, prices_of
from .problem import Problem, first_within

EPOCHS = 0.6, ANCHOR_SHARE  # after these shares of its epochs a training's parameters are announced
MOST = 1  # largest unwillingness: while so much is left, whatever is disclosed next keeps within the limit
FEW = 6.6  # interactions of an item, on average: with fewer disclosed, unwillingness alone decides better than influences
_DIGITS = 9  # of the sum that a device tells: the order of addition is not to move it
_BELOW = 1e-9  # by how much, relatively, a price lies below that of the last answer


class DecidingSide:
    """Trains on what is disclosed, and counts it: of Interactions.ids and their Share. All it knows it `hear`s."""

    def __init__(self, ids: tuple, share: Share, config: Config, device: str):
        self.ids, self.share, self.config, self.device = ids, share, config, device
        self.none = np.full(len(ids[0]), -1, np.int32)  # is held out
        self.epochs = sorted({max(1, round(part * config.train_epochs)) for part in EPOCHS})

    def hear(self, user: np.ndarray, item: np.ndarray, unwillingness: np.ndarray, trains: np.ndarray | None = None) -> None:
        """Is told all that is disclosed by now: (m,) positions of users, ascending, and of items, and unwillingness.

        `trains`: (m,) bool, what it may train on to decide; None for all.
        """
        self.spent = float(here().total(unwillingness.sum()))
        if trains is not None:
            user, item = user[trains], item[trains]
        share = self.share.part(History(user, len(self.ids[0])).length)
        self.disclosed = Dataset(self.config.dataset, *self.ids, user, item, None, None, share, test=self.none)
        # of whom so few interactions are disclosed that they may have no more, nothing may be known
        self.knows_somebody = (self.disclosed.all_interactions if trains is None
                               else here().total(self.disclosed.informed.sum())) > 0

    def announce(self) -> list[dict]:
        """Trains on what is disclosed; returns the sets of parameters, see Network.values, that all devices are told."""
        trainer = Trainer(build(self.disclosed, self.config), self.disclosed, self.config, self.device)
        logger.info("%s is trained on the %s interactions that are disclosed by now, batch_size %s",
                    self.config.plain_model, f"{self.disclosed.all_interactions:,}", f"{trainer.batch_size:,}")
        return [epoch.values for epoch in islice(train_on(trainer), self.epochs[-1]) if epoch.number in self.epochs]


class Devices:
    """The devices of all users of a Problem: what one tells depends on the announcement and its own user's data alone."""

    def __init__(self, problem: Problem, config: Config):
        self.dataset, self.unwillingness, self.config = problem.dataset, problem.unwillingness, config
        self.net = build(self.dataset, config)  # takes the parameters of each announcement, with one graph for all
        self.critical = critical_payoff(config.prior, config.rounds, config.game_rate)
        self.targets = target_items(self.dataset, max(int(self.dataset.validation is None), config.influence_lags - 1))
        names = self.dataset.numbers[self.dataset.user]
        self.ties = own_numbers(config.seed, "ties", names, self.dataset.item).astype(np.float64)

    def allowed(self) -> float:
        """The sum of b over all that users allow: the one number that each tells beside what they disclose."""
        return float(here().total(self.dataset.history.sums(self.unwillingness).round(_DIGITS).sum()))

    def worth(self, announced: list[dict], disclosed: Dataset) -> tuple[np.ndarray, np.ndarray, dict]:
        """What each interaction is worth to its user, by what DecidingSide.announce has trained on what is disclosed.

        Of the rows, and of `disclosed`, each device looks at those of its own user, which it knows anyway.
        Returns influence: (n,) on the validation item, or on what stands in for it, see influence_function.expected_at;
            nats, positive = disclosing helps; expected: (n,) float64, nats, see expected_influence. Both are 0 of whom
            nothing is known; report: dict, for preprocess.json.
        """
        pairs = self.dataset.user, self.dataset.item
        found = influences_of_pairs(announced, disclosed, pairs, self.targets, self.config, self.net)
        expected, expectation = expected_influence(found, self.dataset, fit=False)
        expected = np.where(self.dataset.informed, expected, 0.0)
        return on_validation(found, self.dataset), expected, {"expectation": expectation}


def answers(level: np.ndarray, ties: np.ndarray, unwillingness: np.ndarray, left: float) -> np.ndarray:
    """(n,) bool: which interactions are disclosed, one after the other, while at least MOST of what is `left` may be spent.

    So none is ever refused, and nothing that is withheld has a part in when it ends. The highest level comes first, -inf
    never; of equal levels the lowest of `ties`; unwillingness is in [0, MOST].
    """
    if left < MOST:
        return np.zeros(len(unwillingness), bool)
    return first_within(left - MOST, (-level, ties), unwillingness, one_more=True)


class AskFirst:
    """The strategy: both sides, and the instalments. Takes Strategies.

    Raises InputError: the solver looks at more than a user's own data and the items.
    """

    def __init__(self, strategies):
        problem, config = strategies.problem, strategies.config
        if config.solver not in OWN_DATA:
            raise InputError(f"--solver {config.solver}: may look at the data of other users, which ask-first must not; "
                             f"give --solver {' or '.join(OWN_DATA)}")
        self.problem, self.config, self.timed = problem, config, strategies.timed
        self.side = DecidingSide(problem.dataset.ids, problem.dataset.share, config, strategies.device)
        self.devices = Devices(problem, config)

    def __call__(self, budget: float, weight: float | None = None) -> Decisions:
        """The decision within a budget, the largest share of the unwillingness of all that may be disclosed.

        Given `weight`, lambda, no price falls below it, and the last instalment spends what it takes to get there.
        """
        b, shares, limit = self.problem.unwillingness, self.config.instalments, budget * self.devices.allowed()
        instalment = ((b == 0) & (limit < MOST)).astype(np.int8)  # where nothing can be asked, what nobody minds is left
        spent, prices, found = [], [], None
        self._tell(instalment > 0)
        for number, part in enumerate(shares, 1):
            left, at_price = part * limit - self.side.spent, weight is not None and number == len(shares)
            known = at_price or left >= MOST and per_item(self.side.disclosed) >= FEW
            if known and self.side.knows_somebody:
                with self.timed("training"):
                    announced = self.side.announce()
                with self.timed("influence"):
                    found = self.devices.worth(announced, self.side.disclosed)
                level, price = prices_of(found[1], b, self.devices.critical), weight or 0.0
                left = np.inf if at_price else left
            else:
                level, price = -b, None
            asked = (instalment == 0) & (level > (-np.inf if price is None else price))
            more = answers(np.where(asked, level, -np.inf), self.devices.ties, b, left)
            instalment[more] = number
            self._tell(instalment > 0)
            if price is not None and not at_price and part * limit - self.side.spent < MOST:  # it fell no further
                last = here().each(level[more].min(initial=np.inf)).min()
                price = max(price, float(last) * (1 - _BELOW))
            prices.append(price)
            spent.append(self.side.spent / len(self.problem.dataset.all_user_ids))
            logger.info("instalment %d of %d, %s: %s more interactions are disclosed, %s in all", number, len(shares),
                        "by unwillingness alone" if price is None else f"down to price {price:.4g}",
                        f"{here().total(more.sum()):,.0f}", f"{here().total((instalment > 0).sum()):,.0f}")
        last = next((price for price in prices[::-1] if price is not None), None)
        least = b[(instalment > 0) & np.array([True, *(price is None for price in prices)])[instalment]]
        record = {"instalment_wv": spent, "instalment_weights": prices,
                  THRESHOLD: float(here().each(least.max(initial=0)).max())}
        if found is None:
            return Decisions(instalment > 0, b, last, record=record, instalment=instalment)
        record.update(found[2], parameter_sets=len(self.side.epochs))
        return Decisions(instalment > 0, b, last, found[0], found[1], record, instalment)

    def _tell(self, disclosed):
        dataset = self.problem.dataset  # where nothing is held out, a device tells its yardstick apart
        trains = ~dataset.yardstick[disclosed] if dataset.validation is None else None
        self.side.hear(dataset.user[disclosed], dataset.item[disclosed], self.problem.unwillingness[disclosed], trains)
