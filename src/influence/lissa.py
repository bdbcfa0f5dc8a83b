"""Solver `lissa`: influences over all parameters by the paper's stochastic recursion (Agarwal et al., JMLR 2017).

h <- v + (1 - damping) h - (H_batch h) / scale from h = v on, with v the gradient of a user's validation loss. Many users are
computed in one call, each with a copy of the parameters that occur: in the embedding tables h is zero outside the rows of v
and of the batches, so that time and memory do not depend on the size of the tables. See docs/maths.md, section 3.
"""
import logging

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ..ncf import NUM_TABLES, TABLES, USER_TABLES, dense_weights
from ..stat_utils import generator, sample_outside
from .tangent import Effect, Gradient, Recursion

logger = logging.getLogger("ifrqe")

CALLS = 8  # chunk_size holds so many calls' samples: a sample takes several times the memory of a pair in `block`
TILE = 64  # interactions of a user whose influences are computed in one call
POWER_STEPS, POWER_BATCHES, MARGIN = 12, 8, 1.5  # for the measured scale: largest eigenvalue over batches, times the margin
UNSOLVED = 0.1  # residual, relative to the gradient, from which on `lissa` warns
NOT_FINITE = "--solver lissa: the model's {} is not finite; train it anew with a lower learning_rate"


class Lissa:
    """Solver `lissa`.

    Args:
        net: NCF.
        dataset: Dataset; its test items are not looked at.
        chunks: Chunks of it.
        config: lissa_depth, lissa_batch, lissa_scale (0 = measured), lissa_damping, num_neg, chunk_size,
            seed (of the batches).
        targets: (num_users, t) items whose losses are predicted, each by itself.
    """

    def __init__(self, net, dataset, chunks, config, targets):
        self.net, self.dataset, self.chunks, self.config, self.targets = net, dataset, chunks, config, targets
        self.trained = np.flatnonzero(chunks.disclosed)  # positions of the interactions that the model was trained on
        self.groups = min(max(1, config.lissa_batch // (1 + config.num_neg)), len(self.trained))
        self.copies = max(1, min(dataset.num_users, config.chunk_size // (CALLS * config.lissa_batch)))
        drawn = config.lissa_depth * self.groups
        # rows of h that can differ from zero, and row 0, which stands for all others
        self.rows = (1 + min(dataset.num_users, self.copies + drawn),
                     1 + min(dataset.num_items, self.copies + drawn * (1 + config.num_neg)))
        samples = self.groups * (1 + config.num_neg)
        label = np.zeros((self.groups, 1 + config.num_neg), np.float32)
        label[:, 0] = 1
        self.label = Tensor(label.reshape(-1, 1))
        self.weight = Tensor(np.full((samples, 1), 1 / samples, np.float32))
        arrays = NUM_TABLES + len(dense_weights(net.values()))
        self.arrays = arrays
        self.gradient, self.recursion, self.effect = Gradient(arrays), Recursion(arrays), Effect(arrays)
        self.residuals, self.scales = [], []

    def start(self):
        """To be called when the network has got its parameters; measures the scale."""
        values = self.net.values()
        self.tables = [values[name] for name in TABLES]
        self.copied = [Tensor(np.repeat(array[None], self.copies, 0)) for array in dense_weights(values)]
        self.on_device = [Tensor(table) for table in self.tables] + self.copied
        self.scale = self.config.lissa_scale or self._measured_scale()
        self.scales.append(self.scale)

    def __call__(self, chunk):
        """(u, m, t) influences of the interactions of a chunk, in nats."""
        positives = chunk.items[:, :, 0]
        effect = np.stack([np.concatenate([
            self._effects(chunk.users[k:k + self.copies], positives[k:k + self.copies], target)
            for k in range(0, len(chunk.users), self.copies)]) for target in range(self.targets.shape[1])], -1)
        samples = len(self.trained) * (1 + self.config.num_neg)
        return effect / (self.scale * samples)

    def report(self):
        """What preprocess.json says about the solution: scale, and residual of the last step's batch, relative to v.

        Of what this process has computed; nothing if that is nothing. Warns if the residual is large.
        """
        if not self.residuals:
            return {}
        residual = float(np.mean(np.concatenate(self.residuals)))
        if residual > UNSOLVED:
            logger.warning("lissa: the residual after %d steps is %.2f of the gradient, so H^-1 is applied only roughly; "
                           "more --lissa_depth or --lissa_damping lowers it", self.config.lissa_depth, residual)
        return {"lissa_scale": float(np.mean(self.scales)), "lissa_residual": residual}

    def _effects(self, users, items, target):
        """(u, m) products of h with the gradients of the losses of the positives `items` (u, m)."""
        batches = self._draw(users, target)
        h = self._solve(users, batches)
        _, item_row = batches.rows
        label = Tensor(np.ones((self.copies, TILE), np.float32))
        user_place = batches.own_user * self.copies + np.arange(self.copies, dtype=np.int32)
        effect = np.empty(items.shape)
        for start in range(0, items.shape[1], TILE):
            tile = np.zeros((2, self.copies, TILE), np.int32)
            part = items[:, start:start + TILE]
            width = part.shape[1]
            tile[0, :len(users), :width] = part
            tile[1] = item_row[tile[0]] * self.copies + np.arange(self.copies)[:, None]
            found = self.effect(Tensor(batches.users), Tensor(tile[0]), Tensor(user_place), Tensor(tile[1]), label,
                                *self.on_device, *h)
            effect[:, start:start + TILE] = found.asnumpy()[:len(users), :width]
        return effect

    def _draw(self, users, target):
        return _Batches(self, users, target)

    def _solve(self, users, batches):
        """h of each user, as tensors.

        Raises:
            FloatingPointError: the recursion grows, or a gradient is not finite.
        """
        config = self.config
        v, size = batches.gradients()
        if not np.isfinite(size).all():
            raise FloatingPointError(NOT_FINITE.format("gradient of a validation loss"))
        h = v
        bound = 2 * np.sqrt(size)
        for k in range(config.lissa_depth):
            h, new_size, change = self._step(batches, k, 1 - config.lissa_damping, 1 / self.scale, h, v)
            norm = np.sqrt(new_size.asnumpy()[:len(users)])
            # as long as no step enlarges h, it is at most the sum of k + 2 vectors as long as v
            if not (norm <= (k + 2) * bound[:len(users)]).all():
                given = "" if config.lissa_scale else " (measured)"
                raise FloatingPointError(
                    f"--lissa_scale {self.scale:.3g}{given}: the recursion grows in step {k + 1} of {config.lissa_depth}, "
                    f"to {2 * np.max(norm / bound[:len(users)]):.3g} times the gradient; raise it, or --lissa_damping")
        self.residuals.append(np.sqrt(change.asnumpy()[:len(users)] / np.maximum(size[:len(users)], 1e-30)))
        return h

    def _step(self, batches, k, keep, factor, h, v):
        user, item = batches.samples(k)
        return self.recursion(Tensor(user), Tensor(item), self.label, self.weight, Tensor(keep, ms.float32),
                              Tensor(factor, ms.float32), *batches.tables, *self.copied, *h, *v)

    def _measured_scale(self):
        """MARGIN times the largest eigenvalue, by size, of the Hessian over a few batches, by power iteration."""
        batches = self._draw(np.arange(self.copies, dtype=np.int32), 0)
        rng = generator(self.config.seed, "lissa scale")
        v, _ = batches.gradients()
        zero = [Tensor(np.zeros(x.shape, np.float32)) for x in v]
        largest = 0.0
        for k in range(min(POWER_BATCHES, self.config.lissa_depth)):
            h = [Tensor(rng.normal(0, 1, x.shape).astype(np.float32)) for x in v]
            factor, before = 1.0, None
            for _ in range(POWER_STEPS):
                h, size, _ = self._step(batches, k, 0.0, factor, h, zero)
                size = np.sqrt(size.asnumpy().astype(np.float64))
                if before is not None:
                    eigenvalue = float(np.max(size / np.maximum(before * factor, 1e-30)))
                before, factor = size, 1 / max(float(np.max(size)), 1e-30) if before is None else factor
            if not np.isfinite(eigenvalue):
                raise FloatingPointError(NOT_FINITE.format("Hessian"))
            largest = max(largest, eigenvalue)
        return MARGIN * max(largest, 1e-12)


class _Batches:
    """The samples that the recursion of some users sees, and the rows of the tables that occur in them.

    users: (copies,) int32, the users, filled up by repeating them.
    validation: (copies,) items whose losses are predicted.
    own_user, own_item: (copies,) rows of the users and of these items.
    rows: row of every user and every item of the dataset, 0 for those that do not occur.
    tables: the occurring rows of the parameters; row 0 is empty.
    """

    def __init__(self, solver, users, target):
        dataset, config = solver.dataset, solver.config
        self.solver = solver
        self.users = np.resize(users, solver.copies).astype(np.int32)
        self.validation = solver.targets[self.users, target]
        rng = generator(config.seed, "lissa", int(users[0]))
        if solver.groups == len(solver.trained):  # every step sees everything
            place = solver.trained[None]
        else:
            place = solver.trained[rng.integers(0, len(solver.trained), (config.lissa_depth, solver.groups))]
        user, item = dataset.user[place], dataset.item[place]
        drawn = np.unique(user)
        negatives = sample_outside(np.searchsorted(drawn, user.ravel()), solver.chunks.pairs_of(drawn), rng, config.num_neg)
        items = np.concatenate([item[..., None], negatives.reshape(*item.shape, -1)], 2)
        self.rows, self.tables = [], []
        for kind, (ids, number) in enumerate(((np.concatenate([self.users, user.ravel()]), dataset.num_users),
                                              (np.concatenate([self.validation, items.ravel()]),
                                               dataset.num_items))):
            occurring = np.unique(ids)
            row = np.zeros(number, np.int32)
            row[occurring] = np.arange(1, 1 + len(occurring))
            self.rows.append(row)
            for table in solver.tables[USER_TABLES * kind:USER_TABLES * (kind + 1)]:
                compact = np.zeros((solver.rows[kind], table.shape[1]), np.float32)
                compact[1:1 + len(occurring)] = table[occurring]
                self.tables.append(Tensor(compact))
        self.own_user, self.own_item = self.rows[0][self.users], self.rows[1][self.validation]
        self._user = np.repeat(self.rows[0][user], 1 + config.num_neg, axis=1)
        self._item = self.rows[1][items].reshape(len(items), -1)

    def samples(self, k):
        """(b,) rows of the users and items of the samples of step k, groups of a positive and its negatives."""
        return self._user[k % len(self._user)], self._item[k % len(self._item)]

    def gradients(self):
        """Gradients v of the users' validation losses, as tensors in the shapes of h, and (copies,) their squared norms."""
        solver = self.solver
        rows = [Tensor(table[ids][:, None])
                for table, ids in zip(solver.tables, (self.users,) * USER_TABLES + (self.validation,) * USER_TABLES)]
        one = Tensor(np.ones((1, 1), np.float32))
        point = [*rows, *solver.copied]
        found = solver.gradient(one, one, *point, *[ops.zeros_like(x) for x in point])[solver.arrays:]
        v, size = [], np.zeros(solver.copies)
        for k, gradient in enumerate(found):
            gradient = gradient.asnumpy()
            size += (gradient ** 2).sum((1, 2))
            if k < NUM_TABLES:
                own = self.own_user if k < USER_TABLES else self.own_item
                table = np.zeros((solver.rows[k // USER_TABLES], solver.copies, gradient.shape[2]), np.float32)
                table[own, np.arange(solver.copies)] = gradient[:, 0]
                gradient = table
            v.append(Tensor(gradient))
        return v, size
