"""A dataset as numbers, which later stages read in place of its text: users.csv, interactions.npy and times.npy."""
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.stored import write_table
from ..common.together import Together
from ..common.variant import DATA, MASKED
from ..constants import ARRAYS, INTERACTIONS, ITEM, MOVIES_FILE, TEXT_IDS, USER, USES_FILE
from ..stat_utils import spans

_USERS, _PAIRS, _TIMES = ARRAYS


def write_parts(files: Together, user_ids: np.ndarray, length: np.ndarray, kind: np.dtype,
                parts: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, str]:
    """Writes the three files of a dataset, of n interactions by user, then time, then row; returns their digests by name.

    users.csv: user_id,interactions; interactions.npy: (2, n) int32, the positions of items, and the rows of the table of
    ratings; times.npy: (n,) of `kind`, int64 or float64.
    user_ids, length: (u,) original ids, ascending, and the number of interactions of each.
    parts: (k,) items, rows and times of all, one after the other.
    """
    n = int(length.sum())
    with files.rewrite(DATA, _USERS) as (_, temporary):
        write_table(pd.DataFrame({USER: user_ids, INTERACTIONS: length}), temporary)
    with files.rewrite(DATA, _PAIRS) as (_, pairs), files.rewrite(DATA, _TIMES) as (_, times), \
            open(pairs, "wb") as pairs, open(times, "wb") as times:
        begin = _header(pairs, (2, n), np.int32), _header(times, (n,), kind)
        at = 0
        for item, rows, time in parts:
            for place, values in enumerate((item, rows)):
                pairs.seek(begin[0] + 4 * (place * n + at))
                np.asarray(values, np.int32).tofile(pairs)
            np.asarray(time, kind).tofile(times)
            at += len(item)
    return {name: files.digests[f"{DATA}/{name}"][1] for name in ARRAYS}


def write_uses(files: Together, uses: np.ndarray) -> str:
    """Writes what Dataset.uses says of the rows of a source beside its masked twin; returns the digest of the file."""
    with files.rewrite(MASKED, USES_FILE) as (_, temporary), open(temporary, "wb") as file:
        np.save(file, uses)
    return files.digests[USES_FILE][1]


def rewrite_uses(files: Together, left: list[np.ndarray]) -> None:
    """Writes what is left of the uses of a masked twin, if they are there: of each, from 1, (k,) rows of its own table."""
    if (path := files.folders[MASKED] / USES_FILE).is_file():
        was = np.load(path)
        uses = np.zeros_like(was)
        for use, rows in enumerate(left, 1):
            uses[np.flatnonzero(was == use)[rows]] = use
        write_uses(files, uses)


def _header(file, shape, kind):
    np.lib.format.write_array_header_1_0(file, {
        "descr": np.lib.format.dtype_to_descr(np.dtype(kind)), "fortran_order": False, "shape": shape})
    return file.tell()


class Arrays:
    """The three files of a dataset with this record: original ids of users and items, and `length`, (num_users,) int64."""

    def __init__(self, folder: Path, record: dict):
        kinds = {column: str if column in record[TEXT_IDS] else np.int64 for column in (USER, ITEM)}
        users, items = (pd.read_csv(folder / name, usecols=names, dtype=kinds, keep_default_na=False) for name, names in (
            (_USERS, [USER, INTERACTIONS]), (MOVIES_FILE, [ITEM])))
        self.folder, self.user_ids, self.item_ids = folder, users[USER].to_numpy(), items[ITEM].to_numpy()
        self.length = users[INTERACTIONS].to_numpy()

    def read(self, own: np.ndarray, uses: np.ndarray | None = None, use: int = 0) -> list[np.ndarray]:
        """The interactions of some users, of which no more than these, and a block of the files, are ever in memory.

        own: (u,) ascending positions of users.
        uses: (rows of the table of ratings,) int8; what it calls `use` is read. None: all.
        Returns: user, item, rows, time, (n,) each: int32 places in `own`, positions of items, and rows of the table, or
            their place among those that `uses` calls so; times as they are stored, but int32 where they fit.
        """
        place = np.full(len(self.length), -1, np.int32)
        place[own] = np.arange(len(own))
        among = None if uses is None else np.cumsum(uses == use, dtype=np.int32)
        n, first = int(self.length[own].sum()), np.cumsum(self.length) - self.length
        found = [np.empty(n if among is None else min(n, among[-1]), np.int32) for _ in range(4)]
        n = 0
        for users in spans(self.length):
            owner = np.repeat(place[users], self.length[users])
            part = slice(first[users.start], first[users.start] + len(owner))
            (item, rows), time = (  # a map that lives on would count as memory
                np.load(self.folder / name, mmap_mode="r")[..., part] for name in (_PAIRS, _TIMES))
            kept = owner >= 0
            if among is not None:
                kept &= uses[rows] == use
                rows = among[rows] - 1
            if found[3].dtype != time.dtype and (time.dtype.kind == "f" or abs(time).max(initial=0) >= 2 ** 31 - 1):
                found[3] = found[3].astype(time.dtype)
            n += int(kept.sum())
            for values, new in zip(found, (owner, item, rows, time)):
                values[n - kept.sum():n] = new[kept]
        return [values[:n] for values in found]
