"""A dataset as numbers, which later stages read in place of its text: users.csv, interactions.npy and times.npy."""
from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ..common.stored import write_table
from ..common.together import Together
from ..common.variant import DATA
from ..constants import INTERACTIONS, INTERACTIONS_FILE, TIMES_FILE, USER, USERS_FILE
from .interactions import Interactions


def write_arrays(files: Together, whole: Interactions) -> dict[str, str]:
    """Writes Interactions as write_parts does; their rows are those of the table of ratings."""
    return write_parts(files, whole.user_ids, whole.history.length, whole.time.dtype, [(whole.item, whole.rows, whole.time)])


def write_parts(files: Together, user_ids: np.ndarray, length: np.ndarray, kind: np.dtype,
                parts: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, str]:
    """Writes the three files of a dataset, of n interactions by user, then time, then row.

    users.csv: user_id,interactions; interactions.npy: (2, n) int32, the positions of items, and the rows of the table of
    ratings; times.npy: (n,) of `kind`, int64 or float64.

    Args:
        user_ids, length: (u,) original ids, ascending, and the number of interactions of each.
        parts: (k,) items, rows and times of all, one after the other.

    Returns:
        The digest of each file, by its name.
    """
    n = int(length.sum())
    with files.rewrite(DATA, USERS_FILE) as (_, temporary):
        write_table(pd.DataFrame({USER: user_ids, INTERACTIONS: length}), temporary)
    with files.rewrite(DATA, INTERACTIONS_FILE) as (_, pairs), files.rewrite(DATA, TIMES_FILE) as (_, times), \
            open(pairs, "wb") as pairs, open(times, "wb") as times:
        begin = _header(pairs, (2, n), np.int32), _header(times, (n,), kind)
        at = 0
        for item, rows, time in parts:
            for place, values in enumerate((item, rows)):
                pairs.seek(begin[0] + 4 * (place * n + at))
                np.asarray(values, np.int32).tofile(pairs)
            np.asarray(time, kind).tofile(times)
            at += len(item)
    return {name: files.digests[f"{DATA}/{name}"][1] for name in (USERS_FILE, INTERACTIONS_FILE, TIMES_FILE)}


def _header(file, shape, kind):
    """Begins a .npy file; where its values begin."""
    np.lib.format.write_array_header_1_0(file, {
        "descr": np.lib.format.dtype_to_descr(np.dtype(kind)), "fortran_order": False, "shape": shape})
    return file.tell()
