"""Rows of a source as numbers, in memory or in files that go with the process, however many they are."""
from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.columns import Learned, numbers
from ..common.errors import InputError
from ..common.times import ORDER, Times
from ..constants import ITEM, RATING, TIMESTAMP, USER

ROW = "row"  # of the source


class Spool:
    """Arrays of numbers, one after the other, which are read in the same parts; on the disk if a folder is given.

    Of int64 those that fit are int32 from then on.
    """

    def __init__(self, folder: Path | None = None):
        self.file, self.folder = folder and tempfile.TemporaryFile(dir=folder), folder
        self.parts = []  # arrays, or type and length of those in the file

    def append(self, values: np.ndarray) -> None:
        if values.dtype == np.int64 and -2 ** 31 <= values.min(initial=0) and values.max(initial=0) < 2 ** 31:
            values = values.astype(np.int32)
        try:
            if self.file:
                self.file.write(np.ascontiguousarray(values).data)
        except OSError as e:
            raise OSError(e.errno, e.strerror, str(self.folder)) from e
        self.parts.append((values.dtype, len(values)) if self.file else values)

    def __iter__(self) -> Iterator[np.ndarray]:
        at = 0
        for part in self.parts:
            if self.file:
                self.file.seek(at)
                part = np.fromfile(self.file, *part)
                at += part.nbytes
            yield part


class Gathered:
    """The interactions of a source, in the order of its rows.

    users, items: Learned; a code each for every row.
    length: (codes of users,) rows of each.
    unit, time_kind, rating_kind: of the times, see times.Times, and the types of times and ratings, once they are settled.

    Args:
        name: of the source, for messages.
        folder: where temporary files may be, None for memory.
    """

    def __init__(self, name: str | Path, folder: Path | None = None):
        self.name, self.folder, self.rows, self.length = name, folder, 0, np.zeros(0, np.int64)
        self.users, self.items, self.times = Learned(name, USER), Learned(name, ITEM), None
        self.spools = {column: Spool(folder) for column in (USER, ITEM, RATING, TIMESTAMP)}
        self.rating_kind, self.time_kind, self.unit = np.int64, np.int64, ORDER

    def add(self, part: pd.DataFrame) -> None:
        """Takes the next rows: ids as Learned.add does, and the other columns that there are.

        Raises:
            InputError: names the row and what is wrong with it.
        """
        if not len(part):
            return
        user, item = (learned.add(part[column]) for learned, column in ((self.users, USER), (self.items, ITEM)))
        self.spools[USER].append(user)
        self.spools[ITEM].append(item)
        count = np.bincount(user, minlength=len(self.length))
        count[:len(self.length)] += self.length
        self.length = count
        if RATING in part:
            rating = numbers(part[RATING], self.name, RATING, first=self.rows)
            self.rating_kind = np.promote_types(self.rating_kind, rating.dtype)
            self.spools[RATING].append(rating)
        if TIMESTAMP in part:
            self.times = self.times or Times(self.name)
            self.spools[TIMESTAMP].append(self.times.add(part[TIMESTAMP]))
        self.rows += len(part)

    def take(self, parts: Iterable[pd.DataFrame]) -> Gathered:
        """Takes all of these, see `add`."""
        for part in parts:
            self.add(part)
        return self

    def settle(self) -> Gathered:
        """To be called when all rows are there; raises InputError if there are none, or as Times.settle does."""
        if not self.rows:
            raise InputError(f"{self.name}: holds no ratings; fetch or export it anew")
        if self.times:
            self.times.settle(self.spools[TIMESTAMP])
            self.unit, self.time_kind = self.times.unit, self.times.kind
        return self

    def parts(self) -> Iterator[dict[str, np.ndarray]]:
        """Codes, ratings and times of the rows by column; without the column a rating is 1, a time the number of the row."""
        rating, time, at = iter(self.spools[RATING]), iter(self.spools[TIMESTAMP]), 0
        for user, item in zip(self.spools[USER], self.spools[ITEM]):
            own = np.arange(at, at := at + len(user), dtype=np.int32)
            found = next(rating, None), next(time, None)
            yield {USER: user, ITEM: item, ROW: own, RATING: np.ones(len(user), np.int8) if found[0] is None else found[0],
                   TIMESTAMP: own if found[1] is None else self.times.convert(found[1])}
