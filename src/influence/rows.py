"""Refitting: a user's embedding row from any selection of their interactions, the shared parameters as they are.

Given item tables and dense weights a row depends on its user's data alone. Its refit minimises the cross-entropy of the
interactions and of negatives plus a Gaussian prior, that of the rows of users who were trained on: the MAP estimate, by
Newton's method with the exact Hessian of solver `block`, many users at once. It is what a device could do for its owner
without sending anything: no shared parameter is trained, no file written. See docs/maths.md, section 8.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..common.machine import one_blas_thread
from ..common.share import here
from ..common.terminal import progress
from ..config import Config
from ..dataset import Dataset
from ..network import Network
from ..stat_utils import sigmoid
from .block import gram
from .chunks import Chunks

STEPS = 6  # of Newton's method from afar: more change no ranking
CLOSE = 3  # from a row near by: nearer to the optimum than 6 from the prior's mean
ALL_WEIGHT = 0.4  # of the prior where all other items are negatives: rows come nearest to those of a training
RIDGE = 1e-3  # added to the prior's variances, relative to their mean: few users leave directions without any
LEAST = 1e-12  # variance, where all rows are the same


class Prior(NamedTuple):
    """What is known of a row before its user's data: N(mean, precision^-1), (d,) and (d, d) float64."""
    mean: np.ndarray
    precision: np.ndarray


def prior_of(rows: np.ndarray) -> Prior:
    """The Prior that the rows of all users who were trained on make up, (n, d) of these: mean and full covariance."""
    total = here().total
    number = total(len(rows))
    mean = total(rows.sum(0, dtype=np.float64)) / number
    away = rows - mean
    covariance = total(away.T @ away) / number
    ridge = max(RIDGE * np.trace(covariance) / len(covariance), LEAST)
    return Prior(mean, np.linalg.inv(covariance + ridge * np.eye(len(covariance))))


def expected_draws(positives: np.ndarray, num_items: int, num_neg: int) -> np.ndarray:
    """How often an epoch draws an item that is no positive as a negative, on average, of a user with so many positives."""
    return num_neg * positives / np.maximum(num_items - positives, 1)


class Rows:
    """Refits users' rows, at the parameters that a network has, or at others.

    dataset: Dataset that it was trained on; its held-out items are not looked at.
    config: num_neg, with which it was trained, seed (of sampled negatives), chunk_size.
    prior: Prior, of the rows of users who were trained on.
    trained: (num_users, d) float64, rows as they were trained; of who was not, the prior's mean.
    """

    def __init__(self, net: Network, dataset: Dataset, config: Config):
        self.net, self.dataset, self.config, self.length = net, dataset, config, dataset.history.length
        self.together = max(1, config.chunk_size // dataset.num_items)  # rows that are refitted in one go to all items
        self.pairs = net.pairs(dataset.num_items)
        self.at(net.values())

    def at(self, values: dict, but: np.ndarray | tuple = ()) -> Rows:
        """Goes by a set of parameters, see Network.values; the rows of the users `but` are no part of the prior."""
        self.share(values)
        rows, known = self.net.user_rows(values), self.length > 0
        others = known & ~np.isin(np.arange(len(known)), but)
        self.prior = prior_of(rows[others if others.any() else known])
        self.trained = np.where(known[:, None], rows, self.prior.mean)
        self._slope = np.full(self.trained.shape, np.nan)
        return self

    def share(self, values: dict) -> None:
        """Goes by shared parameters that have moved since; trained rows, prior and slopes stay those of before."""
        self.values = values
        self.pairs.at(values)

    def refitted(self, dataset: Dataset, start: np.ndarray | None = None, steps: int = STEPS) -> dict:
        """Parameters with the rows of all users of a dataset, from its training interactions and sampled negatives.

        Rows of users without interactions are the prior's mean.
        dataset: Dataset of the same items, perhaps of other users; its held-out items are not looked at.
        start: (num_users, d), rows to begin from; None for the prior's mean.
        steps: evaluations after the first. A step that does not lower the objective of its user is halved.
        Raises InputError: a user has interacted with every item.
        """
        chunks = Chunks(dataset, self.config, purpose="refit negatives")
        rows = np.tile(self.prior.mean, (dataset.num_users, 1)).astype(np.float32)
        begin = rows if start is None else start
        most = max((len(users) for _, users in chunks.parts), default=1)
        with progress(dataset.num_interactions, "refit", "interaction") as bar:
            for k in range(len(chunks)):
                chunk = chunks[k]
                users, length, group = chunk.items.shape  # each interaction and each of its negatives counts once
                label = np.tile(np.resize(np.eye(1, group)[0], length * group), (users, 1))
                objective = Objective(self.pairs, chunk.items.reshape(users, -1), np.repeat(chunk.used, group, axis=1),
                                      label, self.prior, most)
                rows[chunk.users] = objective.minimum(begin[chunk.users], steps)[0]
                bar.update(int(chunk.inside.sum()))
        return self.net.with_user_rows(self.values, rows)

    def known(self, users: np.ndarray) -> np.ndarray:
        """(u, num_items) bool, what (u,) users were trained on."""
        kept = np.zeros((len(users), self.dataset.num_items), bool)
        history = self.dataset.history
        kept[history.owners(users), self.dataset.item[history.of_users(users)]] = True
        return kept

    def selected(self, users: np.ndarray, kept: np.ndarray, start: np.ndarray | None = None,
                 steps: int = CLOSE) -> tuple[np.ndarray, np.ndarray]:
        """Rows from any selections of interactions, and what the model then says of all items. Nothing is sampled.

        Every other item is a negative, which weighs as often as an epoch draws it on average. A linear term makes the
        trained row the optimum of what it was trained on; with fewer interactions it is smaller in proportion.
        users: (u,) positions; users may recur.
        kept: (u, num_items) bool, the interactions.
        start, steps: see refitted; (u, d) rows, None for the trained ones.
        Returns: (u, d) float64 rows, of a user without interactions the prior's mean; and (u, num_items) float32 logits.
        """
        tilt = np.minimum(1, kept.sum(1) / np.maximum(self.length[users], 1))[:, None] * self._slopes(users)
        rows = np.array(self.trained[users] if start is None else start, np.float64)
        logits = np.empty(kept.shape, np.float32)
        with progress(len(users), "refit", "row") as bar, one_blas_thread():
            for part in self._parts(len(users)):
                rows[part], logits[part] = self._objective(kept[part], tilt[part]).minimum(rows[part], steps)
                bar.update(len(rows[part]))
        return rows, logits

    def without(self, users: np.ndarray, withheld: list[np.ndarray]) -> np.ndarray:
        """(v, num_items) logits of (v,) users, who may recur, each without the interactions at some positions."""
        kept = self.known(users)
        for row, positions in zip(kept, withheld):
            row[self.dataset.item[positions]] = False
        return self.selected(users, kept)[1]

    def effects(self, users: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each of (u,) users their logits (num_items,), and what each interaction's absence adds to them (n, num_items).

        To first order: one step of Newton's method with the Hessian of all interactions.
        """
        for part in self._parts(len(users)):
            for user, logit, gradient, slope, hessian in zip(users[part], *self._at_trained(users[part])):
                item, probability = self.dataset.item[self.dataset.history.of(user)], sigmoid(logit)
                now, then = (expected_draws(len(item) - k, len(logit), self.config.num_neg) for k in (0, 1))  # of a negative
                others = np.ones(len(logit), bool)
                others[item] = False
                pull = (1 - probability[item] + then * probability[item])[:, None] * gradient[item]  # (n, w), of absence
                pull += (then - now) * ((probability * others) @ gradient)
                moved = -np.linalg.solve(hessian, (pull @ self.pairs.entry + slope / len(item)).T)  # (d, n)
                yield logit, (gradient @ (self.pairs.entry @ moved)).T

    def _slopes(self, users):
        """(u, d) slopes of the trained rows of (u,) users by what they were trained on, without a tilt."""
        new = np.unique(users[np.isnan(self._slope[users, 0])])
        with one_blas_thread():
            for part in self._parts(len(new)):
                self._slope[new[part]] = self._at_trained(new[part])[2]
        return self._slope[users]

    def _at_trained(self, users):
        """Logits, their gradients, slopes and Hessians at trained rows, of what they were trained on without a tilt."""
        rows, objective = self.trained[users], self._objective(self.known(users))
        found = objective(rows)[1:]
        return *found, *objective.slopes(rows, *found)

    def _parts(self, number):
        return [slice(start, start + self.together) for start in range(0, number, self.together)]

    def _objective(self, kept, tilt=0.0):
        items = np.tile(np.arange(kept.shape[1], dtype=np.int32), (len(kept), 1))
        negative = expected_draws(kept.sum(1, keepdims=True), kept.shape[1], self.config.num_neg)
        prior = Prior(self.prior.mean, ALL_WEIGHT * self.prior.precision)
        return Objective(self.pairs, items, np.where(kept, 1, negative), kept, prior, self.together, tilt)


class Objective:
    """What the rows of some users minimise, each for itself: Pairs of users, at the shared parameters, and a Prior.

    items, weight, label: (u, p), their samples, how much each counts, and 1 for a positive and 0 for a negative.
    most: users of the largest call, so that the graph is compiled once.
    tilt: (u, d); the product of it and the row is taken off.
    """

    def __init__(self, pairs, items, weight, label, prior, most, tilt=0.0):
        self.pairs, self.prior, self.most, self.items, self.tilt = pairs, prior, most, items.ravel(), tilt
        self.weight, self.label = weight, label
        self.user = np.repeat(np.arange(len(items), dtype=np.int32), items.shape[1])

    def __call__(self, rows):
        """(u,) values at (u, d) rows in nats, (u, p) logits, and (u, p, w) their gradients as Pairs gives them."""
        padded = np.zeros((self.most, rows.shape[1]), np.float32)
        padded[:len(rows)] = rows
        self.pairs.take(padded)
        logit, gradient = self.pairs(self.user, self.items)
        logit = logit.reshape(self.label.shape).astype(np.float64)
        loss = np.logaddexp(0, logit) - self.label * logit
        away = rows - self.prior.mean
        value = (self.weight * loss).sum(1) + 0.5 * ((away @ self.prior.precision) * away).sum(1)
        return value - (self.tilt * rows).sum(1), logit, gradient.reshape(*self.label.shape, -1)

    def slopes(self, rows, logit, gradient):
        """(u, d) gradients of the objective, and (u, d, d) its Hessians."""
        probability = sigmoid(logit)
        curvature = np.sqrt(self.weight * probability * (1 - probability)).astype(np.float32)
        entry = self.pairs.entry
        hessian = entry.T @ gram(gradient * curvature[..., None]) @ entry + self.prior.precision
        residual = (self.weight * (probability - self.label)).astype(np.float32)
        slope = np.matmul(residual[:, None], gradient)[:, 0] @ entry
        return slope + (rows - self.prior.mean) @ self.prior.precision - self.tilt, hessian

    def minimum(self, rows, steps):
        """(u, d) of the lowest values that were seen, from `rows` on, and the (u, p) logits there.

        Where a step does not lower the value there may be a kink of a ReLU on its way: the next goes along it, by the mix
        of the gradients on both sides that is shortest in the inverse Hessian, and half as far.
        """
        rows = rows.astype(np.float64)
        value, logit, gradient = self(rows)
        slope, hessian = self.slopes(rows, logit, gradient)
        reach, towards = np.ones((len(rows), 1)), slope
        for step in range(steps):
            tried = rows - reach * np.linalg.solve(hessian, towards[..., None])[..., 0]
            found, there, gradient = self(tried)
            lower = (found < value)[:, None]
            rows, value, logit = np.where(lower, tried, rows), np.minimum(found, value), np.where(lower, there, logit)
            if step < steps - 1:  # no other step needs slopes
                beyond, curved = self.slopes(tried, there, gradient)
                towards = np.where(lower, beyond, _shortest(slope, beyond, hessian))
                slope, hessian = np.where(lower, beyond, slope), np.where(lower[..., None], curved, hessian)
                reach = np.where(lower, 1, reach / 2)
        return rows, logit


def _shortest(a, b, hessian):
    """(u, d) points between the (u, d) gradients a and b, the nearest to 0 by the inverse of the (u, d, d) Hessians."""
    apart = b - a
    solved = np.linalg.solve(hessian, apart[..., None])[..., 0]
    share = -(a * solved).sum(1) / np.maximum((apart * solved).sum(1), LEAST)
    return a + np.clip(share, 0, 1)[:, None] * apart
