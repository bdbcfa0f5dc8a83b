"""The measures of the leakage audit: areas under ROC curves (AUC), each with an interval from a bootstrap over users.

An AUC is the share of pairs of one positive and one negative sample in which the positive one has the higher score, ties
counting half: .5 is chance, 1 is certainty. No function here knows where scores and masks come from.
"""
import warnings

import numpy as np

FOLDS = 5  # of the cross-validation
FEWEST = 20  # users in each class; with fewer nothing is learned about them
_COLUMNS = 128  # resamples whose weights of all samples are in memory at a time
_PAIRS = 1 << 22  # comparisons of interactions with untouched items in memory at a time


class Bootstrap:
    """Resamples of the users, the same for all that is measured, so that differences are paired.

    `weights`: (num_users, 1 + number) uint8: how often a user is in the sample at hand (once), then in each resample.
    """

    def __init__(self, num_users, number, rng):
        weights = np.ones((1 + number, num_users), np.uint8)
        for row in weights[1:]:
            drawn = np.bincount(rng.integers(0, num_users, num_users), minlength=num_users)
            row[:] = np.minimum(drawn, np.iinfo(np.uint8).max)
        self.weights = np.ascontiguousarray(weights.T)

    def mean(self, of_users):
        """Mean over users of (num_users,) values, NaN where a user has none; see `summary`."""
        known = np.isfinite(of_users)
        total = np.where(known, of_users, 0)
        with np.errstate(invalid="ignore"):
            return self.summary(total @ self.weights / (known.astype(float) @ self.weights))

    def auc(self, scores, labels, user):
        """AUC of (n,) scores for (n,) bool labels, whose samples belong to (n,) users; see `summary`."""
        return self.summary(self.aucs(scores, labels, user))

    def aucs(self, scores, labels, user):
        """(1 + number,) AUC of the samples at hand and of each resample; NaN where one has no positive or no negative."""
        return np.concatenate([weighted_auc(scores, labels, self.weights[user, start:start + _COLUMNS])
                               for start in range(0, self.weights.shape[1], _COLUMNS)])

    @staticmethod
    def summary(values):
        """Of (1 + number,) values the first as `auc`, and the 95% `interval` of the others, as a dict; None if unknown."""
        if not np.isfinite(values[0]):
            return None
        others = values[1:][np.isfinite(values[1:])]
        interval = np.quantile(others, [0.025, 0.975]).tolist() if len(others) else None
        return {"auc": float(values[0]), "interval": interval}


def weighted_auc(scores, labels, weights):
    """AUC under weights of the samples.

    Args:
        scores: (n,) numbers.
        labels: (n,) bool.
        weights: (n, b) whole numbers, not negative.

    Returns:
        (b,) float64 in [0, 1]; NaN where all positives or all negatives weigh nothing.
    """
    order = np.argsort(scores[~labels], kind="stable")
    negative, positive = scores[~labels][order], scores[labels]
    below = np.zeros((len(negative) + 1, weights.shape[1]), np.int64)
    np.cumsum(weights[~labels][order], 0, dtype=np.int64, out=below[1:])
    first, last = (np.searchsorted(negative, positive, side) for side in ("left", "right"))
    beaten = below[first]
    if np.array_equal(first, last):
        beaten = beaten * 2
    else:
        beaten += below[last]  # ties count half
    own = weights[labels]
    with np.errstate(invalid="ignore", divide="ignore"):
        return 0.5 * np.einsum("nb,nb->b", own, beaten, dtype=np.float64) / (own.sum(0, dtype=float) * below[-1])


def guessable(scores, user, untouched, top_k):
    """How far (n,) scores of interactions of (n,) users stand above those of items that a user has never touched.

    Args:
        untouched: (num_users, m) scores of items that each user has never touched.
        top_k: length of a list.

    Returns:
        auc: (n,) share of the m items that score lower, ties counting half.
        listed: (n,) bool: whether fewer than top_k of them score as high or higher.
    """
    auc, listed = np.empty(len(scores)), np.empty(len(scores), bool)
    step = max(1, _PAIRS // untouched.shape[1])
    for first in range(0, len(scores), step):
        part = slice(first, first + step)
        others, own = untouched[user[part]], scores[part, None]
        above, ties = (others > own).sum(1), (others == own).sum(1)
        auc[part] = 1 - (above + 0.5 * ties) / untouched.shape[1]
        listed[part] = above + ties < top_k
    return auc, listed


def means_of_users(values, user, num_users):
    """(num_users,) mean over each user's (n,) values; NaN for users without any."""
    number = np.bincount(user, minlength=num_users)
    total = np.bincount(user, values, num_users)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def matched_samples(disclosed, user, number, rng):
    """Withheld interactions, each with a disclosed one of the same user, so that who has long histories plays no part.

    Args:
        disclosed: (n,) bool, a mask.
        user: (n,) int, ascending.
        number: at most so many are drawn.

    Returns:
        withheld: (m,) positions, all different; of users with something disclosed.
        kept: (m,) positions, drawn with replacement.
    """
    shown = np.flatnonzero(disclosed)
    count = np.bincount(user[shown], minlength=user[-1] + 1)
    withheld = np.flatnonzero(~disclosed & (count[user] > 0))
    withheld = np.sort(rng.permutation(withheld)[:number])
    first = np.cumsum(count) - count
    own = user[withheld]
    return withheld, shown[first[own] + rng.integers(0, count[own])]


def as_many_at_random(disclosed, user, rng):
    """(n,) bool: a mask that withholds as many interactions of each user as `disclosed` does, drawn at random."""
    number = np.bincount(user, ~disclosed, user[-1] + 1).astype(np.int64)
    order = np.lexsort((rng.random(len(user)), user))  # shuffled within each user
    length = np.bincount(user)
    place = np.arange(len(user)) - (np.cumsum(length) - length)[user]
    mask = np.ones(len(user), bool)
    mask[order] = place >= number[user]
    return mask


def cross_validated(features, labels, user, bootstrap, seed):
    """(1 + resamples,) AUC with which a logistic regression tells (n,) bool labels from standardised (n, d) features.

    Mean over FOLDS folds of what is fitted on the others; the resamples are of the (n,) users, without new fits. None if a
    class has fewer than FEWEST users.
    """
    if min(labels.sum(), (~labels).sum()) < FEWEST:
        return None
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits
    folds = []
    for fitted, left in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(features, labels):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        with warnings.catch_warnings(), threadpool_limits(1):  # so small that threads only wait for each other
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features[fitted], labels[fitted])
        folds.append(bootstrap.aucs(model.decision_function(features[left]), labels[left], user[left]))
    return np.mean(folds, 0)


def genre_shares(chosen, user, item, flags, num_users):
    """(num_users, g) shares of the genres in what is chosen, (n,) bool, of users' interactions; NaN for users without any.

    `flags`: (num_items, g) bool, the genres of each item.
    """
    user, item = user[chosen], item[chosen]
    number = np.bincount(user, minlength=num_users)[:, None]
    counts = np.stack([np.bincount(user, flags[item, k], num_users) for k in range(flags.shape[1])], 1)
    return np.where(number > 0, counts / np.maximum(number, 1), np.nan)


def taste(disclosed, user, item, flags, bootstrap, seed):
    """How well the genres of what users disclose tell those of what they withhold.

    For each genre, a logistic regression on a user's shares of all genres among what is disclosed tells whether the
    genre's share among what is withheld lies above the median of the users. Genres with fewer than FEWEST users on either
    side do not count.

    Args:
        disclosed: (n,) bool, a mask.
        user, item, flags: see genre_shares.
        seed: of the folds.

    Returns:
        dict with auc and interval (mean over genres), and the numbers of genres and users; None if no genre counts.
    """
    num_users = len(bootstrap.weights)
    shown, hidden = (genre_shares(chosen, user, item, flags, num_users) for chosen in (disclosed, ~disclosed))
    users = np.flatnonzero(np.isfinite(shown[:, 0]) & np.isfinite(hidden[:, 0]))
    if not len(users):
        return None
    shown, hidden = shown[users], hidden[users]
    above = hidden > np.median(hidden, 0)
    found = [cross_validated(shown, above[:, k], users, bootstrap, seed) for k in range(flags.shape[1])]
    found = [values for values in found if values is not None]
    if not found:
        return None
    return {**bootstrap.summary(np.mean(found, 0)), "genres": len(found), "users": len(users)}
