"""Which interactions are whose: the rows of a sparse matrix in CSR form, users by interactions in order of time."""
import numpy as np

from .stat_utils import spans


class History:
    """Where the interactions of each user stand.

    user: (n,) int, the user of each interaction, in ascending order; within a user they are in order of time.
    length, first: (num_users,) int64, how many interactions a user has, and where the first one stands.
    """

    def __init__(self, user: np.ndarray, num_users: int):
        self.user = user
        ends = np.searchsorted(user, np.arange(num_users + 1, dtype=user.dtype))
        self.first, self.length = ends[:-1], np.diff(ends)

    def of(self, user: int) -> slice:
        return slice(self.first[user], self.first[user] + self.length[user])

    def of_span(self, users: slice) -> slice:
        """The interactions of users who follow each other."""
        return slice(self.first[users.start], self.first[users.stop - 1] + self.length[users.stop - 1])

    def of_users(self, users: np.ndarray) -> np.ndarray:
        """(k,) int64, those of some users, one user after the other."""
        number = self.length[users]
        return np.repeat(self.first[users] - np.cumsum(number) + number, number) + np.arange(number.sum())

    def owners(self, users: np.ndarray) -> np.ndarray:
        """(k,) int64, for each of those which of these users it is of: their place in `users`."""
        return np.repeat(np.arange(len(users)), self.length[users])

    def each(self, values: np.ndarray) -> np.ndarray:
        """(n,) of (num_users,) values, for each interaction that of its user."""
        return np.repeat(values, self.length)

    @property
    def from_end(self) -> np.ndarray:
        """(n,) int32, how many interactions of the same user are later."""
        found = self.each((self.first + self.length - 1).astype(np.int32))
        found -= np.arange(len(found), dtype=np.int32)
        return found

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(num_users,) float64, sums of (n,) values by user."""
        found = np.zeros(len(self.length))
        for users in spans(self.length):
            part = self.of_span(users)
            found[users] = np.bincount(self.user[part] - users.start, values[part], users.stop - users.start)
        return found
