"""What was decided, and its two files: disclosure.csv and preprocess.json. See docs/maths.md, section 5."""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.columns import clean_ids, positions
from ..common.errors import InputError
from ..common.files import digest, read_json
from ..common.share import here
from ..common.stored import write_table
from ..common.tables import read_table
from ..common.variant import REMEDY, Variant, check_mask, decision_files
from ..config import Config
from ..consent.allowed import NONE_DROPPED, TOO_FEW, VETO, WAITS, Consent, Dropped
from ..constants import DISCLOSED, EXPECTED, INFLUENCE, INSTALMENT, ITEM, REASON, UNWILLINGNESS, USER
from ..dataset import Dataset, load_dataset
from ..metrics import willingness_violation
from ..training.checkpoint import consent_of

# of preprocess.json, by what comes after it; the latter of a game only
_RECORD_KEYS = ("strategy", "unwillingness", "wv", "total_wv", "wv_budget", "disclosed_share", "seconds", "peak_rss_mb",
                "willingness_weight")
_PLAYED_KEYS = ("solver", "parameter_sets", "anchors", "prior", "rounds", "game_rate")
COLUMNS = (USER, ITEM, INFLUENCE, UNWILLINGNESS, DISCLOSED, EXPECTED)
DISCLOSURE_SHA256, CONSENT = "disclosure_sha256", "consent"  # keys of preprocess.json; the first of dataset.json, too
MODEL_SHA256 = "model_sha256"  # key of preprocess.json: of the parameters of the model that the influences come from
THRESHOLD = "unwillingness_threshold"  # key of preprocess.json: the largest b that is disclosed of whom nothing is known
UPDATES = "updates"  # key of preprocess.json: what each update has decided
VETOED, TOO_LITTLE, ALONE = "veto", "too few rows", "unwillingness alone"  # reasons; the last: of whom nothing is known


@dataclass
class Decisions:
    """The decisions about the training interactions, (n,) in the order of dataset.user."""
    disclosed: np.ndarray  # bool
    unwillingness: np.ndarray  # float64 in [0, 1]
    weight: float = None  # willingness weight lambda at which the game was played; None where a baseline decided
    influence: np.ndarray = None  # float64, nats, on the validation item at the anchor of everything; None for a baseline
    expected: np.ndarray = None  # the same, what the game went by, at several anchors the mean over the rounds
    record: dict = field(default_factory=dict)  # preprocess.json; before that is written, what the solver says for it
    instalment: np.ndarray = None  # int8, in which each was disclosed, from 1, or 0; None but for `ask-first`
    reason: pd.Categorical = None  # by what each was decided; None where an earlier version decided
    barred: np.ndarray = None  # (k,) object, why each of dataset.dropped takes no part; None for none

    @property
    def wv_share(self) -> float:
        """Share of total_wv that is violated; 0 if nobody minds anything."""
        return self.record["wv"] / self.record["total_wv"] if self.record["total_wv"] else 0.0

    def alone(self, part: slice) -> bool:
        """Whether unwillingness alone decided about the interactions of a user, since nothing is known of them."""
        return self.reason is not None and all(ALONE in text for text in self.reason[part])

    @property
    def under_veto(self) -> bool:
        """Whether unwillingness 1 was a veto."""
        return bool(self.record.get("veto", self.record.get("vetoed", 0)))

    def of(self, before: Dataset, after: Dataset) -> Decisions:
        """The Decisions about a Dataset that has lost or gained some since they were made about the one `before`.

        What is new is not disclosed; all else about it is yet to be said.
        """
        place = pd.Index(before.rows).get_indexer(after.rows)
        texts = {} if self.barred is None else dict(zip(before.dropped.rows.tolist(), self.barred))
        arrays = {name: values[place] for name, values in vars(self).items()
                  if name not in ("weight", "record", "barred") and values is not None}
        arrays["disclosed"] &= place >= 0
        return dataclasses.replace(self, **arrays, barred=barred_by(after.dropped, texts))

    def counts(self, dataset: Dataset) -> dict:
        """What preprocess.json says of how much is decided, minded and disclosed."""
        users, total, b = len(dataset.all_user_ids), here().total, self.unwillingness
        wv, total_wv = (float(total(willingness_violation(kept, b, users))) for kept in (self.disclosed, np.ones(len(b))))
        return {"num_users": users, "num_interactions": dataset.all_interactions, "wv": wv, "total_wv": total_wv,
                "disclosed_share": float(total(self.disclosed.sum()) / max(1, dataset.all_interactions))}

    def listed(self, dataset: Dataset) -> pd.DataFrame:
        """The rows of disclosure.csv, by positions of users and items: all but what is held out."""
        columns = {USER: dataset.user, ITEM: dataset.item, INFLUENCE: self.influence, UNWILLINGNESS: self.unwillingness,
                   DISCLOSED: self.disclosed.astype(np.int8), EXPECTED: self.expected, INSTALMENT: self.instalment,
                   REASON: self.reason}
        columns = {name: np.full(len(self.disclosed), np.nan) if values is None else values
                   for name, values in columns.items() if name in COLUMNS or values is not None}
        if dataset.dropped is not None:
            shown = dataset.dropped.why != WAITS
            gone = dataset.dropped.of(shown)
            of_gone = {USER: gone.user, ITEM: gone.item, INFLUENCE: np.nan, EXPECTED: np.nan, REASON: self.barred[shown],
                       UNWILLINGNESS: np.where(gone.why == TOO_FEW, np.nan, 1.0)}
            columns = {name: np.insert(np.asarray(values), gone.before, of_gone.get(name, 0))
                       for name, values in columns.items()}
        return pd.DataFrame(columns, copy=False)

    def write(self, path: str | Path, dataset: Dataset, since: tuple[Path, np.ndarray] | None = None) -> None:
        """Writes disclosure.csv to `path`: what `listed` lists, by original ids; influences are empty for a baseline.

        since: the one of before an update and (n,) which of its lines each is, -1 for a new one; they are copied, which
            takes a fraction of the time.
        """
        table = self.listed(dataset)
        if since is not None:
            table = table[since[1] < 0]
        table[USER], table[ITEM] = dataset.user_ids[table[USER]], dataset.item_ids[table[ITEM]]
        write_table(table, path)
        if since is not None:
            lines = since[0].read_bytes().splitlines(keepends=True)[1:]
            new = iter(path.read_bytes().splitlines(keepends=True))
            path.write_bytes(next(new) + b"".join(next(new) if k < 0 else lines[k] for k in since[1].tolist()))


def barred_by(dropped: Dropped | None, texts: dict[int, str]) -> np.ndarray | None:
    """(k,) why each of Dropped takes no part; `texts`: by row of ratings.csv what is known of vetoes."""
    return None if dropped is None else np.array([
        f"withdrawn {why}" if why > 0 else texts.get(row, VETOED) if why == VETO else TOO_LITTLE
        for why, row in zip(dropped.why.tolist(), dropped.rows.tolist())], object)


def _record_of(config):
    """preprocess.json beside a disclosure.csv, of whatever dataset; {} if one of them is missing."""
    path, record_path = decision_files(config)
    return read_json(record_path, REMEDY, ["dataset"]) if path.exists() and record_path.exists() else {}


def decided_with(config: Config) -> Consent | None:
    """The Consent that the decisions were made with; None if there are none of this dataset."""
    record = _record_of(config)
    return Consent.of_json(record.get(CONSENT)) if record.get("dataset") == config.dataset else None


def consent_behind(variant: Variant) -> Consent:
    """The Consent behind the model of a Variant: that of its training, or of the mask that it was trained on."""
    # where nobody knows what was vetoed, nothing but what users have had may depend on it
    return (decided_with(variant.config) or Consent()) if variant.masked else consent_of(variant)


def dataset_of(variant: Variant) -> Dataset:
    """The original Dataset as it was split for the model of a Variant, without what was withdrawn since."""
    return load_dataset(variant.config, consent=consent_behind(variant))


def read_record(config: Config, masked: bool = False, needed: bool = False) -> dict | None:
    """preprocess.json of the decisions about a dataset, with `masked` of any; None if there are none and it is not `needed`.

    Raises:
        InputError: it is no record of this version, or disclosure.csv is not the one that it is about.
    """
    record, (path, record_path) = _record_of(config), decision_files(config)
    if not record or not masked and record["dataset"] != config.dataset:
        if needed:
            raise InputError(f"{record_path}: no decisions on {config.dataset}, or no {path.name} beside it; run "
                             "preprocess.py first, or set --decisions_path to its results")
        return None
    read_json(record_path, REMEDY, (*_RECORD_KEYS, *(() if record.get("willingness_weight") is None else _PLAYED_KEYS)))
    if record.get(DISCLOSURE_SHA256, digest(path)) != digest(path):
        raise InputError(f"{path}: is not what {record_path.name} says: it was changed, cut or damaged since; {REMEDY}")
    return record


def read_decisions(config: Config, dataset: Dataset, masked: bool = False, needed: bool = False) -> Decisions | None:
    """The decisions about a dataset, or None if there are none and they are not `needed`.

    Args:
        config: decisions_path, output_path, data_path, dataset.
        dataset: Dataset.
        masked: whether they must be those that the masked dataset was made from.

    Raises:
        InputError: they do not fit the dataset, or its masked twin, or were changed or damaged.
    """
    record = read_record(config, masked, needed)
    if record is None:
        return None
    decisions = decisions_in(decision_files(config)[0], record, dataset)
    if masked:
        check_mask(config)
    return decisions


def decisions_in(path: Path, record: dict, dataset: Dataset) -> Decisions:
    """The Decisions of a table as Decisions.write leaves it, and of preprocess.json; InputError if they do not fit."""
    try:
        table = read_table(path, (*COLUMNS, INSTALMENT, REASON), COLUMNS, float_precision="round_trip")
    except InputError as e:
        raise InputError(f"{e}; {REMEDY}") from e
    user, item = (positions(ids, found.unique)[found.code] for ids, found in (
        (dataset.user_ids, clean_ids(table[USER], path, USER)), (dataset.item_ids, clean_ids(table[ITEM], path, ITEM))))
    dropped = dataset.dropped or NONE_DROPPED
    own, rows, gone = (users.astype(np.int64) * dataset.num_items + items for users, items in (
        (dataset.user, dataset.item), (user, item), (dropped.user, dropped.item)))
    decided = np.ones(len(rows), bool) if len(rows) == len(own) else np.isin(rows, own)
    if not np.array_equal(rows[decided], own) or not np.isin(rows[~decided], gone).all():
        raise InputError(f"{path}: does not list the training interactions of {dataset.name}; run preprocess.py anew, "
                         "or set --decisions_path to where its results are")
    said = dict(zip(rows[~decided].tolist(), table[REASON][~decided].astype(str))) if REASON in table else {}
    texts = {row: said[key] for row, key in zip(dropped.rows.tolist(), gone.tolist()) if key in said}
    table = table[decided]
    return Decisions(table[DISCLOSED].to_numpy() == 1, _numbers(table[UNWILLINGNESS]), record["willingness_weight"],
                     _numbers(table[INFLUENCE]), _numbers(table[EXPECTED]), record,
                     table[INSTALMENT].to_numpy() if INSTALMENT in table else None,
                     table[REASON].values if REASON in table else None, barred_by(dataset.dropped, texts))


def _numbers(column):
    """float64, to the last digit; None where a field is no number."""
    try:
        found = column.to_numpy().astype(np.float64)
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None


def decided(config: Config, masked: bool = False) -> tuple[Dataset, Decisions]:
    """The Dataset that the settings name as it was decided about, and the decisions; raises as read_decisions does."""
    if config.holdout == 1:
        raise InputError("--holdout 1: leaves no validation item, so that nothing is decided; leave it out")
    dataset = load_dataset(config, consent=decided_with(config))
    return dataset, read_decisions(config, dataset, masked, needed=True)


def trained_on(dataset: Dataset, variant: Variant) -> Dataset:
    """The part of a dataset that the model of a Variant was trained on; raises as read_decisions does."""
    if not variant.masked:
        return dataset
    return dataset.part(read_decisions(variant.config, dataset, masked=True, needed=True).disclosed)


def decisions_behind(variant: Variant, dataset: Dataset) -> Decisions | None:
    """The decisions that an evaluation of the model of a Variant is about; None if there are none.

    Of the plain model those with other vetoes say nothing. Raises as read_decisions does.
    """
    consent = decided_with(variant.config)
    if variant.config.holdout == 1 or not variant.masked and consent and not dataset.consent.forbids_as(consent):
        return None
    return read_decisions(variant.config, dataset, variant.masked)
