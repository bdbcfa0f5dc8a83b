"""Withdrawing: what users take back leaves the trained models, the masked dataset and the decisions, without a training.

One request goes through all that knows of it: both models, what they are trained on, and the decisions. What is rewritten
has another digest then, and every record that says the old one says the new one. All files change together or none does, see
common/together.py. The source's own table stays: what the record of requests names is left out whenever it is read.
"""
import copy
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from ..common.copying import copy_rows
from ..common.errors import InputError
from ..common.stored import stored
from ..common.terminal import RESULT, counted, logger
from ..common.together import Together
from ..common.variant import REMEDY, Variant, check_mask, dataset_folder, decision_files, is_masked, record_of
from ..config import Config
from ..consent.withdrawn import withdrawn_path
from ..constants import DATASET_FILE, HELD_OUT_FILE, RATINGS_FILE, UNWILLINGNESS_FILE, WITHDRAW_FILE
from ..dataset import Dataset, allowed_part, load_dataset
from ..device_adapter import set_device
from ..game.arriving import with_rows
from ..game.decisions import dataset_of, decided_with, read_decisions
from ..influence.rows import Rows
from ..influence.withdrawal import Withdrawal
from ..network import Network, build, score_all
from ..sources.arrays import rewrite_uses
from ..training.checkpoint import BEST, TRAINED_ROWS, in_one, load_sets, parameters_sha256, save_checkpoint, trained_part
from ..training.checkpoint import DIGEST as PARAMETERS
from ..training.train import LAST_SUFFIX
from .recommend import have_had
from .request import Request

MEASURED = 0.05  # of what a model was trained on; up to it what is left of a training was measured, see docs/results.md


class Known:
    """What one of the two models is trained on, and the model itself if it can be read.

    dataset: Dataset, of which `withdrawn`, (n,) bool, is taken back, and `rest` is left; `trained`, (n,) bool, has trained
    it, and updates have added the others.
    sets, info: of the checkpoint, see load_sets; left: the sets without what is taken back. None where there are none.
    lost: what the checkpoint is to say of all that was withdrawn since its training.
    config: the settings with those that it was trained with.
    """

    def __init__(self, variant: Variant, request: Request):
        self.variant, self.sets, self.info, self.left = variant, None, None, None
        self.dataset = load_dataset(variant.settings(), masked=True) if variant.masked else dataset_of(variant)
        self.withdrawn = request.takes(self.dataset.user, self.dataset.item)
        self.rest, (users, items) = self.dataset.part(~self.withdrawn), self.dataset.held_pairs
        for name in ("validation", "test", "held_out"):
            if (values := copy.copy(getattr(self.rest, name))) is not None:
                values[users[request.takes(users, items)]] = -1  # who loses one is not scored until the next training
                setattr(self.rest, name, values)

    def load(self, number: int) -> None:
        """Reads the model; raises InputError if it does not fit, or the request takes back all that it was trained on."""
        config = self.variant.config
        if self.variant.masked:
            check_mask(config)
        if self.withdrawn.all():
            raise InputError(f"{config.withdraw}: takes back all that {self.variant.model} was trained on; remove its "
                             "checkpoint instead, and make no mask that discloses it")
        _, self.sets, self.info = load_sets(self.variant.checkpoint, self.dataset, self.variant)
        self.trained = trained_part(self.info, self.dataset.rows)
        lost = self.info.get("withdrawn", {"requests": [], "interactions": 0, "trained_on": int(self.trained.sum())})
        self.lost = {**lost, "requests": [*lost["requests"], number],
                     "interactions": lost["interactions"] + int((self.withdrawn & self.trained).sum())}
        self.config = config.replace(**{key: value for key, value in self.info.get("settings", {}).items()
                                        if key in config.as_dict() and key != "model"})

    def without(self, net: Network) -> dict[str, dict]:
        """The sets of parameters without what is withdrawn; of who was in no training the rows are refitted to the rest."""
        part, gone, sets = self.dataset.part(self.trained), self.withdrawn & self.trained, self.sets
        if gone.any():
            sets = Withdrawal(net, part, self.config)(sets, gone[self.trained])
        place = np.arange(part.num_users)
        place[(part.history.length == 0) & (self.dataset.history.sums(self.withdrawn) > 0)] = -1
        if (place < 0).any():
            rows = Rows(net, part, self.config)
            sets = {name: with_rows(rows, values, place, self.rest) for name, values in sets.items()}
        return sets


def withdraw(variant: Variant) -> None:
    """Carries out the request in the file `withdraw` on both models of a run; reports on that of a Variant.

    Writes the checkpoints, the masked dataset, disclosure.csv and preprocess.json where they are, adds to the record of
    requests, and says in output_path/withdraw.json what was rewritten, what was removed, and what may still know it.
    Raises InputError: the request, the model or its files are missing or unfit; nothing has changed then.
    """
    # what is taken back was trained on by the options of then, whatever a shared file says today
    variant, start = Variant(variant.config.by_line(), variant.masked), time.perf_counter()
    if not variant.checkpoint.is_file() and (masked := Variant(variant.config, True)).checkpoint.is_file():
        variant = masked  # a product may have no other
    config, request = variant.config, Request(variant.config)
    device = set_device(config)
    known, unreached = _known(variant, request)
    seconds, named = _take_out(known, unreached), known[variant.masked]
    user, item = named.dataset.user[named.withdrawn], named.dataset.item[named.withdrawn]
    whole = dataset_of(variant) if variant.masked else named.dataset
    original, withdrawn = (membership_auc(sets[BEST], whole, user, item, config) if sets and len(user) else None
                           for sets in (named.sets, named.left))
    drift, share = named.lost, named.lost["interactions"] / named.lost["trained_on"]
    record = {"request": request.number, "model": variant.model, "dataset": config.dataset, "seed": config.seed,
              "device": device, "interactions": len(user), "users": len(np.unique(user)),
              "covered": int(request.meant.sum()), "seconds": seconds,
              "membership_auc": {"withdrawn": withdrawn, "original": original},
              "drift": {"requests": len(drift["requests"]), "interactions": drift["interactions"], "share": share},
              "retrain_advised": share > MEASURED, "time": request.said["time"]}
    _write(config, request, known, unreached, record)
    logger.info("request %d: %s taken back, of which %s had trained %s, in %.3f s (%.1f s with the files); the record is %s",
                request.number, counted(record["covered"], "interaction"), f"{len(user):,}", variant.model, seconds,
                time.perf_counter() - start, withdrawn_path(config))
    for path in record["removed"]:
        logger.info("%s: removed", path)
    for entry in record["not_reached"]:
        logger.warning("%s: %s", entry["path"], entry["why"])
    if record["retrain_advised"]:
        logger.warning("%s has lost %.1f%% of what it was trained on since its last training; up to %.0f%% was measured, so "
                       "train it anew: %s --overwrite", variant.model, 100 * share, 100 * MEASURED, variant.command)
    logger.info("evaluations and report are those of before: eval.py and eval.py --masked make them anew")
    if withdrawn is not None:
        logger.log(RESULT, "membership AUC of what was withdrawn: %.4f before, %.4f now", original, withdrawn)


def membership_auc(values: dict, dataset: Dataset, user: np.ndarray, item: np.ndarray, config: Config) -> float:
    """Mean over the users of the AUC of their withdrawn items' scores against those of all items they never touched.

    What is left of a membership: of a model that never saw the pairs it is the target, not .5, since people touch what is
    easily recommended to them. `values`: see Network.values; `dataset`: with all that was ever disclosed; `user`, `item`:
    (p,) positions, the withdrawn pairs.
    """
    net, found = build(dataset, config), []
    net.set_values(values)
    for part, scores in score_all(net, np.unique(user), dataset.num_items, config.eval_batch_size):
        for u, row, taken in zip(part, scores, have_had(part, dataset)):
            mine, rest = item[user == u], np.flatnonzero(~taken)
            found.append(roc_auc_score(np.r_[np.ones(len(mine)), np.zeros(len(rest))], np.r_[row[mine], row[rest]]))
    return float(np.mean(found))


def _known(variant, request):
    """By `masked` what is Known; by path why a model, or its data, cannot be read. That of the Variant must be."""
    config, known, unreached = variant.config, {}, {}
    for other in (Variant(config), Variant(config.replace(masked=True), True)):
        try:
            known[other.masked] = Known(other, request)
            known[other.masked].load(request.number)
        except InputError as e:
            if other.masked == variant.masked:
                raise
            folder = dataset_folder(config, other.masked)
            if other.masked not in known and is_masked(folder):
                unreached[str(folder)] = str(e)
            if other.checkpoint.is_file():
                unreached[str(other.checkpoint)] = str(e)
    return known, unreached


def _take_out(known, unreached):
    """Takes what is withdrawn out of the models, or says by path why it cannot; returns the seconds that it took."""
    start = time.perf_counter()
    for model in (one for one in known.values() if one.sets):
        net = build(model.dataset, model.variant.config)
        if net.propagation(model.dataset) is not None:
            unreached[str(model.variant.checkpoint)] = "each of its rows is made of everyone's data, so that none can be " \
                f"taken out: train it anew with {model.variant.command} --overwrite"
        else:
            model.left = model.without(net)
    return time.perf_counter() - start


def _write(config, request, known, unreached, record):
    models, said = [one for one in known.values() if one.sets], request.said
    changed = {model.variant.checkpoint.name: model for model in models if model.left}
    trained = np.zeros(len(request.meant), bool)
    for model in models:
        for pairs in ((model.dataset.user, model.dataset.item), model.dataset.held_pairs):
            trained[request.whole.places(*pairs)] = True
    request.say_pairs(trained)
    said["models"] = [model.variant.model for model in changed.values()]
    lasts = [path for model in models if (path := model.variant.checkpoint.with_suffix(LAST_SUFFIX)).is_file()]
    with Together(config) as files:
        if (mask := known.get(True)) is not None:
            held = {HELD_OUT_FILE: mask.rest.held_out[mask.rest.scored].ravel()} if config.holdout else {}
            for name, rows in {RATINGS_FILE: mask.rest.rows, **held}.items():
                with files.rewrite(files.MASKED, name) as (path, temporary):
                    copy_rows(path, np.bincount(rows) > 0, temporary)
            rewrite_uses(files, [mask.rest.rows, *held.values()])
        for name, model in changed.items():
            files.digests[name] = model.info.get(PARAMETERS), parameters_sha256(in_one(model.left))
        _put_decisions(files, config, request)
        said.update(before={name: before for name, (before, _) in files.digests.items() if name not in changed},
                    after={name: now for name, (_, now) in files.digests.items()})
        head = request.add_to(files, config)
        for name, model in changed.items():
            info = files.renewed(model.info) if model is mask else {**model.info, "rows_sha256": model.rest.rows_sha256()}
            if TRAINED_ROWS in info and model is mask:
                info[TRAINED_ROWS] = int((model.trained & ~model.withdrawn).sum())
            with files.write(files.CHECKPOINT, name) as temporary:
                save_checkpoint(temporary, model.left, {**info, "withdrawn": model.lost, **head})
        for last in lasts:  # the training itself, which knows all of it
            files.remove(files.CHECKPOINT, last.name)
        if mask is not None:
            was = record_of(dataset_folder(config, masked=True), REMEDY)
            files.write_json(files.MASKED, DATASET_FILE, {**files.renewed(was), "num_ratings": len(mask.rest.rows), **head})
        rewritten = files.paths("name")
        record.update(rewritten=list(map(str, rewritten)), removed=list(map(str, lasts)), not_reached=_not_reached(
            config, [*rewritten, *lasts, *files.paths("temporary")], unreached))
        files.write_json(files.OUTPUT, WITHDRAW_FILE, record)


def _put_decisions(files, config, request):
    if (consent := decided_with(config)) is None:
        return
    path, record_path = decision_files(config)
    requests = [*request.earlier, {**request.said, "request": request.number}]
    was, left = (allowed_part(request.whole, config, several, consent) for several in (request.earlier, requests))
    decisions = read_decisions(config, was).of(was, left)
    with files.rewrite(files.DECISIONS, path.name) as (_, temporary):
        decisions.write(temporary, left)
    files.write_json(files.DECISIONS, record_path.name, {**files.renewed(decisions.record), **decisions.counts(left)})


def _not_reached(config, done, unreached):
    """What may still know what was taken back, as dicts of its path and why, or what to do about it."""
    found = dict(unreached)
    known = {str(Path(path).resolve()) for path in (*done, *unreached)}
    for folder in {Path(config.checkpoint_path).resolve(), Path(config.output_path).resolve()}:
        for pattern in ("*.ckpt", "*.npz", "*.partial", "report.html", "receipt_*"):
            for path in sorted(set(map(str, folder.rglob(pattern))) - known):
                found[path] = "may still know it: remove it, or make it anew"
    for name in (RATINGS_FILE, UNWILLINGNESS_FILE):
        if (path := stored(dataset_folder(config) / name)).is_file():
            found[str(path)] = "is the source's own and stays; what was taken back is left out when it is read"
    if config.enable_modelarts and not (config.train_url and config.data_url.startswith(config.train_url)):
        found[config.data_url] = "is only read, and keeps what was there before: remove it there, too"
    return [{"path": path, "why": why} for path, why in found.items()]
