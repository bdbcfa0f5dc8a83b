"""Nobody worse off: what users need to be served as well as with everything, and the mask that leaves it to them.

The expected loss of a user is that of items held out of their history, at the row that is refitted to what they disclose,
the shared parameters as they are. No test item is looked at. See docs/maths.md, section 9.
"""
from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np

from ..config import Config
from ..dataset import Dataset
from ..influence.block import TINY
from ..influence.chunks import Chunks
from ..influence.expected import target_items
from ..influence.refit import STEPS, prior_of, refit
from ..network import build
from ..stat_utils import generator, sample_outside
from .mirror_descent import FITS

logger = logging.getLogger("ifrqe")

TOLERANCE = 1e-5  # nats: refits in single precision are not nearer to each other
STEPS_ON = 3  # of Newton's method from the row of everything on
PAIRS = 1 << 14  # user-item pairs looked at together: bisection leaves few users of a chunk
ROUNDS = 3  # of playing again without what harms users


class ExpectedLoss:
    """Cross-entropy of a user's candidates at the row refitted to what they disclose, for any selection.

    Candidates as in the evaluation: a held-out item (the mean over those that there are), and `num_eval_neg` negatives.
    The held-out items: those of validation, and where at least half of the history is left without them the last
    `influence_lags` interactions, which then enter no refit. An interaction keeps its sampled negatives in all selections,
    so that losses of two differ by what they disclose alone.

    Args:
        values: the shared parameters, and the rows of the users who were trained on; see Network.values.
        dataset: Dataset of all that may be disclosed.
        trained: (num_users,) bool, whose rows make up the prior.
        config: influence_lags, num_neg, num_eval_neg, seed, chunk_size, and the options of the model.

    `everything`: (num_users,) float64 losses in nats where all is disclosed.
    """

    def __init__(self, values: dict, dataset: Dataset, trained: np.ndarray, config: Config):
        self.dataset, self.config = dataset, config.replace(chunk_size=min(config.chunk_size, PAIRS))
        self.user = dataset.user
        self.length = np.bincount(dataset.user, minlength=dataset.num_users)
        lags = config.influence_lags
        whole = (self.length >= 2 * lags) & (self.length > 0)
        self.items = target_items(dataset, lags)
        self.counts = np.arange(self.items.shape[1]) < np.where(whole, self.items.shape[1], 1)[:, None]
        from_end = np.cumsum(self.length)[dataset.user] - np.arange(dataset.num_interactions)
        self.seen = ~whole[dataset.user] | (from_end > lags)
        self.negatives = sample_outside(np.arange(dataset.num_users), dataset.history_pairs(),
                                        generator(config.seed, "protection negatives"), config.num_eval_neg)
        self.net = build(dataset, config)
        self.net.set_values(values)
        self.prior = prior_of(self.net.user_rows(values)[trained])
        self.jacobian = self.net.rows_of_users(Chunks(dataset, self.config).pairs_per_call)
        # where refits of any selection begin, that of everything among them, so that it is treated like all others
        self.rows = refit(self.net, dataset, self.prior, self.config, None, STEPS, self.jacobian, self.seen)
        self.everything = self(np.ones(dataset.num_interactions, bool))

    def __call__(self, disclosed: np.ndarray, users: np.ndarray | None = None) -> np.ndarray:
        """(num_users,) losses of a selection (n,) bool; of users who are not asked for (num_users,) bool, 0."""
        users = np.ones(len(self.length), bool) if users is None else users
        rows = refit(self.net, self.dataset, self.prior, self.config, self.rows, STEPS_ON, self.jacobian,
                     disclosed & self.seen, users)
        asked = np.flatnonzero(users)
        owner, column = np.nonzero(self.counts[asked])
        self.jacobian.take(rows)
        loss = np.bincount(asked[owner], self._entropy(asked[owner], self.items[asked[owner], column], 1), len(users))
        loss /= np.maximum(self.counts.sum(1), 1)
        number = self.negatives.shape[1]
        of_negatives = self._entropy(np.repeat(asked, number), self.negatives[asked].ravel(), 0)
        loss[asked] += of_negatives.reshape(len(asked), number).sum(1)
        return loss / (1 + number)

    def _entropy(self, user, item, label):
        """(p,) float64 cross-entropies of pairs, in nats."""
        logit = self.jacobian(user.astype(np.int32), item)[0].astype(np.float64)
        return np.logaddexp(0, -logit if label else logit)

    def fits(self, disclosed: np.ndarray, users: np.ndarray | None = None) -> np.ndarray:
        """(num_users,) bool: whether a selection serves each user as well as everything does."""
        return self(disclosed, users) <= self.everything + TOLERANCE

    def shortest(self, rank: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Of each user the length of the shortest beginning of an order that serves them as well as everything does.

        By bisection, so that it is the shortest where the loss falls along the order, else one after which it first fits.

        Args:
            rank: (n,) place of each interaction in its user's order, from 0.
            low, high: (num_users,) a length that is too short, at least -1, and one that is long enough.

        Returns:
            (num_users,) int.
        """
        low, high = low.copy(), high.copy()
        while (open_ := high - low > 1).any():
            middle = (low + high) // 2
            good = self.fits(rank < middle[self.user], open_)
            high, low = np.where(open_ & good, middle, high), np.where(open_ & ~good, middle, low)
        return high


def ranks(user: np.ndarray, length: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """(n,) places, from 0, of interactions in their user's order by `keys` (n,), the most important last, ascending."""
    order = np.lexsort((*keys, user))
    rank = np.empty(len(user), np.int64)
    rank[order] = np.arange(len(user)) - (np.cumsum(length) - length)[user]
    return rank


def needed(loss: ExpectedLoss, expected: np.ndarray) -> np.ndarray:
    """(n,) bool: of each user the fewest interactions, those of the highest (n,) expected influence, that serve as well."""
    rank = ranks(loss.user, loss.length, -expected)
    length = loss.shortest(rank, np.full(len(loss.length), -1), loss.length)
    return rank < length[loss.user]


class Protection:
    """Leaves users what they need, and lets the price for all rise by what that costs.

    Args:
        loss: ExpectedLoss.
        unwillingness, expected: (n,) of what may be disclosed.
        limit: largest sum of unwillingness; (num_users,) those of each user; None at a given price: no limit.
        fixed: (n,) bool, what is disclosed whatever comes; None for nothing.

    `report`: after the call a dict for preprocess.json.
    """

    def __init__(self, loss: ExpectedLoss, unwillingness: np.ndarray, expected: np.ndarray,
                 limit: float | np.ndarray | None, fixed: np.ndarray | None = None):
        self.loss, self.b, self.expected, self.limit = loss, unwillingness, expected, limit
        self.fixed = np.zeros(len(unwillingness), bool) if fixed is None else fixed
        self.report = {}

    def __call__(self, disclosed: np.ndarray, play: Callable) -> tuple[np.ndarray, float | np.ndarray]:
        """The mask with which nobody is worse off, as far as the limit reaches.

        Args:
            disclosed: (n,) bool, what the game says.
            play: function of two (n,) bool, what is disclosed whatever the price and what may be disclosed at all, to a
                mask within the limit and its price; of these (n,) bool and a float or (num_users,) array.

        Returns:
            disclosed: (n,) bool.
            weight: the price, or the prices.
        """
        start, loss = time.perf_counter(), self.loss
        worse = ~loss.fits(disclosed)
        floor, unkept = self._within_limit(self._floor(disclosed, worse))
        barred = np.zeros(len(loss.length), bool)  # what goes beyond their floor would make them worse off
        for _ in range(ROUNDS):
            mask, weight = play(floor, floor | ~barred[loss.user])
            harmed = ~loss.fits(mask) & ~unkept
            if not (harmed & ~barred).any():
                break
            barred |= harmed
        mask &= floor | ~barred[loss.user]
        left = ~loss.fits(mask)
        given = floor & ~disclosed
        self.report = {name: int(flags.sum()) for name, flags in {
            "worse_off_before": worse, "worse_off": left, "given_back": given, "barred": barred, "not_protected": unkept,
            "protected": np.bincount(loss.user, given, len(worse)) > 0}.items()}
        self.report["seconds"] = time.perf_counter() - start
        logger.info("expected to be worse off than with everything: %d of %d users; %d after %d got back %d interactions%s",
                    self.report["worse_off_before"], len(worse), self.report["worse_off"], self.report["protected"],
                    self.report["given_back"], f"; the budget does not reach for {self.report['not_protected']} users"
                    if unkept.any() else "")
        return mask, weight

    def _floor(self, disclosed, worse):
        """(n,) bool: what each user needs, of what they disclose first, then of the rest, by worth per unwillingness."""
        loss = self.loss
        rank = ranks(loss.user, loss.length, -self.expected / np.maximum(self.b, TINY), ~disclosed, ~self.fixed)
        fixed, number = (np.bincount(loss.user, kept, len(worse)).astype(np.int64) for kept in (self.fixed, disclosed))
        length = loss.shortest(rank, np.where(worse, number, fixed - 1), np.where(worse, loss.length, number))
        return rank < length[loss.user]

    def _within_limit(self, floor):
        """The floors that the limit can hold, those that cost least first, and (num_users,) bool whose it cannot."""
        loss, users = self.loss, len(self.loss.length)
        cost = np.bincount(loss.user, self.b * (floor & ~self.fixed), users)
        spent = np.bincount(loss.user, self.b * self.fixed, users)
        if self.limit is None:
            return floor, np.zeros(users, bool)
        if np.ndim(self.limit):
            unkept = cost > np.maximum(self.limit * (1 + FITS) - spent, 0)
        else:
            order = np.argsort(cost, kind="stable")
            unkept = np.zeros(users, bool)
            unkept[order] = np.cumsum(cost[order]) > max(self.limit * (1 + FITS) - spent.sum(), 0)
        return floor & (self.fixed | ~unkept[loss.user]), unkept
