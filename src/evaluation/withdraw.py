"""Withdrawing: what users take back leaves a trained model, its masked dataset and its decisions, without a training.

All files change together or none does, see common/together.py. What a later training reads no longer holds what was taken
back, and no later mask discloses it.
"""
from __future__ import annotations

import datetime
import logging
import time
from pathlib import Path

import numpy as np

from ..common.errors import InputError
from ..common.files import digest, read_json, write_csv, write_json
from ..common.tables import copy_rows
from ..common.terminal import RESULT
from ..common.together import Together
from ..common.variant import (
    REMEDY,
    Variant,
    check_mask,
    dataset_folder,
    decision_files,
    is_masked,
    ratings_path,
)
from ..constants import (
    DATASET_FILE,
    MOVIES_FILE,
    PENDING_FILE,
    WITHDRAW_FILE,
)
from ..dataset import Dataset, load_dataset
from ..device_adapter import set_device
from ..game.decisions import read_decisions
from ..influence.withdrawal import Withdrawal
from ..metrics import willingness_violation
from ..network import build
from ..sources.catalogue import nameless, original_id
from ..sources.requests import read_withdrawal
from ..sources.withdrawn import line_of, read_requests, withdrawn_path
from ..training.checkpoint import BEST, load_sets, save_checkpoint
from ..training.train import LAST_SUFFIX, train_in_memory
from .forgetting import Judge

logger = logging.getLogger("ifrqe")

MEASURED = 0.05  # of what a model was trained on; up to it what is left of a training was measured, see docs/results.md


def withdraw(variant: Variant) -> None:
    """Carries out the request in the file `withdraw` on the model of a Variant; with --audit trains one without it beside.

    Writes output_path/withdraw.json, the model's ratings.csv and checkpoint, disclosure.csv and preprocess.json where they
    are, and adds to the record of requests.

    Raises:
        InputError: the request, the model or its files are missing or unfit; nothing has changed then.
    """
    config, start = variant.config, time.perf_counter()
    if variant.masked:
        check_mask(config)
    whole = load_dataset(config)
    dataset = load_dataset(variant.settings(), masked=True) if variant.masked else whole
    requests = read_requests(config)
    withdrawn, meant = read_withdrawal(config, dataset, whole, variant.model)
    if withdrawn.all():
        raise InputError(f"{config.withdraw}: takes back all that {variant.model} was trained on; remove its checkpoint "
                         "instead, and make no mask that discloses it")
    if not variant.masked:
        _check_not_in_mask(config, dataset, withdrawn)
    device = set_device(config)
    sets, info = load_sets(variant.checkpoint, dataset, variant)
    net = build(dataset, config)
    if net.propagation(dataset) is not None:
        raise InputError(f"--withdraw with --model {config.model}: each of its rows is made of everyone's data, so that "
                         "none can be taken out; forbid them with --veto, make the mask anew, and train on that")
    begin = time.perf_counter()
    found = Withdrawal(net, dataset, _as_trained(config, info))(sets, withdrawn)
    seconds = time.perf_counter() - begin
    user, item = dataset.user[withdrawn], dataset.item[withdrawn]
    lost = info.get("withdrawn", {"requests": [], "interactions": 0, "trained_on": dataset.num_interactions})
    lost = {**lost, "requests": [*lost["requests"], len(requests) + 1], "interactions": lost["interactions"] + len(user)}
    share = lost["interactions"] / lost["trained_on"]
    judge = Judge(whole, user, item, config)
    record = {"request": len(requests) + 1, "model": variant.model, "dataset": config.dataset, "seed": config.seed,
              "device": device, "interactions": len(user), "users": len(judge.users), "seconds": seconds,
              "retrain_seconds": None, "hr_gap": None, "overlap_relative": None,
              "membership_auc": {"withdrawn": judge.membership_auc(found[BEST]), "retrained": None,
                                 "original": judge.membership_auc(sets[BEST])},
              "drift": {"requests": len(lost["requests"]), "interactions": lost["interactions"], "share": share},
              "retrain_advised": share > MEASURED}
    _write(variant, whole, dataset, (withdrawn, meant), found, {**info, "withdrawn": lost}, requests, record)
    logger.info("%s: %s interactions of %s users withdrawn in %.3f s (%.1f s with its files); the record is %s",
                variant.model, f"{len(user):,}", f"{len(judge.users):,}", seconds, time.perf_counter() - start,
                withdrawn_path(config))
    _name_what_still_knows(variant)
    if record["retrain_advised"]:
        logger.warning("%s has lost %.1f%% of what it was trained on since its last training; up to %.0f%% was measured, so "
                       "train it anew: %s --overwrite", variant.model, 100 * share, 100 * MEASURED, variant.command)
    logger.info("evaluations and report are those of before: eval.py and eval.py --masked make them anew")
    if config.audit:
        _audit(variant, dataset.part(~withdrawn), judge, sets[BEST], found[BEST], info, record)
    _show(record)


def _name_what_still_knows(variant):
    """Says which other models may have been trained on what was withdrawn."""
    config = variant.config
    if variant.masked and Variant(config).checkpoint.is_file():
        logger.info("%s may still know them: withdraw them there too, without --masked", config.plain_model)
    for path in sorted(Path(config.checkpoint_path).glob(f"seed_*/{variant.checkpoint.name}")):
        logger.warning("%s: may still know them, and no longer fits the data; remove it, or train it anew", path)


def _as_trained(config, info):
    """The settings with those that a checkpoint was trained with."""
    return config.replace(**{key: value for key, value in info.get("settings", {}).items() if key in config.as_dict()})


def _check_not_in_mask(config, dataset, withdrawn):
    """Raises InputError if the masked twin still holds what is to be withdrawn from the plain model."""
    if not is_masked(dataset_folder(config, masked=True)):
        return
    masked = load_dataset(Variant(config.replace(masked=True), True).settings(), masked=True)
    users, items = dataset.user[withdrawn], dataset.item[withdrawn]
    both = masked.history_pairs().contains(users, items)
    if both.any():
        user, item = users[both][0], items[both][0]
        raise InputError(f"{config.withdraw}: user {dataset.user_ids[user]}, item {dataset.item_ids[item]} is disclosed in "
                         f"{masked.name} too; withdraw it there first, with --masked")


def _write(variant, whole: Dataset, dataset: Dataset, asked_for, sets, info, requests, record):
    """Puts all files of a withdrawal in place together; `asked_for`: what read_withdrawal returns."""
    config, checkpoint, (withdrawn, meant) = variant.config, variant.checkpoint, asked_for
    gone = dataset.part(withdrawn).history_pairs().contains(whole.user, whole.item)
    ratings, (disclosure, decided) = ratings_path(config, variant.masked), decision_files(config)
    movies, described = ratings.with_name(MOVIES_FILE), ratings.with_name(DATASET_FILE)
    decisions = read_decisions(config, whole, variant.masked) if config.holdout > 1 else None
    before = {path.name: digest(path) for path in (ratings, checkpoint, disclosure) if path.is_file()}
    after = {}
    with Together(dataset_folder(config) / PENDING_FILE) as files:
        rows = np.sort(np.concatenate([dataset.rows[~withdrawn], dataset.held_out.ravel()]))
        with files.write(ratings) as temporary:
            copy_rows(ratings, rows, temporary)
        after[ratings.name] = digest(temporary)
        if not movies.exists():  # the items that occur: some may occur no more
            with files.write(movies) as temporary:
                write_csv(nameless(dataset.item_ids), temporary)
        made = read_json(described, REMEDY) if described.exists() else {}
        if decisions is not None:
            with files.write(disclosure) as temporary:
                copy_rows(disclosure, np.flatnonzero(~gone[decisions.known]), temporary)
            after[disclosure.name] = digest(temporary)
            files.write_json(decided, _decided(decisions, whole, gone, variant.masked))
        if described.exists():
            sha = {"disclosure_sha256": after[disclosure.name]} if variant.masked and disclosure.name in after else {}
            files.write_json(described, {**made, "num_ratings": len(rows), **sha})
        if not variant.masked and decisions is not None and is_masked(dataset_folder(config, masked=True)):
            twin = dataset_folder(config, masked=True) / DATASET_FILE
            files.write_json(twin, {**read_json(twin, REMEDY), "disclosure_sha256": after[disclosure.name]})
        with files.write(checkpoint) as temporary:
            save_checkpoint(temporary, sets, {**info, "ratings_sha256": after[ratings.name]})
        after[checkpoint.name] = digest(temporary)
        files.remove(checkpoint.with_suffix(LAST_SUFFIX))  # the training itself, which knows all of it
        record["time"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        line = line_of({"time": record["time"], "model": variant.model, "file_sha256": digest(config.withdraw),
                        "interactions": _original(dataset, withdrawn), "forbidden": _original(whole, meant & ~gone),
                        "before": before, "after": after}, requests)
        path = withdrawn_path(config)
        with files.write(path) as temporary:
            temporary.write_bytes((path.read_bytes() if path.exists() else b"") + line.encode() + b"\n")
        files.write_json(Path(config.output_path) / WITHDRAW_FILE, record)


def _original(dataset, chosen):
    """Pairs of original ids of some interactions, as JSON can hold them."""
    return [[original_id(dataset.user_ids, user), original_id(dataset.item_ids, item)]
            for user, item in zip(dataset.user[chosen], dataset.item[chosen])]


def _decided(decisions, whole, gone, masked):
    """preprocess.json without what is withdrawn: from the mask it is withheld, from the plain model's data it is gone."""
    disclosed, b = decisions.disclosed & ~gone, np.where(gone, 1.0, decisions.unwillingness)
    if not masked:
        disclosed, b = disclosed[~gone], b[~gone]
    wv, total_wv = (willingness_violation(kept, b, whole.num_users) for kept in (disclosed, np.ones(len(b))))
    return {**decisions.record, "num_interactions": len(b), "wv": wv, "total_wv": total_wv,
            "disclosed_share": float(disclosed.mean())}


def _audit(variant, left: Dataset, judge: Judge, original, withdrawn, info, record):
    """Trains the model twice without what was withdrawn, by its seed and the next, and adds the comparison to the record."""
    config, start = _as_trained(variant.config, info), time.perf_counter()
    retrained = train_in_memory(config, left, record["device"])
    record["retrain_seconds"] = time.perf_counter() - start
    other = train_in_memory(config.replace(seed=config.seed + 1), left, record["device"])
    record.update(judge.compared(original, withdrawn, retrained, other))
    write_json(Path(variant.config.output_path) / WITHDRAW_FILE, record)


def _show(record):
    """The comparison, as far as it was made."""
    auc = record["membership_auc"]
    logger.log(RESULT, "membership AUC of what was withdrawn: %.4f before, %.4f now%s", auc["original"], auc["withdrawn"],
               "" if auc["retrained"] is None else f", {auc['retrained']:.4f} after a training without it")
    if record["retrain_seconds"] is not None:
        seconds, retrained = record["seconds"], record["retrain_seconds"]
        logger.log(RESULT, "against that training: %.0f times faster (%.3f s, %.1f s), HR gap %+.4f, overlap of lists %.3f, "
                   "of two seeds %.3f", retrained / seconds, seconds, retrained, record["hr_gap"],
                   record["overlap"]["withdrawn"], record["overlap"]["seeds"])
