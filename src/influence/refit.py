"""Refitting: a user's embedding row from any subset of their interactions, the shared parameters as they are.

Given item tables and dense weights a row depends on its user's data alone. Its refit minimises the cross-entropy of the
interactions and their sampled negatives plus a Gaussian prior, that of the rows of users who were trained on: the MAP
estimate, by Newton's method with the exact Hessian of solver `block`, many users at once. It is what a device could do for
its owner without sending anything: no shared parameter is trained, no file written. See docs/maths.md, section 8.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..common.share import WHOLE, Share
from ..common.terminal import progress
from ..config import Config
from ..dataset import Dataset
from ..network import Network, Pairs
from ..stat_utils import sigmoid
from .block import gram
from .chunks import Chunks

STEPS = 6  # of Newton's method: from the prior's mean; more change no ranking
ROW_PRIOR = 0.4  # weight of the prior at which rows that refit_to_all fits to everything come nearest to the trained ones
RIDGE = 1e-3  # added to the prior's variances, relative to their mean: few users leave directions without any
LEAST = 1e-12  # variance, where all rows are the same


@dataclass
class Prior:
    """What is known of a row before its user's data: N(mean, precision^-1).

    mean: (d,) float64.
    precision: (d, d) float64.
    """
    mean: np.ndarray
    precision: np.ndarray


def prior_of(rows: np.ndarray, share: Share = WHOLE) -> Prior:
    """The Prior that the rows (n, d) of users who were trained on make up, of all ranks: mean and full covariance."""
    number = share.total(len(rows))
    mean = share.total(rows.sum(0, dtype=np.float64)) / number
    away = rows - mean
    covariance = share.total(away.T @ away) / number
    ridge = max(RIDGE * np.trace(covariance) / len(covariance), LEAST)
    return Prior(mean, np.linalg.inv(covariance + ridge * np.eye(len(covariance))))


def row_prior(rows: np.ndarray) -> Prior:
    """prior_of with the weight that refit_to_all needs, see ROW_PRIOR."""
    prior = prior_of(rows)
    return Prior(prior.mean, ROW_PRIOR * prior.precision)


def refit(net: Network, dataset: Dataset, prior: Prior, config: Config, start: np.ndarray | None = None,
          steps: int = STEPS, jacobian: Pairs | None = None) -> np.ndarray:
    """The rows of all users of a dataset from its training interactions.

    Args:
        net: Network with the shared parameters; its own user rows are not looked at, and may be of other users.
        dataset: Dataset of the same items; its held-out items are not looked at.
        prior: Prior.
        config: num_neg, seed (of the negatives), chunk_size.
        start: (num_users, d), rows to begin from; None for the prior's mean.
        steps: evaluations after the first. A step that does not lower the objective of its user is halved.
        jacobian: Pairs of the network, whose graph is then not compiled anew; None for one of its own.

    Returns:
        (num_users, d) float32, in the form of Network.user_rows; of a user without interactions the prior's mean.

    Raises:
        InputError: a user has interacted with every item.
    """
    chunks = Chunks(dataset, config, purpose="refit negatives")
    jacobian = jacobian or net.pairs(chunks.pairs_per_call)
    jacobian.at(net.values())
    rows = np.tile(prior.mean, (dataset.num_users, 1)).astype(np.float32)
    begin = rows if start is None else start
    most = max((len(users) for _, users in chunks.parts), default=1)
    with progress(dataset.num_interactions, "refit", "interaction") as bar:
        for k in range(len(chunks)):
            chunk = chunks[k]
            users, length, group = chunk.items.shape  # each interaction and each of its negatives counts once
            label = np.tile(np.resize(np.eye(1, group)[0], length * group), (users, 1))
            objective = Objective(jacobian, chunk.items.reshape(users, -1), np.repeat(chunk.used, group, axis=1), label,
                                  prior, most)
            rows[chunk.users] = objective.minimum(begin[chunk.users], steps)
            bar.update(int(chunk.inside.sum()))
    return rows


def refitted(net: Network, values: dict, dataset: Dataset, trained: np.ndarray, config: Config) -> dict:
    """Parameters with the rows of all users refitted.

    Args:
        net: Network, of the shape of the parameters `values`; is given them.
        dataset: Dataset whose training interactions count, its users those of the parameters.
        trained: (num_users,) bool, the users that the parameters were trained on: their rows make up the prior, and theirs
            begin where they are.
        config: see refit.
    """
    net.set_values(values)
    rows = net.user_rows(values)
    prior = prior_of(rows[trained], dataset.share)
    start = np.where(trained[:, None], rows, prior.mean)
    return net.with_user_rows(values, refit(net, dataset, prior, config, start))


def refit_to_all(jacobian: Pairs, kept: np.ndarray, prior: Prior, start: np.ndarray, num_neg: int, steps: int = STEPS,
                 pairs: int = 1 << 16) -> np.ndarray:
    """The rows of some users from their interactions, with every other item as a negative: no sampling, so no noise.

    A negative weighs as often as it is drawn in an epoch on average: num_neg * interactions / other items.

    Args:
        jacobian: Pairs of users, at the shared parameters.
        kept: (u, num_items) bool, the interactions.
        prior: Prior, as a rule row_prior.
        start: (u, d), rows to begin from.
        num_neg: negatives drawn for each positive in training.
        steps: see refit.
        pairs: of users and items that are looked at together, but at least one user.

    Returns:
        (u, d) float32; of a user without interactions the prior's mean.
    """
    rows = np.tile(prior.mean, (len(kept), 1)).astype(np.float32)
    number = kept.sum(1)
    some = np.flatnonzero(number)
    size = min(max(1, pairs // kept.shape[1]), max(1, len(some)))
    items = np.arange(kept.shape[1], dtype=np.int32)
    for users in (some[first:first + size] for first in range(0, len(some), size)):
        label = kept[users]
        negative = expected_draws(number[users], kept.shape[1], num_neg)
        rows[users] = Objective(jacobian, np.tile(items, (len(users), 1)), np.where(label, 1, negative[:, None]), label,
                                 prior, size).minimum(start[users], steps)
    return rows


def expected_draws(positives: np.ndarray, num_items: int, num_neg: int) -> np.ndarray:
    """How often an epoch draws an item that is no positive as a negative, on average, of a user with so many positives."""
    return num_neg * positives / np.maximum(num_items - positives, 1)


class Objective:
    """What the rows of some users minimise, each for itself.

    Args:
        jacobian: Pairs of users.
        items: (u, p) int32, their samples.
        weight: (u, p), how much each counts.
        label: (u, p), 1 for a positive and 0 for a negative.
        prior: Prior.
        most: users of the largest call, so that the graph is compiled once.
    """

    def __init__(self, jacobian, items, weight, label, prior, most):
        self.jacobian, self.prior, self.most, self.items = jacobian, prior, most, items.ravel()
        self.weight, self.label = weight, label
        self.user = np.repeat(np.arange(len(items), dtype=np.int32), items.shape[1])

    def __call__(self, rows):
        """(u,) values at (u, d) rows in nats, (u, p) logits, and (u, p, w) their gradients as Pairs gives them."""
        padded = np.zeros((self.most, rows.shape[1]), np.float32)
        padded[:len(rows)] = rows
        self.jacobian.take(padded)
        logit, gradient = self.jacobian(self.user, self.items)
        logit = logit.reshape(self.label.shape).astype(np.float64)
        loss = np.logaddexp(0, logit) - self.label * logit
        away = rows - self.prior.mean
        value = (self.weight * loss).sum(1) + 0.5 * ((away @ self.prior.precision) * away).sum(1)
        return value, logit, gradient.reshape(*self.label.shape, -1)

    def slopes(self, rows, logit, gradient):
        """(u, d) gradients of the objective, and (u, d, d) its Hessians."""
        probability = sigmoid(logit)
        curvature = np.sqrt(self.weight * probability * (1 - probability)).astype(np.float32)
        entry = self.jacobian.entry
        hessian = entry.T @ gram(gradient * curvature[..., None]) @ entry + self.prior.precision
        residual = (self.weight * (probability - self.label)).astype(np.float32)
        slope = np.matmul(residual[:, None], gradient)[:, 0] @ entry
        return slope + (rows - self.prior.mean) @ self.prior.precision, hessian

    def minimum(self, rows, steps):
        """(u, d) of the lowest values that were seen, from `rows` on.

        Where a step does not lower the value there may be a kink of a ReLU on its way: the next goes along it, by the mix
        of the gradients on both sides that is shortest in the inverse Hessian, and half as far.
        """
        rows = rows.astype(np.float64)
        value, *parts = self(rows)
        slope, hessian = self.slopes(rows, *parts)
        reach, towards = np.ones((len(rows), 1)), slope
        for step in range(steps):
            tried = rows - reach * np.linalg.solve(hessian, towards[..., None])[..., 0]
            found, *parts = self(tried)
            lower = (found < value)[:, None]
            if step == steps - 1:  # no other step needs slopes
                return np.where(lower, tried, rows)
            beyond, curved = self.slopes(tried, *parts)
            mixed = _shortest(slope, beyond, hessian)
            rows, value = np.where(lower, tried, rows), np.minimum(found, value)
            slope, hessian = np.where(lower, beyond, slope), np.where(lower[..., None], curved, hessian)
            towards = np.where(lower, beyond, mixed)
            reach = np.where(lower, 1, reach / 2)
        return rows


def _shortest(a, b, hessian):
    """(u, d) points between the (u, d) gradients a and b, the nearest to 0 by the inverse of the (u, d, d) Hessians."""
    apart = b - a
    solved = np.linalg.solve(hessian, apart[..., None])[..., 0]
    share = -(a * solved).sum(1) / np.maximum((apart * solved).sum(1), LEAST)
    return a + np.clip(share, 0, 1)[:, None] * apart
