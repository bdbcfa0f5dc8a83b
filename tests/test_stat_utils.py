import numpy as np
import pytest

from src import stat_utils
from src.stat_utils import (
    PairSet,
    generator,
    own_numbers,
    own_samples_outside,
    sample_distinct_outside,
    sample_outside,
    sigmoid,
)


@pytest.fixture(params=["table", "search"])
def pairs(request):
    """A random set of pairs of 20 users and 30 items, held in either way, and the same as a dense table."""
    dense = np.random.default_rng(0).random((20, 30)) < 0.4
    parts = [np.nonzero(dense & chosen) for chosen in (np.arange(30) < 9, np.zeros(30, bool), np.arange(30) >= 9)]
    return PairSet(parts, 20, 30, 600 if request.param == "table" else 0), dense


def test_membership_does_not_depend_on_how_many_are_looked_up_together(pairs, monkeypatch):
    pair_set, dense = pairs
    whole = sample_outside(np.arange(20), pair_set, generator(1, "test"), 4)
    for together in (stat_utils._TOGETHER, 7):
        monkeypatch.setattr(stat_utils, "_TOGETHER", together)
        assert np.array_equal(pair_set.contains(np.arange(20)[:, None], np.arange(30)), dense)
        assert pair_set.contains(*np.nonzero(dense)).all() and np.array_equal(pair_set.counts, dense.sum(1))
        assert np.array_equal(sample_outside(np.arange(20), pair_set, generator(1, "test"), 4), whole)
    nothing = np.array([], np.int32)
    for bits in (12, 0):
        assert not PairSet([(nothing, nothing)], 3, 4, bits).contains(np.arange(3)[:, None], np.arange(4)).any()


def test_samples_avoid_the_set_and_are_uniform(pairs):
    pair_set, dense = pairs
    users = np.repeat(np.arange(20), 500)
    numbers = own_numbers(1, "test", users, np.tile(np.arange(500), 20))
    few = np.arange(len(users))[::7]
    own = own_samples_outside(users, numbers, pair_set, 4)
    assert np.array_equal(own_samples_outside(users[few], numbers[few], pair_set, 4), own[few])
    for drawn in (sample_outside(users, pair_set, generator(1, "test"), 4), own):
        assert drawn.shape == (10_000, 4) and not dense[users[:, None], drawn].any()
        for user in range(20):
            count = np.bincount(drawn[users == user].ravel(), minlength=30)[~dense[user]]
            expected = count.sum() / len(count)
            assert ((count - expected) ** 2 / expected).sum() < 3 * len(count)


def test_distinct_samples_up_to_the_last_item(pairs):
    pair_set, dense = pairs
    number = int((~dense).sum(1).min())  # for one user, all there are
    drawn = sample_distinct_outside(pair_set, number, generator(1, "test"))
    for items in (drawn, sample_distinct_outside(pair_set, number, generator(1, "test"), rounds=0)):
        assert items.shape == (20, number) and not dense[np.arange(20)[:, None], items].any()
        assert all(len(set(row)) == number for row in items.tolist())


def test_generators_are_reproducible_and_differ_by_purpose():
    draw = lambda *purpose: generator(*purpose).random(4).tolist()  # noqa: E731
    assert draw(1, "a", 0) == draw(1, "a", 0)
    assert len({tuple(draw(*p)) for p in ((1, "a", 0), (1, "a", 1), (1, "b", 0), (2, "a", 0))}) == 4


def test_sigmoid_without_overflow():
    assert sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0, 0.5, 1]
    assert sigmoid(np.array([1.5]))[0] == pytest.approx(1 / (1 + np.exp(-1.5)))


def test_own_numbers_are_alike_wherever_they_stand():
    user, item = np.repeat(np.arange(300), 40), np.tile(np.arange(40), 300)
    numbers = own_numbers(1, "test", user, item)
    order = np.random.default_rng(0).permutation(len(user))[:5000]
    assert np.array_equal(own_numbers(1, "test", user[order], item[order]), numbers[order])
    assert np.array_equal(own_numbers(1, "test", np.arange(300)[:, None], np.arange(40)).ravel(), numbers)
    # uniform, and unlike those of neighbours, of another seed or purpose
    share = numbers / 2.0 ** 64
    assert len(np.unique(numbers)) == len(numbers) and np.abs(np.histogram(share, 10, (0, 1))[0] / 1200 - 1).max() < 0.12
    for other in (own_numbers(2, "test", user, item), own_numbers(1, "other", user, item),
                  own_numbers(1, "test", item, user), np.roll(numbers, 1), np.roll(numbers, 40)):
        assert abs(np.corrcoef(share, other / 2.0 ** 64)[0, 1]) < 0.04
