import numpy as np
import pytest

from src.common.share import being
from src.game.problem import SLACK, first_within, prefixes
from src.ranks.part import Part
from tests.ranks import in_threads


def in_parts(size, number, work):
    """What work(mine) returns in each of several ranks, `mine` (number,) bool, as a list with these masks."""
    owner = np.random.default_rng(number).integers(size, size=number)

    def of_rank(exchange):
        with being(Part(exchange.rank, size, exchange)):
            return work(owner == exchange.rank)
    return list(zip(in_threads(size, of_rank), [owner == rank for rank in range(size)]))


@pytest.mark.parametrize("limit, one_more, wanted", [
    (2, False, [1, 2]), (3, False, [1, 2, 3]), (0, True, [1]), (2, True, [1, 2, 3]), (9, True, [1, 2, 3, 4, 5])])
def test_the_first_that_fit_and_perhaps_one_more_with_ties_by_the_next_key(limit, one_more, wanted):
    keys, weight, place = (np.array([2.0, 1, 2, 2, 3]), np.array([3, 0, 1, 2, 0])), np.ones(5), np.array([4, 1, 2, 3, 5])
    for found, mine in in_parts(2, 5, lambda mine: first_within(
            limit, tuple(key[mine] for key in keys), weight[mine], one_more)):
        assert found.tolist() == np.isin(place, wanted)[mine].tolist()
    assert first_within(limit, keys, weight, one_more=one_more).tolist() == np.isin(place, wanted).tolist()


def test_a_prefix_with_known_ends():
    ends = prefixes(np.array([3.0, 1, 2, 2]), np.array([1.0, 4, 2, 2]), [3, 4, 7.9, 8, 9])
    assert ends == [(-np.inf, 1, 0), (1, 2, 4), (1, 2, 4), (2, 3, 8), (3, np.inf, 9)]  # both of key 2, or none
    assert prefixes(np.zeros(0), np.zeros(0), [1]) == [(-np.inf, np.inf, 0)]


@pytest.mark.parametrize("seed", range(2))
def test_ranks_find_the_ends_that_one_process_finds(seed):
    rng = np.random.default_rng(seed)
    number = 200
    key = rng.normal(size=number) * 10.0 ** rng.integers(-9, 9, number) if seed % 2 else rng.integers(-5, 6, number) * 0.25
    weight = rng.random(number) * (rng.random(number) > 0.2)
    limits = [share * weight.sum() * SLACK for share in (0, 0.1, 0.6, 1, 2)]

    def ends(mine):
        return prefixes(key[mine], weight[mine], limits)
    wanted = ends(np.ones(number, bool))
    for found, _ in in_parts(3, number, ends):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
        assert [one[:2] for one in found] == [one[:2] for one in wanted]
