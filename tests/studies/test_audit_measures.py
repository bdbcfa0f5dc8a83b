"""The measures of the leakage audit on scores, masks and genres whose answer is known."""
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from studies.audit_measures import (
    Bootstrap,
    as_many_at_random,
    cross_validated,
    genre_shares,
    guessable,
    matched_samples,
    means_of_users,
    taste,
    weighted_auc,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_weight_is_a_repetition(rng):
    scores, labels = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.4  # with ties
    weights = rng.integers(0, 4, (40, 5))
    for scored in (scores, scores + rng.random(40)):
        wanted = [roc_auc_score(np.repeat(labels, w), np.repeat(scored, w)) for w in weights.T]
        assert weighted_auc(scored, labels, weights) == pytest.approx(wanted)
    assert weighted_auc(labels.astype(float), labels, weights[:, :1]) == 1 == 1 - weighted_auc(-1.0 * labels, labels,
                                                                                               weights[:, :1])
    assert weighted_auc(np.zeros(40), labels, weights[:, :1]) == 0.5
    assert np.isnan(weighted_auc(scores, labels, weights * labels[:, None])).all()  # no negative weighs anything


def test_random_scores_have_an_interval_around_a_half(rng):
    user = np.repeat(np.arange(80), 20)
    bootstrap = Bootstrap(80, 400, rng)
    ends = np.array([bootstrap.auc(rng.random(1600), rng.random(1600) < 0.5, user)["interval"] for _ in range(20)])
    assert ((ends[:, 0] < 0.5) & (ends[:, 1] > 0.5)).sum() >= 17  # 95% intervals
    assert (ends[:, 1] - ends[:, 0] < 0.1).all()
    assert bootstrap.auc(np.arange(1600.0), np.ones(1600, bool), user) is None  # no negatives


def test_the_mean_of_users_has_the_interval_of_a_mean(rng):
    values = rng.normal(0.7, 0.1, 400)
    values[::4] = np.nan  # users without any
    found = Bootstrap(400, 1000, rng).mean(values)
    half = 1.96 * np.nanstd(values) / 300 ** 0.5
    assert found["auc"] == pytest.approx(np.nanmean(values))
    assert found["interval"] == pytest.approx([found["auc"] - half, found["auc"] + half], abs=0.2 * half)


def test_guesses_count_ties_by_half_and_lists_by_rank():
    untouched = np.array([[0.0, 1.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0]])
    auc, listed = guessable(np.array([9.0, 1.0, -1.0, 5.0]), np.array([0, 0, 0, 1]), untouched, 3)
    assert auc.tolist() == [1, 0.375, 0, 0.5] and listed.tolist() == [True, False, False, False]
    assert means_of_users(auc, np.array([0, 0, 0, 1]), 3)[:2].tolist() == pytest.approx([1.375 / 3, 0.5])
    assert np.isnan(means_of_users(auc, np.array([0, 0, 0, 1]), 3)[2])


def test_samples_are_of_the_same_users(rng):
    user = np.repeat(np.arange(30), 12)
    disclosed = rng.random(360) < 0.5
    disclosed[:12], disclosed[12:24] = False, True  # who discloses nothing, and who withholds nothing
    for number in (50, 1000):
        withheld, kept = matched_samples(disclosed, user, number, rng)
        assert (user[withheld] == user[kept]).all() and disclosed[kept].all() and not disclosed[withheld].any()
        assert len(np.unique(withheld)) == len(withheld) == min(number, (~disclosed[12:]).sum())
        assert not np.isin([0, 1], user[withheld]).any()


def test_as_many_are_withheld_of_each_user(rng):
    user = np.repeat(np.arange(40), rng.integers(1, 15, 40))
    disclosed = rng.random(len(user)) < 0.6
    mask = as_many_at_random(disclosed, user, rng)
    assert (np.bincount(user, mask) == np.bincount(user, disclosed)).all() and (mask != disclosed).any()


def test_what_features_say_is_found_and_noise_is_not(rng):
    features, bootstrap, user = rng.normal(size=(200, 4)), Bootstrap(200, 200, rng), np.arange(200)
    said = cross_validated(features, features[:, 2] > 0.2, user, bootstrap, 1)
    assert said[0] > 0.95
    noise = bootstrap.summary(cross_validated(features, rng.random(200) < 0.5, user, bootstrap, 1))
    assert noise["interval"][0] < 0.5 < noise["interval"][1]
    assert cross_validated(features, user < 19, user, bootstrap, 1) is None


def test_shares_of_genres():
    flags = np.array([[True, False], [True, True], [False, False]])
    shares = genre_shares(np.array([True, True, False, True]), np.array([0, 0, 0, 1]), np.array([0, 1, 2, 2]), flags, 3)
    assert shares[:2].tolist() == [[1, 0.5], [0, 0]] and np.isnan(shares[2]).all()


def test_a_planted_pattern_of_withholding_is_found(rng):
    """Users like all genres alike; in one mask each hides the more of genre 0 the more of genre 1 they show."""
    users, each = 150, 40
    user, item = np.repeat(np.arange(users), each), rng.integers(0, 200, users * each)
    flags = np.eye(5, dtype=bool)[np.arange(200) % 5]
    bootstrap = Bootstrap(users, 100, rng)
    genre = item % 5
    hides = np.arange(users) % 2 == 0
    disclosed = np.where(hides[user], ~np.isin(genre, (0, 2)), ~np.isin(genre, (1, 3)))
    found = taste(disclosed, user, item, flags, bootstrap, 1)
    assert found["auc"] > 0.85 and found["interval"][0] > 0.8 and found["users"] == users
    chance = taste(as_many_at_random(disclosed, user, rng), user, item, flags, bootstrap, 1)
    assert abs(chance["auc"] - 0.5) < 0.1 and chance["interval"][1] < found["interval"][0]
    assert taste(np.ones(len(user), bool), user, item, flags, bootstrap, 1) is None  # nothing is withheld
