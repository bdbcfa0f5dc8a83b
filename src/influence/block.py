"""Solvers `block` and `blend`: the Hessian in the user's own embedding row, and how alike the items are.

The logit is piecewise linear in that row, so `block` is exactly the sum of s (1 - s) J J^T over the user's samples, with s
the sigmoid of the logit and J its gradient in the row. `blend` adds a ridge regression on the embeddings of the items.
See docs/maths.md, section 3.
"""
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..stat_utils import sigmoid

_PAIRS = 1 << 13  # of a chunk that a thread has in hand: they fit into the processor's cache
TINY = 1e-12  # least diagonal of a block: a user whose every prediction is certain has a zero Hessian


class Block:
    """Solver `block`.

    Args:
        net: Network.
        dataset: Dataset; its test items are not looked at.
        chunks: Chunks of it.
        config: damping (relative).
        targets: (num_users, t) items whose losses are predicted, each by itself.
    """

    def __init__(self, net, dataset, chunks, config, targets):
        self.net, self.dataset, self.config, self.targets = net, dataset, config, targets
        self.jacobian = net.rows_of_users(chunks.pairs_per_call)
        self.pool = ThreadPoolExecutor(os.cpu_count())

    def report(self):
        """What preprocess.json says about the solution beside the settings."""
        return {}

    def start(self):
        """To be called when the network has got its parameters."""
        self.jacobian.start()
        self.entry = self.jacobian.entry
        shape = self.targets.shape
        user = np.repeat(np.arange(len(self.targets), dtype=np.int32), shape[1])
        logit, gradient = self.jacobian(user, self.targets.ravel())
        slope = 1 - sigmoid(logit.astype(np.float64))  # of -l(y) in its logit: a target is a positive
        gradient = (gradient * -slope[:, None]) @ self.entry
        self.slope = slope.reshape(shape)
        self.gradient = gradient.reshape(*shape, -1).transpose(0, 2, 1)  # (num_users, d, t)

    def __call__(self, chunk):
        """(u, m, t) influences of the interactions of a chunk, in nats."""
        size = max(1, _PAIRS // chunk.items[0].size)
        needed = self.prepared(chunk)

        def part(start):
            users = slice(start, start + size)
            return self.of_users(*(None if array is None else array[users] for array in needed))
        return np.concatenate(list(self.pool.map(part, range(0, len(chunk.users), size))))

    def prepared(self, chunk):
        """What of_users takes, of all users of a chunk: the graph and the long products, which have threads of their own.

        Returns:
            users: (u,).
            residual: (u, m, 1), d loss / d logit of each positive.
            positives: (u, m, w), gradients of their logits; see network.Rows.
            used, inside: (u, w, w) float64 sums of s (1 - s) times the outer products of the gradients of the samples, of
                the interactions that the model was trained on and of all; `inside` is None where these are the same.
        """
        shape = chunk.items.shape
        pairs = shape[1] * shape[2]
        logit, rows = self.jacobian(np.repeat(chunk.users, pairs), chunk.items.ravel())
        probability = sigmoid(logit).reshape(shape)
        rows = rows.reshape(len(chunk.users), pairs, -1)
        weight = np.sqrt(probability * (1 - probability))

        def sums(samples):
            return gram(rows * (weight * samples[..., None]).reshape(len(chunk.users), pairs, 1))
        positives = rows.reshape(*shape, -1)[:, :, 0]
        return chunk.users, probability[:, :, :1] - 1, positives, *_of_used_and_inside(sums, chunk)

    def of_users(self, users, residual, positives, used, inside):
        """(u, m, t) influences, for some users of a chunk; see `prepared`."""
        used, inside = (None if sums is None else self.entry.T @ sums @ self.entry for sums in (used, inside))
        direction = self.entry @ _damped_solve(used, inside, self.gradient[users], self.config.damping)
        return np.matmul(positives, direction) * residual


class Blend(Block):
    """Solver `blend`; beside the arguments of Block, config has similarity_damping (relative)."""

    def start(self):
        super().start()
        self.embedding = self.net.item_embeddings(self.net.values())

    def prepared(self, chunk):
        history = self.embedding[chunk.items[:, :, 0]]  # (u, m, d)
        return *super().prepared(chunk), history, *_of_used_and_inside(lambda kept: gram(history * kept[..., None]), chunk)

    def of_users(self, users, residual, positives, used, inside, history, alike_used, alike_inside):
        wanted = self.embedding[self.targets[users]].transpose(0, 2, 1)
        weights = _damped_solve(alike_used, alike_inside, wanted, self.config.similarity_damping)
        return super().of_users(users, residual, positives, used, inside) \
            + self.slope[users][:, None] * np.matmul(history, weights)


def gram(rows):
    """(u, m, d) -> (u, d, d) float64: sum over m of the outer products."""
    return np.matmul(rows.transpose(0, 2, 1), rows).astype(np.float64)


def _of_used_and_inside(matrix, chunk):
    """A function of (u, m) bool, the interactions that count, of `used` and of `inside`; None for the latter if the same."""
    return matrix(chunk.used), None if np.array_equal(chunk.used, chunk.inside) else matrix(chunk.inside)


def _damped_solve(system, whole, vectors, damping):
    """(u, d, t) float32: solutions for the right-hand sides `vectors` (u, d, t) of a damped system for each user.

    Args:
        system: (u, d, d) float64, of the interactions that the model was trained on; is changed.
        whole: (u, d, d) float64, of ALL their interactions, None if these are the same: `damping` times its mean diagonal is
            added to the diagonal, so that withholding does not weaken the damping.
    """
    added = np.maximum(damping * np.einsum("udd->ud", system if whole is None else whole).mean(1, keepdims=True), TINY)
    diagonal = np.einsum("udd->ud", system)
    diagonal += added
    return np.linalg.solve(system, vectors).astype(np.float32)
