"""What a disclosure does for OTHER users, through the embedding row of its item: E = g^T H_i^-1 grad l(s_k).

g is the sum of the gradients of the losses of all users who wait for item i, H_i the Hessian of the training losses, both in
the item's row. A user's own validation item is never in their history, so nothing is counted twice. Paths over the rows of
other users are left out. See docs/maths.md, section 4.
"""
import numpy as np

from ..common.terminal import progress
from ..dataset import training_groups
from ..network import build
from ..stat_utils import generator, sigmoid
from .block import TINY


def influence_on_others(anchor, dataset, config, targets):
    """Influence of every training interaction on the users whose target item is its item.

    Args:
        anchor, dataset, config: as in influence_function.influences; of the solvers' options, damping counts.
        targets: (num_users, t) int32 items; column by column, the losses of these are predicted.

    Returns:
        (n, t) float64: predicted rise, in nats, of the sum of the other users' losses if the interaction is withheld.
    """
    net = build(dataset, config)
    wanted = np.unique(targets)
    users, items, numbers = _by_item(dataset, config, wanted)
    kept = np.ones(dataset.num_interactions, bool) if anchor.disclosed is None else anchor.disclosed
    width = 1 + config.num_neg
    rows = net.rows_of_items(max(1, min(config.chunk_size, len(users))))
    total = np.zeros((dataset.num_interactions, targets.shape[1]))
    everyone = np.repeat(np.arange(len(targets), dtype=np.int32), targets.shape[1])
    with progress(len(anchor.parameters) * len(users), "influence on others", "sample") as bar:
        for values in anchor.parameters:
            net.set_values(values() if callable(values) else values)
            rows.start()
            probability, gradient = _probabilities(rows, everyone, targets.ravel())
            gradient = (gradient * (probability - 1)[:, None]).reshape(*targets.shape, -1)
            for part in _whole_items(items, config.chunk_size):
                probability, row = _probabilities(rows, users[part], items[part])
                weighted = row * np.sqrt(probability * (1 - probability))[:, None]
                used = kept[numbers[part] // width]
                positive = numbers[part] % width == 0
                for mine in _whole_items(items[part], 1):  # each item by itself
                    hessian = (weighted[mine].T @ (weighted[mine] * used[mine, None])).astype(np.float64)
                    damping = config.damping * float((weighted[mine] ** 2).sum()) / len(hessian)
                    hessian += max(damping, TINY) * np.eye(len(hessian))
                    item = items[part][mine.start]
                    summed = np.stack([gradient[targets[:, t] == item, t].sum(0) for t in range(targets.shape[1])], 1)
                    direction = np.linalg.solve(hessian, summed)
                    own = np.flatnonzero(positive[mine]) + mine.start
                    total[numbers[part][own] // width] += row[own] @ direction * (probability[own] - 1)[:, None]
                bar.update(len(probability))
    return total / len(anchor.parameters)


def _probabilities(rows, user, item):
    """(p,) float64 probabilities of pairs, and (p, d) gradients of their logits in the item's row."""
    logit, gradient = rows(user, item)
    return sigmoid(logit.astype(np.float64)), gradient


def _by_item(dataset, config, wanted):
    """Samples of the training loss whose item is one of `wanted`, sorted by item.

    Returns:
        users, items: (s,) int32.
        numbers: (s,) interaction * (1 + num_neg) + place in its group, whose place 0 is the positive.
    """
    item = training_groups(dataset, config.num_neg, generator(config.seed, "negatives of others")).ravel()
    numbers = np.flatnonzero(np.isin(item, wanted))
    numbers = numbers[np.argsort(item[numbers], kind="stable")]
    return dataset.user[numbers // (1 + config.num_neg)], item[numbers], numbers


def _whole_items(items, size):
    """Slices of sorted items (s,) that part no item, of at most `size` samples, but at least one item."""
    ends = np.flatnonzero(np.r_[items[1:] != items[:-1], len(items) > 0]) + 1
    start = 0
    while start < len(items):
        first = np.searchsorted(ends, start, side="right")  # the end of the item that begins here
        end = int(ends[max(first, np.searchsorted(ends, start + size, side="right") - 1)])
        yield slice(start, end)
        start = end
