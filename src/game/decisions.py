"""What was decided, and its two files: disclosure.csv and preprocess.json. See docs/maths.md, section 5."""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.columns import clean_ids, positions
from ..common.errors import InputError
from ..common.files import atomic_write, read_json, write_csv
from ..common.tables import read_table
from ..common.variant import REMEDY, check_mask, decision_files
from ..config import Config
from ..constants import DISCLOSED, EXPECTED, INFLUENCE, INSTALMENT, ITEM, UNWILLINGNESS, USER
from ..dataset import Dataset
from ..sources.withdrawn import withdrawn_from

# of preprocess.json, by what comes after it; the latter of a game only
RECORD_KEYS = ("strategy", "unwillingness", "wv", "total_wv", "wv_budget", "disclosed_share", "seconds", "peak_rss_mb")
PLAYED_KEYS = ("solver", "parameter_sets", "anchors", "prior", "rounds", "game_rate")
COLUMNS = (USER, ITEM, INFLUENCE, UNWILLINGNESS, DISCLOSED, EXPECTED)


@dataclass
class Decisions:
    """The decisions about the training interactions, in the order of dataset.user.

    disclosed: (n,) bool.
    unwillingness: (n,) float64 in [0, 1].
    weight: willingness weight lambda at which the game was played; None where a baseline decided.
    influence: (n,) float64, nats, on the validation item at the anchor of everything; None where a baseline decided.
    expected: (n,) float64, nats, what the game went by, at several anchors the mean over the rounds; None as well.
    record: dict, preprocess.json; before that is written, what the solver says for it.
    instalment: (n,) int8, in which each was disclosed, from 1, and 0 for what is withheld; None but for `ask-first`.
    withdrawn: (n,) bool, what was ever withdrawn; None where nothing was.
    listed: (n,) bool, what disclosure.csv has a row for; None for all. Of the others, which were withdrawn after it was
        decided, the unwillingness is 1 and influences are 0.
    """
    disclosed: np.ndarray
    unwillingness: np.ndarray
    weight: float = None
    influence: np.ndarray = None
    expected: np.ndarray = None
    record: dict = field(default_factory=dict)
    instalment: np.ndarray = None
    withdrawn: np.ndarray = None
    listed: np.ndarray = None

    @property
    def wv_share(self) -> float:
        """Share of total_wv that is violated; 0 if nobody minds anything."""
        return self.record["wv"] / self.record["total_wv"] if self.record["total_wv"] else 0.0

    @property
    def known(self) -> np.ndarray | slice:
        """Index of the interactions whose influences are known: those that disclosure.csv lists."""
        return slice(None) if self.listed is None else self.listed

    @property
    def under_veto(self) -> bool:
        """Whether unwillingness 1 was a veto, and anybody had one."""
        return self.record.get("vetoed", 0) > 0

    @property
    def vetoed(self) -> np.ndarray:
        """(n,) bool: what its user has forbidden, or withdrawn."""
        forbidden = (self.unwillingness == 1) & self.under_veto
        return forbidden if self.withdrawn is None else forbidden | self.withdrawn

    def write(self, path: str | Path, dataset: Dataset) -> None:
        """Writes disclosure.csv: a row for each training interaction, original ids; influences are empty for a baseline."""
        empty = np.full(dataset.num_interactions, np.nan)
        table = pd.DataFrame({USER: dataset.user_ids[dataset.user], ITEM: dataset.item_ids[dataset.item],
                              INFLUENCE: empty if self.influence is None else self.influence,
                              UNWILLINGNESS: self.unwillingness, DISCLOSED: self.disclosed.astype(np.int8),
                              EXPECTED: empty if self.expected is None else self.expected}, copy=False)
        if self.instalment is not None:
            table[INSTALMENT] = self.instalment
        with atomic_write(path) as temporary:
            write_csv(table, temporary)


def read_decisions(config: Config, dataset: Dataset, masked: bool = False) -> Decisions | None:
    """The decisions about a dataset, or None if there are none: no files, or those of another dataset.

    Args:
        config: decisions_path, output_path, data_path, dataset.
        dataset: Dataset.
        masked: whether they must be those that the masked dataset was made from.

    Raises:
        InputError: they do not fit the dataset, or its masked twin.
    """
    path, record_path = decision_files(config)
    if not (path.exists() and record_path.exists()):
        return None
    record = read_json(record_path, REMEDY, ["dataset", "willingness_weight"])
    if not masked and record["dataset"] != config.dataset:
        return None
    played = record["willingness_weight"] is not None
    read_json(record_path, REMEDY, RECORD_KEYS + PLAYED_KEYS if played else RECORD_KEYS)
    try:
        table = read_table(path, (*COLUMNS, INSTALMENT), COLUMNS, float_precision="round_trip")
    except InputError as e:
        raise InputError(f"{e}; {REMEDY}") from e
    withdrawn = withdrawn_from(dataset, config)
    if (listed := _listed(table, dataset, path, withdrawn)) is None:
        raise InputError(f"{path}: does not list the training interactions of {dataset.name}; run preprocess.py anew, "
                         "or set --decisions_path to where its results are")
    if masked:
        check_mask(config)
    decisions = decisions_of(_filled(table, listed), record)
    decisions.withdrawn = withdrawn if withdrawn.any() else None
    decisions.listed = None if listed.all() else listed
    return decisions


def decisions_of(table: pd.DataFrame, record: dict) -> Decisions:
    """The Decisions of the rows of disclosure.csv and of preprocess.json."""
    return Decisions(table[DISCLOSED].to_numpy() == 1, table[UNWILLINGNESS].to_numpy(), record["willingness_weight"],
                     _numbers(table[INFLUENCE]), _numbers(table[EXPECTED]), record,
                     table[INSTALMENT].to_numpy() if INSTALMENT in table else None)


def _listed(table, dataset, path, withdrawn):
    """(n,) bool: the training interactions that the rows are, in their order; None if others than withdrawn ones lack."""
    user, item = (positions(ids, found.unique)[found.code] for ids, found in (
        (dataset.user_ids, clean_ids(table[USER], path, USER)), (dataset.item_ids, clean_ids(table[ITEM], path, ITEM))))
    if len(table) == dataset.num_interactions:
        same = np.array_equal(user, dataset.user) and np.array_equal(item, dataset.item)
        return np.ones(len(table), bool) if same else None
    own, rows = dataset.user.astype(np.int64) * dataset.num_items + dataset.item, user * dataset.num_items + item
    listed = np.isin(own, rows)
    same = np.array_equal(own[listed], rows) and withdrawn[~listed].all()
    return listed if same else None


def _filled(table, listed):
    """The rows of disclosure.csv with one for each interaction, see Decisions.withdrawn."""
    if listed.all():
        return table
    full = table.set_index(np.flatnonzero(listed)).reindex(np.arange(len(listed)))
    missing = {INFLUENCE: 0.0, EXPECTED: 0.0, UNWILLINGNESS: 1.0, DISCLOSED: 0, INSTALMENT: 0}
    for column in set(missing) & set(full):
        full[column] = full[column].where(listed, missing[column])
    return full.astype({column: table[column].dtype for column in (DISCLOSED, INSTALMENT) if column in table})


def _numbers(column):
    """float64; None where a field is no number."""
    found = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    return found if np.isfinite(found).all() else None
