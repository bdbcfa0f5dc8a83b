"""Users who were in no training, and their interactions: a CSV with user_id, item_id[, timestamp, unwillingness]."""
from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..common.columns import clean_ids, positions, times, whole_numbers
from ..common.errors import InputError
from ..common.tables import existing_file, read_table
from ..config import Config
from ..constants import ITEM, TIMESTAMP, UNWILLINGNESS, USER
from ..sources.interactions import Ids, Interactions, ordered
from ..stat_utils import generator
from .unwillingness import stated, unwillingness_source

logger = logging.getLogger("ifrqe")

_COLUMNS = [USER, ITEM, TIMESTAMP, UNWILLINGNESS]
_SHOWN = 5  # items in a message


@dataclass
class Newcomers:
    """Users who were in no training.

    ids: (u,) original ids, in the order in which the file first names them.
    user, item: (n,) int32, positions in `ids` and in the items of the dataset, by user and in order of time within a user.
    unwillingness: (n,) float64 in [0, 1].
    vetoed: (n,) bool.
    """
    ids: np.ndarray
    user: np.ndarray
    item: np.ndarray
    unwillingness: np.ndarray
    vetoed: np.ndarray


def read_newcomers(dataset: Interactions, config: Config, least: int, veto: bool) -> Newcomers:
    """Reads the file `newcomers`.

    Items that the dataset does not know, and users of whom fewer than `least` interactions count, are left out and named in
    the log. Ties in time are broken by the order of the rows.

    Args:
        dataset: Interactions whose items they may have, and whose users they may not be.
        config: newcomers; unwillingness, unwillingness_value, seed and willingness_file where the file has no column of it.
            Rules apply that name no user, or one of them.
        least: interactions with known items that are not vetoed.
        veto: whether unwillingness 1 is a veto.

    Raises:
        InputError: the file is missing or wrong; a pair is there twice; somebody is a user of the dataset; nobody is left.
    """
    path = existing_file(config.newcomers, f"give a CSV with the columns {USER},{ITEM}[,{TIMESTAMP},{UNWILLINGNESS}]",
                         "newcomers")
    table = read_table(path, _COLUMNS, [USER, ITEM])
    if not len(table):
        raise InputError(f"{path}: holds no interactions; give at least {least} of each user")
    users, items = (clean_ids(table[column], path, column) for column in (USER, ITEM))
    _refuse(pd.DataFrame({USER: users.code, ITEM: items.code}).duplicated().to_numpy(), path, lambda row:
            f"names user {users.unique[users.code[row]]} and item {items.unique[items.code[row]]} once more; remove it")
    _refuse((positions(dataset.user_ids, users.unique) >= 0)[users.code], path, lambda row:
            f"names user {users.unique[users.code[row]]}, whom {dataset.name} already has: preprocess.py without "
            "--newcomers decides for them; remove their rows, or give them an id that is not taken")
    time = times(table[TIMESTAMP], path)[0] if TIMESTAMP in table else np.zeros(len(table))
    item = positions(dataset.item_ids, items.unique)[items.code]
    known = np.flatnonzero(item >= 0)
    ruled = ordered(dataset.name, Ids(users.unique, dataset.item_ids), (users.code[known], item[known], time[known]))
    unwillingness = _unwillingness(table, path, config.replace(veto=veto), ruled, known[ruled.rows])
    _name_unknown(items.unique[items.code[item < 0]], path, dataset)
    vetoed = (unwillingness == 1) & veto
    user, first = pd.factorize(users.code)
    names = users.unique[first]
    counted = np.bincount(user[(item >= 0) & ~vetoed], minlength=len(names))
    for k in np.flatnonzero(counted < least):
        logger.warning("%s: user %s is left out: %d interactions of theirs count, at least %d are needed", path, names[k],
                       int(counted[k]), least)
    enough = counted >= least
    if not enough.any():
        raise InputError(f"{path}: no user has {least} interactions that count (with items of {dataset.name}, not vetoed); "
                         "give more of them")
    order = np.lexsort((time, user))
    order = order[(item >= 0)[order] & enough[user[order]]]
    return Newcomers(_ids(names[enough], dataset), (np.cumsum(enough) - 1)[user[order]].astype(np.int32),
                     item[order].astype(np.int32), unwillingness[order], vetoed[order])


def _refuse(bad, path, what):
    """Raises InputError for the first row of `bad` (n,) bool, about which what(row) says what is wrong."""
    if bad.any():
        row = int(bad.argmax())
        raise InputError(f"{path}: row {row + 1} {what(row)}")


def _unwillingness(table, path, config, ruled, rows):
    """(n,) float64 in [0, 1], by the column or else by the options; `ruled`: Interactions with known items, of `rows`."""
    if UNWILLINGNESS in table:
        column = table[UNWILLINGNESS]
        value = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
        bad = ~((value >= 0) & (value <= 1)) | (column.dtype == bool)
        _refuse(bad, path, lambda row: f"has {str(column.iloc[row])!r} as {UNWILLINGNESS}; it must be a number in "
                "[0, 1]")
        if config.willingness_file:
            logger.warning("%s: not used, since %s has a column %s", config.willingness_file, path, UNWILLINGNESS)
        return value
    source = unwillingness_source(config)
    if source not in ("constant", "uniform", "willing"):
        raise InputError(f"{path}: has no column {UNWILLINGNESS}, and --unwillingness {source} states that of the users of "
                         "a dataset only; add the column, or say --unwillingness constant or uniform")
    fixed = {"constant": config.unwillingness_value, "willing": 0}.get(source, "uniform on [0, 1] by seed")
    logger.info("%s: has no column %s, so it is %s", path, UNWILLINGNESS, fixed)
    value = generator(config.seed, "unwillingness of newcomers").random(len(table))
    said = stated(ruled, config, whole=True)[0]
    value[rows] = np.where(np.isnan(said), value[rows], said)
    return value


def _name_unknown(names, path, dataset):
    """Says which items the dataset does not know; names: of the rows that have one."""
    unique = list(dict.fromkeys(names))
    if unique:
        shown = ", ".join(unique[:_SHOWN]) + (f" and {len(unique) - _SHOWN:,} more" if len(unique) > _SHOWN else "")
        logger.warning("%s: %s left out, since %s does not know %s: %s", path,
                       f"{len(names):,} rows" if len(names) > 1 else "1 row", dataset.name,
                       "their items" if len(unique) > 1 else "the item", shown)


def _ids(names, dataset):
    """Ids as those of the dataset are written: numbers where these are."""
    numbers = whole_numbers(names) if dataset.user_ids.dtype.kind in "iu" else None
    return names if numbers is None else numbers
