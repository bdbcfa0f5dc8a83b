"""What preprocess.py has decided, as the stages after it read it: disclosure.csv and preprocess.json."""
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..common.columns import clean_ids, positions
from ..common.errors import InputError
from ..common.files import read_json
from ..common.tables import read_table
from ..common.variant import REMEDY, check_mask, decision_files
from ..constants import DISCLOSED, EXPECTED, INFLUENCE, ITEM, UNWILLINGNESS, USER

# of preprocess.json, by what comes after it; the latter of a game only
RECORD_KEYS = ("strategy", "unwillingness", "wv", "total_wv", "wv_budget", "disclosed_share", "seconds", "peak_rss_mb")
PLAYED_KEYS = ("solver", "parameter_sets", "influence_models", "anchors", "prior", "rounds", "game_rate", "count_others")
COLUMNS = (USER, ITEM, INFLUENCE, UNWILLINGNESS, DISCLOSED, EXPECTED)


@dataclass
class Decisions:
    """The decisions about the training interactions, in the order of dataset.user.

    influence, expected: (n,) float64, nats; NaN where a baseline decided.
    unwillingness: (n,) float64 in [0, 1].
    disclosed: (n,) bool.
    record: dict, preprocess.json.
    """
    influence: np.ndarray
    expected: np.ndarray
    unwillingness: np.ndarray
    disclosed: np.ndarray
    record: dict

    @property
    def weight(self):
        """Willingness weight lambda; None for a baseline."""
        return self.record["willingness_weight"]

    @property
    def wv_share(self):
        """Share of total_wv that is violated; 0 if nobody minds anything."""
        return self.record["wv"] / self.record["total_wv"] if self.record["total_wv"] else 0.0

    @property
    def vetoed(self):
        """(n,) bool: what its user has forbidden."""
        return (self.unwillingness == 1) & (self.record.get("vetoed", 0) > 0)


def read_decisions(config, dataset):
    """The decisions about a dataset, or None if there are none: no files, or without `masked` those of another dataset.

    Raises:
        InputError: they do not fit the dataset, or with `masked` are not what the masked dataset was made from.
    """
    path, record_path = decision_files(config)
    if not (path.exists() and record_path.exists()):
        return None
    record = read_json(record_path, REMEDY, ["dataset", "willingness_weight"])
    if not config.masked and record["dataset"] != config.dataset:
        return None
    read_json(record_path, REMEDY, RECORD_KEYS + PLAYED_KEYS * (record["willingness_weight"] is not None))
    try:
        table = read_table(path, COLUMNS, COLUMNS, float_precision="round_trip")
    except InputError as e:
        raise InputError(f"{e}; {REMEDY}") from e
    if not _lists(table, dataset, path):
        raise InputError(f"{path}: does not list the training interactions of {dataset.name}; run preprocess.py anew, "
                         "or set --decisions_path to where its results are")
    if config.masked:
        check_mask(config)
    return Decisions(_numbers(table[INFLUENCE]), _numbers(table[EXPECTED]), table[UNWILLINGNESS].to_numpy(),
                     table[DISCLOSED].to_numpy() == 1, record)


def _lists(table, dataset, path):
    """Whether the rows are the training interactions, in their order."""
    if len(table) != dataset.num_interactions:
        return False
    for column, ids, wanted in ((USER, dataset.user_ids, dataset.user), (ITEM, dataset.item_ids, dataset.item)):
        found = clean_ids(table[column], path, column)
        if not np.array_equal(positions(ids, found.unique)[found.code], wanted):
            return False
    return True


def _numbers(column):
    """float64 with NaN for what is empty."""
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
