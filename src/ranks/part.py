"""The share of one of several ranks: its own users, dealt out by the blocks in which influence negatives are drawn.

See docs/maths.md, section 11.
"""
import copy

import numpy as np

from ..common.errors import InputError
from ..common.share import DRAWN_TOGETHER, Share, by_length, cut
from ..stat_utils import parts, spans

FEW = 4  # blocks a rank, below which blocks are shared out


def owners(length: np.ndarray, ranks: int) -> np.ndarray:
    """(num_users,) the rank that owns each user: whole blocks to the rank that has the fewest interactions so far.

    Of few blocks each is shared out user by user, so that all ranks have about as much to do.
    length: (num_users,) training interactions; ranks: number.
    Raises InputError: there are fewer users than ranks.
    """
    blocks = list(cut(by_length(length), length, DRAWN_TOGETHER))
    if sum(map(len, blocks)) < ranks:
        raise InputError(f"--ranks {ranks}: only {sum(map(len, blocks))} users have training interactions; give fewer ranks")
    owner, load = np.full(len(length), -1), np.zeros(ranks)
    few = len(blocks) < FEW * ranks
    for block in blocks if few else sorted(blocks, key=lambda users: -length[users].sum()):
        owner[block] = np.arange(len(block)) % ranks if few else load.argmin()
        load += np.bincount(owner[block], length[block], ranks)
    rest = np.flatnonzero(owner < 0)  # without training interactions
    owner[rest] = np.arange(len(rest)) % ranks
    return owner


class Part(Share):
    """A rank of `size`, which talks with the others through an Exchange. What it has of a dataset is told by `dealt`.

    users: (own users,) positions of its own users among all.
    place: (all users,) int32, of each user among its own, or -1.
    length: (all users,) int, training interactions of each; told by `dealt`, and by `part`.
    """

    def __init__(self, rank: int, size: int, exchange):
        self.rank, self.size, self.who, self.first, self.exchange = rank, size, ("rank", rank), rank == 0, exchange

    def dealt(self, length, user_ids):
        share = copy.copy(self)
        share.owner, share.user_ids, share.length = owners(length, self.size), user_ids, length
        share.users = np.flatnonzero(share.owner == self.rank)
        share.place = np.full(len(length), -1, np.int32)
        share.place[share.users] = np.arange(len(share.users))
        return share

    def part(self, length, trains=False):
        if np.array_equal(lengths := self.of_all(length), self.length) and not trains:
            return self
        share = copy.copy(self)
        share.length, share.all_blocks, share.splits = lengths, None, False
        if trains:
            share.whole, share.all_blocks = self, list(cut(by_length(lengths), lengths, DRAWN_TOGETHER))
            share.splits = any((self.owner[users] != self.owner[users[0]]).any() for users in share.all_blocks)
        return share

    def each(self, values):
        return self.exchange.each(np.asarray(values))

    def total(self, values):
        return self.each(values).sum(0)

    def either(self, flags):
        found = np.bitwise_or.reduce(self.each(np.packbits(flags)))
        return np.unpackbits(found, count=flags.size).astype(bool).reshape(flags.shape)

    def joined(self, values, counts=None):
        values, counts = np.asarray(values), self.each(len(values)) if counts is None else counts
        padded = np.zeros((counts.max(), *values.shape[1:]), values.dtype)
        padded[:len(values)] = values
        found = self.each(padded)
        return np.concatenate([found[k, :count] for k, count in enumerate(counts)])

    def of_all(self, values, owner=None):  # (n,) `owner` says whose turn it is
        values, owner = np.asarray(values), self.owner if owner is None else owner
        result = np.empty((len(owner), *values.shape[1:]), values.dtype)
        result[np.argsort(owner, kind="stable")] = self.joined(values, np.bincount(owner, minlength=self.size))
        return result

    def own(self, values):
        return values[self.users]

    def ids(self, own):
        return self.user_ids

    def pairs(self, own):
        return SharedPairs(own, self)

    def rows(self, user, columns):
        length = self.of_all(np.bincount(user, minlength=len(self.users)))
        for some in spans(length):
            users = np.repeat(np.arange(some.start, some.stop), length[some])
            mine = slice(*np.searchsorted(user, np.searchsorted(self.users, (some.start, some.stop))))
            yield users, {name: self.of_all(values, self.owner[users]) for name, values in columns(mine).items()}

    def together(self, pairs, draw):
        if not self.splits:
            return {}
        of_all, blocks = self.pairs(pairs()), (np.repeat(users, self.length[users]) for users in self.all_blocks)
        return {number: draw(number, users, of_all)[self.place[users] >= 0] for number, users in enumerate(blocks)}

    def spread(self, steps, groups, interactions):
        starts = np.arange(steps + 1) * self.each(interactions)[:, None] // steps
        counts = np.diff(starts)
        return starts[self.rank], counts.sum(0), int(counts.max())

    def places(self, place):
        found = self.whole.positions(0)
        return found if place is None else found[place]

    def positions(self, interactions):
        first, length = np.cumsum(self.length, dtype=np.int64) - self.length, self.length[self.users]
        kind = np.int32 if self.length.sum() < 2 ** 31 else np.int64
        found = np.repeat((first[self.users] - np.cumsum(length) + length).astype(kind), length)
        found += np.arange(len(found), dtype=kind)
        return found

    def blocks(self, length):
        if self.all_blocks is None:  # of a part of the interactions they are its own
            return [(k * self.size + self.rank, users) for k, users in super().blocks(length)]
        return [(k, own[own >= 0]) for k, own in enumerate(self.place[users] for users in self.all_blocks)]


class SharedPairs:
    """The pairs of all ranks as a stat_utils.PairSet, of each its own users' PairSet `own`: all ask together."""

    def __init__(self, own, share: Part):
        self.own, self.share, self.num_users, self.num_items = own, share, len(share.owner), own.num_items
        self.counts = share.of_all(own.counts)

    def contains(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """See PairSet.contains; the users are places among all."""
        users, items = np.broadcast_arrays(users, items)
        found = np.zeros(users.shape, bool)
        for part in parts(len(users), 1 << 16):
            mine = (place := self.share.place[users[part]]) >= 0
            found[part][mine] = self.own.contains(place[mine], items[part][mine])
        return self.share.either(found)
