"""Solvers `block` and `blend`: the Hessian in the user's own embedding row, and how alike the items are.

The logit is piecewise linear in that row, so `block` is exactly the sum of s (1 - s) J J^T over the user's samples, with s
the sigmoid of the logit and J its gradient in the row. `blend` adds a ridge regression on the embeddings of the items.
See docs/maths.md, section 3.
"""
import numpy as np

from ..stat_utils import sigmoid

RIDGE = 10.0  # of the regression on item embeddings, relative to the mean of its diagonal
TINY = 1e-12  # least diagonal of a block: a user whose every prediction is certain has a zero Hessian


class Block:
    """Solver `block`.

    dataset, chunks: Dataset, whose test items are not looked at, and Chunks of it.
    config: damping (relative).
    targets: (num_users, t) items whose losses are predicted, each by itself.
    """

    def __init__(self, net, dataset, chunks, config, targets):
        self.net, self.dataset, self.config, self.targets = net, dataset, config, targets
        self.jacobian = net.pairs(chunks.pairs_per_call)

    def report(self):
        """What preprocess.json says about the solution beside the settings."""
        return {}

    def start(self):
        """To be called when the network has got its parameters."""
        self.jacobian.at(self.net.values())
        self.entry = self.jacobian.entry
        shape = self.targets.shape
        user = np.repeat(np.arange(len(self.targets), dtype=np.int32), shape[1])
        logit, gradient = self.jacobian(user, self.targets.ravel())
        slope = 1 - sigmoid(logit.astype(np.float64))  # of -l(y) in its logit: a target is a positive
        gradient = (gradient * -slope[:, None]) @ self.entry
        self.slope = slope.reshape(shape)
        self.gradient = gradient.reshape(*shape, -1).transpose(0, 2, 1)  # (num_users, d, t)
        self.direction = np.zeros((*shape, len(self.entry)), np.float32)  # of who was solved

    def __call__(self, chunk):
        """(u, m, t) influences of the interactions of a chunk, in nats."""
        rows, probability, direction = self._of_samples(chunk)
        positives = rows.reshape(*chunk.items.shape, -1)[:, :, 0]
        return np.matmul(positives, direction) * (probability[:, :, :1] - 1)  # d loss / d logit of each positive

    def solve(self, chunk):
        """Finds what `of_pairs` goes by for the users of a chunk, from what they were trained on."""
        self.direction[chunk.users] = self._of_samples(chunk)[2].transpose(0, 2, 1)

    def of_pairs(self, user, item):
        """(p, t) influences of any (p,) items on the targets of their users, in nats; 0 of who was not solved."""
        logit, rows = self.jacobian(user, item)
        return (sigmoid(logit) - 1)[:, None] * np.einsum("pw,ptw->pt", rows, self.direction[user])

    def _of_samples(self, chunk):
        """Gradients (u, pairs, w) and probabilities (u, m, 1 + num_neg) of a chunk's samples, and (u, w, t) directions."""
        shape = chunk.items.shape
        pairs = shape[1] * shape[2]
        logit, rows = self.jacobian(np.repeat(chunk.users, pairs), chunk.items.ravel())
        probability = sigmoid(logit).reshape(shape)
        rows = rows.reshape(len(chunk.users), pairs, -1)
        weight = np.sqrt(probability * (1 - probability))

        def hessian(samples):  # of the samples' losses in the user's row
            kept = (weight * samples[..., None]).reshape(len(chunk.users), pairs, 1)
            return self.entry.T @ gram(rows * kept) @ self.entry

        return rows, probability, self.entry @ _damped_solve(hessian, chunk, self.gradient[chunk.users], self.config.damping)


class Blend(Block):
    """Solver `blend`; arguments as of Block."""

    def start(self):
        super().start()
        self.embedding = self.net.item_embeddings(self.net.values())
        self.alike = np.zeros((*self.targets.shape, self.embedding.shape[1]), np.float32)

    def __call__(self, chunk):
        history, weights = self._similarity(chunk)
        return super().__call__(chunk) + self.slope[chunk.users][:, None] * np.matmul(history, weights)

    def solve(self, chunk):
        super().solve(chunk)
        self.alike[chunk.users] = self._similarity(chunk)[1].transpose(0, 2, 1)

    def of_pairs(self, user, item):
        alike = np.einsum("pd,ptd->pt", self.embedding[item], self.alike[user])
        return super().of_pairs(user, item) + self.slope[user] * alike

    def _similarity(self, chunk):
        """Embeddings (u, m, d) of a chunk's items, and the (u, d, t) solutions of the regression."""
        history = self.embedding[chunk.items[:, :, 0]]
        wanted = self.embedding[self.targets[chunk.users]].transpose(0, 2, 1)
        return history, _damped_solve(lambda kept: gram(history * kept[..., None]), chunk, wanted, RIDGE)


def gram(rows):
    """(u, m, d) -> (u, d, d) float64: sum over m of the outer products."""
    return np.matmul(rows.transpose(0, 2, 1), rows).astype(np.float64)


def _damped_solve(matrix, chunk, vectors, damping):
    """(u, d, t) float32 solutions for `vectors` (u, d, t) of users' systems, the `matrix` of what was trained on, damped.

    `damping` is relative to the mean diagonal of the matrix of ALL their interactions, so that withholding does not weaken
    it. `matrix` maps (u, m) bool, the interactions that count, to (u, d, d) float64.
    """
    system = matrix(chunk.used)
    whole = system if np.array_equal(chunk.used, chunk.inside) else matrix(chunk.inside)
    added = np.maximum(damping * np.einsum("udd->ud", whole).mean(1, keepdims=True), TINY)
    diagonal = np.einsum("udd->ud", system)
    diagonal += added
    return np.linalg.solve(system, vectors).astype(np.float32)
