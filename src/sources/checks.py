"""What a source must hold before it becomes a dataset: typed columns, no repeated pairs, users with enough ratings."""
import logging

import numpy as np
import pandas as pd

from ..common.columns import clean_ids, numbers, say_what_ids_are, whole_numbers
from ..common.errors import InputError
from ..common.times import ORDER, times
from ..constants import GENRES, ITEM, RATING, TIMESTAMP, TITLE, USER

logger = logging.getLogger("ifrqe")


def clean(ratings, name, duplicates):
    """The four rating columns, typed; without the column a rating is 1, a timestamp the number of the row.

    Returns:
        ratings: DataFrame; its index says which rows of the source they are.
        unit: of the timestamps, see times.times.
    """
    if not len(ratings):
        raise InputError(f"{name}: holds no ratings; fetch or export it anew")
    typed, unit = {}, ORDER
    for column in (USER, ITEM):
        ids = clean_ids(ratings[column], name, column)
        say_what_ids_are(ids.unique, name, column)
        whole = whole_numbers(ids.unique)
        typed[column] = (ids.unique if whole is None else whole)[ids.code]
    typed[RATING] = numbers(ratings[RATING], name, RATING) if RATING in ratings else np.ones(len(ratings), np.int64)
    typed[TIMESTAMP] = np.arange(len(ratings))
    if TIMESTAMP in ratings:
        typed[TIMESTAMP], unit = times(ratings[TIMESTAMP], name)
    return _drop_duplicates(pd.DataFrame(typed), name, duplicates), unit


def _drop_duplicates(ratings, name, duplicates):
    repeated = ratings.duplicated([USER, ITEM])
    if not repeated.any():
        return ratings
    if duplicates == "error":
        first = ratings[repeated].iloc[0]
        raise InputError(f"{name}: {int(repeated.sum())} user-item pairs occur more than once, e.g. user {first[USER]}, "
                         f"item {first[ITEM]}; choose which row counts with --duplicates last or first")
    kept = ratings.sort_values(TIMESTAMP, kind="stable").drop_duplicates([USER, ITEM], keep=duplicates).sort_index()
    logger.info("%s: %d repeated user-item pairs dropped, the %s by time kept", name, len(ratings) - len(kept), duplicates)
    return kept


def filter_users(ratings, at_least, at_most):
    """Only users with at_least to at_most ratings (at_most 0: no limit)."""
    count = ratings.groupby(USER, sort=False)[ITEM].transform("size")
    keep = (count >= at_least) & ((count <= at_most) if at_most else True)
    if not keep.any():
        raise InputError(f"--min_ratings {at_least} --max_ratings {at_most}: no user has so many ratings "
                         f"(they have {count.min()} to {count.max()}); widen the limits")
    if not keep.all():
        logger.info("%s of %s users left out: fewer than %d ratings%s", f"{ratings[USER][~keep].nunique():,}",
                    f"{ratings[USER].nunique():,}", at_least, f" or more than {at_most}" if at_most else "")
    return ratings[keep].reset_index(drop=True)


def catalogue(ratings, movies, name, items=None):
    """item_id, title, genres of exactly the items that occur, by id; `items`: the file of its own that `movies` is from."""
    occurring = pd.DataFrame({ITEM: np.sort(ratings[ITEM].unique())})
    found = movies.set_index(movies[ITEM].astype(str)).reindex(occurring[ITEM].astype(str))
    known = found[TITLE].notna()
    if items and not known.any():
        raise InputError(f"{items}: lists none of the items of {name}, e.g. {known.index[0]} (there: "
                         f"{next(iter(movies[ITEM]), 'nothing')}); give the list that belongs to it")
    if len(movies) and not known.all():
        logger.warning("%s: %s of %s items are not in its list of titles and genres, e.g. %s (there: %s)", items or name,
                       f"{int((~known).sum()):,}", f"{len(known):,}", known.index[~known][0], movies[ITEM].iloc[0])
    return occurring.assign(title=found[TITLE].fillna("").to_numpy(), genres=found[GENRES].fillna("").to_numpy())
