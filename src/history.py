"""Which interactions are whose: the rows of a sparse matrix in CSR form, users by interactions in order of time."""
from __future__ import annotations

import numpy as np


class History:
    """Where the interactions of each user stand.

    Args:
        user: (n,) int, the user of each interaction, in ascending order; within a user they are in order of time.
        num_users: int.

    length, first: (num_users,) int64, how many interactions a user has, and where the first one stands.
    """

    def __init__(self, user: np.ndarray, num_users: int):
        self.user = user
        self.length = np.bincount(user, minlength=num_users)
        self.first = np.cumsum(self.length) - self.length

    def of(self, user: int) -> slice:
        """The interactions of one user."""
        return slice(self.first[user], self.first[user] + self.length[user])

    def of_users(self, users: np.ndarray) -> np.ndarray:
        """(k,) int64, those of some users, one user after the other."""
        number = self.length[users]
        return np.repeat(self.first[users] - np.cumsum(number) + number, number) + np.arange(number.sum())

    def owners(self, users: np.ndarray) -> np.ndarray:
        """(k,) int64, for each of those which of these users it is of: their place in `users`."""
        return np.repeat(np.arange(len(users)), self.length[users])

    @property
    def from_end(self) -> np.ndarray:
        """(n,) int64, how many interactions of the same user are later."""
        return (self.first + self.length - 1)[self.user] - np.arange(len(self.user))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(num_users,) float64, sums of (n,) values by user."""
        return np.bincount(self.user, values, len(self.length))
