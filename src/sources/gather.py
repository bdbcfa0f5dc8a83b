"""Rows of a source as numbers, in memory or in files that go with the process, however many they are."""
from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.columns import Learned, numbers
from ..common.errors import InputError
from ..common.times import Times
from ..constants import ITEM, RATING, TIMESTAMP, USER

ROW = "row"  # of the source


class Spool:
    """Arrays of numbers, read in the same parts; on the disk if a folder is given. Of int64 what fits becomes int32."""

    def __init__(self, folder: Path | None = None):
        self.file = folder and tempfile.TemporaryFile(dir=folder)
        self.parts = []  # arrays, or type and length of those in the file

    def append(self, values: np.ndarray) -> None:
        if values.dtype == np.int64 and -2 ** 31 <= values.min(initial=0) and values.max(initial=0) < 2 ** 31:
            values = values.astype(np.int32)
        if self.file:
            self.file.write(np.ascontiguousarray(values).data)
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
    """The interactions of a source, in the order of its rows; where it does not say, a rating is 1, a time the row's number.

    users, items: Learned; a code each for every row.
    times, rating_kind: Times, and the type of the ratings.
    name, folder: of the source, for messages; where temporary files may be, None for memory.
    """

    def __init__(self, name: str | Path, folder: Path | None = None):
        self.name, self.folder, self.rows, self.rating_kind = name, folder, 0, np.int64
        self.users, self.items, self.times = Learned(name, USER), Learned(name, ITEM), Times(name)
        self.spools = {column: Spool(folder) for column in (USER, ITEM, RATING, TIMESTAMP)}

    def take(self, parts: Iterable[pd.DataFrame]) -> Gathered:
        """Takes rows in parts: ids as Learned.add does, and what other columns there are; InputError names a wrong row."""
        for part in filter(len, parts):
            values = [self.users.add(part[USER]), self.items.add(part[ITEM]), np.ones(len(part), np.int8),
                      self.rows + np.arange(len(part))]
            if RATING in part:
                values[2] = numbers(part[RATING], self.name, RATING, first=self.rows)
                self.rating_kind = np.promote_types(self.rating_kind, values[2].dtype)
            if TIMESTAMP in part:
                values[3] = self.times.add(part[TIMESTAMP])
            for spool, column in zip(self.spools.values(), values):
                spool.append(column)
            self.rows += len(part)
        return self

    def settle(self) -> Gathered:
        """To be called when all rows are there; raises InputError if there are none, or as Times.settle does."""
        if not self.rows:
            raise InputError(f"{self.name}: holds no ratings; fetch or export it anew")
        self.times.settle(self.spools[TIMESTAMP])
        return self

    def parts(self) -> Iterator[dict[str, np.ndarray]]:
        """Codes, ratings and times of the rows by column, and their ROW."""
        at = 0
        for values in zip(*self.spools.values()):
            part = dict(zip(self.spools, values), row=np.arange(at, at := at + len(values[0]), dtype=np.int32))
            yield {**part, TIMESTAMP: self.times.convert(part[TIMESTAMP])}
