"""What was decided, and its two files: disclosure.csv and preprocess.json. See docs/maths.md, section 5."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from ..common.columns import finder
from ..common.errors import InputError
from ..common.files import digest, read_json
from ..common.share import here
from ..common.stored import write_table
from ..common.tables import read_parts
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
_SHOWN = 1 << 17  # interactions of each rank in a picture
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
        """The Decisions about a Dataset that has lost some since the one `before`, or gained some: not disclosed yet."""
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

    def sample(self) -> Decisions:
        """The Decisions on some of all interactions, evenly spaced, in no order; on all where these are few."""
        n = len(self.disclosed)
        place = np.linspace(0, n - 1, min(n, _SHOWN)).astype(int)
        return Decisions(weight=self.weight, **{
            name: None if (values := getattr(self, name)) is None else here().joined(values[place])
            for name in ("disclosed", "unwillingness", "expected")})

    def listed(self, dataset: Dataset) -> Iterator[pd.DataFrame]:
        """The rows of disclosure.csv of all users, in parts, by original ids: all but what is held out."""
        gone, barred, n = NONE_DROPPED, np.zeros(0, object), len(self.disclosed)
        if dataset.dropped is not None:
            shown = dataset.dropped.why != WAITS
            gone, barred = dataset.dropped.of(shown), self.barred[shown]
        place = gone.before + np.arange(len(gone.before))  # where they stand among the rows
        texts, reason, of_gone = _in_common(self.reason, barred)
        columns = {
            ITEM: (dataset.item, gone.item), INFLUENCE: (self.influence, np.nan),
            UNWILLINGNESS: (self.unwillingness, np.where(gone.why == TOO_FEW, np.nan, 1.0)),
            DISCLOSED: (self.disclosed.view(np.int8), 0), EXPECTED: (self.expected, np.nan),
            INSTALMENT: (self.instalment, 0), REASON: (reason, of_gone)}
        columns = {name: (np.broadcast_to(np.nan, n) if own is None else own, np.broadcast_to(other, len(place)))
                   for name, (own, other) in columns.items() if own is not None or name in COLUMNS}

        def part(rows):
            start, end, _ = rows.indices(n + len(place))
            more = slice(*np.searchsorted(place, (start, end)))
            own = slice(start - more.start, end - more.stop)
            return {name: np.insert(values[own], gone.before[more] - own.start, other[more])
                    for name, (values, other) in columns.items()}

        ids = {USER: dataset.all_user_ids, ITEM: dataset.item_ids, REASON: texts}
        user = np.insert(dataset.user, gone.before, gone.user) if len(place) else dataset.user
        for users, found in dataset.share.rows(user, part):
            yield pd.DataFrame({name: ids[name][values] if name in ids else values
                                for name, values in {USER: users, **found}.items()}, copy=False)

    def write(self, path: Path, dataset: Dataset) -> None:
        """Writes disclosure.csv, or .parquet, to `path`: what `listed` lists; influences are empty for a baseline."""
        write_table(self.listed(dataset), path, len(self.disclosed))


def _in_common(reason, barred):
    """The texts of a Categorical of reasons and of `barred` ones, (t,) object, of all ranks; their places in it, of both."""
    said = [] if reason is None else list(reason.categories)
    said = "\0".join(["", *said, *dict.fromkeys(barred)]).encode("utf-8", "surrogatepass")
    said = here().joined(np.frombuffer(said, np.uint8)).tobytes().decode("utf-8", "surrogatepass")
    texts = np.array(sorted(set(said.split("\0"))), object)
    code = None if reason is None else np.searchsorted(texts, np.array(reason.categories, object))
    kind = np.min_scalar_type(len(texts))
    return texts, code if code is None else code.astype(kind)[reason.codes], np.searchsorted(texts, barred).astype(kind)


def barred_by(dropped: Dropped | None, texts: dict[int, str]) -> np.ndarray | None:
    """(k,) why each of Dropped takes no part; `texts`: by row of ratings.csv what is known of vetoes."""
    return None if dropped is None else np.array([
        f"withdrawn {why}" if why > 0 else texts.get(row, VETOED) if why == VETO else TOO_LITTLE
        for why, row in zip(dropped.why.tolist(), dropped.rows.tolist())], object)


def _record_of(config):
    path, record_path = decision_files(config)
    return read_json(record_path, REMEDY, ["dataset"]) if path.exists() and record_path.exists() else {}


def decided_with(config: Config) -> Consent | None:
    """The Consent that the decisions were made with; None if there are none of this dataset."""
    record = _record_of(config)
    return Consent.of_json(record.get(CONSENT)) if record.get("dataset") == config.dataset else None


def dataset_of(variant: Variant) -> Dataset:
    """The original Dataset as it was split for the model of a Variant, without what was withdrawn since."""
    # where nobody knows what was vetoed, nothing but what users have had may depend on it
    consent = (decided_with(variant.config) or Consent()) if variant.masked else consent_of(variant)
    return load_dataset(variant.config, consent=consent)


def read_record(config: Config, masked: bool = False, needed: bool = False) -> dict | None:
    """preprocess.json of a dataset's decisions, with `masked` of any; None for none; InputError if `needed`, or unfit."""
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

    masked: whether they must be those that the masked dataset was made from.
    Raises InputError: they do not fit the dataset, or its masked twin, or were changed or damaged.
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
    dropped, kept, said, start, lines, mine = dataset.dropped or NONE_DROPPED, {}, {}, 0, 0, 0
    gone, found = _keys(dropped.user, dropped.item, dataset), (finder(dataset.user_ids), finder(dataset.item_ids))
    for table in _parts(path):
        user = found[0](table[USER])
        lines, table, user = lines + len(table), table[user >= 0], user[user >= 0]
        rows, mine = _keys(user, found[1](table[ITEM]), dataset), mine + len(user)
        own = _keys(*(values[start:start + len(rows)] for values in (dataset.user, dataset.item)), dataset)
        decided = np.ones(len(rows), bool) if np.array_equal(rows, own) else np.isin(rows, own)
        if not np.array_equal(rows[decided], own[:decided.sum()]) or not np.isin(rows[~decided], gone).all():
            start = -1
            break
        if REASON in table:
            said.update(zip(rows[~decided].tolist(), table[REASON][~decided].astype(str)))
        start += decided.sum()
        for name in set(table) - {USER, ITEM}:
            kept.setdefault(name, []).append(_plain(name, table[name][decided]))
    if start != dataset.num_interactions or here().total(mine) != lines:
        raise InputError(f"{path}: does not list the training interactions of {dataset.name}; run preprocess.py anew, "
                         "or set --decisions_path to where its results are")
    texts = {row: said[key] for row, key in zip(dropped.rows.tolist(), gone.tolist()) if key in said}
    joined = {name: None if any(part is None for part in parts) else union_categoricals(parts) if name == REASON else
              np.concatenate(parts) for name, parts in kept.items()}
    disclosed, b, influence, expected, instalment, reason = (
        joined.get(name) for name in (DISCLOSED, UNWILLINGNESS, INFLUENCE, EXPECTED, INSTALMENT, REASON))
    return Decisions(disclosed, b, record["willingness_weight"], influence, expected, record, instalment, reason,
                     barred_by(dataset.dropped, texts))


def _keys(users, items, dataset):
    return users.astype(np.int64) * dataset.num_items + items


def _parts(path):
    try:
        yield from read_parts(path, (*COLUMNS, INSTALMENT, REASON), COLUMNS, float_precision="round_trip")
    except InputError as e:
        raise InputError(f"{e}; {REMEDY}") from e


def _plain(name, column):
    if name == REASON:
        return pd.Categorical(column)
    if name in (DISCLOSED, INSTALMENT):
        return column.to_numpy() == 1 if name == DISCLOSED else column.to_numpy(np.int8)
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
    """The decisions that an evaluation of a Variant is about; None for none, or of the plain one with other vetoes."""
    consent = decided_with(variant.config)
    if variant.config.holdout == 1 or not variant.masked and consent and not dataset.consent.forbids_as(consent):
        return None
    return read_decisions(variant.config, dataset, variant.masked)
