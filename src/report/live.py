"""What follows from a selection: the recommendations to some users by how many of their interactions they disclose.

For the slider of their pages. Each list is that of a row refitted on a selection, see Rows.selected; the parameters that
users share stay those of the masked model, so nobody else's data change. The rule's selections are nested, larger at
lower prices: a few of them, equally far apart in number, stand for all, and each is refitted from the row of the next larger
one. See docs/report.md, "A user's page".
"""
from __future__ import annotations

import numpy as np

from ..config import Config
from ..dataset import Dataset
from ..evaluation.personal import Serving
from ..evaluation.recommend import best_items, have_had
from ..game.decisions import Decisions
from ..game.mirror_descent import prices_of
from ..game.rule import Rule
from ..history import History
from ..influence.rows import STEPS

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
    selections, had = Selections(users, dataset, decisions, serving, config), have_had(users, dataset)
    rows, logits = selections.refit(np.ones(len(selections.rank), bool), STEPS)
    lists = [best_items(logits, had, k)]
    for count in sizes_of(selections.most).T[::-1]:
        rows, logits = selections.refit(selections.rank < count[selections.owner], 1, rows)
        lists.append(best_items(logits, had, k))
    return [[*reversed(found[1:]), found[0]] for found in zip(*lists)]


class Selections:
    """Refits of some users' rows on selections of their interactions; takes what live_lists does.

    owner: (m,) int, by interaction of these users which of them it is of.
    rank: (m,) int, the number of their user's that the rule discloses at a higher price.
    most: (u,) int, how many the rule discloses at the price 0.
    """

    def __init__(self, users, dataset, decisions, serving, config):
        place = dataset.history.of_users(users)
        self.users, self.owner, self.item = users, dataset.history.owners(users), dataset.item[place]
        self.rows = serving.refits(dataset.part(decisions.disclosed), config)
        self.rank, self.most = _ranked(self.owner, len(users), decisions.expected[place] - Rule(decisions).critical,
                                       decisions.unwillingness[place])

    def refit(self, selection: np.ndarray, steps: int, start: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Rows.selected from a selection, (m,) bool."""
        kept = np.zeros((len(self.users), self.rows.dataset.num_items), bool)
        kept[self.owner[selection], self.item[selection]] = True
        return self.rows.selected(self.users, kept, start, steps)


def _ranked(owner, number, worth, unwillingness):
    """The place of each interaction among its user's in the order that the rule discloses them in, and how many it does."""
    price = prices_of(worth, unwillingness, 0.0)
    rank, history = np.empty(len(owner), np.int64), History(owner, number)
    rank[np.lexsort((-price, owner))] = np.arange(len(owner)) - history.first[owner]
    return rank, np.bincount(owner[price > 0], minlength=number)
