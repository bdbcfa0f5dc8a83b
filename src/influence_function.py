"""What each training interaction is worth to its own user, by influence functions (Koh and Liang, ICML 2017).

The influence of interaction k of user u is  I = grad l(y)^T H^-1 grad l(s_k):  l(y) is the cross-entropy of the user's
validation item y, l(s_k) that of the interaction, both in nats; H is the Hessian of the sum of the training losses,
sampled negatives included. I predicts by how much l(y) RISES if k is withheld (left out of training; it does not become
a negative): positive means that disclosing k helps its user.

Solver `block` restricts H to the user's own embedding row (GMF and MLP part side by side, d numbers). The logit is
piecewise linear in that row, so the block is exactly  sum over the user's positives and sampled negatives of
s (1 - s) J J^T,  with s the sigmoid of the logit and J (d) its gradient in the row; it is positive semi-definite.
Damping adds `damping` times the mean of the block's diagonal to the diagonal. Items and dense weights are held fixed.

A withheld positive takes its share of sampled negatives with it. Negatives are drawn alike for all interactions of a user,
so their expected share is the same for each of these: it shifts a user's influences, it does not order them. Since the
gradients of a user's row sum to zero where training ends, the shift makes her influences sum to zero, that is, it
measures each against her average interaction. `count_negatives` adds it.
"""
import numpy as np
from mindspore import Tensor, nn, ops
from tqdm import tqdm

from .dataset import training_groups
from .stat_utils import generator, sigmoid

TINY = 1e-12  # least diagonal of a block: a user whose every prediction is certain has a zero Hessian


class Jacobian(nn.Cell):
    """Logits of user-item pairs and their gradients in the user's embedding row."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.value_and_grad = ops.value_and_grad(net.head, (0, 1))
        self.gather = ops.Gather()

    def construct(self, user, item):
        """(p,) users and items -> (p, 1) logits and (p, d) gradients."""
        net = self.net
        logits, grads = self.value_and_grad(self.gather(net.user_gmf, user, 0), self.gather(net.user_mlp, user, 0),
                                            self.gather(net.item_gmf, item, 0), self.gather(net.item_mlp, item, 0))
        return logits, ops.concat(grads, 1)


def block_influences(net, dataset, config):
    """Influence of every training interaction on its own user's validation loss, solver `block`.

    Args:
        net: trained NCF.
        dataset: Dataset whose history and validation items are used; the test items are not looked at.
        config: num_neg, damping (relative), count_negatives, chunk_size (pairs in memory at a time), seed (of the
            negatives).

    Returns:
        (n,) float64 array in the order of dataset.user; nats, positive = disclosing helps the user.
    """
    groups = training_groups(dataset, config.num_neg, generator(config.seed, "influence negatives"))  # (n, 1 + neg)
    width = groups.shape[1]
    length = np.bincount(dataset.user, minlength=dataset.num_users)
    first = np.cumsum(length) - length
    pairs_per_call = max(config.chunk_size, int(length.max()) * width)
    jacobian = _PaddedJacobian(net, pairs_per_call)
    everyone = np.arange(dataset.num_users, dtype=np.int32)
    logit, gradient = jacobian(everyone, dataset.validation)
    gradient *= (sigmoid(logit) - 1)[:, None]  # (users, d): the validation item is a positive

    influence = np.zeros(dataset.num_interactions)
    with tqdm(total=dataset.num_interactions, desc="influence", unit="interaction", disable=None) as bar:
        for users in _chunks(length, pairs_per_call // width):
            place = np.arange(length[users].max())
            inside = place < length[users][:, None]  # (u, m): users of a chunk are padded to the longest history
            at = np.where(inside, first[users][:, None] + place, first[users][:, None])
            items = groups[at].reshape(len(users), -1)  # (u, m * width)
            logit, rows = jacobian(np.repeat(users, items.shape[1]), items.ravel())
            probability = sigmoid(logit).reshape(items.shape)
            rows = rows.reshape(*items.shape, -1)  # (u, m * width, d)
            weight = probability * (1 - probability) * np.repeat(inside, width, axis=1)
            hessian = np.matmul((rows * weight[..., None]).transpose(0, 2, 1), rows)  # (u, d, d)
            diagonal = np.einsum("udd->ud", hessian)
            diagonal += np.maximum(config.damping * diagonal.mean(1, keepdims=True), TINY)
            direction = np.linalg.solve(hessian, gradient[users][..., None])  # (u, d, 1): H^-1 grad l(y)
            residual = probability.reshape(len(users), -1, width)
            residual[:, :, 0] -= 1  # d loss / d logit of each sample
            effect = np.matmul(rows, direction).reshape(residual.shape) * residual
            own = effect[:, :, 0]
            if config.count_negatives:
                own = own + (effect[:, :, 1:].sum((1, 2), where=inside[..., None]) / length[users])[:, None]
            influence[at[inside]] = own[inside]
            bar.update(int(inside.sum()))
    return influence


class _PaddedJacobian:
    """Calls Jacobian on any number of pairs in calls of one size, so that the graph is compiled once."""

    def __init__(self, net, size):
        self.cell, self.size = Jacobian(net), size

    def __call__(self, user, item):
        """(p,) users and items -> (p,) logits and (p, d) gradients, float64."""
        parts = []
        for start in range(0, len(user), self.size):
            u, i = user[start:start + self.size], item[start:start + self.size]
            logits, rows = self.cell(Tensor(np.resize(u, self.size)), Tensor(np.resize(i, self.size)))
            parts.append((logits.asnumpy()[:len(u), 0], rows.asnumpy()[:len(u)]))
        logits, rows = map(np.concatenate, zip(*parts))
        return logits.astype(np.float64), rows.astype(np.float64)


def _chunks(length, interactions):
    """Groups of users of similar history length, none empty-handed, each of at most `interactions` padded interactions."""
    order = np.argsort(length, kind="stable")
    order = order[length[order] > 0].astype(np.int32)
    end = len(order)
    while end:  # from the longest history down: the first of a chunk sets its padding
        size = max(1, interactions // length[order[end - 1]])
        yield order[max(0, end - size):end]
        end = max(0, end - size)


SOLVERS = {"block": block_influences}


def influences(net, dataset, config):
    """Influence of every training interaction by the solver that the settings name; see block_influences.

    Raises:
        FloatingPointError: an influence is not finite.
    """
    values = SOLVERS[config.solver](net, dataset, config)
    if not np.isfinite(values).all():
        raise FloatingPointError(f"{(~np.isfinite(values)).sum()} influences are not finite; "
                                 "raise damping, or train the model anew with a lower learning_rate")
    return values
