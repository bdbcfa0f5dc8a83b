"""The train stage: NCF on a dataset or on its masked twin.

The checkpoint holds two kinds of epochs, both chosen on the validation items. The one with the best NDCG recommends. The
one with the lowest cross-entropy of the validation item is the anchor: influences are the mean over it and a few epochs
before it. Past the anchor the network still ranks better, but becomes over-confident, and s (1 - s) in its Hessian no longer
tells how firmly a prediction stands. See docs/maths.md, section 3.
"""
import contextlib
import logging
import time
from pathlib import Path

from .. import metrics
from ..callbacks import AnchorEpochs, BestEpoch, EpochReport, HistoryFile
from ..candidates import evaluation_candidates
from ..common.errors import InputError
from ..common.figures import drawn, learning_curve
from ..common.files import write_json
from ..common.plugins import plugin_files
from ..common.ranks import in_ranks, rank_folder
from ..common.share import WHOLE
from ..common.stage import Stage
from ..common.variant import Variant, check_mask, dataset_files, dataset_folder, decision_files
from ..consent.withdrawn import head_of, read_requests, withdrawn_path
from ..constants import HELD_OUT_FILE, RATINGS_FILE, train_file
from ..dataset import load_dataset
from ..device_adapter import set_device
from ..network import build, score
from ..options import TRAINED
from .checkpoint import ANCHOR, BEST, check_checkpoint, read_checkpoint, save_checkpoint, with_prefix
from .deal import deal, load_share
from .trainer import Trainer, train_on

logger = logging.getLogger("ifrqe")

LAST_SUFFIX = ".last.ckpt"
FEW_STEPS = 100  # an epoch: with fewer, models of few data were seen to learn too little


def train(variant):
    """Trains the model of a Variant; writes its checkpoint and train_MODEL.json unless they are there already.

    Raises:
        InputError: the dataset is missing or unfit, or --resume finds a training with other settings.
        FloatingPointError: the loss diverges.
    """
    model, checkpoint, config = variant.model, variant.checkpoint, variant.settings()
    result = Path(config.output_path) / train_file(model)
    if variant.masked:
        check_mask(config)
        logger.info("%s: what %s says is disclosed", dataset_folder(config, masked=True), decision_files(config)[0])
    device = set_device(config)
    forbidden = config.veto or withdrawn_path(config).exists()  # else what is trained on follows from the files alone
    dataset = load_dataset(config) if forbidden and not variant.masked else None
    stage = Stage(f"train_{model.lower()}", __name__, config, ("split", "model", *TRAINED, "processes"),
                  dataset_files(config, variant.masked) + plugin_files(config.model), [checkpoint, result], device,
                  {"rows": None if dataset is None else dataset.rows_sha256()})
    if stage.is_done():
        return
    checkpoint.parent.mkdir(parents=True, exist_ok=True)  # a path that cannot be written is better known now than later
    inputs = stage.depends["inputs"]
    info = {"model": model, "dataset": config.dataset, "holdout": config.holdout, "ratings_sha256": inputs[RATINGS_FILE],
            **({"held_out_sha256": inputs[HELD_OUT_FILE]} if variant.masked else {}), "device": device,
            "mindspore": stage.depends["mindspore"], "settings": stage.depends["settings"], **head_of(read_requests(config))}
    with contextlib.ExitStack() as stack:
        if config.ranks == 1:
            dataset = load_dataset(config, variant.masked) if dataset is None else dataset
        else:
            folder = stack.enter_context(rank_folder(config))
            dataset = deal(config, variant.masked, folder)
        info["rows_sha256"], info["consent"] = dataset.rows_sha256(), dataset.consent.as_json()
        if config.ranks == 1:
            record = _train(config, dataset, variant, info)
        else:
            record = in_ranks(config, folder, __name__, "train_in_rank", variant.masked, info)
    write_json(result, record)
    stage.finish()


def train_in_rank(config, folder, exchange, masked, info):
    """What each rank does of `train`; see common.ranks.in_ranks."""
    return _train(config, load_share(config, masked, folder, exchange), Variant(config, masked), info)


def _train(config, dataset, variant, info):
    """Trains on a dataset, or on a rank's share of it, and writes the checkpoint; returns what train_MODEL.json says."""
    if not dataset.all_interactions:
        raise InputError(f"dataset {dataset.name}: holds no training interaction; "
                         + ("raise --wv_budget in preprocess.py, or take back vetoes" if variant.masked
                            else "users need more than the held-out ones"))
    start = time.perf_counter()
    model, checkpoint = variant.model, variant.checkpoint
    result = Path(config.output_path) / train_file(model)
    trainer = Trainer(build(dataset, config), dataset, config, info["device"])
    run = Run(trainer, checkpoint, {**trainer.net.shape, "catalogue_sha256": dataset.catalogue_sha256(), **info})
    logger.info("%s on %s (%s%s): %s training interactions, %s parameters, %d epochs of %d steps, batch_size %s", model,
                dataset.name, info["device"], f", {dataset.share.size} ranks" if dataset.share.size > 1 else "",
                f"{dataset.all_interactions:,}",
                f"{sum(value.size for value in trainer.net.all_values(trainer.net.values(), dataset.share).values()):,}",
                config.train_epochs, trainer.steps, trainer.batch_size if trainer.batch_size == config.batch_size else
                f"{trainer.batch_size} instead of {config.batch_size}, for --min_steps {config.min_steps}")
    if trainer.steps < FEW_STEPS and trainer.batch_size == config.batch_size:
        logger.warning("--batch_size %d: leaves %d steps an epoch, in which a model may learn little; without it a smaller "
                       "one is taken", config.batch_size, trainer.steps)
    if config.lazy_adam and trainer.propagation is not None:
        logger.info("--lazy_adam True: the graph of %s hands each step on to all rows, so all are updated",
                    config.plain_model)
    run.find_interrupted()
    _run_epochs(run, result)
    run.save(checkpoint)
    if dataset.share.rank == 0:
        drawn(learning_curve, result.with_suffix(".png"), run.history, f"ndcg@{config.top_k}",
              f"{model} on {dataset.name}", run.best.record["epoch"], run.anchor.record["epoch"])
    logger.info("%s: epoch %d (%s), written to %s", model, run.best.record["epoch"],
                f"best by validation {run.best.metric}" if config.holdout > 1 else "the last", checkpoint)
    return {**_record(run, model), "seconds": time.perf_counter() - start, **run.speed(),
            "history": [{key: value for key, value in record.items() if key != "seconds"} for record in run.history]}


def _record(run, model):
    """What train_MODEL.json says about a training."""
    dataset, config = run.trainer.dataset, run.config
    best = {key: value for key, value in run.best.record.items() if key not in ("epoch", "loss", "pos_loss", "seconds")}
    return {"model": model, "dataset": config.dataset, "seed": config.seed, "num_users": len(dataset.all_user_ids),
            "num_items": dataset.num_items, "num_interactions": dataset.all_interactions, "device": run.info["device"],
            "batch_size": run.trainer.batch_size, "epochs": len(run.history), "best_epoch": run.best.record["epoch"],
            "anchor_epoch": run.anchor.record["epoch"], **best}


class Run:
    """A training with all that it needs to go on after an interruption.

    Args:
        trainer: Trainer.
        checkpoint: path of the checkpoint; the run itself is kept beside it, as MODEL.last.ckpt.
        info: what the checkpoints are to say about the training.
    """

    def __init__(self, trainer, checkpoint, info):
        self.trainer, self.info = trainer, info
        self.config = config = trainer.config
        self.path = checkpoint.with_suffix(LAST_SUFFIX)
        self.history = []
        # without validation items the last epoch is the best that there is
        self.best = BestEpoch(f"ndcg@{config.top_k}" if config.holdout > 1 else "epoch")
        self.anchor = AnchorEpochs("pos_loss" if config.holdout > 1 else "epoch", config.holdout > 1, config.anchor_epochs)

    def save(self, path, moving=False):
        """Writes the best and the anchor epochs to `path`; with `moving` all that is needed to go on."""
        sets = {BEST: self.best.values, **{ANCHOR.format(epoch): values for epoch, values in self.anchor.kept.items()}}
        kept = {}
        if moving:
            sets.update(self.trainer.moments())
            sets.update({f"epoch{k}.": values for k, values in enumerate(self.trainer.average.recent)})
            sets.update({f"gathered{epoch}.": values for epoch, values in self.anchor.gathered.items()})
            kept = {"history": self.history, "recent": len(self.trainer.average.recent),
                    "gathered": list(self.anchor.gathered)}
        net, share = self.trainer.net, self.trainer.share
        sets = {prefix: net.all_values(values, share) for prefix, values in sets.items()}
        if share.rank == 0:
            save_checkpoint(path, sets, {**self.info, "epoch": self.best.record["epoch"],
                                         "anchor_epochs": list(self.anchor.kept), **kept})

    def speed(self):
        """Samples a second, milliseconds a step, and the bytes that each of several ranks tells the others in one."""
        seconds, trainer = sum(record["seconds"] for record in self.history), self.trainer
        steps = trainer.steps * len(self.history)
        shared = {} if trainer.share is WHOLE else {"ranks": trainer.share.size, "bytes_per_step": trainer.cell.bytes_sent}
        return {"samples_per_second": steps * trainer.batch * (1 + self.config.num_neg) / seconds,
                "ms_per_step": 1e3 * seconds / steps, "compiled": trainer.compiled is not None, **shared}

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
        trainer = self.trainer

        def own(prefix):
            return trainer.net.own_values(with_prefix(values, prefix), trainer.share)
        self.history = info["history"]
        trainer.average.recent = [own(f"epoch{k}.") for k in range(info["recent"])]
        trainer.net.set_values(trainer.average.recent[-1])
        trainer.set_moments({prefix: own(prefix) for prefix in ("m.", "v.")})
        self.best.record, self.best.values = self.history[info["epoch"] - 1], own(BEST)
        self.anchor.kept = {epoch: own(ANCHOR.format(epoch)) for epoch in info["anchor_epochs"]}
        self.anchor.gathered = {epoch: own(f"gathered{epoch}.") for epoch in info["gathered"]}
        self.anchor.record = self.history[info["anchor_epochs"][-1] - 1]
        logger.info("%s: %s", self.path, f"finished after epoch {finished}" if over else f"going on after epoch {finished}")


def _run_epochs(run, result):
    """Trains the epochs of a Run that are left; its history lies beside `result`, the path of train_MODEL.json."""
    config, dataset = run.config, run.trainer.dataset
    validate = Validation(dataset, config) if config.holdout > 1 else lambda values: {}
    callbacks = [run.best, run.anchor, EpochReport(config.train_epochs, len(run.history))]
    if dataset.share.rank == 0:
        callbacks.append(HistoryFile(result.with_suffix(".csv")))
    epochs = train_on(run.trainer, len(run.history))
    while len(run.history) < config.train_epochs:
        number = len(run.history)
        if config.patience and number - (run.best.record or {"epoch": number})["epoch"] >= config.patience:
            logger.info("no better validation %s for %d epochs: stopped after epoch %d", run.best.metric, config.patience,
                        number)
            break
        try:
            epoch = next(epochs)
        except FloatingPointError as e:
            kept = f"epoch {number} is kept in {run.path}, a checkpoint like any other" if number else "nothing was kept"
            raise FloatingPointError(f"{e}; {kept}") from None
        run.history.append({"epoch": epoch.number, "loss": epoch.loss, **validate(epoch.values), "seconds": epoch.seconds})
        for callback in callbacks:
            callback.on_epoch_end(run.history, epoch.values)
        run.save(run.path, moving=True)


def train_in_memory(config, dataset, device):
    """The parameters of the best epoch of a training that writes nothing; see train for the choice."""
    best = BestEpoch(f"ndcg@{config.top_k}" if config.holdout > 1 else "epoch")
    validate = Validation(dataset, config) if config.holdout > 1 else lambda values: {}
    history = []
    for epoch in train_on(Trainer(build(dataset, config), dataset, config, device)):
        history.append({"epoch": epoch.number, **validate(epoch.values)})
        best.on_epoch_end(history, epoch.values)
    return best.values


class Validation:
    """Metrics of sets of parameters on the validation items."""

    def __init__(self, dataset, config):
        self.config, self.users, self.of_scored = config, dataset.scored, dataset.of_scored
        self.candidates = evaluation_candidates(dataset, "validation", config)
        self.net = build(dataset, config)  # scores averaged parameters, while training goes on with its own

    def __call__(self, values):
        """Dict of HR@k, NDCG@k and pos_loss, the mean cross-entropy of the validation items in nats."""
        k, of_all = self.config.top_k, self.of_scored
        self.net.set_values(values)
        scores = score(self.net, self.candidates, self.config.eval_batch_size, self.users)
        rank = of_all(metrics.ranks(scores))
        return {f"hr@{k}": metrics.hit_ratio_of_ranks(rank, k), f"ndcg@{k}": metrics.ndcg_of_ranks(rank, k),
                "pos_loss": float(of_all(metrics.cross_entropy(scores[:, :1])[:, 0]).mean())}
