"""What follows from a selection: the recommendations to some users by how many of their interactions they disclose.

For the slider of their pages. Each list is that of a row refitted on a selection, see refit_to_all; the parameters
that users share stay those of the masked model, so nobody else's data change. The rule's selections are nested, larger at
lower prices: a few of them, equally far apart in number, stand for all, and each is refitted from the row of the next larger
one. See docs/report.md, "A user's page".
"""
from __future__ import annotations

import numpy as np

from ..common.machine import one_blas_thread
from ..config import Config
from ..dataset import Dataset, HeldOut
from ..evaluation.personal import Serving
from ..evaluation.recommend import top_items
from ..game.decisions import Decisions
from ..game.rule import Rule
from ..influence.refit import STEPS, refit_to_all, row_prior
from ..network import build
from ..sources.interactions import Ids

SIZES = 16  # selections of a user that are refitted, the empty one and the largest included
MOST_PAIRS = 200_000  # of users and items to be scored for each of them, which keeps the report within seconds


def sizes_of(most: int | np.ndarray) -> np.ndarray:
    """(..., SIZES) int: how many interactions the selections hold that are refitted, if the largest holds `most`."""
    return np.rint(np.multiply.outer(most, np.arange(SIZES)) / (SIZES - 1)).astype(np.int64)


def live_lists(users: np.ndarray, dataset: Dataset, decisions: Decisions, serving: Serving, k: int,
               config: Config) -> list[list[np.ndarray]]:
    """The k best items that users have not had, by selection; of as many users, the first, as there is time for.

    Args:
        users: (u,) ascending positions.
        dataset: Dataset, the original.
        decisions: Decisions that a game made.
        serving: Serving of the masked model.
        k: length of a list.
        config: seed, chunk_size, eval_batch_size and those of the model.

    Returns:
        For each user SIZES lists of items, of the smallest selection first, then that of all that may be used.
    """
    users = users[:max(1, MOST_PAIRS // dataset.num_items)]
    selections = Selections(users, dataset, decisions, serving, config)
    rows, lists = selections.refit(np.ones(len(selections.rank), bool), STEPS), []
    lists.append(selections.top(rows, k))
    for count in sizes_of(selections.most).T[::-1]:
        rows = selections.refit(selections.rank < count[selections.own.user], 1, rows)
        lists.append(selections.top(rows, k))
    return [[*reversed(found[1:]), found[0]] for found in zip(*lists)]


class Selections:
    """Refits of some users' rows on selections of their interactions; takes what live_lists does.

    own: Dataset of the users.
    rank: (m,) int, by interaction of `own` the number of their user's that the rule discloses at a higher price.
    most: (u,) int, how many the rule discloses at the price 0.
    """

    def __init__(self, users, dataset, decisions, serving, config):
        place = np.flatnonzero(np.isin(dataset.user, users))
        user = np.searchsorted(users, dataset.user[place]).astype(np.int32)
        dropped = dataset.dropped
        if dropped is not None:
            dropped = dropped.of(np.isin(dropped.user, users))
            dropped.user = np.searchsorted(users, dropped.user).astype(np.int32)
        self.own = Dataset(dataset.name, Ids(dataset.user_ids[users], dataset.item_ids), user, dataset.item[place], None,
                           HeldOut(dataset.validation[users], dataset.test[users]), dropped=dropped)
        self.config = config.replace(num_neg=serving.info.get("settings", {}).get("num_neg", config.num_neg))
        self.values = serving.other if serving.personal else serving.net.values()  # the rows as they were trained
        self.net, self.shown = serving.net, build(self.own, config)
        self.net.set_values(self.values)
        trained = np.bincount(dataset.user[decisions.disclosed], minlength=dataset.num_users) > 0
        rows = self.net.user_rows(self.values)
        self.prior = row_prior(rows[trained])
        self.start = np.where(trained[users, None], rows[users], self.prior.mean)
        self.jacobian = self.net.pairs(dataset.num_items)
        self.jacobian.at(self.values)
        self.rank, self.most = _ranked(self.own.user, len(users), decisions.expected[place] - Rule(decisions).critical,
                                       decisions.unwillingness[place])

    def refit(self, selection: np.ndarray, steps: int, start: np.ndarray | None = None) -> np.ndarray:
        """(u, d) rows from a selection, (m,) bool, from rows to start at: as trained if none are given."""
        kept = np.zeros((len(self.start), self.own.num_items), bool)
        kept[self.own.user[selection], self.own.item[selection]] = True
        with one_blas_thread():
            return refit_to_all(self.jacobian, kept, self.prior, self.start if start is None else start,
                                self.config.num_neg, steps, self.config.chunk_size)

    def top(self, rows: np.ndarray, k: int) -> list[np.ndarray]:
        """The k best items for each user's row."""
        self.shown.set_values(self.net.with_user_rows(self.values, rows))
        found = top_items(self.shown, np.arange(len(rows)), self.own, k, self.config.eval_batch_size)
        return [items for items, _ in found]


def _ranked(user, number, worth, unwillingness):
    """The place of each interaction among its user's in the order that the rule discloses them in, and how many it does."""
    with np.errstate(divide="ignore", invalid="ignore"):  # the price up to which each is disclosed; infinite if nobody minds
        price = np.where(worth > 0, worth / unwillingness, -np.inf)
    order = np.lexsort((-price, user))
    rank = np.empty(len(user), np.int64)
    rank[order] = np.arange(len(user)) - np.searchsorted(user, user[order])
    return rank, np.bincount(user[price > 0], minlength=number)
