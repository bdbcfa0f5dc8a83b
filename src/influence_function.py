"""What each training interaction is worth to its own user.

The influence of interaction k of user u is  I = grad l(y)^T H^-1 grad l(s_k)  (Koh and Liang, ICML 2017):  l(y) is the
cross-entropy of the user's validation item y, l(s_k) that of the interaction, both in nats; H is the Hessian of the sum of
the training losses, sampled negatives included. I predicts by how much l(y) RISES if k is withheld (left out of training; it
does not become a negative): positive means that disclosing k helps its user. Solvers:

`block` restricts H to the user's own embedding row (GMF and MLP part side by side, d numbers). The logit is piecewise
linear in that row, so the block is exactly  sum over the user's positives and sampled negatives of  s (1 - s) J J^T,  with
s the sigmoid of the logit and J (d) its gradient in the row; it is positive semi-definite. Damping adds `damping` times the
mean of the block's diagonal to the diagonal. Items and dense weights are held fixed.

`blend` (default) is `block` plus what the user's row cannot show: how alike the items are. With e_i the embeddings of item
i, GMF and MLP part side by side and scaled to length 1, a ridge regression of 1 on the e_k of the history gives the
validation item the score  sum over k of e_y^T (sum_j e_j e_j^T + ridge)^-1 e_k.  The term of k times 1 - s_y, minus the
slope of l(y) in its logit, is added: to first order the rise of l(y) without that term, were the score part of the logit.

`lissa` uses all parameters, see lissa.py.

A withheld positive takes its share of sampled negatives with it. Negatives are drawn alike for all interactions of a user,
so their expected share is the same for each of these: it shifts a user's influences, it does not order them. Since the
gradients of a user's row sum to zero where training ends, the shift makes her influences sum to zero, that is, it
measures each against her average interaction. `count_negatives` adds it to the first term of `blend` and to `block`.
"""
import json
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from . import plugins
from .dataset import without_test_items
from .errors import InputError
from .lissa import Lissa, with_share
from .ncf import build
from .stat_utils import PairSet, generator, sample_outside, sigmoid
from .terminal import progress

TINY = 1e-12  # least diagonal of a block: a user whose every prediction is certain has a zero Hessian
MAX_TABLE_BITS = 1 << 28  # of a table of all pairs of some users and the items: 32 MB, else pairs are searched
DRAWN_TOGETHER = 1 << 16  # interactions whose negatives one generator draws: results do not depend on chunk_size


@dataclass
class Chunk:
    """Users of similar history length, computed together.

    users: (u,) int32.
    inside: (u, m) bool; shorter histories are filled up, with false.
    used: (u, m) bool, the interactions that the model was trained on.
    items: (u, m, 1 + num_neg) int32, each positive with its sampled negatives.
    """
    users: np.ndarray
    inside: np.ndarray
    used: np.ndarray
    items: np.ndarray


class Chunks:
    """Cuts a dataset into chunks of at most `chunk_size` user-item pairs, but at least one user.

    Args:
        dataset: Dataset.
        config: chunk_size, num_neg, seed (of the negatives).
        disclosed: (n,) bool, the interactions that the model was trained on, in the order of dataset.user; None for all.
    """

    def __init__(self, dataset, config, disclosed=None):
        self.dataset, self.config = dataset, config
        self.disclosed = np.ones(dataset.num_interactions, bool) if disclosed is None else disclosed
        self.length = np.bincount(dataset.user, minlength=dataset.num_users)
        self.first = np.cumsum(self.length) - self.length
        order = np.argsort(self.length, kind="stable")[::-1]  # from the longest history down: the first sets the padding
        order = order[self.length[order] > 0].astype(np.int32)
        pairs = max(1, config.chunk_size // (1 + config.num_neg))
        self.parts = [(k, users) for k, block in enumerate(self._cut(order, DRAWN_TOGETHER))
                      for users in self._cut(block, pairs)]
        self._drawn = None  # number of a block, its users and their items

    def _cut(self, users, interactions):
        """Splits users, sorted by falling length, into parts of at most `interactions` padded interactions."""
        start = 0
        while start < len(users):
            end = start + max(1, interactions // self.length[users[start]])
            yield users[start:end]
            start = end

    @property
    def pairs_per_call(self):
        """Largest number of user-item pairs of a chunk."""
        return max((len(users) * self.length[users[0]] for _, users in self.parts), default=1) * (1 + self.config.num_neg)

    def __len__(self):
        return len(self.parts)

    def size(self, k):
        """Interactions of chunk k."""
        return int(self.length[self.parts[k][1]].sum())

    def positions(self, k):
        """(size,) positions of the interactions of chunk k in the history."""
        return self._positions_of(self.parts[k][1])

    def _positions_of(self, users):
        length = self.length[users]
        begin = np.cumsum(length) - length
        return np.arange(length.sum()) + np.repeat(self.first[users] - begin, length)

    def pairs_of(self, users):
        """PairSet of the interactions of some users, numbered by their place in `users`."""
        owner = np.repeat(np.arange(len(users)), self.length[users])
        item = self.dataset.item[self._positions_of(users)]
        return PairSet(owner, item, len(users), self.dataset.num_items, MAX_TABLE_BITS)

    def __getitem__(self, k):
        block, users = self.parts[k]
        if self._drawn is None or self._drawn[0] != block:
            self._drawn = block, *self._draw(block)
        _, offset, items = self._drawn
        place = np.arange(self.length[users[0]])
        inside = place < self.length[users][:, None]
        place = np.where(inside, place, 0)
        used = inside & self.disclosed[self.first[users][:, None] + place]
        return Chunk(users, inside, used, items[offset[users][:, None] + place])

    def _draw(self, block):
        """Where the interactions of each user of a block begin among them, and their (n, 1 + num_neg) items."""
        config = self.config
        users = np.concatenate([users for k, users in self.parts if k == block])
        length = self.length[users]
        offset = np.zeros(self.dataset.num_users, np.int64)
        offset[users] = np.cumsum(length) - length
        item = self.dataset.item[self._positions_of(users)]
        owner = np.repeat(np.arange(len(users)), length)
        negatives = sample_outside(owner, self.pairs_of(users), generator(config.seed, "influence negatives", block),
                                   config.num_neg)
        return offset, np.concatenate([item[:, None], negatives], 1)


class _AfterFirst(nn.Cell):
    """The MLP part of the logit as a function of the inputs of the first ReLU."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def construct(self, hidden):
        return self.head.after_first(hidden)


class Jacobian(nn.Cell):
    """Logits of user-item pairs, and their gradients in what the user's embedding row enters the network by.

    The row enters linearly: its GMF part as it is, its MLP part as the user's share of the first ReLU's inputs. The chain
    rule for that last, linear step is left to the caller: it is the same for all pairs.
    """

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.value_and_grad = ms.value_and_grad(_AfterFirst(net.head), 0)
        self.gather = ops.Gather()

    def construct(self, user, item, user_hidden, item_hidden):
        """(p,) users and items, (num_users, l1) and (num_items, l1) shares of the first ReLU's inputs.

        Returns:
            (p, 1) logits and (p, f + l1) gradients.
        """
        net = self.net
        logits, grads = self.value_and_grad(self.gather(user_hidden, user, 0) + self.gather(item_hidden, item, 0))
        weighted = self.gather(net.item_gmf, item, 0) * net.head.gmf_weight.reshape(1, -1)
        logits = logits + (self.gather(net.user_gmf, user, 0) * weighted).sum(1, keepdims=True)
        return logits, ops.concat((weighted, grads), 1)


class PaddedJacobian:
    """Calls Jacobian on any number of pairs in calls of one size, so that the graph is compiled once."""

    def __init__(self, net, size):
        self.net, self.cell, self.size = net, Jacobian(net), size

    def start(self):
        """Takes over the parameters that the network has now.

        Returns:
            (f + l1, d) float32: what the user's embedding row is multiplied by before it enters.
        """
        values = self.net.values()
        weight, f = values["head.user_weight"], values["user_gmf"].shape[1]
        self.hidden = (Tensor(values["user_mlp"] @ weight.T + values["head.first_bias"]),
                       Tensor(values["item_mlp"] @ values["head.item_weight"].T))
        entry = np.zeros((f + weight.shape[0], f + weight.shape[1]), np.float32)
        entry[:f, :f], entry[f:, f:] = np.eye(f), weight
        return entry

    def __call__(self, user, item):
        """(p,) users and items -> (p,) logits and (p, f + l1) gradients."""
        parts = []
        for start in range(0, len(user), self.size):
            u, i = user[start:start + self.size], item[start:start + self.size]
            logits, rows = self.cell(Tensor(np.resize(u, self.size)), Tensor(np.resize(i, self.size)), *self.hidden)
            parts.append((logits.asnumpy()[:len(u), 0], rows.asnumpy()[:len(u)]))
        return tuple(part[0] if len(parts) == 1 else np.concatenate(part) for part in zip(*parts))


class Block:
    """Solver `block`.

    Args:
        net: NCF.
        dataset: Dataset; its test items are not looked at.
        chunks: Chunks of it.
        config: damping (relative), count_negatives.
        targets: (num_users, t) items whose losses are predicted, each by itself.
    """

    def __init__(self, net, dataset, chunks, config, targets):
        self.net, self.dataset, self.config, self.targets = net, dataset, config, targets
        self.jacobian = PaddedJacobian(net, chunks.pairs_per_call)

    def report(self):
        """What preprocess.json says about the solution beside the settings."""
        return {}

    def start(self):
        """To be called when the network has got its parameters."""
        self.entry = self.jacobian.start()
        shape = self.targets.shape
        user = np.repeat(np.arange(len(self.targets), dtype=np.int32), shape[1])
        logit, gradient = self.jacobian(user, self.targets.ravel())
        slope = 1 - sigmoid(logit.astype(np.float64))  # of -l(y) in its logit: a target is a positive
        gradient = (gradient * -slope[:, None]) @ self.entry
        self.slope = slope.reshape(shape)
        self.gradient = gradient.reshape(*shape, -1).transpose(0, 2, 1)  # (num_users, d, t)

    def __call__(self, chunk):
        """(u, m, t) influences of the interactions of a chunk, in nats."""
        shape = chunk.items.shape
        pairs = shape[1] * shape[2]
        logit, rows = self.jacobian(np.repeat(chunk.users, pairs), chunk.items.ravel())
        probability = sigmoid(logit).reshape(shape)
        rows = rows.reshape(len(chunk.users), pairs, -1)
        weight = np.sqrt(probability * (1 - probability))

        def hessian(samples):  # of the samples' losses in the user's row
            kept = (weight * samples[..., None]).reshape(len(chunk.users), pairs, 1)
            return self.entry.T @ _gram(rows * kept) @ self.entry

        direction = self.entry @ _damped_solve(hessian, chunk, self.gradient[chunk.users], self.config.damping)
        residual = probability
        residual[:, :, 0] -= 1  # d loss / d logit of each sample
        if not self.config.count_negatives:
            positives = rows.reshape(*shape, -1)[:, :, 0]
            return np.matmul(positives, direction) * residual[:, :, :1]
        return with_share(np.matmul(rows, direction).reshape(*shape, -1) * residual[..., None], chunk.inside)


class Blend(Block):
    """Solver `blend`; beside the arguments of Block, config has similarity_damping (relative)."""

    def start(self):
        super().start()
        values = self.net.values()
        self.embedding = np.concatenate([values["item_gmf"], values["item_mlp"]], 1)
        self.embedding /= np.maximum(np.linalg.norm(self.embedding, axis=1, keepdims=True), TINY)

    def __call__(self, chunk):
        history = self.embedding[chunk.items[:, :, 0]]  # (u, m, d)
        wanted = self.embedding[self.targets[chunk.users]].transpose(0, 2, 1)
        weights = _damped_solve(lambda kept: _gram(history * kept[..., None]), chunk, wanted, self.config.similarity_damping)
        return super().__call__(chunk) + self.slope[chunk.users][:, None] * np.matmul(history, weights)


def _gram(rows):
    """(u, m, d) -> (u, d, d) float64: sum over m of the outer products."""
    return np.matmul(rows.transpose(0, 2, 1), rows).astype(np.float64)


def _damped_solve(matrix, chunk, vectors, damping):
    """(u, d, t) float32: solutions for the right-hand sides `vectors` (u, d, t) of a damped system for each user of a chunk.

    The system's matrix is that of the interactions that the model was trained on; `damping` times the mean diagonal of the
    matrix of ALL her interactions is added to its diagonal, so that withholding does not weaken the damping.

    Args:
        matrix: function of a (u, m) bool array, the interactions that count, to (u, d, d) float64.
    """
    system = matrix(chunk.used)
    whole = system if np.array_equal(chunk.used, chunk.inside) else matrix(chunk.inside)
    added = np.maximum(damping * np.einsum("udd->ud", whole).mean(1, keepdims=True), TINY)
    diagonal = np.einsum("udd->ud", system)
    diagonal += added
    return np.linalg.solve(system, vectors).astype(np.float32)


SOLVERS = {"block": Block, "blend": Blend, "lissa": Lissa}


def solver_class(name):
    """The class of a solver, built in or in a file that defines `Solver`; its objects do what those of Block do.

    Raises:
        InputError: the file is missing or unfit.
    """
    return plugins.load(name, "solver", "Solver").Solver if plugins.is_file(name) else SOLVERS[name]


def _solver(net, dataset, chunks, config, targets):
    if not plugins.is_file(config.solver):
        return solver_class(config.solver)(net, dataset, chunks, config, targets)
    return _Guarded(config.solver, net, dataset, chunks, config, targets)


class _Guarded:
    """A solver from a file, all whose failures are InputErrors that name it."""

    def __init__(self, name, *arguments):
        self.name = name
        with self._guarded():
            self.solver = solver_class(name)(*arguments)

    def start(self):
        with self._guarded():
            self.solver.start()

    def __call__(self, chunk):
        with self._guarded():
            return np.asarray(self.solver(chunk), np.float64)

    def report(self):
        with self._guarded():
            return json.loads(json.dumps(dict(self.solver.report()), allow_nan=False))  # as preprocess.json holds it

    def _guarded(self):
        return plugins.guarded(self.name, "solver", "failed")


def influences(models, dataset, config, partial=None, disclosed=None, targets=None):
    """Influence of every training interaction at one anchor: the mean over several sets of parameters.

    Of an interaction that the anchor withholds, it is what disclosing it too would be worth.

    Args:
        models: list of sets of parameters of NCFs (see NCF.values) that were trained on the selection vector of the
            anchor, or of functions without arguments that return one.
        dataset: Dataset whose history and validation items are used; the test items are not looked at.
        config: solver and its options, num_neg, chunk_size, seed, num_factors, layers.
        partial: PartialResults that chunks are read from if they are there, and written to; None keeps nothing.
        disclosed: (n,) bool, the anchor's selection vector; None for everything disclosed.
        targets: (num_users, t) int32, items whose losses are predicted instead of the validation item's.

    Returns:
        influence: (n,) float64 array in the order of dataset.user, or (n, t) with targets; nats, positive = disclosing
            helps the user.
        report: dict, what the solver says about its solution.

    Raises:
        FloatingPointError: an influence is not finite, or the recursion of `lissa` grows.
    """
    if plugins.is_file(config.solver):
        dataset = without_test_items(dataset)
    chunks = Chunks(dataset, config, disclosed)
    net = build(dataset, config)
    wanted = dataset.validation[:, None] if targets is None else targets
    solver = _solver(net, dataset, chunks, config, wanted)
    influence = np.zeros((dataset.num_interactions, wanted.shape[1]))
    with progress(len(models) * dataset.num_interactions, "influence", "interaction") as bar:
        for values in models:
            started = False
            for k in range(len(chunks)):
                found = partial.read(chunks.size(k) * wanted.shape[1]) if partial else None
                if found is None:
                    if not started:
                        net.set_values(values() if callable(values) else values)
                        solver.start()
                        started = True
                    chunk = chunks[k]
                    found = solver(chunk)
                    if np.shape(found) != (*chunk.inside.shape, wanted.shape[1]):
                        raise InputError(f"--solver {config.solver}: returned an array {np.shape(found)} for a chunk of "
                                         f"{(*chunk.inside.shape, wanted.shape[1])}; see docs/CONTRIBUTING.md")
                    found = found[chunk.inside]
                    if not np.isfinite(found).all():
                        raise FloatingPointError(
                            f"--solver {config.solver}: {(~np.isfinite(found)).sum()} influences of {len(found)} are not "
                            "finite; raise damping, or train the model anew with a lower learning_rate")
                    if partial:
                        partial.write(found)
                influence[chunks.positions(k)] += found.reshape(-1, wanted.shape[1])
                bar.update(chunks.size(k))
    influence /= len(models)
    return influence[:, 0] if targets is None else influence, solver.report()
