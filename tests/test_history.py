"""Users 0, 1, 2, 3 with 2, 0, 3 and 1 interactions."""
import numpy as np

from src.history import History

HISTORY = History(np.array([0, 0, 2, 2, 2, 3]), 4)


def test_where_the_interactions_of_users_stand():
    assert HISTORY.length.tolist() == [2, 0, 3, 1] and HISTORY.first.tolist() == [0, 2, 2, 5]
    assert [HISTORY.of(user) for user in range(4)] == [slice(0, 2), slice(2, 2), slice(2, 5), slice(5, 6)]
    assert HISTORY.of_users(np.array([3, 1, 0])).tolist() == [5, 0, 1]
    assert HISTORY.of_users(np.zeros(0, int)).tolist() == []


def test_places_from_the_end_and_sums_by_user():
    assert HISTORY.from_end.tolist() == [1, 0, 2, 1, 0, 0]
    assert HISTORY.sums(np.arange(6.0)).tolist() == [1, 0, 9, 5]
