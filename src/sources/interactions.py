"""All interactions of a dataset folder, with 0-based ids, before anything is left out or held out."""
from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from .. import constants as names
from ..common import columns, times
from ..common.errors import InputError, logger
from ..common.files import read_json
from ..common.share import WHOLE, Share, here
from ..common.stored import stored
from ..common.tables import read_parts, read_table
from ..common.variant import ARRAYS_SHA256, DIGESTS, REMADE, check_record, check_tables, ratings_path, record_of
from ..config import Config
from ..constants import INTERACTIONS_FILE, ITEM, RATING, RATING_COLUMNS, TEXT_IDS, TIME_UNIT, TIMESTAMP, USER
from ..history import History
from ..stat_utils import take
from .arrays import Arrays
from .catalogue import read_movies
from .gather import Gathered

_EACH = "user", "item", "rows", "time"  # what there is of each interaction


class Ids(NamedTuple):
    """Original ids: position k of `users` and `items` is user or item k. Programs elsewhere make a Dataset of them."""
    users: np.ndarray
    items: np.ndarray


@dataclass
class Interactions:
    """Interactions with 0-based ids.

    user_ids, item_ids: (num_users,) and (num_items,) original ids.
    user, item: (n,) int32, by user and in order of time within a user.
    rows: (n,) int32, rows of ratings.csv of the interactions.
    time: (n,) numbers in the unit of ratings.csv, see time_unit; None where no rule asks for times any more.
    share: Share of all users that these are; of several ranks each has its own users alone.
    """
    name: str
    user_ids: np.ndarray
    item_ids: np.ndarray
    user: np.ndarray
    item: np.ndarray
    rows: np.ndarray
    time: np.ndarray | None
    share: Share = WHOLE

    @property
    def ids(self) -> Ids:
        """Original ids of users and of items."""
        return Ids(self.user_ids, self.item_ids)

    @property
    def all_user_ids(self) -> np.ndarray:
        """Original ids of all users, of whom some are these."""
        return self.share.ids(self.user_ids)

    def own(self, values: np.ndarray) -> np.ndarray:
        """(num_users, ...) of what is known about all users."""
        return self.share.own(values)

    def of_all(self, values: np.ndarray) -> np.ndarray:
        """(all users, ...) of what everybody knows about their own, (num_users, ...)."""
        return self.share.of_all(values)

    @property
    def numbers(self) -> np.ndarray:
        """(num_users,) int64, the place of each user among all."""
        return self.own(np.arange(len(self.all_user_ids)))

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        return len(self.item_ids)

    @property
    def num_interactions(self) -> int:
        return len(self.user)

    @functools.cached_property
    def history(self) -> History:
        """Which interactions are whose."""
        return History(self.user, self.num_users)

    def some(self, chosen: np.ndarray | slice, spent: bool = False) -> Interactions:
        """Some of these, (n,) bool or a slice; with `spent` these are of no use any more, and give their memory back."""
        found, kept = {}, vars(self) if spent else dict(vars(self))
        kept.pop("history", None)
        for name in _EACH:
            values = kept.pop(name)
            found[name] = None if values is None else values[chosen]
        return type(self)(**kept, **found)

    def places(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(k,) int64, where pairs of positions stand among these; -1 for one that does not, or whose position is -1."""
        among = self.history.of_users(np.unique(users[users >= 0]))
        own = self.user[among].astype(np.int64) * self.num_items + self.item[among]
        asked = np.where((users >= 0) & (items >= 0), np.asarray(users, np.int64) * self.num_items + items, -1)
        return np.append(among, -1)[pd.Index(own).get_indexer(asked)]


def ordered(name: str, ids: tuple, ratings: tuple) -> Interactions:
    """Interactions by user and time, from Interactions.ids and (r,) positions of users and of items, and times, stably."""
    user, item, time = ratings
    order = np.lexsort((time, user)).astype(np.int32)
    user, item = (take(np.asarray(values, np.int32), order) for values in (user, item))
    return Interactions(name, *ids, user, item, order, take(np.asarray(time), order))


def read_interactions(config: Config) -> Interactions:
    """All interactions of the dataset that the settings name; ties in time are broken by the order of the rows.

    The items are those of movies.csv; without it those that occur.
    Raises InputError: a file is missing, wrong or not what its record says, or an option contradicts the latter.
    """
    path = ratings_path(config)
    record = check_record(config)
    check_tables(path.parent)
    has_arrays = INTERACTIONS_FILE in record.get(DIGESTS, {})
    whole = _stored(config, path.parent, record)[0] if has_arrays else _by_hand(path, record)
    number = whole.history.length
    if number.min(initial=2) < 2 and config.holdout:
        raise InputError(f"{path}: user {whole.user_ids[number.argmin()]} has fewer than 2 interactions, but test and "
                         "validation items are held out of each user; remove such users (the data stage does, by "
                         "min_ratings), or give --holdout 0")
    odd = (number < config.min_ratings) | (number > (config.max_ratings or np.inf))
    if not record and odd.any():
        logger.warning("%s: data by hand are not filtered: %s of %s users take part with fewer than --min_ratings %d, or "
                       "more than --max_ratings; make a dataset of the file with --archive", path, f"{odd.sum():,}",
                       f"{len(odd):,}", config.min_ratings)
    return whole


def read_masked(config: Config, masked: bool) -> tuple[Interactions, Interactions, dict]:
    """What may be trained on and what is held out, if anything, of a folder as a mask leaves it; its record.

    Users and items are those that occur; if it is the `masked` twin of a dataset that lies beside it, those of the source.
    Raises InputError: a file is missing, wrong or not what its record says.
    """
    path = ratings_path(config, masked)
    record = read_json(path.with_name(names.DATASET_FILE), "run preprocess.py anew")
    check_tables(path.parent)
    source = stored(path.parent.with_name(config.dataset) / names.RATINGS_FILE)
    if beside := masked and source.is_file():
        made, about = check_record(config), record.get(ARRAYS_SHA256)
        check_tables(source.parent)
        if about and about == made.get(DIGESTS, {}).get(INTERACTIONS_FILE):
            return *_stored(config, source.parent, made, np.load(path.with_name(names.USES_FILE)), path.parent.name), record
    tables = [_read(file) for file in (path, stored(path.with_name(names.HELD_OUT_FILE))) if file.is_file()]
    of, known = (source, [_read(source)]) if beside else (path, tables)
    ids = _ids(of, known, record)
    trained, *held = _placed(ids, source, tables, known[0].times.unit)
    return trained, *(held or [ordered(trained.name, ids, np.zeros((3, 0), np.int32))]), record


def _stored(config, folder, record, uses=None, name=None):
    """A list of the Interactions of this rank's users, from the arrays of a dataset; of `uses` those called 1, and 2."""
    arrays = Arrays(folder, record)
    share = here().dealt(np.maximum(arrays.length - config.holdout, 0), arrays.user_ids)
    ids, own = (share.own(arrays.user_ids), arrays.item_ids), share.own(np.arange(len(arrays.length)))
    return [Interactions(name or folder.name, *ids, *arrays.read(own, uses, use), share)
            for use in ((0,) if uses is None else (1, 2))]


def _by_hand(path, record):
    table = _read(path)
    if not table.rows:
        raise InputError(f"{path}: holds no ratings; {REMADE}")
    return _placed(_ids(path, [table], record), path.with_name(names.MOVIES_FILE), [table], table.times.unit)[0]


def _read(path):
    """What is Gathered from the table of a dataset that was not made here, or by an earlier version."""
    if here().size > 1:
        raise InputError(f"--ranks {here().size}: {path} is text that each rank would have to read whole; make a dataset of "
                         "it with --archive first")
    try:
        parts = read_parts(path, RATING_COLUMNS, [USER, ITEM, TIMESTAMP], extra="quiet")
        found = Gathered(path).take(part.drop(columns=RATING, errors="ignore") for part in parts)
        found.users.say()
        found.items.say()
        return found.settle() if found.rows else found
    except InputError as e:
        raise InputError(f"{e} ({REMADE})") from e


def _ids(path, tables, record):
    """Original ids of the users that occur in tables, and of the items, those of the catalogue beside `path`, if any."""
    users, items = (np.unique(np.concatenate([getattr(table, name).texts for table in tables]))
                    for name in ("users", "items"))
    catalogue, text = path.with_name(names.MOVIES_FILE), record.get(TEXT_IDS, [])
    items = read_movies(catalogue)[ITEM].to_numpy() if catalogue.exists() else items
    return columns.in_order(users, USER in text), columns.in_order(items, ITEM in text)


def _placed(ids, source, tables, unit):
    """The Interactions of each Gathered, with times of a unit where they have any; `source` is the file `ids` are from."""
    found = []
    for table in tables:
        place = []
        for column, known, learned in zip((USER, ITEM), ids, (table.users, table.items)):
            place.append(columns.positions(known, texts := learned.texts).astype(np.int32))
            if (place[-1] < 0).any():
                raise InputError(f"{source}: lacks {column} {texts[place[-1] < 0][0]} of {table.name}; add its row, remove "
                                 "a list of items that does not matter, or run preprocess.py anew if that is a mask")
        rows = [(place[0][part[USER]], place[1][part[ITEM]], part[TIMESTAMP]) for part in table.parts()]
        user, item, time = map(np.concatenate, zip(*rows)) if rows else np.zeros((3, 0), np.int32)
        same = times.in_unit(time, table.times.unit, unit)  # of dates by hand some may be finer than others
        found.append(ordered(table.name.parent.name, ids, (user, item, time if same is None else same)))
    key = np.concatenate([part.user.astype(np.int64) * len(ids[1]) + part.item for part in found])
    if len(np.unique(key)) < len(key):
        user, item = divmod(key[pd.Series(key).duplicated().to_numpy().argmax()], len(ids[1]))
        raise InputError(f"{tables[0].name}: user {ids[0][user]} has item {ids[1][item]} more than once; remove the "
                         "repeated row")
    return found


def time_unit(config: Config) -> str:
    """The unit of the timestamps in ratings.csv: one of times.UNITS, or times.ORDER where only their order counts."""
    path = ratings_path(config)
    if unit := record_of(path.parent).get(TIME_UNIT):
        return unit
    return times.times(read_table(path, RATING_COLUMNS, [TIMESTAMP], extra="quiet")[TIMESTAMP], path)[1]
