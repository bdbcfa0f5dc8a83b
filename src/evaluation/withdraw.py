"""Withdrawing: what users take back leaves the trained models, the masked dataset and the decisions, without a training.

One request goes through all models of a run. All files change together or none does, see common/together.py. The source's
own table stays: what the record of requests names is left out whenever it is read.
"""
from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import time
from pathlib import Path

import numpy as np

from ..common.errors import InputError
from ..common.files import digest, read_json, write_json
from ..common.tables import copy_rows
from ..common.terminal import RESULT
from ..common.together import Together, journal_of
from ..common.variant import (
    CHECKPOINT,
    DATA,
    DECISIONS,
    DIGESTS,
    MASKED,
    OUTPUT,
    REMEDY,
    Variant,
    check_mask,
    dataset_folder,
    decision_files,
    is_masked,
)
from ..common.wording import counted
from ..consent.requests import read_withdrawal
from ..consent.withdrawn import head_of, read_requests, with_request, withdrawn_path
from ..constants import DATASET_FILE, HELD_OUT_FILE, RATINGS_FILE, UNWILLINGNESS_FILE, WITHDRAW_FILE, WITHDRAWN_FILE
from ..dataset import Dataset, allowed_part, load_dataset
from ..device_adapter import set_device
from ..game.decisions import DISCLOSURE_SHA256, MODEL_SHA256, decided_with, read_decisions
from ..influence.withdrawal import Withdrawal
from ..metrics import willingness_violation
from ..network import build
from ..sources.catalogue import original_id
from ..sources.interactions import Interactions, read_interactions
from ..training.checkpoint import BEST, consent_of, in_one, load_sets, parameters_sha256, save_checkpoint
from ..training.checkpoint import DIGEST as PARAMETERS
from ..training.train import LAST_SUFFIX, train_in_memory
from .forgetting import Judge

logger = logging.getLogger("ifrqe")

MEASURED = 0.05  # of what a model was trained on; up to it what is left of a training was measured, see docs/results.md


@dataclasses.dataclass
class Known:
    """A model that a request goes through.

    variant: Variant.
    dataset: Dataset that it was trained on.
    withdrawn: (n,) bool, what of that is taken back.
    sets, info: of its checkpoint, see load_sets.
    left: the sets without it; None where nothing can be taken out of the model.
    """
    variant: Variant
    dataset: Dataset
    withdrawn: np.ndarray
    sets: dict
    info: dict
    left: dict | None = None

    def lost(self, request: int) -> dict:
        """What its checkpoint says of all that was withdrawn since its training, with a request by number."""
        lost = self.info.get("withdrawn", {"requests": [], "interactions": 0, "trained_on": self.dataset.num_interactions})
        return {**lost, "requests": [*lost["requests"], request],
                "interactions": lost["interactions"] + int(self.withdrawn.sum())}


def withdraw(variant: Variant) -> None:
    """Carries out the request in the file `withdraw` on both models of a run; reports on that of a Variant.

    With --audit trains that one without it beside. Writes the checkpoints, the masked dataset, disclosure.csv and
    preprocess.json where they are, adds to the record of requests, and says in output_path/withdraw.json what was rewritten,
    what was removed, and what may still know it.

    Raises:
        InputError: the request, the model or its files are missing or unfit; nothing has changed then.
    """
    # what is taken back was trained on by the options of then, whatever a shared file says today
    variant = Variant(variant.config.by_line(), variant.masked)
    config, start = variant.config, time.perf_counter()
    requests, whole = read_requests(config), read_interactions(config)
    meant, rules = read_withdrawal(config, whole, requests)
    device, number = set_device(config), len(requests) + 1
    models, unreached = _models(variant, whole, meant)
    begin = time.perf_counter()
    for model in models.values():
        net = build(model.dataset, config)
        if net.propagation(model.dataset) is not None:
            unreached[str(model.variant.checkpoint)] = "each of its rows is made of everyone's data, so that none can be " \
                f"taken out: train it anew with {model.variant.command} --overwrite"
        elif model.withdrawn.any():
            model.left = Withdrawal(net, model.dataset, _as_trained(config, model.info))(model.sets, model.withdrawn)
        else:
            model.left = model.sets
    seconds, named = time.perf_counter() - begin, models[variant.model]
    user, item = named.dataset.user[named.withdrawn], named.dataset.item[named.withdrawn]
    histories = load_dataset(config, consent=decided_with(config)) if variant.masked else named.dataset
    judge = Judge(histories, user, item, config)
    drift = named.lost(number)
    share = drift["interactions"] / drift["trained_on"]
    original, withdrawn = (judge.membership_auc(sets[BEST]) if sets and len(user) else None
                           for sets in (named.sets, named.left))
    record = {"request": number, "model": variant.model, "dataset": config.dataset, "seed": config.seed,
              "device": device, "interactions": len(user), "users": len(judge.users), "covered": int(meant.sum()),
              "seconds": seconds, "retrain_seconds": None, "hr_gap": None, "overlap_relative": None,
              "membership_auc": {"withdrawn": withdrawn, "retrained": None, "original": original},
              "drift": {"requests": len(drift["requests"]), "interactions": drift["interactions"], "share": share},
              "retrain_advised": share > MEASURED}
    _write(config, whole, (meant, rules, requests), models, unreached, record)
    people = counted(len(np.unique(whole.user[meant])), "user")
    logger.info("request %d: %s of %s taken back, of which %s had trained %s, in %.3f s (%.1f s with the files); the record "
                "is %s", number, counted(record["covered"], "interaction"), people, f"{len(user):,}", variant.model, seconds,
                time.perf_counter() - start, withdrawn_path(config))
    for path in record["removed"]:
        logger.info("%s: removed", path)
    for entry in record["not_reached"]:
        logger.warning("%s: %s", entry["path"], entry["why"])
    if record["retrain_advised"]:
        logger.warning("%s has lost %.1f%% of what it was trained on since its last training; up to %.0f%% was measured, so "
                       "train it anew: %s --overwrite", variant.model, 100 * share, 100 * MEASURED, variant.command)
    logger.info("evaluations and report are those of before: eval.py and eval.py --masked make them anew")
    if config.audit and named.left is not None:
        _audit(variant, named, judge, record)
    _show(record)


def _models(variant, whole: Interactions, meant):
    """By name each Known model; by path why another cannot be read. Raises InputError if that of the Variant cannot."""
    config, found, unreached = variant.config, {}, {}
    for other in (Variant(config), Variant(config.replace(masked=True), True)):
        try:
            if other.masked:
                check_mask(config)
                dataset = load_dataset(other.settings(), masked=True)
            else:
                dataset = load_dataset(config, consent=consent_of(other))
            sets, info = load_sets(other.checkpoint, dataset, other)
            withdrawn = meant[whole.places(dataset.user, dataset.item)]
            if withdrawn.all():
                raise InputError(f"{config.withdraw}: takes back all that {other.model} was trained on; remove its "
                                 "checkpoint instead, and make no mask that discloses it")
            found[other.model] = Known(other, dataset, withdrawn, sets, info)
        except InputError as e:
            if other.masked == variant.masked:
                raise
            if other.checkpoint.is_file():
                unreached[str(other.checkpoint)] = str(e)
    return found, unreached


def _as_trained(config, info):
    """The settings with those that a checkpoint of the same base model was trained with."""
    return config.replace(**{key: value for key, value in info.get("settings", {}).items()
                             if key in config.as_dict() and key != "model"})


def _write(config, whole, asked, models, unreached, record):
    """Puts all files of a withdrawal in place together; its record says what was rewritten, removed and not reached."""
    meant, rules, requests = asked
    trained = np.zeros(whole.num_interactions, bool)
    for model in models.values():
        for pairs in ((model.dataset.user, model.dataset.item), model.dataset.held_pairs):
            trained[whole.places(*pairs)] = True
    record["time"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    request = {"time": record["time"], "models": [name for name, model in models.items() if model.left is not None],
               "file_sha256": digest(config.withdraw), "rules": rules, "interactions": _original(whole, meant & trained),
               "forbidden": _original(whole, meant & ~trained), "before": {}, "after": {}}
    _, then = with_request(request, requests)  # what is left follows from the rules alone
    removed = [path for model in models.values() if (path := model.variant.checkpoint.with_suffix(LAST_SUFFIX)).is_file()]
    with Together(journal_of(config)) as files:
        masked = _put_masked(files, config, whole, meant, request, unreached)
        for model in models.values():
            if model.left is not None:
                request["after"][model.variant.checkpoint.name] = parameters_sha256(in_one(model.left))
        _put_decisions(files, config, whole, (requests, then), request, masked, models.get(config.plain_model))
        line, then = with_request(request, requests)
        head, path = head_of(then), withdrawn_path(config)
        for model in models.values():
            if model.left is not None:
                info = {**model.info, **_of_data(model, config, whole, then, request), "withdrawn": model.lost(len(then))}
                with files.write(CHECKPOINT, model.variant.checkpoint.name) as temporary:
                    save_checkpoint(temporary, model.left, {**info, **head})
        for last in removed:  # the training itself, which knows all of it
            files.remove(CHECKPOINT, last.name)
        with files.write(DATA, WITHDRAWN_FILE) as temporary:
            lines = path.read_bytes() if path.exists() else b""
            temporary.write_bytes(lines + b"\n" * (lines[-1:] not in (b"", b"\n")) + line.encode() + b"\n")
        if (described := path.with_name(DATASET_FILE)).exists():
            files.write_json(DATA, DATASET_FILE, {**read_json(described, REMEDY), **head})
        if masked:
            files.write_json(MASKED, DATASET_FILE, {**masked, **head})
        rewritten = files.paths("name")
        record.update(rewritten=list(map(str, rewritten)), removed=list(map(str, removed)), not_reached=_not_reached(
            config, [*rewritten, *removed, *files.paths("temporary")], unreached))
        files.write_json(OUTPUT, WITHDRAW_FILE, record)


@contextlib.contextmanager
def _rewritten(files, folder, path, request):
    """Yields the temporary path of what a file becomes; the request notes its digests before and after."""
    request["before"][path.name] = digest(path)
    with files.write(folder, path.name) as temporary:
        yield temporary
    request["after"][path.name] = digest(temporary)


def _put_masked(files, config, whole, meant, request, unreached):
    """The masked dataset without what is meant; returns its record, {} where there is none or none that can be read."""
    folder = dataset_folder(config, masked=True)
    if not is_masked(folder):
        return {}
    try:
        dataset = load_dataset(Variant(config.replace(masked=True), True).settings(), masked=True)
    except InputError as e:
        unreached[str(folder)] = str(e)
        return {}
    held = dataset.held_out[dataset.scored]
    lost = np.zeros(dataset.num_users, bool)  # who loses a held-out interaction is not scored until the next training
    users, items = dataset.held_pairs
    lost[users[meant[whole.places(users, items)]]] = True
    stays = {RATINGS_FILE: dataset.rows[~meant[whole.places(dataset.user, dataset.item)]],
             HELD_OUT_FILE: held[~lost[dataset.scored]].ravel()}
    for name, rows in stays.items():
        with _rewritten(files, MASKED, folder / name, request) as temporary:
            copy_rows(folder / name, np.sort(rows), temporary)
    record = read_json(folder / DATASET_FILE, REMEDY)
    digests = {**record[DIGESTS], **{name: request["after"][name] for name in stays}}
    return {**record, "num_ratings": len(stays[RATINGS_FILE]), DIGESTS: digests}


def _put_decisions(files, config, whole, requests, request, masked, plain):
    """disclosure.csv and preprocess.json after the request, and the digest in the masked dataset's record."""
    path, record_path = decision_files(config)
    if (consent := decided_with(config)) is None:
        return
    was, left = (allowed_part(whole, config, several, consent) for several in requests)
    decisions = read_decisions(config, was).of(was, left)
    with _rewritten(files, DECISIONS, path, request) as temporary:
        decisions.write(temporary, left)
    b, digests = decisions.unwillingness, {DISCLOSURE_SHA256: request["after"][path.name]}
    if plain and plain.left is not None and decisions.record.get(MODEL_SHA256) == plain.info.get(PARAMETERS):
        digests[MODEL_SHA256] = request["after"][plain.variant.checkpoint.name]
    wv, total_wv = (willingness_violation(kept, b, left.num_users) for kept in (decisions.disclosed, np.ones(len(b))))
    files.write_json(DECISIONS, record_path.name, {
        **decisions.record, **digests, "num_interactions": len(b), "wv": wv, "total_wv": total_wv,
        "disclosed_share": float(decisions.disclosed.mean()) if len(b) else 0.0})
    if masked.get(DISCLOSURE_SHA256) == request["before"][path.name]:
        masked.update(digests)


def _of_data(model, config, whole, requests, request):
    """What a checkpoint says of the data that its model is one of, after the request."""
    if model.variant.masked:
        return {"ratings_sha256": request["after"][RATINGS_FILE], "held_out_sha256": request["after"][HELD_OUT_FILE]}
    return {"rows_sha256": allowed_part(whole, config, requests, model.dataset.consent).rows_sha256()}


def _not_reached(config, done, unreached):
    """What may still know what was taken back, as dicts of its path and why, or what to do about it."""
    found = dict(unreached)
    known = {str(Path(path).resolve()) for path in (*done, *unreached)}
    for folder in {Path(config.checkpoint_path).resolve(), Path(config.output_path).resolve()}:
        for pattern in ("*.ckpt", "*.npz", "*.partial", "report.html", "receipt_*"):
            for path in sorted(set(map(str, folder.rglob(pattern))) - known):
                found[path] = "may still know it: remove it, or make it anew"
    for name in (RATINGS_FILE, UNWILLINGNESS_FILE):
        if (path := dataset_folder(config) / name).is_file():
            found[str(path)] = "is the source's own and stays; what was taken back is left out when it is read"
    if config.enable_modelarts:
        found[config.train_url or config.data_url] = "an object store keeps what was there before: remove it there, too"
    return [{"path": path, "why": why} for path, why in found.items()]


def _original(whole, chosen):
    """Pairs of original ids of some interactions, as JSON can hold them."""
    return [[original_id(whole.user_ids, user), original_id(whole.item_ids, item)]
            for user, item in zip(whole.user[chosen], whole.item[chosen])]


def _audit(variant, named, judge: Judge, record):
    """Trains the model twice without what was withdrawn, by its seed and the next, and adds the comparison to the record."""
    left, config = named.dataset.part(~named.withdrawn), _as_trained(variant.config, named.info)
    start = time.perf_counter()
    retrained = train_in_memory(config, left, record["device"])
    record["retrain_seconds"] = time.perf_counter() - start
    other = train_in_memory(config.replace(seed=config.seed + 1), left, record["device"])
    record.update(judge.compared(named.sets[BEST], named.left[BEST], retrained, other))
    write_json(Path(variant.config.output_path) / WITHDRAW_FILE, record)


def _show(record):
    """The comparison, as far as it was made."""
    auc = record["membership_auc"]
    if auc["withdrawn"] is not None:
        logger.log(RESULT, "membership AUC of what was withdrawn: %.4f before, %.4f now%s", auc["original"],
                   auc["withdrawn"], "" if auc["retrained"] is None else
                   f", {auc['retrained']:.4f} after a training without it")
    if record["retrain_seconds"] is not None:
        seconds, retrained = record["seconds"], record["retrain_seconds"]
        logger.log(RESULT, "against that training: %.0f times faster (%.3f s, %.1f s), HR gap %+.4f, overlap of lists %.3f, "
                   "of two seeds %.3f", retrained / seconds, seconds, retrained, record["hr_gap"],
                   record["overlap"]["withdrawn"], record["overlap"]["seeds"])
