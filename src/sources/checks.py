"""What a source must hold before it becomes a dataset: no repeated pairs, users with enough ratings; in order of time."""
from collections.abc import Iterator

import numpy as np
import pandas as pd

from ..common.columns import positions
from ..common.errors import InputError, logger
from ..common.times import DAY, UNITS
from ..constants import GENRES, ITEM, RATING, TIMESTAMP, TITLE, USER
from .gather import ROW, Gathered, Spool

_BUCKET = 1 << 22  # rows, all of some users, that are sorted at a time


class Arranged:
    """Interactions by user, time and row, each pair once, of users with at_least to at_most of them (0: no limit).

    duplicates: "error", or which row of a repeated pair counts by time, "first" or "last".
    by_time: whether the table of ratings is to have that order, not that of the source.
    Raises InputError: a pair is there twice, nothing is left, or see Gathered.settle.
    user_ids, item_ids: original ids of those that are left, ascending.
    length: (users,) interactions of each; rows: of all; finer: whether some time is within a day.
    """

    def __init__(self, found: Gathered, duplicates: str, at_least: int = 1, at_most: int = 0, by_time: bool = False):
        self.found, self.by_time, self.finer = found.settle(), by_time, False
        (self.all_users, self._user), (self.all_items, self._item) = found.users.ids(), found.items.ids()
        self._sorted = {column: Spool(found.folder) for column in (ITEM, TIMESTAMP, RATING if by_time else ROW)}
        self._kept, repeated = None if by_time else np.zeros(found.rows, bool), []
        buckets = self._dealt((USER, *self._sorted))
        occurs, length = np.zeros(len(self.all_items), bool), np.zeros(len(self.all_users), np.int64)
        while buckets:
            part = {column: np.concatenate(list(spool)) for column, spool in buckets.pop(0).items()}
            part = self._each_once(part, duplicates, repeated)
            user = part.pop(USER)
            number = np.bincount(user - user[0])
            length[user[0]:user[0] + len(number)] = number
            keep = ((number >= at_least) & (number <= (at_most or number.max())))[user - user[0]]
            for column, spool in self._sorted.items():
                spool.append(part[column] if keep.all() else part[column][keep])
            occurs[part[ITEM][keep]] = True
            if not by_time:
                self._kept[part[ROW][keep]] = True
            self.finer = self.finer or bool((part[TIMESTAMP][keep] % (DAY / UNITS.get(found.times.unit, 1))).any())
        self._say(repeated, duplicates)
        self._filter(length, at_least, at_most)
        self.item_ids, self._place = self.all_items[occurs], np.cumsum(occurs, dtype=np.int32) - 1

    def _dealt(self, columns):
        """A dict of Spools for each bucket, whole users in their order and rows of each in that of the source."""
        length = sum(np.bincount(self._user[user], minlength=len(self._user)) for user in self.found.spools[USER])
        bucket = ((np.cumsum(length) - length) // _BUCKET).astype(np.uint16)  # of each user
        buckets = [{column: Spool(self.found.folder) for column in columns} for _ in range(bucket[-1] + 1)]
        for part in self.found.parts():
            part[USER], part[ITEM] = self._user[part[USER]], self._item[part[ITEM]]
            to = bucket[part[USER]]
            order, end = np.argsort(to, kind="stable"), np.cumsum(np.bincount(to))
            for k in np.unique(to):
                rows = order[end[k - 1] if k else 0:end[k]]
                for column, spool in buckets[k].items():
                    spool.append(part[column][rows])
        return buckets

    def _each_once(self, part, duplicates, repeated):
        """A bucket in order of user and time without the pairs that are repeated, which are noted."""
        key = part[USER].astype(np.int64) * len(self.all_items) + part[ITEM]
        order = np.lexsort((part[TIMESTAMP], part[USER]))
        if duplicates == "error":
            again = pd.Series(key, copy=False).duplicated().to_numpy()
        else:
            again = pd.Series(key[order], copy=False).duplicated(keep=duplicates).to_numpy()
            order = order[~again]
        if again.any():
            repeated.append((int(again.sum()), part[USER][again.argmax()], part[ITEM][again.argmax()]))
        return {column: values[order] for column, values in part.items()}

    def _say(self, repeated, duplicates):
        number, name = sum(number for number, *_ in repeated), self.found.name
        if number and duplicates == "error":
            _, user, item = repeated[0]
            pair = f"user {self.all_users[user]}, item {self.all_items[item]}"
            raise InputError(f"{name}: {number} user-item pairs occur more than once, e.g. {pair}; choose which row counts "
                             "with --duplicates last or first")
        if number:
            logger.info("%s: %d repeated user-item pairs dropped, the %s by time kept", name, number, duplicates)

    def _filter(self, length, at_least, at_most):
        keep = (length >= at_least) & (length <= (at_most or np.inf))
        if not keep.any():
            raise InputError(f"--min_ratings {at_least} --max_ratings {at_most}: no user has so many ratings "
                             f"(they have {length.min()} to {length.max()}); widen the limits")
        if not keep.all():
            logger.info("%s of %s users left out: fewer than %d ratings%s", f"{(~keep).sum():,}", f"{len(keep):,}", at_least,
                        f" or more than {at_most}" if at_most else "")
        self.user_ids, self.length, self._left = self.all_users[keep], length[keep], np.cumsum(keep, dtype=np.int32) - 1
        self.rows = int(self.length.sum())

    def _parts(self):
        """Columns of the interactions in their order, with positions of users and of items."""
        at, end = 0, np.cumsum(self.length)
        for values in zip(*self._sorted.values()):
            part = dict(zip(self._sorted, values))
            own = np.arange(at, at := at + len(part[ITEM]), dtype=np.int32)
            part[ITEM], part[USER] = self._place[part[ITEM]], np.searchsorted(end, own, side="right").astype(np.int32)
            yield {**part, "own": own}

    def arrays(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Items, rows of the table and times of all, part by part, see arrays.write_parts."""
        row = None if self.by_time else np.cumsum(self._kept, dtype=np.int32) - 1
        for part in self._parts():
            yield part[ITEM], part["own"] if self.by_time else row[part[ROW]], part[TIMESTAMP]

    def table(self) -> Iterator[pd.DataFrame]:
        """The table of ratings, part by part."""
        for part in self._parts() if self.by_time else self._in_order():
            yield pd.DataFrame({USER: self.user_ids[part[USER]], ITEM: self.item_ids[part[ITEM]],
                                RATING: part[RATING].astype(self.found.rating_kind),
                                TIMESTAMP: part[TIMESTAMP].astype(self.found.times.kind)}, copy=False)

    def _in_order(self):
        for part in self.found.parts():
            part = {column: values[self._kept[part[ROW]]] for column, values in part.items()}
            yield {**part, USER: self._left[self._user[part[USER]]], ITEM: self._place[self._item[part[ITEM]]]}

    def holds(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(k,) bool, whether it has the pairs of ids, given as text."""
        user, item = positions(self.user_ids, users), positions(self.item_ids, items)
        wanted, found = np.where((user < 0) | (item < 0), -1, user * len(self.item_ids) + item), np.zeros(len(user), bool)
        for part in self._parts():
            found |= np.isin(wanted, part[USER].astype(np.int64) * len(self.item_ids) + part[ITEM])
        return found

    def in_memory(self) -> tuple[np.ndarray, ...]:
        """user_ids, item_ids, and positions of both, rows of the source and times of all, (rows,) each."""
        parts = ([part[column] for column in (USER, ITEM, ROW, TIMESTAMP)] for part in self._parts())
        return self.user_ids, self.item_ids, *map(np.concatenate, zip(*parts))


def catalogue(item_ids, movies, name, items=None):
    """item_id, title, genres of `item_ids`, those that occur; `items`: the file of its own that `movies` is from."""
    occurring = pd.DataFrame({ITEM: item_ids})
    found = movies.set_index(movies[ITEM].astype(str)).reindex(occurring[ITEM].astype(str))
    known = found[TITLE].notna()
    if items and not known.any():
        raise InputError(f"{items}: lists none of the items of {name}, e.g. {known.index[0]} (there: "
                         f"{next(iter(movies[ITEM]), 'nothing')}); give the list that belongs to it")
    if len(movies) and not known.all():
        logger.warning("%s: %s of %s items are not in its list of titles and genres, e.g. %s (there: %s)", items or name,
                       f"{int((~known).sum()):,}", f"{len(known):,}", known.index[~known][0], movies[ITEM].iloc[0])
    return occurring.assign(title=found[TITLE].fillna("").to_numpy(), genres=found[GENRES].fillna("").to_numpy())
