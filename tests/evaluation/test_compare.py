import numpy as np
import pandas as pd

from src.evaluation.compare import changes_in_quarters


def test_those_at_a_border_are_in_the_lower_quarter_and_one_number_makes_one_group():
    number = np.array([1, 2, 2, 3, 3, 4, 5])  # quarters end at 2, 3 and 3.5
    users = pd.DataFrame({"loss_change": [-1.0, 1, 1, -1, 1, 1, 1], "hit_change": [1, 0, 0, 0, -1, 0, 0]})
    found = changes_in_quarters(users, number)
    assert found.users.tolist() == [3, 2, 2] and list(zip(found.low, found.high)) == [(1, 2), (3, 3), (4, 5)]
    assert found.loss_change.tolist() == [1 / 3, 0, 1] and found.worse.tolist() == [2 / 3, 0.5, 1]
    assert found.hit_change.tolist() == [1 / 3, -0.5, 0]
    assert changes_in_quarters(users, np.zeros(7)).users.tolist() == [7]
