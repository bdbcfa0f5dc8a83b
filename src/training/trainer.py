"""Training epoch by epoch. See docs/maths.md, section 1."""
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ..candidates import training_groups
from ..common.share import here
from ..common.terminal import progress
from ..stat_utils import generator
from .compiled import CompiledSteps, program
from .shared_steps import SharedSteps
from .steps import TrainSteps

DIVERGED = 2 * np.log(2)  # mean loss, in nats: twice that of a model that gives every item the probability 1/2
STEPS_PER_CALL = 1000  # steps of one graph call: long enough that the call costs nothing, short enough for a progress bar
PART = 10_000_000  # positives whose samples are in memory at a time, and as many more that are drawn meanwhile


def learning_rates(peak, steps_per_epoch, epochs, warmup_epochs):
    """(steps,) float32: rises linearly from 0 to `peak` over the warm-up, then falls linearly to 0."""
    total, warmup = steps_per_epoch * epochs, steps_per_epoch * warmup_epochs
    step = np.arange(total)
    rising = (step + 1) / max(warmup, 1)
    falling = (total - step) / max(total - warmup, 1)
    return (peak * np.minimum(1, np.minimum(rising, falling))).astype(np.float32)


def fitting_batch(config, interactions):
    """Samples a step: batch_size, halved until `interactions` make an epoch of min_steps, or a step holds one positive."""
    batch, group = config.batch_size, 1 + config.num_neg
    while -(-interactions // (batch // group)) < config.min_steps and batch // 2 >= group:
        batch //= 2
    return batch


class Epoch(NamedTuple):
    """What an epoch has come to: its number from 1, the mean loss over its steps in nats, and the seconds they took.

    values: parameters of its model, see Network.values: the mean of those after the last average_epochs, this one included.
    """
    number: int
    loss: float
    seconds: float
    values: dict


def train_on(trainer, finished=0):
    """Trains the train_epochs of a Trainer but those `finished` already, and yields an Epoch after each.

    Raises FloatingPointError: the loss diverges.
    """
    for number in range(finished, trainer.config.train_epochs):
        start = time.perf_counter()
        loss = trainer.epoch(number)
        seconds = time.perf_counter() - start
        recent = trainer.recent = [*trainer.recent, trainer.net.values()][-trainer.config.average_epochs:]
        yield Epoch(number + 1, loss, seconds, {name: np.mean([one[name] for one in recent], 0) for name in recent[0]})


class Trainer:
    """Trains a network epoch by epoch.

    dataset: Dataset with at least one training interaction, for which the Network `net` is.
    config: the training options, num_neg and seed; device: name of the device in use.
    """

    def __init__(self, net, dataset, config, device):
        self.net, self.dataset, self.config = net, dataset, config
        self.recent = []  # parameters after the last epochs, of which an Epoch is the mean
        self.pairs, self.who = dataset.history_pairs(), here().who
        # groups a step, and enough steps for all; the last one is filled up with groups from the epoch's beginning
        everyone = dataset.all_interactions
        self.batch_size = fitting_batch(config, everyone)
        self.batch = self.groups = min(self.batch_size // (1 + config.num_neg), everyone)
        self.steps = -(-everyone // self.groups)
        self.rates = learning_rates(config.learning_rate, self.steps, config.train_epochs, config.warmup_epochs)
        self.propagation = net.propagation(dataset)
        lazy = config.lazy_adam and self.propagation is None  # a step moves every row that is near one of the batch
        update = "dense" if not lazy else "lazy" if device == "CPU" else "lazy basic"
        # where the own steps begin, (steps + 1,), the (steps,) groups that all have in each, and the most that anybody has
        self.starts, self.all_counts, self.groups = here().spread(self.steps, self.groups, dataset.num_interactions)
        self.counts = np.diff(self.starts)
        # other models, devices, and machines without a compiler take the graph's steps, and so do all then
        fit = config.compiled and device == "CPU" and hasattr(net, "in_layers") and program() is not None
        fit = here().each(np.int32(fit)).all()
        kind = TrainSteps if fit or here().size == 1 else SharedSteps
        self.cell = kind(net, self.groups, config, update, self.propagation)
        self.cell.set_train()
        self.compiled = CompiledSteps(net, self.moments(), config, self.groups, here().size) if fit else None
        self.bytes_sent = getattr(self.compiled or self.cell, "bytes_sent", 0)  # in a step
        self.per_call = max(1, min(STEPS_PER_CALL, self.steps, PART // self.groups))
        together = self.per_call * max(1, PART // (self.per_call * self.groups))
        self.parts = [range(first, min(first + together, self.steps)) for first in range(0, self.steps, together)]
        self.sampler = ThreadPoolExecutor(1)
        self.order = self.next = None  # number of an epoch and the order of its positives; what is being drawn, its future

    def go_on_from(self, values):
        """Begins with a model's parameters, which count as an epoch in the mean of the last ones, and at the full rate."""
        self.net.set_values(values)
        self.recent = [values]
        self.rates = learning_rates(self.config.learning_rate, self.steps, self.config.train_epochs, warmup_epochs=0)

    def moments(self):
        """Adam's moments: by the prefixes "m." and "v." dicts of Parameters by name, as of Network.values."""
        cell, names = self.cell, {id(p): name for name, p in self.net.parameters_and_names()}
        trained = [names[id(p)] for p in (*cell.tables, *cell.weights)]
        return {"m.": dict(zip(trained, (*cell.tables_m, *cell.weights_m))),
                "v.": dict(zip(trained, (*cell.tables_v, *cell.weights_v)))}

    def samples(self, number, part=0):
        """Users (s * g,) and items (s * g, 1 + num_neg) of a part of epoch `number`, see `parts`, whose steps are s.

        An epoch takes the positives in a fresh order, with fresh negatives.
        """
        config, steps, total = self.config, self.parts[part], self.dataset.num_interactions
        if not total:  # nothing of what is then taken has weight
            return tuple(np.zeros((len(steps) * self.groups, *more), np.int32) for more in ((), (1 + config.num_neg,)))
        order = self.order
        if order is None or order[0] != number:
            permuted = generator(config.seed, "order", number, *self.who).permutation(total)
            self.order = order = number, permuted.astype(np.int32)
        # what fills a step up has no weight, so it is taken from the same step
        place, count = (values[steps.start:steps.stop, None].astype(np.int32) for values in (self.starts, self.counts))
        place = place + np.arange(self.groups, dtype=np.int32) % np.maximum(count, 1)
        place %= total
        order, rng = order[1][place.ravel()], generator(config.seed, "negatives", number, *self.who, *[part] * (part > 0))
        return self.dataset.user[order], training_groups(self.dataset, config.num_neg, rng, self.pairs, order)

    def _drawn(self, number, part):
        """`samples(number, part)`, drawn in the background during the part before; starts on those of the next part."""
        wanted, ahead = (number, part), self.next
        samples = (ahead[1] if ahead and ahead[0] == wanted else self.sampler.submit(self.samples, *wanted)).result()
        after = (number, part + 1) if part + 1 < len(self.parts) else (number + 1, 0)
        if after[0] < self.config.train_epochs:
            self.next = after, self.sampler.submit(self.samples, *after)
        return samples

    def epoch(self, number):
        """Trains for epoch `number` (from 0), on fresh negatives in a fresh order; returns the mean loss in nats.

        Raises FloatingPointError: the loss diverges.
        """
        with progress(self.steps, f"epoch {number + 1}", "step") as bar:
            total = sum(self._train_part(number, part, bar) for part in range(len(self.parts)))
        if self.propagation is not None:  # the tables that logits are read from are not those that were trained
            tables = self.propagation(*(Tensor(getattr(self.net, name).asnumpy()) for name in self.net.TABLES))
            for name, table in zip(self.net.SCORED, tables):
                getattr(self.net, name).set_data(Tensor(table.asnumpy()))
        return total / self.steps

    def _train_part(self, number, part, bar):
        """The sum of the mean losses of its steps."""
        (users, items), total, begin = self._drawn(number, part), 0.0, self.parts[part].start
        for first in self.parts[part][::self.per_call]:
            steps = min(self.per_call, self.parts[part].stop - first)
            own = slice((first - begin) * self.groups, (first - begin + steps) * self.groups)
            loss = self.run_steps(users[own], items[own], steps, self.per_call, number * self.steps + first)
            if not loss < DIVERGED * steps:  # not a number is not below it either
                raise FloatingPointError(f"--learning_rate {self.config.learning_rate}: the loss diverged in epoch "
                                         f"{number + 1}, steps {first + 1} to {first + steps} of {self.steps}, "
                                         f"to a mean of {loss / steps:.3g}; lower it")
            total += loss
            bar.update(steps)
        return total

    def run_steps(self, users, items, steps, per_call, first_step):
        """Sum of the mean losses of `steps` steps; the arrays are filled up to `per_call` steps, unused."""
        at = first_step + np.arange(per_call)
        correction = np.sqrt(1 - self.config.beta2 ** (at + 1)) / (1 - self.config.beta1 ** (at + 1))
        rates = (self.rates[np.minimum(at, len(self.rates) - 1)] * correction).astype(np.float32)
        width, now = 1 + self.config.num_neg, np.arange(first_step, first_step + steps) % self.steps
        here().each(0)  # MindSpore's exchanges give up if a rank comes half a minute late
        own, everyone = self.counts[now], np.maximum(self.all_counts[now], 1)  # of a small batch a step may have none
        if self.compiled:
            return float(here().total(self.compiled(users, items, own, everyone * width, rates[:steps])))
        weights = ((np.arange(self.groups) < own[:, None]) / (everyone * width)[:, None]).astype(np.float32)
        total = self.cell(Tensor(_filled(users, (per_call, self.groups))),
                          Tensor(_filled(items, (per_call, self.groups * width))), Tensor(rates), Tensor(steps, ms.int32),
                          Tensor(0, ms.int32), Tensor(np.zeros((self.groups, width), np.float32)),
                          Tensor(_filled(weights, (per_call, self.groups))))
        return float(here().total(total.asnumpy().astype(np.float64).mean()))


def _filled(values, shape):
    """`values` in a shape, repeated where they are too few, but not copied where they are enough."""
    return values.reshape(shape) if values.size == np.prod(shape) else np.resize(values, shape)
