"""The train stage: NCF on a dataset or on its masked twin.

The checkpoint holds two kinds of epochs, both chosen on the validation items. The one with the best NDCG recommends. The
one with the lowest cross-entropy of the validation item is the anchor: influences are the mean over it and a few epochs
before it. Past the anchor the network still ranks better, but becomes over-confident, and s (1 - s) in its Hessian no longer
tells how firmly a prediction stands. See docs/maths.md, section 3.
"""
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
from mindspore import Tensor

from .. import metrics
from ..callbacks import AnchorEpochs, BestEpoch
from ..candidates import evaluation_candidates
from ..common.errors import InputError, logger
from ..common.figures import drawn, learning_curve
from ..common.files import digest, read_json, write_json, write_text
from ..common.plugins import plugin_files
from ..common.share import here
from ..common.stage import Stage
from ..common.variant import Variant, check_mask, dataset_files, dataset_folder, decision_files
from ..consent.withdrawn import head_of, read_requests, withdrawn_path
from ..constants import HELD_OUT_FILE, RATINGS_FILE, train_file
from ..dataset import load_dataset
from ..device_adapter import set_device
from ..network import build, score
from ..options import TRAINED
from .checkpoint import ANCHOR, BEST, check_checkpoint, load_sets, read_checkpoint, save_checkpoint, with_prefix
from .trainer import Trainer, train_on

LAST_SUFFIX = ".last.ckpt"
RECOMMENDED = "recommended_epochs"  # key of train_MODEL.json where nothing is held out: what a study found best before
WARM_SHARE = 0.2  # of the epochs of a training from scratch, where it goes on from a model that knows nearly all
ANCHOR_SHARE = 0.8  # of the epochs; also the last that `ask-first` announces
FEW_STEPS = 100  # an epoch: with fewer, models of few data were seen to learn too little


def train(variant):
    """Trains the model of a Variant; writes its checkpoint and train_MODEL.json unless they are there already.

    Raises InputError: the dataset is missing or unfit, or --resume finds a training with other settings.
    Raises FloatingPointError: the loss diverges.
    """
    model, checkpoint, config = variant.model, variant.checkpoint, variant.settings()
    result, recommended = Path(config.output_path) / train_file(model), None if config.holdout else _recommended(variant)
    if recommended and "train_epochs" not in config.given:
        logger.info("%s: %d epochs were best where something was held out, so that so many are trained; --train_epochs sets "
                    "another number", result, recommended)
        config = config.replace(train_epochs=recommended)
    if config.warm_start and "train_epochs" not in config.given:
        config = config.replace(train_epochs=max(1, round(config.train_epochs * WARM_SHARE)))
    variant = Variant(config, variant.masked)
    if variant.masked:
        check_mask(config)
        logger.info("%s: what %s says is disclosed", dataset_folder(config, masked=True), decision_files(config)[0])
    device = set_device(config)
    forbidden = config.veto or withdrawn_path(config).exists()  # else what is trained on follows from the files alone
    dataset = load_dataset(config) if forbidden and not variant.masked else None
    stage = Stage(f"train_{model.lower()}", __name__, config, ("split", "model", *TRAINED, "processes"),
                  dataset_files(config, variant.masked) + plugin_files(config.model), [checkpoint, result], device,
                  {"rows": None if dataset is None else dataset.rows_sha256(), "warm_start": config.warm_start})
    if stage.is_done():
        return
    checkpoint.parent.mkdir(parents=True, exist_ok=True)  # a path that cannot be written is better known now than later
    if dataset is None:
        dataset = load_dataset(config, variant.masked)
    inputs = stage.depends["inputs"]
    info = {"model": model, "dataset": config.dataset, "holdout": config.holdout, "ratings_sha256": inputs[RATINGS_FILE],
            **({"held_out_sha256": inputs[HELD_OUT_FILE]} if HELD_OUT_FILE in inputs else {}), "device": device,
            "mindspore": stage.depends["mindspore"], "settings": stage.depends["settings"],
            **head_of(read_requests(config)), "rows_sha256": dataset.rows_sha256(), "consent": dataset.consent.as_json()}
    write_json(result, {**_train(dataset, variant, info), **({RECOMMENDED: recommended} if recommended else {})})
    stage.finish()


def _recommended(variant):
    """The epoch that a study of these settings found best, as train_MODEL.json says since then; None if there is none."""
    config, path = variant.config, Path(variant.config.output_path) / train_file(variant.model)
    record = Stage.read_record(config.output_path, f"train_{variant.model.lower()}")
    said, now = record.get("settings", {}), config.select("model", "training", "negatives")
    alike = all(said.get(key) == value for key, value in now.items() if key not in ("train_epochs", "patience"))
    alike = alike and record["dataset"] == config.dataset
    if not alike or not path.is_file() or record["outputs"][path.name] != digest(path):
        return None
    return read_json(path, "remove it").get("best_epoch" if said["holdout"] == 2 else RECOMMENDED)


def _train(dataset, variant, info):
    if not dataset.all_interactions:
        raise InputError(f"dataset {dataset.name}: holds no training interaction; "
                         + ("raise --wv_budget in preprocess.py, or take back vetoes" if variant.masked
                            else "users need more than the held-out ones"))
    start = time.perf_counter()
    run = Run(dataset, variant, info)
    if variant.config.warm_start:
        run.trainer.go_on_from(load_sets(variant.checkpoint, dataset, variant)[1][BEST])
    run.announce()
    run.find_interrupted()
    run.run_epochs()
    run.save(variant.checkpoint)
    best, config = run.best.record["epoch"], run.config
    drawn(learning_curve, run.result.with_suffix(".png"), run.history, f"ndcg@{config.top_k}",
          f"{variant.model} on {dataset.name}", best, run.anchor.record["epoch"])
    logger.info("%s: epoch %d (%s), written to %s", variant.model, best,
                "the last" if dataset.validation is None else f"best by validation {run.best.metric}", variant.checkpoint)
    return run.record(time.perf_counter() - start)


class Run:
    """A training of a Variant on a Dataset; what it needs to go on is kept beside the checkpoint.

    `info`: what the checkpoints are to say about it.
    """

    def __init__(self, dataset, variant, info):
        self.dataset, self.variant, self.config = dataset, variant, variant.config
        self.trainer = Trainer(build(dataset, self.config), dataset, self.config, info["device"])
        self.info = {**self.trainer.net.shape, "catalogue_sha256": dataset.catalogue_sha256(), **info}
        self.path = variant.checkpoint.with_suffix(LAST_SUFFIX)
        self.result, self.history = Path(self.config.output_path) / train_file(variant.model), []
        self.best, self.anchor = _callbacks(dataset, self.config)

    def announce(self):
        trainer, config = self.trainer, self.config
        parameters = trainer.net.rows_by(self.dataset.of_all, trainer.net.values()).values()
        as_asked = trainer.batch_size == config.batch_size
        logger.info("%s on %s (%s): %s training interactions, %s parameters, %d epochs of %d steps, batch_size %d%s",
                    self.variant.model, self.dataset.name, self.info["device"], f"{self.dataset.all_interactions:,}",
                    f"{sum(value.size for value in parameters):,}", config.train_epochs, trainer.steps, trainer.batch_size,
                    "" if as_asked else f" instead of {config.batch_size}, for --min_steps {config.min_steps}")
        if trainer.steps < FEW_STEPS and as_asked:
            logger.warning("--batch_size %d: leaves %d steps an epoch, in which a model may learn little; without it a "
                           "smaller one is taken", config.batch_size, trainer.steps)

    def run_epochs(self):
        """Trains the epochs that are left, each with a line in the log and a row of the CSV beside train_MODEL.json."""
        validate, config, start = Validation(self.dataset, self.config), self.config, time.perf_counter()
        done, epochs = len(self.history), train_on(self.trainer, len(self.history))
        while not self._is_over(number := len(self.history), (self.best.record or {"epoch": number})["epoch"]):
            try:
                epoch = next(epochs)
            except FloatingPointError as e:
                kept = f"epoch {number} is kept in {self.path}, a checkpoint like any other"
                raise FloatingPointError(f"{e}; {kept if number else 'nothing was kept'}") from None
            record = {"epoch": epoch.number, "loss": epoch.loss, **validate(epoch.values), "seconds": epoch.seconds}
            self.history.append(record)
            for callback in (self.best, self.anchor):
                callback.on_epoch_end(record, epoch.values)
            elapsed = time.perf_counter() - start
            left = timedelta(seconds=round(elapsed / (epoch.number - done) * (config.train_epochs - epoch.number)))
            shown = "  ".join(f"{key} {value:.4f}" for key, value in record.items() if key not in ("epoch", "seconds"))
            logger.info("epoch %3d/%d  %s  %6.1f s  ETA %s", epoch.number, config.train_epochs, shown, elapsed, left)
            write_text(self.result.with_suffix(".csv"), pd.DataFrame(self.history).to_csv(index=False, lineterminator="\n"))
            self.save(self.path, moving=True)
        if number < config.train_epochs:
            logger.info("no better validation %s for %d epochs: stopped after epoch %d", self.best.metric, config.patience,
                        number)

    def _is_over(self, number, best):
        return number == self.config.train_epochs or 0 < self.config.patience <= number - best

    def save(self, path, moving=False):
        """Writes the best and the anchor epochs to `path`; with `moving` all that is needed to go on."""
        trainer, kept = self.trainer, {}
        sets = {BEST: self.best.values, **{ANCHOR.format(epoch): values for epoch, values in self.anchor.kept.items()}}
        if moving:
            sets.update({prefix: {name: p.asnumpy() for name, p in of.items()} for prefix, of in trainer.moments().items()})
            sets.update({f"epoch{k}.": values for k, values in enumerate(trainer.recent)})
            sets.update({f"gathered{epoch}.": values for epoch, values in self.anchor.gathered.items()})
            kept = {"history": self.history, "recent": len(trainer.recent), "gathered": list(self.anchor.gathered)}
        sets = {prefix: trainer.net.rows_by(self.dataset.of_all, values) for prefix, values in sets.items()}
        save_checkpoint(path, sets, {**self.info, "epoch": self.best.record["epoch"],
                                     "anchor_epochs": list(self.anchor.kept), **kept})

    def find_interrupted(self):
        """With --resume: puts back the state after the last finished epoch, if there is one.

        Raises InputError: it belongs to a training with other settings or data.
        """
        if not self.path.is_file():
            return
        remedy = "give the settings of that training, or train anew without --resume"
        try:
            values, info = read_checkpoint(self.path, remedy)
            wanted = {**{key: value for key, value in self.info.items() if key != "settings"}, **self.info["settings"]}
            check_checkpoint(self.path, info, wanted, remedy)
        except InputError:
            if self.config.resume:
                raise
            return
        finished, over = len(info["history"]), self._is_over(len(info["history"]), info["epoch"])
        if not self.config.resume:
            if not over:
                logger.info("%s: an interrupted training of %d epochs with these settings; --resume would go on from there",
                            self.path, finished)
            return
        logger.info("%s: %s after epoch %d", self.path, "finished" if over else "going on", finished)
        trainer = self.trainer

        def own(prefix):
            return trainer.net.rows_by(self.dataset.own, with_prefix(values, prefix))

        self.history = info["history"]
        trainer.recent = [own(f"epoch{k}.") for k in range(info["recent"])]
        trainer.net.set_values(trainer.recent[-1])
        for prefix, moments in trainer.moments().items():
            found = own(prefix)
            for name, p in moments.items():
                p.set_data(Tensor(found[name]))
        self.best.record, self.best.values = self.history[info["epoch"] - 1], own(BEST)
        self.anchor.kept = {epoch: own(ANCHOR.format(epoch)) for epoch in info["anchor_epochs"]}
        self.anchor.gathered = {epoch: own(f"gathered{epoch}.") for epoch in info["gathered"]}
        self.anchor.record = self.history[info["anchor_epochs"][-1] - 1]

    def record(self, seconds):
        """What train_MODEL.json says about a training that took so many seconds, those before an interruption left out."""
        dataset, config, trainer = self.dataset, self.config, self.trainer
        best = {key: value for key, value in self.best.record.items() if key not in ("epoch", "loss", "pos_loss", "seconds")}
        steps, spent = trainer.steps * len(self.history), sum(record["seconds"] for record in self.history)
        shared = {"ranks": here().size, "bytes_per_step": trainer.bytes_sent} if here().size > 1 else {}
        return {"model": self.variant.model, "dataset": config.dataset, "seed": config.seed,
                "num_users": len(dataset.all_user_ids), "num_items": dataset.num_items,
                "num_interactions": dataset.all_interactions, "device": self.info["device"],
                "batch_size": trainer.batch_size, "epochs": len(self.history), "best_epoch": self.best.record["epoch"],
                "anchor_epoch": self.anchor.record["epoch"], **best, "seconds": seconds,
                "samples_per_second": steps * trainer.batch * (1 + config.num_neg) / spent,
                "ms_per_step": 1e3 * spent / steps, "compiled": trainer.compiled is not None, **shared,
                "history": [{key: value for key, value in record.items() if key != "seconds"} for record in self.history]}


def _callbacks(dataset, config):
    """What keeps the epoch that recommends, and what keeps those that influences come from.

    Without validation items the last epoch is the best that there is. Where nothing is held out influences come from those
    up to ANCHOR_SHARE of it, about where validation items would place them.
    """
    if dataset.validation is not None:
        return BestEpoch(f"ndcg@{config.top_k}"), AnchorEpochs("pos_loss", True, config.anchor_epochs)
    last = None if config.holdout else max(1, round(ANCHOR_SHARE * config.train_epochs))
    return BestEpoch("epoch"), AnchorEpochs("epoch", False, config.anchor_epochs, last)


def train_in_memory(config, dataset, device):
    """The parameters of the best epoch of a training that writes nothing, and by number those of its anchor epochs."""
    (best, anchor), validate = _callbacks(dataset, config), Validation(dataset, config)
    for epoch in train_on(Trainer(build(dataset, config), dataset, config, device)):
        record = {"epoch": epoch.number, **validate(epoch.values)}
        for callback in (best, anchor):
            callback.on_epoch_end(record, epoch.values)
    return best.values, anchor.kept


class Validation:
    """Metrics of sets of parameters on the validation items, if there are any."""

    def __init__(self, dataset, config):
        self.config, self.dataset, self.there = config, dataset, dataset.validation is not None
        if self.there:
            self.candidates = evaluation_candidates(dataset, "validation", config)
            self.net = build(dataset, config)  # scores averaged parameters, while training goes on with its own

    def __call__(self, values):
        """Dict of HR@k, NDCG@k and pos_loss, the mean cross-entropy of the validation items in nats; {} without them."""
        if not self.there:
            return {}
        k, of_all = self.config.top_k, self.dataset.of_scored
        self.net.set_values(values)
        scores = score(self.net, self.candidates, self.config.eval_batch_size, self.dataset.scored)
        rank = of_all(metrics.ranks(scores))
        return {f"hr@{k}": metrics.hit_ratio_of_ranks(rank, k), f"ndcg@{k}": metrics.ndcg_of_ranks(rank, k),
                "pos_loss": float(of_all(metrics.cross_entropy(scores[:, :1])[:, 0]).mean())}
