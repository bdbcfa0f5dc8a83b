"""The train stage: NCF on a dataset or on its masked twin.

The checkpoint holds two kinds of epochs, both chosen on the validation items. The one with the best NDCG recommends. The
one with the lowest cross-entropy of the validation item is the anchor: influences are the mean over it and a few epochs
before it. Past the anchor the network still ranks better, but becomes over-confident, and s (1 - s) in its Hessian no longer
tells how firmly a prediction stands.
"""
import logging
import time
from pathlib import Path

from .. import metrics
from ..callbacks import AnchorEpochs, BestEpoch, EpochReport, HistoryFile, LearningCurve
from ..common.errors import InputError
from ..common.files import write_json
from ..common.stage import Stage
from ..common.variant import check_mask, dataset_files, masked_settings
from ..config import TRAINED
from ..constants import (
    MASKED_MODEL,
    PLAIN_MODEL,
    RATINGS_FILE,
    checkpoint_file,
    train_file,
)
from ..dataset import evaluation_candidates, load_dataset
from ..device_adapter import set_device
from ..ncf import build, score
from .checkpoint import ANCHOR, BEST, check_checkpoint, read_checkpoint, save_checkpoint, with_prefix
from .trainer import EpochAverage, Trainer

logger = logging.getLogger("ifrqe")


LAST_SUFFIX = ".last.ckpt"


def train(config):
    """Trains the model that the settings name; writes its checkpoint and train_MODEL.json unless they are there already.

    Raises:
        InputError: the dataset is missing or unfit, or --resume finds a training with other settings.
        FloatingPointError: the loss diverges.
    """
    model = MASKED_MODEL if config.masked else PLAIN_MODEL
    config = masked_settings(config)
    checkpoint = Path(config.checkpoint_path) / checkpoint_file(model)
    result = Path(config.output_path) / train_file(model)
    if config.masked:
        check_mask(config)
    device = set_device(config)
    stage = Stage(f"train_{model.lower()}", config, ("split", "model", *TRAINED),
                  dataset_files(config, config.masked), [checkpoint, result], device)
    if stage.is_done():
        return
    checkpoint.parent.mkdir(parents=True, exist_ok=True)  # a path that cannot be written is better known now than later
    dataset = load_dataset(config, config.masked)
    if not dataset.num_interactions:
        raise InputError(f"dataset {dataset.name}: holds no training interaction; "
                         + ("raise --wv_budget in preprocess.py, or take back vetoes" if config.masked
                            else "users need more than the held-out ones"))
    start = time.perf_counter()
    net = build(dataset, config)
    trainer = Trainer(net, dataset, config, device)
    run = Run(net, trainer, checkpoint, {
        **net.shape, "model": model, "dataset": config.dataset, "holdout": config.holdout,
        "catalogue_sha256": dataset.catalogue_sha256(),
        "ratings_sha256": stage.depends["inputs"][RATINGS_FILE], "device": device, "mindspore": stage.depends["mindspore"],
        "settings": stage.depends["settings"]}, config)
    logger.info("%s on %s (%s): %s training interactions, %s parameters, %d epochs of %d steps", model, dataset.name, device,
                f"{dataset.num_interactions:,}", f"{sum(p.size for p in net.get_parameters()):,}", config.train_epochs,
                trainer.steps)
    run.find_interrupted()
    callbacks = _run_epochs(run, dataset, config, result)
    run.save(checkpoint)
    steps = trainer.steps * len(run.history)
    samples = steps * trainer.groups * (1 + config.num_neg)
    training_seconds = sum(record["seconds"] for record in run.history)
    best = {key: value for key, value in run.best.record.items() if key not in ("epoch", "loss", "pos_loss", "seconds")}
    write_json(result, {
        "model": model, "dataset": config.dataset, "seed": config.seed, "num_users": dataset.num_users,
        "num_items": dataset.num_items, "num_interactions": dataset.num_interactions, "device": device,
        "epochs": len(run.history), "best_epoch": run.best.record["epoch"], "anchor_epoch": run.anchor.record["epoch"],
        **best, "seconds": time.perf_counter() - start, "samples_per_second": samples / training_seconds,
        "ms_per_step": 1e3 * training_seconds / steps,
        "history": [{key: value for key, value in record.items() if key != "seconds"} for record in run.history]})
    stage.finish()
    for callback in callbacks:
        callback.on_train_end(run.history)
    logger.info("%s: epoch %d (%s), written to %s", model, run.best.record["epoch"],
                f"best by validation {run.best.metric}" if config.holdout > 1 else "the last", checkpoint)


class Run:
    """A training with all that it needs to go on after an interruption.

    Args:
        net: NCF.
        trainer: Trainer of it.
        checkpoint: path of the checkpoint; the run itself is kept beside it, as MODEL.last.ckpt.
        info: what the checkpoints are to say about the training.
        config: holdout, top_k, average_epochs, anchor_epochs, resume.
    """

    def __init__(self, net, trainer, checkpoint, info, config):
        self.net, self.trainer, self.info, self.config = net, trainer, info, config
        self.path = checkpoint.with_suffix(LAST_SUFFIX)
        self.history = []
        self.average = EpochAverage(config.average_epochs)
        # without validation items the last epoch is the best that there is
        self.best = BestEpoch(f"ndcg@{config.top_k}" if config.holdout > 1 else "epoch")
        self.anchor = AnchorEpochs("pos_loss" if config.holdout > 1 else "epoch", config.holdout > 1, config.anchor_epochs)

    def save(self, path, moving=False):
        """Writes the best and the anchor epochs to `path`; with `moving` all that is needed to go on."""
        sets = {BEST: self.best.values, **{ANCHOR.format(epoch): values for epoch, values in self.anchor.kept.items()}}
        kept = {}
        if moving:
            sets.update(self.trainer.moments())
            sets.update({f"epoch{k}.": values for k, values in enumerate(self.average.recent)})
            sets.update({f"gathered{epoch}.": values for epoch, values in self.anchor.gathered.items()})
            kept = {"history": self.history, "recent": len(self.average.recent),
                    "gathered": list(self.anchor.gathered)}
        save_checkpoint(path, sets, {**self.info, "epoch": self.best.record["epoch"],
                                     "anchor_epochs": list(self.anchor.kept), **kept})

    def find_interrupted(self):
        """With --resume: puts back the state after the last finished epoch, if there is one.

        Raises:
            InputError: it belongs to a training with other settings or data.
        """
        if not self.path.is_file():
            return
        remedy = "give the settings of that training, or train anew without --resume"
        try:
            values, info = read_checkpoint(self.path, remedy)
            wanted = {**{key: value for key, value in self.info.items() if key != "settings"}, **self.info["settings"]}
            check_checkpoint(self.path, {**info, **info.get("settings", {})}, wanted, remedy)
        except InputError:
            if self.config.resume:
                raise
            return
        finished = len(info["history"])
        over = finished == self.config.train_epochs or 0 < self.config.patience <= finished - info["epoch"]
        if not self.config.resume:
            if not over:
                logger.info("%s: an interrupted training of %d epochs with these settings; --resume would go on from there",
                            self.path, finished)
            return
        self.history = info["history"]
        self.average.recent = [with_prefix(values, f"epoch{k}.") for k in range(info["recent"])]
        self.net.set_values(self.average.recent[-1])
        self.trainer.set_moments(values)
        self.best.record, self.best.values = self.history[info["epoch"] - 1], with_prefix(values, BEST)
        self.anchor.kept = {epoch: with_prefix(values, ANCHOR.format(epoch)) for epoch in info["anchor_epochs"]}
        self.anchor.gathered = {epoch: with_prefix(values, f"gathered{epoch}.") for epoch in info["gathered"]}
        self.anchor.record = self.history[info["anchor_epochs"][-1] - 1]
        logger.info("%s: %s", self.path, f"finished after epoch {finished}" if over else f"going on after epoch {finished}")


def _run_epochs(run, dataset, config, result):
    """Trains the epochs that are left, with the validation, the callbacks and the checkpoint after each.

    Returns:
        The callbacks, whose on_train_end is to be called when all else is done.
    """
    hr, ndcg = f"hr@{config.top_k}", f"ndcg@{config.top_k}"
    candidates = evaluation_candidates(dataset, "validation", config) if config.holdout > 1 else None
    shown = build(dataset, config)  # scores the averaged parameters, while run.net goes on with its own
    callbacks = [run.best, run.anchor, EpochReport(config.train_epochs, len(run.history)),
                 HistoryFile(result.with_suffix(".csv")),
                 LearningCurve(result.with_suffix(".png"), f"{run.info['model']} on {dataset.name}", ndcg, run.best,
                               run.anchor)]
    for number in range(len(run.history), config.train_epochs):
        if config.patience and number - (run.best.record or {"epoch": number})["epoch"] >= config.patience:
            logger.info("no better validation %s for %d epochs: stopped after epoch %d", ndcg, config.patience, number)
            break
        before = time.perf_counter()
        try:
            loss = run.trainer.epoch(number)
        except FloatingPointError as e:
            kept = f"epoch {number} is kept in {run.path}, a checkpoint like any other" if number else "nothing was kept"
            raise FloatingPointError(f"{e}; {kept}") from None
        record = {"epoch": number + 1, "loss": loss}
        seconds = time.perf_counter() - before
        values = run.average(run.net.values())
        if candidates is not None:
            shown.set_values(values)
            scores = score(shown, candidates, config.eval_batch_size)
            record.update({hr: metrics.hit_ratio(scores, config.top_k), ndcg: metrics.ndcg(scores, config.top_k),
                           "pos_loss": float(metrics.cross_entropy(scores)[:, 0].mean())})
        run.history.append({**record, "seconds": seconds})
        for callback in callbacks:
            callback.on_epoch_end(run.history, values)
        run.save(run.path, moving=True)
    return callbacks
