"""A rank's share of the users, and what ranks tell each other: sums, and numbers about users. See docs/maths.md, section 11.

One process has the share of all: its sums are those of all already.
"""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import numpy as np

DRAWN_TOGETHER = 1 << 16  # interactions whose negatives one generator draws: results depend on no chunk_size, no ranks
_MOST = 1 << 20  # rows of a table at a time


def by_length(length: np.ndarray) -> np.ndarray:
    """(u,) int32, the users with (num_users,) history lengths above 0, from the longest history down."""
    order = np.argsort(length, kind="stable")[::-1]
    return order[length[order] > 0].astype(np.int32)


def cut(users: np.ndarray, length: np.ndarray, interactions: int):
    """Parts of (u,) users, sorted by falling length, of so many interactions at most, padded; but at least one user."""
    start = 0
    while start < len(users):
        end = start + max(1, interactions // int(length[users[start]]))
        yield users[start:end]
        start = end


class Share:
    """All users: what one process has.

    rank, size: this process, from 0, and how many there are; first: whether it writes what all have made.
    who: what a stat_utils.generator is given to be none of the others'.
    """
    rank, size, who, first = 0, 1, (), True

    def each(self, values: np.ndarray) -> np.ndarray:
        """(size, ...) what every rank has said."""
        return np.asarray(values)[None]

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum over the ranks of a number or an array, added in their order: the same everywhere."""
        return np.asarray(values)

    def of_all(self, values: np.ndarray) -> np.ndarray:
        """(all users, ...) of what each rank says about its own, (own users, ...), in the order of users."""
        return values

    def either(self, flags: np.ndarray) -> np.ndarray:
        """(n,) bool, which of them are set in some rank."""
        return flags

    def joined(self, values: np.ndarray) -> np.ndarray:
        """(m, ...) of what the ranks say, (n, ...) each, one after the other."""
        return values

    def dealt(self, length: np.ndarray, user_ids: np.ndarray) -> Share:
        """The share of a dataset's users: (all users,) training interactions of each, if none are left out, and ids."""
        return self

    def together(self, pairs: Callable, draw: Callable) -> dict[int, np.ndarray]:
        """By number of the blocks that ranks share (n, ...) own parts of `draw(number, users, pairs)`, of pairs() of all."""
        return {}

    def part(self, length: np.ndarray, trains: bool = False) -> Share:
        """The share of some interactions, of which its users have (own users,) `length`; `trains`: of all that train."""
        return self

    def ids(self, own: np.ndarray) -> np.ndarray:
        """(all users,) original ids, of which `own` are its users'."""
        return own

    def pairs(self, own):
        """The stat_utils.PairSet of all users, of which `own` is its users'."""
        return own

    def rows(self, user: np.ndarray, columns: Callable[[slice], dict]) -> Iterator[tuple[np.ndarray, dict]]:
        """Parts of a table of all, ordered by user: whose the rows are, as places among all, and the columns of them.

        `user`: (n,) whose its own users' rows are; `columns`: a function of some of these to a dict of their columns.
        """
        for start in range(0, len(user) or 1, _MOST):
            part = slice(start, start + _MOST)
            yield user[part], columns(part)

    def own(self, values: np.ndarray) -> np.ndarray:
        """(own users, ...) of what is known about all."""
        return values

    def positions(self, interactions: int) -> np.ndarray:
        """(n,) int64, the place of each own interaction among those of all, ordered by user."""
        return np.arange(interactions)

    def spread(self, steps: int, groups: int, interactions: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Interactions over steps, of so many groups: where each begins, (steps + 1,); how many all have in it; the most."""
        return np.arange(steps + 1) * groups, np.full(steps, groups), groups

    def places(self, place: np.ndarray | None) -> np.ndarray | None:
        """(n,) int, among all, each `place` in the histories that there are if nothing is left out; None for the same."""
        return place

    def blocks(self, length: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Number and users of each block whose negatives one generator draws; `length` (own users,)."""
        return list(enumerate(cut(by_length(length), length, DRAWN_TOGETHER)))


WHOLE = Share()
_here = ContextVar("share", default=WHOLE)  # threads of a rank do not have it: they compute and write nothing


def here() -> Share:
    """The share of this process, all users' unless several ranks run together."""
    return _here.get()


@contextlib.contextmanager
def being(share: Share) -> Iterator[Share]:
    """While it lasts, `here()` is this share."""
    before = _here.set(share)
    try:
        yield share
    finally:
        _here.reset(before)
