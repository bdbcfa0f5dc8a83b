"""Who gains and who pays: changes between two models for users in quarters by a number that describes them."""
from __future__ import annotations

import numpy as np
import pandas as pd

QUARTERS = 4


def quarter_of(number: np.ndarray | pd.Series) -> np.ndarray:
    """(num_users,) int, from 0: the quarter of each user by a number, at a border the lower; fewer where many are equal."""
    edges = np.unique(np.quantile(number, np.linspace(0, 1, QUARTERS + 1)))
    return np.maximum(np.searchsorted(edges, number) - 1, 0)


def changes_in_quarters(users: pd.DataFrame, number: np.ndarray | pd.Series) -> pd.DataFrame:
    """The changes of users in quarters by a number, see quarter_of; all together if it is the same for all.

    `users`: loss_change in nats and hit_change (1, 0 or -1), a row for each user. Returns a row for each quarter: users, low
    and high (ends of the number), and the means loss_change, worse (share of the users whose loss rose) and hit_change.
    """
    rows = users.assign(number=number, worse=users.loss_change > 0).groupby(quarter_of(number))
    return rows.agg(users=("number", "size"), low=("number", "min"), high=("number", "max"),
                    loss_change=("loss_change", "mean"), worse=("worse", "mean"), hit_change=("hit_change", "mean"))
