"""What follows from a selection: the recommendations to some users by how many of their interactions they disclose.

For the slider of their pages. Each list is that of a row refitted on a selection, see Rows.selected; the parameters that
users share stay those of the masked model, so nobody else's data change. The rule's selections are nested, larger at
lower prices: a few of them, equally far apart in number, stand for all, and each is refitted from the row of the next larger
one. See docs/report.md, "A user's page".
"""
from __future__ import annotations

import numpy as np
import pandas as pd

from ..config import Config
from ..dataset import Dataset
from ..evaluation.personal import Serving
from ..evaluation.recommend import best_items, have_had
from ..game.decisions import Decisions
from ..game.mirror_descent import prices_of
from ..game.rule import Rule
from ..influence.rows import STEPS

SIZES = 16  # selections of a user that are refitted, the empty one and the largest included
MOST_PAIRS = 200_000  # of users and items to be scored for each of them, which keeps the report within seconds


def sizes_of(most: int | np.ndarray) -> np.ndarray:
    """(..., SIZES) int: how many interactions the selections hold that are refitted, if the largest holds `most`."""
    return np.rint(np.multiply.outer(most, np.arange(SIZES)) / (SIZES - 1)).astype(np.int64)


def live_lists(users: np.ndarray, dataset: Dataset, decisions: Decisions, serving: Serving, k: int,
               config: Config) -> list[list[np.ndarray]]:
    """The k best items that users have not had, by selection; of as many users, the first, as there is time for.

    users: (u,) ascending positions.
    dataset, serving: the original Dataset, and the masked model.
    k: length of a list; config: seed, num_neg and chunk_size, see Rows.
    Returns: For each user SIZES lists of items, of the smallest selection first, then that of all that may be used.
    """
    users = users[:max(1, MOST_PAIRS // dataset.num_items)]
    owner, item = dataset.history.owners(users), dataset.item[dataset.history.of_users(users)]
    refits, had = serving.refits(dataset.part(decisions.disclosed), config), have_had(users, dataset)
    rank, most = ranked(users, dataset, decisions)
    lists, rows, steps = [], None, STEPS  # from afar; the others from near by
    for count in (dataset.history.length[users], *sizes_of(most).T[::-1]):
        kept, chosen = np.zeros(had.shape, bool), rank < count[owner]
        kept[owner[chosen], item[chosen]] = True
        rows, logits = refits.selected(users, kept, rows, steps)
        lists.append(best_items(logits, had, k))
        steps = 1
    return [[*reversed(found[1:]), found[0]] for found in zip(*lists)]


def ranked(users: np.ndarray, dataset: Dataset, decisions: Decisions) -> tuple[np.ndarray, np.ndarray]:
    """The place of each interaction of (u,) users among its user's, from 0, in the order that the rule discloses them in.

    Returns: (m,) int, in the order of History.of_users; and (u,) int, how many of them the rule discloses at the price 0.
    """
    place, owner = dataset.history.of_users(users), dataset.history.owners(users)
    price = prices_of(decisions.expected[place] - Rule(decisions).critical, decisions.unwillingness[place], 0.0)
    rank = pd.Series(price).groupby(owner).rank(method="first", ascending=False).to_numpy(np.int64) - 1
    return rank, np.bincount(owner[price > 0], minlength=len(users))
