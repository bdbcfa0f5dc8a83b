import numpy as np
import pytest

from src.dataset import load_dataset
from src.influence.expected import DENSE, default_shrinkage, expected_by, expected_influence, per_item, shrunk, target_items


def test_targets_are_the_validation_item_and_the_end_of_the_history(small, settings):
    dataset = load_dataset(settings())
    assert dataset.item_ids[target_items(dataset, 2)].tolist() == [
        [7, 6, 5], [2, 5, 1],
        [1, 2, 1], [5, 5, 5]]  # histories of 1 and 0: the validation item stands in


@pytest.fixture
def unheld(write_ratings, settings):
    """Users 1 to 4 with 5, 3, 2 and 1 interactions, nothing held out."""
    write_ratings([(u, 10 * u + t, t) for u, n in ((1, 5), (2, 3), (3, 2), (4, 1)) for t in range(n)])
    return load_dataset(settings("--holdout", 0, "--min_ratings", 1))


def test_where_nothing_is_held_out_the_last_item_stands_in_and_goes_by_those_before_it(unheld):
    assert unheld.validation is None and not len(unheld.scored)
    assert unheld.yardstick.tolist() == [False] * 4 + [True] + [False, False, True] + [False] * 3
    assert unheld.informed.tolist() == [True] * 8 + [False] * 3  # of users with 1 and 2 nothing is known
    deciding = unheld.deciding()
    assert deciding.item_ids[deciding.item].tolist() == [10, 11, 12, 13, 20, 21, 30, 31, 40]
    assert deciding.validation.tolist() == [4, 7, -1, -1] and deciding.scored.tolist() == [0, 1]
    assert target_items(unheld, 2).tolist() == [[4, 3, 2], [7, 6, 5], [9, 8, 9], [10, 10, 10]]
    influence = 100.0 * np.arange(11)[:, None] + [0, 10, 40]
    expected, report = expected_influence(influence, unheld, fit=False)
    # those on all later ones of the last three; the yardstick: those on the two before it
    assert expected[:8] == pytest.approx([50 / 3, 100 + 50 / 3, 205, 300, 425, 505, 600, 725])
    influence[[4, 7], 0], influence[[3, 6], 1:], influence[[2, 5], 2] = 1e6, 1e6, 1e6
    assert np.array_equal(expected_by(report, influence, unheld)[:8], expected[:8])  # nothing goes by its own loss


def test_one_lag_and_none_leave_the_item_before(unheld):
    influence = 100.0 * np.arange(11)[:, None] + [0, 10]
    expected, _ = expected_influence(influence, unheld, fit=False)
    assert expected[:5] == pytest.approx([5, 105, 205, 300, 410])  # of two targets the second, for the yardstick


@pytest.fixture
def long_histories(write_ratings, settings):
    """30 users with histories of 12 interactions."""
    write_ratings([(u, i, i) for u in range(1, 31) for i in range(14)], items=range(30))
    return load_dataset(settings())


def repeating(dataset, noise, seed=0):
    """Influences on the validation item and two before it: a lasting part, and noise that does not repeat; those on items
    of the history are half as large."""
    rng = np.random.default_rng(seed)
    lasting = rng.normal(1, 1, dataset.num_interactions)
    return lasting, (lasting[:, None] + rng.normal(0, noise, (len(lasting), 3))) * [1, 0.5, 0.5]


def test_what_does_not_repeat_is_drawn_towards_the_mean(long_histories):
    lasting, influence = repeating(long_histories, noise=1.0)
    expected, report = expected_influence(influence[:, :2], long_histories)
    # the reliability of one measurement is var(lasting) / var(measured) = 1 / 2
    assert report["1"]["slopes"] == pytest.approx([0.5], abs=0.15)
    assert expected == pytest.approx(report["1"]["slopes"][0] * influence[:, 0] + report["1"]["intercept"])
    assert np.mean((expected - lasting) ** 2) < 0.7 * np.mean((influence[:, 0] - lasting) ** 2)
    two, from_end = expected_influence(influence, long_histories)[0], 12 - np.arange(len(lasting)) % 12  # of 2 lags
    assert np.mean((two - lasting) ** 2) < 0.9 * np.mean((expected - lasting) ** 2)
    assert np.array_equal(expected[from_end == 1], two[from_end == 1])  # for the last, the target of lag 1 is itself
    assert (expected != two)[from_end > 1].all()


def test_what_an_interaction_does_for_its_own_loss_counts_nowhere(long_histories):
    _, influence = repeating(long_histories, noise=1.0)
    before, _ = expected_influence(influence, long_histories)
    last = np.arange(11, len(influence), 12)
    influence[last, 1:] = 1e6
    influence[last - 1, 2] = 1e6
    assert np.array_equal(expected_influence(influence, long_histories)[0], before)


def test_without_a_fit_the_last_items_weigh_the_same_and_nobody_else_counts(long_histories):
    _, influence = repeating(long_histories, noise=1.0)
    expected, report = expected_influence(influence, long_histories, fit=False)
    back = 12 - np.arange(len(influence)) % 12
    for from_end, items in ((1, 1), (2, 2), (3, 3), (12, 3)):
        rows = back == from_end
        np.testing.assert_allclose(expected[rows], influence[rows, :items].mean(1))
    np.testing.assert_array_equal(expected_by(report, influence, long_histories), expected)
    influence[12:] = 0
    assert np.array_equal(expected_influence(influence, long_histories, fit=False)[0][:12], expected[:12])


def test_noise_alone_makes_all_alike(long_histories):
    rng = np.random.default_rng(4)
    influence = rng.normal(0, 1, (long_histories.num_interactions, 2))
    influence[:, 1] = -influence[:, 0]
    expected, report = expected_influence(influence, long_histories)
    assert report["1"]["slopes"] == [0] and np.ptp(expected) == 0


def test_too_few_interactions_leave_the_influence_as_it_is(small, settings):
    dataset = load_dataset(settings())
    influence = np.arange(20.0).reshape(10, 2)
    expected, report = expected_influence(influence, dataset)
    assert expected.tolist() == influence[:, 0].tolist() and report == {}


def test_sparser_items_are_shrunk_further(long_histories, write_ratings, settings):
    dataset = long_histories  # 30 users have 12 of the same items each
    assert default_shrinkage(dataset) == pytest.approx(1 - 30 / DENSE) and per_item(dataset) == 30
    assert default_shrinkage(dataset.part(dataset.user < 10)) == pytest.approx(1 - 10 / DENSE)
    assert default_shrinkage(dataset.part(np.zeros(len(dataset.user), bool))) == 1
    assert shrunk(np.array([0.5, -0.4]), 1, -0.2).tolist() == [0, 0]  # where all is expected to hurt, nothing is made to
    write_ratings([(u, i, i) for u in range(DENSE + 2) for i in range(5)], "many", items=range(30))
    assert default_shrinkage(load_dataset(settings("--dataset", "many"))) == 0
