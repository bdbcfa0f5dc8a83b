"""The train stage: NCF on a dataset or on its masked twin.

Two epochs are kept, both chosen on the validation items: the one with the best NDCG recommends; the one with the lowest
cross-entropy of the validation item is the anchor of the influences. Past the latter the network still ranks better, but
becomes over-confident, and s (1 - s) in its Hessian no longer tells how firmly a prediction stands.
"""
import logging
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from tqdm import tqdm

from . import metrics
from .callbacks import BestEpoch, EpochReport
from .constants import MASKED_MODEL, MODEL_KEYS, PLAIN_MODEL, RATINGS_FILE, TRAIN_KEYS, checkpoint_file, train_file
from .dataset import dataset_files, evaluation_candidates, load_dataset, training_groups
from .device_adapter import set_device
from .errors import InputError
from .ncf import TABLES, build, save_checkpoint, score
from .plots import learning_curve
from .stage import Stage, write_json
from .stat_utils import generator

logger = logging.getLogger("ifrqe")

STEPS_PER_CALL = 1000  # steps of one graph call: long enough that the call costs nothing, short enough for a progress bar


class Loss(nn.Cell):
    """Mean binary cross-entropy of groups whose first item is the positive, in nats."""

    def __init__(self, head, num_neg):
        super().__init__()
        self.head = head
        self.label = Tensor(np.eye(1, 1 + num_neg, dtype=np.float32))
        self.cross_entropy = ops.SigmoidCrossEntropyWithLogits()
        self.mean = ops.ReduceMean()

    def construct(self, user_gmf, user_mlp, item_gmf, item_mlp):
        logits = self.head(user_gmf, user_mlp, item_gmf, item_mlp)
        return self.mean(self.cross_entropy(logits, ops.broadcast_to(self.label, logits.shape)))


class TrainSteps(nn.Cell):
    """Many training steps in one graph call.

    Adam updates the dense weights; of the embedding tables it updates the rows that occur in the batch and leaves the
    moments of all others as they are (lazy Adam), so that a step does not touch the whole tables.

    Args:
        net: NCF; its parameters are trained.
        num_neg: negatives a positive.
        betas, epsilon: of Adam.
        fused: use the CPU kernel for the rows; the same update in basic operations runs on every device.
    """

    def __init__(self, net, num_neg, betas, epsilon, fused):
        super().__init__()
        self.net = net
        self.weights = ms.ParameterTuple(net.head.trainable_params())
        self.weights_m = self.weights.clone("m", "zeros")
        self.weights_v = self.weights.clone("v", "zeros")
        self.tables = ms.ParameterTuple([getattr(net, name) for name in TABLES])
        self.tables_m = self.tables.clone("m", "zeros")
        self.tables_v = self.tables.clone("v", "zeros")
        self.value_and_grad = ops.value_and_grad(Loss(net.head, num_neg), (0, 1, 2, 3), self.weights)
        self.beta1, self.beta2, self.epsilon = (Tensor(x, ms.float32) for x in (*betas, epsilon))
        self.fused = fused
        self.adam = ops.Adam()
        self.row_adam = ops.FusedSparseLazyAdam() if fused else None
        self.gather = ops.Gather()
        self.segment_sum = ops.UnsortedSegmentSum()
        self.scatter = ops.ScatterUpdate()

    def construct(self, users, items, rates, powers1, powers2, steps, step, total):
        """Runs the steps `step` to `steps` - 1.

        users (s, g) and items (s, g * (1 + num_neg)) int32; rates, powers1, powers2 (s,) learning rate and beta^t of each
        step. The counter and the sum start as arguments, since constants of a graph would keep their last value for
        the next call.

        Returns:
            The sum of the losses.
        """
        while step < steps:
            user, item = self.gather(users, step, 0), self.gather(items, step, 0)
            rows = (self.gather(self.tables[0], user, 0), self.gather(self.tables[1], user, 0),
                    self.gather(self.tables[2], item, 0), self.gather(self.tables[3], item, 0))
            loss, (row_grads, grads) = self.value_and_grad(*rows)
            rate, power1, power2 = self.gather(rates, step, 0), self.gather(powers1, step, 0), self.gather(powers2, step, 0)
            for k in range(4):
                self._update_rows(k, user if k < 2 else item, rows[k], row_grads[k], rate, power1, power2)
            for k in range(len(self.weights)):
                self.adam(self.weights[k], self.weights_m[k], self.weights_v[k], power1, power2, rate,
                          self.beta1, self.beta2, self.epsilon, grads[k])
            total += loss
            step += 1
        return total

    def _update_rows(self, k, index, rows, grad, rate, power1, power2):
        table, m, v = self.tables[k], self.tables_m[k], self.tables_v[k]
        if self.fused:
            self.row_adam(table, m, v, power1, power2, rate, self.beta1, self.beta2, self.epsilon, grad, index)
        else:
            # a row that occurs several times is written several times, each time with the same value
            grad = self.gather(self.segment_sum(grad, index, table.shape[0]), index, 0)
            m_rows = self.beta1 * self.gather(m, index, 0) + (1 - self.beta1) * grad
            v_rows = self.beta2 * self.gather(v, index, 0) + (1 - self.beta2) * grad * grad
            rate = rate * ops.sqrt(1 - power2) / (1 - power1)
            self.scatter(table, index, rows - rate * m_rows / (ops.sqrt(v_rows) + self.epsilon))
            self.scatter(m, index, m_rows)
            self.scatter(v, index, v_rows)


def learning_rates(peak, steps_per_epoch, epochs, warmup_epochs):
    """(steps,) float32: rises linearly from 0 to `peak` over the warm-up, then falls linearly to 0."""
    total, warmup = steps_per_epoch * epochs, steps_per_epoch * warmup_epochs
    step = np.arange(total)
    rising = (step + 1) / max(warmup, 1)
    falling = (total - step) / max(total - warmup, 1)
    return (peak * np.minimum(1, np.minimum(rising, falling))).astype(np.float32)


class Trainer:
    """Trains a network epoch by epoch.

    Args:
        net: NCF.
        dataset: Dataset with at least one training interaction.
        config: batch_size, num_neg, learning_rate, warmup_epochs, train_epochs, beta1, beta2, epsilon, seed.
        device: name of the device in use.
    """

    def __init__(self, net, dataset, config, device):
        self.dataset, self.config = dataset, config
        self.pairs = dataset.history_pairs()
        # groups a step, and enough steps for all; the last one is filled up with groups from the epoch's beginning
        self.groups = min(config.batch_size // (1 + config.num_neg), dataset.num_interactions)
        self.steps = -(-dataset.num_interactions // self.groups)
        self.rates = learning_rates(config.learning_rate, self.steps, config.train_epochs, config.warmup_epochs)
        self.cell = TrainSteps(net, config.num_neg, (config.beta1, config.beta2), config.epsilon, device == "CPU")
        self.cell.set_train()

    def epoch(self, number):
        """Trains for epoch `number` (from 0), on fresh negatives in a fresh order.

        Returns:
            Mean loss over the steps, in nats.

        Raises:
            InputError: the loss is not finite.
        """
        config, n = self.config, self.dataset.num_interactions
        items = training_groups(self.dataset, config.num_neg, generator(config.seed, "negatives", number), self.pairs)
        order = generator(config.seed, "order", number).permutation(n)
        order = np.resize(order, self.steps * self.groups)
        per_call = min(STEPS_PER_CALL, self.steps)
        total = 0.0
        with tqdm(total=self.steps, desc=f"epoch {number + 1}", unit="step", leave=False, disable=None) as bar:
            for first in range(0, self.steps, per_call):
                steps = min(per_call, self.steps - first)
                loss = self._call(items, order[first * self.groups:(first + steps) * self.groups], steps, per_call,
                                  number * self.steps + first)
                if not np.isfinite(loss):
                    raise InputError(f"--learning_rate {config.learning_rate}: the loss of epoch {number + 1} is no longer "
                                     f"finite, by step {first + steps}; lower it")
                total += loss
                bar.update(steps)
        return total / self.steps

    def _call(self, items, order, steps, per_call, first_step):
        """Sum of the losses of `steps` steps on the groups `order`; arrays are filled up to `per_call` steps, unused."""
        padded = np.resize(order, per_call * self.groups)
        at = first_step + np.arange(per_call)
        powers = [np.power(beta, at + 1).astype(np.float32) for beta in (self.config.beta1, self.config.beta2)]
        arrays = (self.dataset.user[padded].reshape(per_call, -1), items[padded].reshape(per_call, -1),
                  self.rates[np.minimum(at, len(self.rates) - 1)], *powers)
        total = self.cell(*map(Tensor, arrays), Tensor(steps, ms.int32), Tensor(0, ms.int32), Tensor(0, ms.float32))
        return float(total.asnumpy())


def train(config):
    """Trains the model that the settings name; writes its checkpoint and train_MODEL.json unless they are there already.

    Raises:
        InputError: the dataset is missing or unfit, or the loss diverges.
    """
    model = MASKED_MODEL if config.masked else PLAIN_MODEL
    checkpoint = Path(config.checkpoint_path) / checkpoint_file(model)
    result = Path(config.output_path) / train_file(model)
    stage = Stage(f"train_{model.lower()}", config, MODEL_KEYS + TRAIN_KEYS,
                  dataset_files(config, config.masked), [checkpoint, result])
    if stage.is_done():
        return
    checkpoint.parent.mkdir(parents=True, exist_ok=True)  # a path that cannot be written is better known now than later
    device = set_device(config)
    dataset = load_dataset(config, config.masked)
    if not dataset.num_interactions:
        raise InputError(f"dataset {dataset.name}: holds no training interaction; raise --wv_budget in preprocess.py")
    candidates = evaluation_candidates(dataset, "validation", config)
    net = build(dataset, config)
    trainer = Trainer(net, dataset, config, device)
    logger.info("%s on %s (%s): %s training interactions, %s parameters, %d epochs of %d steps", model, dataset.name, device,
                f"{dataset.num_interactions:,}", f"{sum(p.size for p in net.get_parameters()):,}", config.train_epochs,
                trainer.steps)

    hr, ndcg = f"hr@{config.top_k}", f"ndcg@{config.top_k}"
    best, anchor = BestEpoch(ndcg), BestEpoch("pos_loss", lower=True)
    callbacks = [best, anchor, EpochReport(config.train_epochs, ["loss", hr, ndcg, "pos_loss"])]
    history, training_seconds, start = [], 0.0, time.perf_counter()
    for number in range(config.train_epochs):
        before = time.perf_counter()
        loss = trainer.epoch(number)
        training_seconds += time.perf_counter() - before
        scores = score(net, candidates, config.eval_batch_size)
        record = {"epoch": number + 1, "loss": loss, hr: metrics.hit_ratio(scores, config.top_k),
                  ndcg: metrics.ndcg(scores, config.top_k), "pos_loss": float(metrics.cross_entropy(scores)[:, 0].mean())}
        history.append(record)
        for callback in callbacks:
            callback.on_epoch_end(net, record)

    save_checkpoint(checkpoint, best.values, anchor.values,
                    {**net.shape, "model": model, "dataset": config.dataset,
                     "ratings_sha256": stage.depends["inputs"][RATINGS_FILE],
                     "epoch": best.record["epoch"], "anchor_epoch": anchor.record["epoch"],
                     "settings": config.select(dict.fromkeys(MODEL_KEYS + TRAIN_KEYS))})
    steps = trainer.steps * config.train_epochs
    samples = steps * trainer.groups * (1 + config.num_neg)
    write_json(result, {
        "model": model, "dataset": config.dataset, "seed": config.seed, "num_users": dataset.num_users,
        "num_items": dataset.num_items, "num_interactions": dataset.num_interactions, "device": device,
        "epochs": config.train_epochs, "best_epoch": best.record["epoch"], "anchor_epoch": anchor.record["epoch"],
        hr: best.record[hr], ndcg: best.record[ndcg],
        "seconds": time.perf_counter() - start, "samples_per_second": samples / training_seconds,
        "ms_per_step": 1e3 * training_seconds / steps, "history": history})
    learning_curve(result.with_suffix(".png"), history, ndcg, f"{model} on {dataset.name}", best.record["epoch"],
                   anchor.record["epoch"])
    stage.finish()
    logger.info("%s: best epoch %d by validation %s, written to %s", model, best.record["epoch"], ndcg, checkpoint)
