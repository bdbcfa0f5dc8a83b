"""Adam on NCF: many steps in one graph call, an epoch at a time."""
from concurrent.futures import ThreadPoolExecutor

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from .dataset import training_groups
from .ncf import TABLES
from .stat_utils import generator
from .terminal import progress

DIVERGED = 2 * np.log(2)  # mean loss, in nats: twice that of a model that gives every item the probability 1/2
STEPS_PER_CALL = 1000  # steps of one graph call: long enough that the call costs nothing, short enough for a progress bar


class Loss(nn.Cell):
    """Binary cross-entropy of groups whose first item is the positive: (g, 1 + num_neg), in nats."""

    def __init__(self, head, groups, num_neg):
        super().__init__()
        self.head = head
        self.label = Tensor(np.tile(np.eye(1, 1 + num_neg, dtype=np.float32), (groups, 1)))
        self.cross_entropy = ops.SigmoidCrossEntropyWithLogits()

    def construct(self, user_gmf, user_mlp, item_gmf, item_mlp):
        return self.cross_entropy(self.head(user_gmf, user_mlp, item_gmf, item_mlp), self.label)


class TrainSteps(nn.Cell):
    """Many training steps of Adam in one graph call.

    Args:
        net: NCF; its parameters are trained.
        groups: groups a step.
        num_neg: negatives a group.
        betas, epsilon: of Adam.
        tables: how the embedding tables are updated. "lazy" updates the rows that occur in the batch and leaves the
            moments of all others as they are, so that a step does not touch the whole tables: the fused CPU kernel;
            "lazy basic" is the same in basic operations, which run on every device. "dense" is plain Adam, faster once
            most rows occur in a batch.
        weight_decay: decoupled weight decay of the tables (AdamW); needs "dense".
    """

    def __init__(self, net, groups, num_neg, betas, epsilon, tables, weight_decay=0.0):
        super().__init__()
        self.net = net
        self.weights = ms.ParameterTuple(net.head.trainable_params())
        self.weights_m = self.weights.clone("m", "zeros")
        self.weights_v = self.weights.clone("v", "zeros")
        self.tables = ms.ParameterTuple([getattr(net, name) for name in TABLES])
        self.tables_m = self.tables.clone("m", "zeros")
        self.tables_v = self.tables.clone("v", "zeros")
        self.loss = Loss(net.head, groups, num_neg)
        self.grad = ops.GradOperation(get_all=True, get_by_list=True, sens_param=True)
        shape = (groups, 1 + num_neg)
        self.weight = Tensor(np.full(shape, 1 / np.prod(shape), np.float32))  # of each sample in the mean loss
        self.beta1, self.beta2, self.epsilon = (Tensor(x, ms.float32) for x in (*betas, epsilon))
        self.zero = Tensor(0, ms.float32)  # beta^t: the bias of the moments is in the rates already
        self.update = tables
        self.adam = ops.Adam()
        self.adam_w = ops.AdamWeightDecay()
        self.weight_decay = Tensor(weight_decay, ms.float32)
        self.decays = weight_decay > 0
        self.row_adam = ops.FusedSparseLazyAdam() if tables == "lazy" else None
        self.gather = ops.Gather()
        self.segment_sum = ops.UnsortedSegmentSum()
        self.scatter = ops.ScatterUpdate()

    def construct(self, users, items, rates, steps, step, total):
        """Runs the steps `step` to `steps` - 1.

        users (s, g) and items (s, g * (1 + num_neg)) int32; rates (s,) learning rate of each step, corrected for the
        bias of the moments. The counter and `total` (g, 1 + num_neg) start as arguments, since constants of a graph
        would keep their last value for the next call.

        Returns:
            `total` and the cross-entropy of all steps, added up.
        """
        while step < steps:
            user, item = self.gather(users, step, 0), self.gather(items, step, 0)
            rows = (self.gather(self.tables[0], user, 0), self.gather(self.tables[1], user, 0),
                    self.gather(self.tables[2], item, 0), self.gather(self.tables[3], item, 0))
            total += self.loss(*rows)
            row_grads, grads = self.grad(self.loss, self.weights)(*rows, self.weight)
            rate = self.gather(rates, step, 0)
            for k in range(4):
                self._update_table(k, user if k < 2 else item, rows[k], row_grads[k], rate)
            for k in range(len(self.weights)):
                self._adam(self.weights[k], self.weights_m[k], self.weights_v[k], rate, grads[k])
            step += 1
        return total

    def _adam(self, weight, m, v, rate, grad):
        self.adam(weight, m, v, self.zero, self.zero, rate, self.beta1, self.beta2, self.epsilon, grad)

    def _update_table(self, k, index, rows, grad, rate):
        table, m, v = self.tables[k], self.tables_m[k], self.tables_v[k]
        if self.update == "lazy":
            self.row_adam(table, m, v, self.zero, self.zero, rate, self.beta1, self.beta2, self.epsilon, grad, index)
        elif self.update == "dense":
            grad = self.segment_sum(grad, index, table.shape[0])
            if self.decays:
                self.adam_w(table, m, v, rate, self.beta1, self.beta2, self.epsilon, self.weight_decay, grad)
            else:
                self._adam(table, m, v, rate, grad)
        else:
            # a row that occurs several times is written several times, each time with the same value
            grad = self.gather(self.segment_sum(grad, index, table.shape[0]), index, 0)
            m_rows = self.beta1 * self.gather(m, index, 0) + (1 - self.beta1) * grad
            v_rows = self.beta2 * self.gather(v, index, 0) + (1 - self.beta2) * grad * grad
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


class EpochAverage:
    """The model of an epoch: the mean of the parameters after the last `number` epochs, that one included."""

    def __init__(self, number):
        self.number = number
        self.recent = []  # parameters after these epochs, see NCF.values

    def __call__(self, values):
        """Adds the parameters after an epoch and returns the mean."""
        self.recent = [*self.recent, values][-self.number:]
        return {name: np.mean([one[name] for one in self.recent], 0) for name in values}


def epochs(net, dataset, config, device):
    """Trains a network and yields the model after each of `train_epochs` epochs, see EpochAverage.

    Args:
        net, dataset, config, device: see Trainer; config also has average_epochs.
    """
    trainer, average = Trainer(net, dataset, config, device), EpochAverage(config.average_epochs)
    for number in range(config.train_epochs):
        trainer.epoch(number)
        yield average(net.values())


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
        update = "dense" if not config.lazy_adam else "lazy" if device == "CPU" else "lazy basic"
        self.cell = TrainSteps(net, self.groups, config.num_neg, (config.beta1, config.beta2), config.epsilon, update,
                               config.weight_decay)
        self.cell.set_train()
        self.sampler = ThreadPoolExecutor(1)
        self.next = None  # number of the epoch whose samples are being drawn, and their future

    def moments(self):
        """Adam's moments, as sets for save_checkpoint: prefixes "m." and "v.", names of the parameters as in NCF.values."""
        return {prefix: {name: p.asnumpy().copy() for name, p in named.items()} for prefix, named in self._moments()}

    def set_moments(self, values):
        """Puts back what `moments` returned, from the content of a checkpoint; to be called before the first epoch."""
        for prefix, named in self._moments():
            for name, p in named.items():
                p.set_data(Tensor(values[prefix + name]))

    def _moments(self):
        cell = self.cell
        names = {id(p): name for name, p in cell.net.parameters_and_names()}
        trained = [*cell.tables, *cell.weights]
        both = (("m.", [*cell.tables_m, *cell.weights_m]), ("v.", [*cell.tables_v, *cell.weights_v]))
        return [(prefix, {names[id(p)]: moment for p, moment in zip(trained, moments)}) for prefix, moments in both]

    def samples(self, number):
        """Users (steps * g,) and items (steps * g, 1 + num_neg) of epoch `number`: fresh negatives in a fresh order."""
        config = self.config
        order = generator(config.seed, "order", number).permutation(self.dataset.num_interactions)
        order = np.resize(order, self.steps * self.groups)
        items = training_groups(self.dataset, config.num_neg, generator(config.seed, "negatives", number), self.pairs, order)
        return self.dataset.user[order], items

    def _next_samples(self, number):
        """`samples(number)`, drawn in the background during the epoch before; starts on those of the next epoch."""
        future = self.next[1] if self.next and self.next[0] == number else self.sampler.submit(self.samples, number)
        samples = future.result()
        if number + 1 < self.config.train_epochs:
            self.next = number + 1, self.sampler.submit(self.samples, number + 1)
        return samples

    def epoch(self, number):
        """Trains for epoch `number` (from 0), on fresh negatives in a fresh order.

        Returns:
            Mean loss over the steps, in nats.

        Raises:
            FloatingPointError: the loss diverges.
        """
        users, items = self._next_samples(number)
        per_call = min(STEPS_PER_CALL, self.steps)
        total = 0.0
        with progress(self.steps, f"epoch {number + 1}", "step") as bar:
            for first in range(0, self.steps, per_call):
                steps = min(per_call, self.steps - first)
                part = slice(first * self.groups, (first + steps) * self.groups)
                loss = self.run_steps(users[part], items[part], steps, per_call, number * self.steps + first)
                if not loss < DIVERGED * steps:  # not a number is not below it either
                    raise FloatingPointError(f"--learning_rate {self.config.learning_rate}: the loss diverged in epoch "
                                             f"{number + 1}, steps {first + 1} to {first + steps} of {self.steps}, "
                                             f"to a mean of {loss / steps:.3g}; lower it")
                total += loss
                bar.update(steps)
        return total / self.steps

    def run_steps(self, users, items, steps, per_call, first_step):
        """Sum of the mean losses of `steps` steps; the arrays are filled up to `per_call` steps, unused."""
        at = first_step + np.arange(per_call)
        correction = np.sqrt(1 - self.config.beta2 ** (at + 1)) / (1 - self.config.beta1 ** (at + 1))
        rates = (self.rates[np.minimum(at, len(self.rates) - 1)] * correction).astype(np.float32)
        width = 1 + self.config.num_neg
        total = self.cell(Tensor(np.resize(users, (per_call, self.groups))),
                          Tensor(np.resize(items, (per_call, self.groups * width))), Tensor(rates),
                          Tensor(steps, ms.int32), Tensor(0, ms.int32), Tensor(np.zeros((self.groups, width), np.float32)))
        return float(total.asnumpy().mean(dtype=np.float64))
