"""A rank's share of the users, and what ranks tell each other: sums, and numbers about users. See docs/maths.md, section 11.

One process has the share of all: its sums are those of all already.
"""
from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import numpy as np

DRAWN_TOGETHER = 1 << 16  # interactions whose negatives one generator draws: results depend on no chunk_size, no ranks
_WORDS = 1 << 10  # least numbers of one exchange, which has a power of two, so that few graphs are compiled
_MOST = 1 << 20


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

    rank, size: this process, from 0, and how many there are.
    splits: whether some blocks, see `blocks`, have users of several ranks, which then draw their negatives together.
    """
    rank, size, splits = 0, 1, False

    def each(self, values: np.ndarray) -> np.ndarray:
        """(size, ...) what every rank has said."""
        return np.asarray(values)[None]

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum over the ranks of a number or an array, added in their order: the same everywhere."""
        return np.asarray(values)

    def of_all(self, values: np.ndarray) -> np.ndarray:
        """(all users, ...) of what each rank says about its own, (own users, ...), in the order of users."""
        return values

    @property
    def first(self) -> bool:
        """Whether this rank writes what all have made."""
        return self.rank == 0

    def either(self, flags: np.ndarray) -> np.ndarray:
        """(n,) bool, which of them are set in some rank."""
        return flags

    def joined(self, values: np.ndarray) -> np.ndarray:
        """(m, ...) of what the ranks say, (n, ...) each, one after the other."""
        return values

    def dealt(self, length: np.ndarray, user_ids: np.ndarray) -> Share:
        """The share of a dataset's users: (all users,) training interactions of each, if none are left out, and ids."""
        return self

    def trains(self, length: np.ndarray) -> Share:
        """The share of all training interactions, of which its users have (own users,) `length`."""
        return self

    def together(self, pairs: Callable, draw: Callable) -> dict[int, np.ndarray]:
        """By number of a block (n, ...) of what `draw(number, users, pairs)` draws for these interactions, of shared blocks.

        `pairs`: a function to the stat_utils.PairSet of its users.
        """
        return {}

    def part(self, length: np.ndarray) -> Share:
        """The share of some of the interactions that it `trains`, of which its users have (own users,) `length`."""
        return self

    def ids(self, own: np.ndarray) -> np.ndarray:
        """(all users,) original ids, of which `own` are its users'."""
        return own

    def pairs(self, own):
        """The stat_utils.PairSet of all users, of which `own` is its users'."""
        return own

    def rows(self, user: np.ndarray, columns: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Parts of a table of all, ordered by user, of which (n,) `columns` are its own users'; (n,) `user` says whose."""
        for start in range(0, len(user) or 1, _MOST):
            yield {name: values[start:start + _MOST] for name, values in columns.items()}

    def own(self, values: np.ndarray) -> np.ndarray:
        """(own users, ...) of what is known about all."""
        return values

    def positions(self, interactions: int) -> np.ndarray:
        """(n,) int64, the place of each own interaction among those of all, ordered by user."""
        return np.arange(interactions)

    def drawn(self, rng: np.random.Generator, interactions: int) -> np.ndarray:
        """(n,) float64, the own part of numbers in [0, 1) that are drawn for all interactions."""
        return rng.random(interactions)

    def shuffled(self, rng: np.random.Generator, interactions: int) -> np.ndarray:
        """(n,) int, the place of each own interaction in a random order of all."""
        return inverse(rng.permutation(interactions))

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


class Part(Share):
    """The share of one of several ranks.

    Args:
        rank, size: see Share.
        owner: (all users,) int, the rank that owns each user.
        length: (all users,) int, training interactions of each.
        users: (all users,) original ids.
        exchange: the Exchange through which ranks talk.

    rows_sha256: see Dataset.rows_sha256, of all ranks.
    """
    rows_sha256 = ""

    def __init__(self, rank: int, size: int, owner: np.ndarray, length: np.ndarray, users: np.ndarray, exchange):
        self.rank, self.size, self.length, self.user_ids, self.exchange = rank, size, length, users, exchange
        self.users = np.flatnonzero(owner == rank)  # positions of its own users among all
        self.order = np.argsort(owner, kind="stable")  # all users, those of the first rank first
        self.counts = np.bincount(owner, minlength=size)
        self.place = np.full(len(owner), -1, np.int32)  # of each user among its own, or -1
        self.place[self.users] = np.arange(len(self.users))
        self.all_blocks = list(cut(by_length(length), length, DRAWN_TOGETHER))
        self.own_blocks = [(k, places[places >= 0]) for k, places in enumerate(self.place[b] for b in self.all_blocks)]
        self.splits = any(0 < len(own) < len(self.all_blocks[k]) for k, own in self.own_blocks)

    def part(self, length):
        same = self.length is not None and np.array_equal(length, self.length[self.users])
        if self.each(same).all():  # for one rank alone it must not be, since all draw together
            return self
        changed = copy.copy(self)
        changed.length, changed.own_length, changed.own_blocks, changed.splits = None, length, None, False
        return changed

    def each(self, values):
        return self.exchange.each(np.asarray(values))

    def total(self, values):
        return self.each(values).sum(0)

    def of_all(self, values):
        values = np.asarray(values)
        padded = np.zeros((self.counts.max(), *values.shape[1:]), values.dtype)
        padded[:len(values)] = values
        found = self.each(padded)
        result = np.empty((len(self.order), *values.shape[1:]), values.dtype)
        result[self.order] = np.concatenate([found[k, :count] for k, count in enumerate(self.counts)])
        return result

    def own(self, values):
        return values[self.users]

    def positions(self, interactions):
        if self.length is None:
            self.length = self.of_all(self.own_length)
        first = np.cumsum(self.length, dtype=np.int64) - self.length
        length = self.length[self.users]
        begin = np.cumsum(length) - length
        return np.arange(length.sum()) + np.repeat(first[self.users] - begin, length)

    def shuffled(self, rng, interactions):
        places = self.positions(interactions)
        return inverse(rng.permutation(int(self.length.sum())))[places]

    def blocks(self, length):
        """As everyone's blocks are cut; of a part of the interactions, blocks of this rank's own."""
        if self.own_blocks is None:
            return [(k * self.size + self.rank, users) for k, users in super().blocks(length)]
        return self.own_blocks


class SharedPairs:
    """The pairs of all ranks as a stat_utils.PairSet: each rank answers for its own users, and all ask together.

    Args:
        own: PairSet of a rank's own users.
        share: of it.
    """

    def __init__(self, own, share: Part):
        self.pairs, self.share, self.num_users, self.num_items = own, share, len(share.order), own.num_items
        self.counts = share.of_all(own.counts)

    def contains(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """See PairSet.contains; the users are places among all."""
        users, items = np.broadcast_arrays(users, items)
        place = self.share.place[users.ravel()]
        mine = np.flatnonzero(place >= 0)
        found = np.zeros(users.size, bool)
        found[mine] = self.pairs.contains(place[mine], items.ravel()[mine])
        either = np.bitwise_or.reduce(self.share.each(np.packbits(found)))
        return np.unpackbits(either, count=users.size).astype(bool).reshape(users.shape)


def inverse(order):
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place


class Exchange:
    """Arrays from every rank to every rank, by MindSpore's AllGather; `init` of its communication comes before.

    Args:
        rank: of this process.
    """

    def __init__(self, rank: int):
        from mindspore import nn, ops

        class Gather(nn.Cell):
            def __init__(self):
                super().__init__()
                self.gather = ops.AllGather()

            def construct(self, x):
                return self.gather(x)

        self.gather, self.rank = Gather(), rank

    def each(self, values: np.ndarray) -> np.ndarray:
        """(size, ...) arrays of one shape and kind from all ranks, which all call this at the same point."""
        from mindspore import Tensor
        content = values.tobytes()
        words, parts = np.frombuffer(content + bytes(-len(content) % 4), np.int32), []
        for start in range(0, max(len(words), 1), _MOST):
            part = words[start:start + _MOST]
            padded = np.zeros(max(_WORDS, 1 << (len(part) - 1).bit_length() if len(part) else 0), np.int32)
            padded[:len(part)] = part
            found = self.gather(Tensor(padded)).asnumpy()
            parts.append(found.reshape(-1, len(padded))[:, :len(part)])
        each = np.ascontiguousarray(np.concatenate(parts, 1)).view(np.uint8)[:, :len(content)]
        return np.frombuffer(each.tobytes(), values.dtype).reshape(len(each), *values.shape)
