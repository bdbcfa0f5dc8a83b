import numpy as np
import pandas as pd

from src.evaluation.quarters import changes_in_quarters


def test_those_at_a_border_go_to_the_side_that_is_named():
    number = np.array([1, 2, 2, 3, 3, 4, 5])  # quarters end at 2, 3 and 3.5
    users = pd.DataFrame({"loss_change": [-1.0, 1, 1, -1, 1, 1, 1], "hit_change": [1, 0, 0, 0, -1, 0, 0]})
    lower, upper = (changes_in_quarters(users, number, side) for side in ("left", "right"))
    assert lower.users.tolist() == [3, 2, 2] and upper.users.tolist() == [1, 2, 2, 2]
    assert list(zip(lower.low, lower.high)) == [(1, 2), (3, 3), (4, 5)]
    assert list(zip(upper.low, upper.high)) == [(1, 1), (2, 2), (3, 3), (4, 5)]
    assert upper.loss_change.tolist() == [-1, 1, 0, 1] and upper.worse.tolist() == [0, 1, 0.5, 1]
    assert upper.hit_change.tolist() == [1, 0, -0.5, 0]


def test_one_number_makes_one_group():
    users = pd.DataFrame({"loss_change": [-1.0, 1, 3], "hit_change": [0, 0, 1]})
    whole = changes_in_quarters(users, np.zeros(3))
    assert whole.users.tolist() == [3] and whole.loss_change.tolist() == [1] and whole.worse.tolist() == [2 / 3]
