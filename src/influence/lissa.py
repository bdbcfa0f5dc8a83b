"""Solver `lissa`: influences over all parameters by the paper's stochastic recursion (Agarwal et al., JMLR 2017).

h <- v + (1 - damping) h - (H_batch h) / scale from h = v on, with v the gradient of a user's validation loss. Many users are
computed in one call, each with a copy of the parameters that occur: in the embedding tables h is zero outside the rows of v
and of the batches, so that time and memory do not depend on the size of the tables. See docs/maths.md, section 3.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..common.terminal import logger
from ..ncf import NCF
from ..stat_utils import generator, sample_outside

DAMPING = 0.01  # share of the direction dropped in each step
BATCH = 256  # samples of a step, negatives included
CALLS = 8  # chunk_size holds so many calls' samples: a sample takes several times the memory of a pair in `block`
TILE = 64  # interactions of a user whose influences are computed in one call
POWER_STEPS, POWER_BATCHES, MARGIN = 12, 8, 1.5  # for the measured scale: largest eigenvalue over batches, times the margin
UNSOLVED = 0.1  # residual, relative to the gradient, from which on `lissa` warns
NUM_TABLES = len(NCF.TABLES)
NOT_FINITE = "--solver lissa: the model's {} is not finite; train it anew with a lower learning_rate"


def dense_weights(values):
    """The weights behind the embeddings as matrices: GMF weight (f, 1), then (out, in) and (1, out) of each layer."""
    gmf, user, item, *further = NCF.in_layers(values)[NUM_TABLES:]
    return [gmf[:, None], np.concatenate([user, item], 1), *(x if x.ndim > 1 else x[None] for x in further)]


class Tangent(nn.Cell):
    """Weighted derivatives of samples' cross-entropies along a direction in parameter space, for u copies of the parameters.

    The gradient of their sum in the direction is that of the loss, the one in the parameters a Hessian-vector product.
    `arrays`: of how many arrays the parameters consist.
    """

    def __init__(self, arrays: int):
        super().__init__()
        self.arrays, self.multiply, self.multiply_transposed = arrays, ops.BatchMatMul(), ops.BatchMatMul(transpose_b=True)

    def construct(self, label, weight, *arguments):
        """Labels, 1 or 0, and weights that broadcast to (u, b, 1); the parameters, then the direction -> (u, b, 1).

        Either: rows of NCF.TABLES of b samples, (u, b, width), and `dense_weights` with u in front.
        """
        n = self.arrays
        p, r, q, t = arguments[:NUM_TABLES]
        dp, dr, dq, dt = arguments[n:n + NUM_TABLES]
        product = p * q
        gmf = self.multiply(product, arguments[NUM_TABLES])
        d_gmf = self.multiply(dp * q + p * dq, arguments[NUM_TABLES]) + self.multiply(product, arguments[n + NUM_TABLES])
        x, dx = ops.concat((r, t), 2), ops.concat((dr, dt), 2)
        for k in range(NUM_TABLES + 1, n, 2):
            if k > NUM_TABLES + 1:  # ReLU
                on = ops.cast(x > 0, ms.float32)
                x, dx = x * on, dx * on
            matrix, d_matrix = arguments[k], arguments[n + k]
            dx = self.multiply_transposed(dx, matrix) + self.multiply_transposed(x, d_matrix) + arguments[n + k + 1]
            x = self.multiply_transposed(x, matrix) + arguments[k + 1]
        return weight * (ops.sigmoid(x + gmf) - label) * (dx + d_gmf)


class Recursion(nn.Cell):
    """One step of the recursion for u users on one batch of samples."""

    def __init__(self, arrays):
        super().__init__()
        self.arrays, self.tangent = arrays, Tangent(arrays)
        self.grad = ops.GradOperation(get_all=True)
        self.gather, self.transpose, self.segment_sum = ops.Gather(), ops.Transpose(), ops.UnsortedSegmentSum()

    def construct(self, user, item, label, weight, keep, factor, *arguments):
        """v + keep * h - factor * H h, and (u,) squared norms of it and of its difference from h.

        user, item: (b,) the samples' rows in the tables of h; label, weight: (b, 1). Then the parameters: (b, width) rows of
        each table, dense weights (u, ...); h and v: tables (rows, u, width), dense weights (u, ...).
        """
        n, index = self.arrays, (user, user, item, item)
        h, v = arguments[n:2 * n], arguments[2 * n:]
        rows, directions = (), ()
        for k in range(NUM_TABLES):
            rows += (ops.broadcast_to(arguments[k], (h[n - 1].shape[0], *arguments[k].shape)),)
            directions += (self.transpose(self.gather(h[k], index[k], 0), (1, 0, 2)),)
        products = self.grad(self.tangent)(label, weight, *rows, *arguments[NUM_TABLES:n], *directions, *h[NUM_TABLES:])
        new, size, change = (), 0.0, 0.0
        for k in range(n):
            product, axes = products[2 + k], (1, 2)
            if k < NUM_TABLES:
                product, axes = self.segment_sum(self.transpose(product, (1, 0, 2)), index[k], h[k].shape[0]), (0, 2)
            value = v[k] + keep * h[k] - factor * product
            size += (value * value).sum(axes)
            change += ((value - h[k]) * (value - h[k])).sum(axes)
            new += (value,)
        return new, size, change


class Lissa:
    """Solver `lissa`: an NCF, a Dataset, whose test items are not looked at, Chunks of it, and targets as those of Block.

    config: lissa_depth, lissa_scale (0 = measured), num_neg, chunk_size, seed (of the batches).
    """

    def __init__(self, net, dataset, chunks, config, targets):
        self.net, self.dataset, self.chunks, self.config, self.targets = net, dataset, chunks, config, targets
        self.trained, self.group = np.flatnonzero(chunks.disclosed), 1 + config.num_neg  # positions; samples of a positive
        self.groups = min(max(1, BATCH // self.group), len(self.trained))
        self.copies = max(1, min(dataset.num_users, config.chunk_size // (CALLS * BATCH)))
        samples = self.groups * self.group
        self.label = Tensor((np.arange(samples)[:, None] % self.group == 0).astype(np.float32))
        self.weight, self.one = Tensor(np.full((samples, 1), 1 / samples, np.float32)), Tensor(np.ones((1, 1), np.float32))
        arrays = NUM_TABLES + len(dense_weights(net.values()))
        self.tangent, self.recursion = Tangent(arrays), Recursion(arrays)
        self.gradient = ops.GradOperation(get_all=True)(self.tangent)
        self.residuals, self.scales = [], []

    def start(self):
        """To be called when the network has got its parameters; measures the scale."""
        values = self.net.values()
        self.tables = [values[name] for name in NCF.TABLES]
        self.dense = [Tensor(np.repeat(array[None], self.copies, 0)) for array in dense_weights(values)]
        drawn = self.config.lissa_depth * self.groups  # h has the rows that can differ from zero; its row 0 is all others
        shapes = [(1 + min(len(table), self.copies + drawn * n), self.copies, table.shape[1])
                  for table, n in zip(self.tables, (1, 1, self.group, self.group))] + [x.shape for x in self.dense]
        self.zero = [Tensor(np.zeros(shape, np.float32)) for shape in shapes]
        self.scale = self.config.lissa_scale or self._measured_scale()
        self.scales.append(self.scale)

    def __call__(self, chunk):
        """(u, m, t) influences of the interactions of a chunk, in nats; positive = disclosing helps."""
        effect = np.empty((*chunk.items.shape[:2], self.targets.shape[1]))
        for target in range(effect.shape[2]):
            for part in [slice(k, k + self.copies) for k in range(0, len(effect), self.copies)]:
                effect[part, :, target] = self._effects(chunk.users[part], chunk.items[part, :, 0], target)
        return effect / (self.scale * (len(self.trained) * self.group))

    def report(self):
        """For preprocess.json: scale, and residual of the last steps relative to v."""
        residual = float(np.mean(np.concatenate(self.residuals)))
        if residual > UNSOLVED:
            logger.warning("lissa: the residual after %d steps is %.2f of the gradient, so H^-1 is applied only roughly; "
                           "more --lissa_depth lowers it", self.config.lissa_depth, residual)
        return {"lissa_scale": float(np.mean(self.scales)), "lissa_residual": residual}

    def _effects(self, users, items, target):
        """(u, m) products of h with the gradients of the losses of the positives `items` (u, m)."""
        drawn = self._draw(users, target)
        h = self._solve(drawn, len(users))
        tables = [x.asnumpy() for x in h[:NUM_TABLES]]
        padded = np.pad(items, ((0, self.copies - len(items)), (0, -items.shape[1] % TILE)))
        effect = np.empty(padded.shape)
        for start in range(0, items.shape[1], TILE):
            point, places = self._own(drawn, padded[:, start:start + TILE])
            along = [Tensor(table[place]) for table, place in zip(tables, places)]
            found = self.tangent(self.one, self.one, *point, *along, *h[NUM_TABLES:])
            effect[:, start:start + TILE] = found.asnumpy()[..., 0]
        return effect[:len(items), :items.shape[1]]

    def _draw(self, users, target):
        """What the recursion of some users sees: three pairs, of users and of items each.

        (copies,) the users, filled up by repeating them, and their targets; (steps, b) samples of each step, groups of a
        positive and its negatives; the row in h of everyone and everything in the dataset, 0 of those that do not occur.
        """
        dataset, config = self.dataset, self.config
        own, rng = np.resize(users, self.copies).astype(np.int32), generator(config.seed, "lissa", int(users[0]))
        place = self.trained[None]  # every step sees everything
        if self.groups < len(self.trained):
            place = self.trained[rng.integers(0, len(self.trained), (config.lissa_depth, self.groups))]
        user, item = dataset.user[place], dataset.item[place]
        some, inverse = np.unique(user, return_inverse=True)
        negatives = sample_outside(inverse.ravel(), self.chunks.pairs_of(some), rng, config.num_neg)
        items = np.concatenate([item[..., None], negatives.reshape(*item.shape, -1)], 2).reshape(len(item), -1)
        own, samples = (own, self.targets[own, target]), (np.repeat(user, self.group, axis=1), items)
        rows = np.zeros(dataset.num_users, np.int32), np.zeros(dataset.num_items, np.int32)
        for row, ids, more in zip(rows, own, samples):
            occurring = np.unique(np.concatenate([ids, more.ravel()]))
            row[occurring] = np.arange(1, 1 + len(occurring))
        return own, samples, rows

    def _point(self, users, items):
        return [*(Tensor(table[ids]) for table, ids in zip(self.tables, (users, users, items, items))), *self.dense]

    def _own(self, drawn, items):
        """_point of each user's own samples with (copies, m) `items`, and the places of the tables' rows in h."""
        (users, _), _, (user_row, item_row) = drawn
        users, copy = np.broadcast_to(users[:, None], items.shape), np.arange(self.copies)[:, None]
        return self._point(users, items), 2 * [(user_row[users], copy)] + 2 * [(item_row[items], copy)]

    def _solve(self, drawn, users):
        """h as tensors, of which so many `users` matter; FloatingPointError if it grows or a gradient is not finite."""
        config, ((_, targets), _, _) = self.config, drawn
        point, places = self._own(drawn, targets[:, None])
        found = self.gradient(self.one, self.one, *point, *[ops.zeros_like(x) for x in point])
        v = [x.asnumpy() for x in found[-len(point):]]  # gradients of the users' validation losses
        size = sum(((x ** 2).sum((1, 2)) for x in v), np.zeros(self.copies))[:users]
        if not np.isfinite(size).all():
            raise FloatingPointError(NOT_FINITE.format("gradient of a validation loss"))
        for k, place in enumerate(places):
            table = np.zeros(self.zero[k].shape, np.float32)
            table[place], v[k] = v[k], table
        h = v = [Tensor(x) for x in v]
        bound = 2 * np.sqrt(size)
        for k in range(config.lissa_depth):
            h, new_size, change = self._step(drawn, k, 1 - DAMPING, 1 / self.scale, h, v)
            norm = np.sqrt(new_size.asnumpy()[:users])
            # as long as no step enlarges h, it is at most the sum of k + 2 vectors as long as v
            if not (norm <= (k + 2) * bound).all():
                given = "" if config.lissa_scale else " (measured)"
                raise FloatingPointError(
                    f"--lissa_scale {self.scale:.3g}{given}: the recursion grows in step {k + 1} of {config.lissa_depth}, "
                    f"to {2 * np.max(norm / bound):.3g} times the gradient; raise it")
        self.residuals.append(np.sqrt(change.asnumpy()[:users] / np.maximum(size, 1e-30)))
        return h

    def _step(self, drawn, k, keep, factor, h, v):
        _, samples, (user_row, item_row) = drawn
        user, item = (ids[k % len(ids)] for ids in samples)
        return self.recursion(Tensor(user_row[user]), Tensor(item_row[item]), self.label, self.weight,
                              Tensor(keep, ms.float32), Tensor(factor, ms.float32), *self._point(user, item), *h, *v)

    def _measured_scale(self):
        """MARGIN times the largest eigenvalue, by size, of the Hessian over a few batches, by power iteration."""
        drawn, eigenvalues = self._draw(np.arange(self.copies, dtype=np.int32), 0), [1e-12]
        rng = generator(self.config.seed, "lissa scale")
        for k in range(min(POWER_BATCHES, self.config.lissa_depth)):
            h, factor, norms = [Tensor(rng.normal(0, 1, x.shape).astype(np.float32)) for x in self.zero], 1.0, []
            for _ in range(POWER_STEPS):
                h, size, _ = self._step(drawn, k, 0.0, factor, h, self.zero)
                norms.append(np.sqrt(size.asnumpy().astype(np.float64)))
                factor = 1 / max(float(np.max(norms[0])), 1e-30)
            eigenvalues.append(float(np.max(norms[-1] / np.maximum(norms[-2] * factor, 1e-30))))
        if not np.isfinite(eigenvalues).all():
            raise FloatingPointError(NOT_FINITE.format("Hessian"))
        return MARGIN * max(eigenvalues)
