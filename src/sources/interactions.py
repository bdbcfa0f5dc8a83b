"""All interactions of a dataset folder, with 0-based ids, before anything is left out or held out."""
from __future__ import annotations

import functools
import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..common.columns import UNITS, clean_ids, in_order, numbers, positions, times
from ..common.errors import InputError
from ..common.files import read_json
from ..common.tables import read_table
from ..common.variant import check_record, check_tables, ratings_path
from ..config import Config
from ..constants import (
    DATASET_FILE,
    HELD_OUT_FILE,
    ITEM,
    MOVIES_FILE,
    RATING_COLUMNS,
    RATINGS_FILE,
    TEXT_IDS,
    TIME_UNIT,
    TIMESTAMP,
    USER,
)
from ..history import History
from .catalogue import read_movies

logger = logging.getLogger("ifrqe")

_ANEW = "make the dataset anew with scripts/run_download_dataset.sh --overwrite"


@dataclass
class Ids:
    """Original ids: position k of `users` and `items` is user or item k."""
    users: np.ndarray
    items: np.ndarray


@dataclass
class Interactions:
    """Interactions with 0-based ids.

    name: of the dataset.
    ids: Ids.
    user, item: (n,) int32, by user and in order of time within a user.
    rows: (n,) int64, rows of ratings.csv of the interactions.
    """
    name: str
    ids: Ids
    user: np.ndarray
    item: np.ndarray
    rows: np.ndarray

    @property
    def user_ids(self) -> np.ndarray:
        """(num_users,) original ids."""
        return self.ids.users

    @property
    def item_ids(self) -> np.ndarray:
        """(num_items,) original ids."""
        return self.ids.items

    @property
    def num_users(self) -> int:
        return len(self.ids.users)

    @property
    def num_items(self) -> int:
        return len(self.ids.items)

    @property
    def num_interactions(self) -> int:
        return len(self.user)

    @functools.cached_property
    def history(self) -> History:
        """Which interactions are whose."""
        return History(self.user, self.num_users)

    def places(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(k,) int64, where pairs of positions stand among these; -1 for one that does not, or whose position is -1."""
        own = self.user.astype(np.int64) * self.num_items + self.item
        asked = np.where((users >= 0) & (items >= 0), np.asarray(users, np.int64) * self.num_items + items, -1)
        order = np.argsort(own, kind="stable")
        at = np.searchsorted(own, asked, sorter=order)
        found = np.append(order, -1)[at]
        return np.where(np.append(own, -2)[found] == asked, found, -1)


def ordered(name: str, ids: Ids, ratings: tuple) -> Interactions:
    """Interactions by user and time, from (r,) positions of users and of items, and times; ties stay in their order."""
    user, item, time = ratings
    order = np.lexsort((time, user))
    return Interactions(name, ids, np.asarray(user)[order].astype(np.int32), np.asarray(item)[order].astype(np.int32), order)


def read_interactions(config: Config) -> Interactions:
    """All interactions of the dataset that the settings name; ties in time are broken by the order of the rows.

    The items are those of movies.csv; without it those that occur.

    Raises:
        InputError: a file is missing, wrong or not what its record says, or an option contradicts what the dataset was
            made with.
    """
    path = ratings_path(config)
    record = check_record(config)
    check_tables(path.parent)
    ratings = _read(path, [USER, ITEM, TIMESTAMP])
    if len(ratings) == 0:
        raise InputError(f"{path}: holds no ratings; {_ANEW}")
    ids, user, item = _positions([(path, ratings)], record.get(TEXT_IDS, []))
    number = np.bincount(user)
    if number.min() < 2:
        raise InputError(f"{path}: user {ids.users[number.argmin()]} has fewer than 2 interactions, but test and validation "
                         "items are held out of each user; remove such users (the data stage does, by min_ratings)")
    odd = (number < config.min_ratings) | (number > (config.max_ratings or np.inf))
    if not record and odd.any():
        logger.warning("%s: data by hand are not filtered: %s of %s users take part with fewer than --min_ratings %d, or "
                       "more than --max_ratings; make a dataset of the file with --archive", path, f"{odd.sum():,}",
                       f"{len(odd):,}", config.min_ratings)
    return ordered(path.parent.name, ids, (user, item, times(ratings[TIMESTAMP], path)[0]))


def read_masked(config: Config, masked: bool) -> tuple[Interactions, Interactions, dict]:
    """What may be trained on and what is held out of a folder that holds both apart, as a mask leaves it; its record.

    Users and items are those that occur; if it is the `masked` twin of a dataset that lies beside it, those of the source.

    Raises:
        InputError: a file is missing, wrong or not what its record says.
    """
    path = ratings_path(config, masked)
    record = read_json(path.with_name(DATASET_FILE), "run preprocess.py anew")
    check_tables(path.parent)
    held_path = path.with_name(HELD_OUT_FILE)
    tables = [(path, _read(path, [USER, ITEM, TIMESTAMP])), (held_path, _read(held_path, [USER, ITEM, TIMESTAMP]))]
    known = None
    if masked and (source := path.parent.with_name(config.dataset) / RATINGS_FILE).is_file():
        known = _positions([(source, _read(source, [USER, ITEM]))], record.get(TEXT_IDS, []))[0]
    ids, user, item = _positions(tables, record.get(TEXT_IDS, []), known)
    first, found = 0, []
    for file, table in tables:
        part = slice(first, first + len(table))
        time = times(table[TIMESTAMP], file)[0] if len(table) else np.zeros(0)
        found.append(ordered(path.parent.name, ids, (user[part], item[part], time)))
        first += len(table)
    return *found, record


def _positions(tables, text, ids=None):
    """Ids, and positions of the users and items of some tables, one after the other.

    Args:
        tables: list of (path, DataFrame); beside the first lies the catalogue, if there is one.
        text: columns of ids that are text.
        ids: Ids, where users and items are known.
    """
    path = tables[0][0]
    columns = {}
    for column in (USER, ITEM):
        parts = [clean_ids(table[column], file, column) for file, table in tables]
        unique = pd.unique(np.concatenate([part.unique for part in parts]))
        code = pd.Index(unique)
        columns[column] = unique, np.concatenate([code.get_indexer(part.unique)[part.code] for part in parts])
    (users, user), (items, item) = columns[USER], columns[ITEM]
    pair = np.sort(user.astype(np.int64) * len(items) + item)
    if (pair[1:] == pair[:-1]).any():
        k = int(pd.DataFrame({USER: user, ITEM: item}).duplicated().to_numpy().argmax())
        raise InputError(f"{path}: user {users[user[k]]} has item {items[item[k]]} more than once; remove the repeated row")
    if ids is None:
        catalogue = path.with_name(MOVIES_FILE)
        known = read_movies(catalogue)[ITEM].to_numpy() if catalogue.exists() else items
        unknown = set(items).difference(known)
        if unknown:
            raise InputError(f"{catalogue}: lacks item {min(unknown)} of {RATINGS_FILE}; "
                             "add its row, or remove the file if the catalogue does not matter")
        ids = Ids(in_order(users, USER in text)[0], in_order(known, ITEM in text)[0])
    found = positions(ids.users, users), positions(ids.items, items)
    for column, names, at in zip((USER, ITEM), (users, items), found):
        if (at < 0).any():
            raise InputError(f"{path}: {column} {names[at < 0][0]} is not in the dataset that the mask was made from; run "
                             "preprocess.py anew")
    return ids, found[0][user], found[1][item]


def read_ratings_column(config: Config, column: str) -> np.ndarray | None:
    """(rows,) numbers of the column RATING or TIMESTAMP, in the order of ratings.csv; None if it is not there.

    Raises:
        InputError: names the row that is wrong.
    """
    path = ratings_path(config)
    table = read_table(path, RATING_COLUMNS, extra="quiet")
    if column not in table:
        return None
    return times(table[column], path)[0] if column == TIMESTAMP else numbers(table[column], path, column)


def timestamp_seconds(config: Config) -> float | None:
    """Seconds of one unit of the timestamps in ratings.csv; None where these tell what came first, but not when."""
    return UNITS.get(time_unit(config))


def time_unit(config: Config) -> str:
    """The unit of the timestamps in ratings.csv: one of tables.UNITS, or tables.ORDER."""
    path = ratings_path(config)
    record = path.with_name(DATASET_FILE)
    unit = read_json(record, _ANEW).get(TIME_UNIT) if record.exists() else None
    if unit is None:
        unit = times(_read(path, [USER, ITEM, TIMESTAMP])[TIMESTAMP], path)[1]
    return unit


def _read(path, needed):
    try:
        return read_table(path, RATING_COLUMNS, needed, extra="quiet")
    except InputError as e:
        raise InputError(f"{e} ({_ANEW})") from e
