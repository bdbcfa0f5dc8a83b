"""The update stage: what arrives after a mask was made is decided and written, without a training.

The data, the decisions, the masked data and the models change together or not at all, see common/together.py. Of the models
only the rows of new users are new; `train.py --masked --warm_start` lets the rest learn from what has come. See
docs/method.md, "For use".
"""
import contextlib
import dataclasses
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.columns import positions
from ..common.copying import append_rows
from ..common.errors import InputError
from ..common.files import digest
from ..common.stored import write_table
from ..common.terminal import counted, logger
from ..common.together import Together
from ..common.variant import DIGESTS, Variant, check_tables, dataset_folder, decision_files, stored_alike
from ..config import Config
from ..consent.allowed import VETO, Consent
from ..consent.arrivals import Arrivals, read_arrivals
from ..consent.unwillingness import load_stated, unwillingness_source
from ..consent.withdrawn import read_requests
from ..constants import DATASET_FILE, DRAWN, RATINGS_FILE, READER, UNWILLINGNESS_FILE, UPDATED, USER, USES_FILE
from ..dataset import Dataset, allowed_part, split_allowed
from ..device_adapter import set_device
from ..network import build
from ..sources.arrays import write_parts, write_uses
from ..sources.catalogue import text_ids
from ..sources.interactions import read_interactions
from ..training.checkpoint import DIGEST as PARAMETERS
from ..training.checkpoint import TRAINED_ROWS, in_one, parameters_sha256, save_checkpoint
from .arriving import Arriving, Known, decide, left_of, sets_to_decide_by, usable, with_rows
from .decisions import CONSENT, UPDATES, Decisions, decided_with, read_decisions


def update(config: Config) -> None:
    """Decides on what the file `update` has beyond the data, and writes it; after an InputError nothing has changed."""
    start, (config, record) = time.perf_counter(), usable(config)
    before = Before(config, record)
    arrivals = read_arrivals("update", before.whole, config, before.made)
    if not len(arrivals.table):
        logger.info("%s: nothing in it is new, so that nothing has changed", config.update)
        return
    set_device(config)
    after, decisions = before.joined_by(arrivals)
    new, disclosed, b = after.rows >= before.whole.num_interactions, decisions.disclosed, decisions.unwillingness
    models = [Known(Variant(config, True), before.masked)]
    models[0].check_fit(record)
    with contextlib.suppress(InputError):  # the yardstick is as it was, and trained anew when it is asked for
        models.append(Known(Variant(config), before.dataset))
    place, concerned = models[0].place(after.user_ids), np.isin(after.user, after.user[new])
    arriving = Arriving(after.part(concerned), *(values[concerned] for values in (new, disclosed, b)), place)
    left, sets = left_of(record, b.sum(), b[disclosed].sum()), sets_to_decide_by(models[0].sets, models[0].info, record)
    found = decide(arriving, models[0].rows, sets, record, left)
    before.decide_new(decisions, found, after, concerned)
    users = positions(after.user_ids, arrivals.table[USER].unique())
    said = {"file_sha256": digest(config.update), "interactions": len(arrivals.table),
            "users": len(users), "new_users": int((place[users] < 0).sum()), "disclosed": int(
                decisions.disclosed[new].sum()), "willingness_weight": found.weight}
    _write(config, before, arrivals, after, decisions, models, said)
    rose = "" if found.weight == record["willingness_weight"] else f" at a price of {found.weight:.4g}: the budget is spent"
    logger.info("update %d: %s of %s (%s new to the model), %s disclosed%s; wv %.4f of %.4f (%.1f%%); %.1f s",
                len(record.get(UPDATES, [])) + 1, counted(said["interactions"], "interaction"), counted(len(users), "user"),
                f"{said['new_users']:,}", f"{said['disclosed']:,}", rose, decisions.record["wv"],
                decisions.record["total_wv"], 100 * decisions.wv_share, time.perf_counter() - start)


class Before:
    """What there is before an update.

    whole: all Interactions; dataset: Dataset of what may be used; decisions: on it; masked: Dataset of what they disclose.
    made, mask: dataset.json of the dataset and of its masked twin.
    """

    def __init__(self, config: Config, record: dict):
        self.config, folder, source = config, dataset_folder(config), unwillingness_source(config)
        self.made, self.mask = check_tables(folder), check_tables(dataset_folder(config, masked=True))
        if READER not in self.made:
            raise InputError(f"{folder}: was put there by hand; make a dataset of {RATINGS_FILE} with --archive first, so "
                             "that it says what an update adds")
        if (source, Path(config.willingness_file).name or None) != (record["unwillingness"], record["willingness_file"]):
            raise InputError(f"--unwillingness {source}: but {decision_files(config)[1]} was decided with "
                             f"{record['willingness_file'] or record['unwillingness']}; give the same options")
        self.whole, self.requests, self.consent = read_interactions(config), read_requests(config), decided_with(config)
        self.dataset = allowed_part(self.whole, config, self.requests, self.consent)
        self.decisions = read_decisions(config, self.dataset, masked=True, needed=True)
        masked = self.dataset.part(self.decisions.disclosed)
        self.masked = dataclasses.replace(masked, rows=np.argsort(np.argsort(masked.rows)))  # of its own ratings.csv

    def joined_by(self, arrivals: Arrivals) -> tuple[Dataset, Decisions]:
        """The Dataset with what may be used of Arrivals, and the Decisions on it; what is new is yet to be decided."""
        self.forbidden = (arrivals.unwillingness == 1) & (self.decisions.under_veto or self.config.veto)
        after = allowed_part(arrivals.whole, self.config.replace(veto=False), self.requests, self.extended(self.consent))
        decisions, row = self.decisions.of(self.dataset, after), after.rows - self.whole.num_interactions
        decisions.unwillingness[row >= 0] = arrivals.unwillingness[row[row >= 0]]
        return after, decisions

    def extended(self, consent: Consent) -> Consent:
        """A Consent about the data of before, with what is vetoed of what is new."""
        if consent.vetoed is None and not self.forbidden.any():
            return consent
        vetoed = np.zeros(self.whole.num_interactions, bool) if consent.vetoed is None else consent.vetoed
        return Consent(np.append(vetoed, self.forbidden), consent.requests)

    def decide_new(self, decisions: Decisions, found: Decisions, after: Dataset, concerned: np.ndarray) -> None:
        """Puts what was `found` of those `concerned`, (n,) bool, into the Decisions on the Dataset after an update."""
        was, new = self.decisions.record, after.rows >= self.whole.num_interactions
        found.reason = f"update {len(was.get(UPDATES, [])) + 1}: " + found.reason
        if decisions.instalment is not None:
            found.instalment = found.disclosed * (len(was["instalment_wv"]) + 1)
        decisions.reason = np.asarray(decisions.reason, object)
        for name in ("disclosed", "influence", "expected", "instalment", "reason"):
            if (values := getattr(found, name)) is not None:
                getattr(decisions, name)[new] = values[new[concerned]]
        decisions.reason = pd.Categorical(decisions.reason)
        spent = was["spent_wv"] * was["num_users"] + decisions.unwillingness[new & decisions.disclosed].sum()
        decisions.record = {**was, **decisions.counts(after), "spent_wv": float(spent / after.num_users),
                            "vetoed": int((after.dropped.why == VETO).sum()) if after.dropped else 0,
                            CONSENT: self.extended(self.consent).as_json()}


def _write(config, before, arrivals, after, decisions, models, said):
    table, new = arrivals.table, after.rows >= before.whole.num_interactions
    shown = np.sort(after.rows[decisions.disclosed & new]) - before.whole.num_interactions
    path, record_path = decision_files(config)
    counts = {"num_users": after.num_users, **text_ids(after.user_ids, after.item_ids)}
    with Together(config) as files:
        for folder, some in ((files.DATA, table), (files.MASKED, table.iloc[shown])):
            with files.rewrite(folder, RATINGS_FILE) as (old, temporary):
                append_rows(old, some, temporary)
        whole = arrivals.whole
        arrays = write_parts(files, whole.user_ids, whole.history.length, np.result_type(whole.time, np.int64),
                             [(whole.item, whole.rows, whole.time)])
        if (uses := dataset_folder(config, masked=True) / USES_FILE).is_file():
            write_uses(files, np.append(np.load(uses), np.isin(np.arange(len(table)), shown).astype(np.int8)))
        if _write_unwillingness(config, before, arrivals, files):
            decisions.record["unwillingness"] = "file"
            counts[DRAWN] = True
        with files.rewrite(files.DECISIONS, path.name) as (_, temporary):
            decisions.write(temporary, after)
        for model, known in zip(models, (after.part(decisions.disclosed), after)):
            _write_model(files, model, known, before)
        made = files.renewed(before.made)
        files.write_json(files.MASKED, DATASET_FILE, {**files.renewed(before.mask), **counts,
                                                "num_ratings": int(decisions.disclosed.sum())})
        files.write_json(files.DATA, DATASET_FILE, {
            **made, DIGESTS: {**made[DIGESTS], **arrays}, **counts, "num_ratings": arrivals.whole.num_interactions,
            UPDATED: before.made.get(UPDATED, 0) + len(table)})
        models = {model.variant.model: files.digests[model.variant.checkpoint.name][1] for model in models}
        said = {**said, "time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()), "models": models}
        record = files.renewed(decisions.record)
        files.write_json(files.DECISIONS, record_path.name, {**record, UPDATES: [*record.get(UPDATES, []), said]})


def _write_model(files, model, known, before):
    place = model.place(known.user_ids)
    sets = {prefix: with_rows(model.rows, values, place, known) for prefix, values in model.sets.items()}
    name, info, variant = model.variant.checkpoint.name, model.info, model.variant
    files.digests[name] = info.get(PARAMETERS), parameters_sha256(in_one(sets))
    number = (before.masked if variant.masked else before.whole).num_interactions
    info = {**files.renewed(info), **build(known, variant.config).shape, TRAINED_ROWS: info.get(TRAINED_ROWS, number),
            "catalogue_sha256": known.catalogue_sha256()}
    if not variant.masked:
        info.update(rows_sha256=known.rows_sha256(), consent=before.extended(before.consent).as_json())
    with files.write(files.CHECKPOINT, name) as temporary:
        save_checkpoint(temporary, sets, info)


def _write_unwillingness(config, before, arrivals, files):
    source = unwillingness_source(config)
    table = arrivals.stated
    if source == "file":
        with files.rewrite(files.DATA, UNWILLINGNESS_FILE) as (path, temporary):
            append_rows(path, table, temporary)
    if source != "uniform" or config.unwillingness != "auto":
        return False
    whole = split_allowed(before.whole, 0)  # what was drawn of all that was there
    columns = whole.user_ids[whole.user], whole.item_ids[whole.item], load_stated(whole, config)[0]
    drawn = pd.DataFrame(dict(zip(table, columns)))
    with files.write(files.DATA, stored_alike(config, UNWILLINGNESS_FILE)) as temporary:
        write_table(pd.concat([drawn, table]), temporary)
    return True
