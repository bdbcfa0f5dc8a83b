"""Metrics of a model on the candidates of each user.

All take `scores`, a (num_users, 1 + negatives) array of logits whose column 0 belongs to the held-out item, and some also
`counts`, a bool array like it: the candidates that count (all without it; column 0 always). See docs/maths.md, section 2.
"""
from __future__ import annotations

import numpy as np


def ranks(scores: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """(num_users,) 0-based rank of the held-out item; a negative with the same score counts as ranked before it.

    Raises FloatingPointError: a score is NaN or infinite.
    """
    if not np.isfinite(scores).all():
        raise FloatingPointError("the model gives scores that are not finite; train it anew with a lower learning_rate")
    before = scores[:, 1:] >= scores[:, :1]
    return (before if counts is None else before & counts[:, 1:]).sum(1)


def hit_ratio_of_ranks(rank: np.ndarray, k: int) -> float:
    """HR@k of 0-based ranks: share of users whose held-out item is among the first k."""
    return float((rank < k).mean())


def ndcg_of_ranks(rank: np.ndarray, k: int) -> float:
    """NDCG@k with one relevant item: mean over users of 1 / log2(rank + 2) where the 0-based rank is below k, else 0."""
    return float(gains_of_ranks(rank, k).mean())


def gains_of_ranks(rank: np.ndarray, k: int) -> np.ndarray:
    """What each user adds to NDCG@k, an array like `rank`."""
    return np.where(rank < k, 1 / np.log2(rank + 2), 0)


def cross_entropy(scores: np.ndarray) -> np.ndarray:
    """(num_users, 1 + negatives) binary cross-entropy in nats; column 0 is labelled 1, the others 0."""
    signed = scores.astype(np.float64)
    signed[:, 0] *= -1
    return np.logaddexp(0, signed)


def mean_loss(scores: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """(num_users,) mean cross-entropy of each user's candidates, in nats."""
    losses = cross_entropy(scores)
    return losses.mean(1) if counts is None else (losses * counts).sum(1) / counts.sum(1)


def auc(scores: np.ndarray, counts: np.ndarray | None = None) -> float:
    """Area under the ROC curve of all candidates of all users pooled."""
    from sklearn.metrics import roc_auc_score  # takes a second to import
    labels = np.zeros(scores.shape, bool)
    labels[:, 0] = True
    chosen = slice(None) if counts is None else counts.ravel()
    return float(roc_auc_score(labels.ravel()[chosen], scores.ravel()[chosen]))


def all_metrics(scores: np.ndarray, k: int, counts: np.ndarray | None = None) -> dict[str, float]:
    """HR@k, NDCG@k, AUC; loss and pos_loss in nats.

    loss (L) is the mean over users of the mean cross-entropy of their candidates, pos_loss that of the held-out items.
    """
    losses, rank = cross_entropy(scores), ranks(scores, counts)
    return {f"hr@{k}": hit_ratio_of_ranks(rank, k), f"ndcg@{k}": ndcg_of_ranks(rank, k), "auc": auc(scores, counts),
            "loss": float(losses.mean() if counts is None else mean_loss(scores, counts).mean()),
            "pos_loss": float(losses[:, 0].mean())}


def willingness_violation(disclosed: np.ndarray, unwillingness: np.ndarray, num_users: int) -> float:
    """wv: (1 / num_users) * sum over interactions of disclosed * unwillingness."""
    return float(np.dot(disclosed.astype(np.float64), unwillingness) / num_users)


def disclosed_by_unwillingness(unwillingness: np.ndarray, disclosed: np.ndarray) -> tuple[np.ndarray, ...]:
    """In ten bins of unwillingness: (11,) edges from 0 to 1, (10,) shares disclosed, 0 of none, and (10,) interactions."""
    edges = np.linspace(0, 1, 11)
    count, kept = (np.histogram(values, edges)[0] for values in (unwillingness, unwillingness[disclosed]))
    return edges, kept / np.maximum(count, 1), count
