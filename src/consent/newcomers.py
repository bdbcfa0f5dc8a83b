"""Users who were in no training, and their interactions: a CSV with user_id, item_id[, timestamp, unwillingness]."""
from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..common.columns import ORDER, clean_ids, in_unit, positions, times, whole_numbers
from ..common.errors import InputError
from ..common.tables import existing_file, read_table
from ..common.wording import counted
from ..config import Config
from ..constants import ITEM, TIMESTAMP, UNWILLINGNESS, USER
from ..sources.interactions import Ids, Interactions, ordered, time_unit
from ..stat_utils import generator
from .rules import listed, unwillingness_in
from .unwillingness import stated, unwillingness_source

logger = logging.getLogger("ifrqe")

_COLUMNS = [USER, ITEM, TIMESTAMP, UNWILLINGNESS]


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
    """Reads the file `newcomers`; ties in time are broken by the order of the rows.

    Unknown items, and users of whom fewer than `least` interactions count, are left out and named in the log.

    Args:
        dataset: whose items they may have, and whose users they may not be.
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
    again = pd.DataFrame({USER: users.code, ITEM: items.code}).duplicated().to_numpy()
    _refuse(again, path, lambda row: f"names user {users.unique[users.code[row]]} and item {items.unique[items.code[row]]} "
            "once more; remove it")
    _refuse((positions(dataset.user_ids, users.unique) >= 0)[users.code], path, lambda row:
            f"names user {users.unique[users.code[row]]}, whom {dataset.name} already has: preprocess.py without "
            "--newcomers decides for them; remove their rows, or give them an id that is not taken")
    time, unit = times(table[TIMESTAMP], path) if TIMESTAMP in table else (np.zeros(len(table)), ORDER)
    item = positions(dataset.item_ids, items.unique)[items.code]
    known = np.flatnonzero(item >= 0)
    if len(unknown := items.unique[items.code[item < 0]]):
        logger.warning("%s: %s left out, since %s does not know their items: %s", path, counted(len(unknown), "row"),
                       dataset.name, listed(pd.unique(unknown)))
    whole = ordered(dataset.name, Ids(users.unique, dataset.item_ids), (users.code[known], item[known], time[known]))
    whole.time = in_unit(whole.time, unit, time_unit(config)) if config.willingness_file else None
    b = _unwillingness(table, path, config.replace(veto=veto), whole, known[whole.rows])
    vetoed = (b == 1) & veto
    number = whole.history.sums(~vetoed).astype(int)
    for k in np.flatnonzero(number < least):
        logger.warning("%s: user %s is left out: %d interactions of theirs count, at least %d are needed", path,
                       users.unique[k], int(number[k]), least)
    named = pd.unique(users.code)  # in the order in which the file first names them
    chosen = named[number[named] >= least]
    if not len(chosen):
        raise InputError(f"{path}: no user has {least} interactions that count (with items of {dataset.name}, not vetoed); "
                         "give more of them")
    names, part = users.unique[chosen], whole.history.of_users(chosen)
    numbers = whole_numbers(names) if dataset.user_ids.dtype.kind in "iu" else None  # written as those of the dataset are
    return Newcomers(names if numbers is None else numbers,
                     np.repeat(np.arange(len(chosen), dtype=np.int32), whole.history.length[chosen]),
                     whole.item[part], b[part], vetoed[part])


def _refuse(bad, path, what):
    """Raises InputError for the first row of `bad` (n,) bool, about which what(row) says what is wrong."""
    if bad.any():
        raise InputError(f"{path}: row {bad.argmax() + 1} {what(int(bad.argmax()))}")


def _unwillingness(table, path, config, whole, rows):
    """(n,) float64 in [0, 1] of Interactions, of `rows` of the table: by its column or else by the options."""
    if UNWILLINGNESS in table:
        if config.willingness_file:
            logger.warning("%s: not used, since %s has a column %s", config.willingness_file, path, UNWILLINGNESS)
        return unwillingness_in(table, lambda bad, what: _refuse(bad, path, lambda _: f"has {what}"))[rows]
    source = unwillingness_source(config)
    if source not in ("constant", "uniform", "willing"):
        raise InputError(f"{path}: has no column {UNWILLINGNESS}, and --unwillingness {source} states that of the users of "
                         "a dataset only; add the column, or say --unwillingness constant or uniform")
    fixed = {"constant": config.unwillingness_value, "willing": 0}.get(source, "uniform on [0, 1] by seed")
    logger.info("%s: has no column %s, so it is %s", path, UNWILLINGNESS, fixed)
    drawn = generator(config.seed, "unwillingness of newcomers").random(len(table))
    said, _ = stated(whole, config, whole=True)
    return np.where(np.isnan(said), drawn[rows], said)
