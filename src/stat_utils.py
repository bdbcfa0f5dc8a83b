"""Random generators that one seed feeds, sampling of items that a user has not interacted with, and the sigmoid."""
from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from pandas.util import hash_array

# Above this size (in bits) the table of all user-item pairs gives way to sorted lists of the pairs that occur.
MAX_TABLE_BITS = 1 << 28
_SPARSE = 8  # bits for each pair, at least, of a table of hashes: at most one in so many is set
_ODD = np.uint64(0x9E3779B97F4A7C15)  # without it 0 would be mixed to 0
BLOCK = 1 << 20  # rows of a large array that are worked on at a time
_TOGETHER = 1 << 16  # pairs looked up at a time: what is computed of them fits into the processor's cache


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator for one purpose, e.g. `generator(1, "negatives", epoch)`: independent of all others."""
    return np.random.default_rng([seed, *(p if isinstance(p, int) else zlib.crc32(p.encode()) for p in purpose)])


def own_numbers(seed: int, purpose: str, *keys: np.ndarray) -> np.ndarray:
    """A random uint64 for each entry of non-negative int arrays, which broadcast, that depends on this entry alone."""
    found = np.array(zlib.crc32(purpose.encode()), np.uint64)
    for key in (seed, *keys):  # the hash of pandas is the mixer of SplitMix64
        found = (found ^ np.asarray(key).astype(np.uint64)) + _ODD
        found = hash_array(found.ravel()).reshape(found.shape)
    return found


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def parts(number: int, most: int = 0) -> Iterator[slice]:
    """Slices of so many rows, for arrays that are worked on by blocks: whole, NumPy would turn an index into int64 first."""
    return (slice(start, min(start + (most or BLOCK), number)) for start in range(0, number, most or BLOCK))


def spans(length: np.ndarray) -> Iterator[slice]:
    """Slices of users with (num_users,) `length` interactions, of a block at most together, but one user at least."""
    ends, start = np.cumsum(length), 0
    while start < len(ends):
        stop = max(start + 1, int(np.searchsorted(ends, ends[start] - length[start] + BLOCK, side="right")))
        yield slice(start, stop)
        start = stop


def take(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """values[index], of a (n,) index, by blocks."""
    found = np.empty(len(index), values.dtype)
    for part in parts(len(index)):
        found[part] = values[index[part]]
    return found


class PairSet:
    """A set of pairs of 0-based users and items, in a grid of num_users by num_items, that answers for whole arrays.

    pairs: list of (n,) int users with their (n,) int items.
    max_table_bits: size of the grid up to which a bit for each pair is kept. Beyond it there is a bit for each of many
        hashes, which most pairs that are not in the set pass by; the others are sought among the user's sorted items.
    counts: (num_users,) pairs of each user.
    """

    def __init__(self, pairs: list, num_users: int, num_items: int, max_table_bits: int = MAX_TABLE_BITS):
        self.num_users, self.num_items = num_users, num_items
        number = sum(len(users) for users, _ in pairs)
        self._exact, self._power = num_users * num_items <= max_table_bits, (_SPARSE * number).bit_length()
        self._bits = np.zeros(num_users * num_items // 8 + 1 if self._exact else (1 << self._power) // 8 + 1, np.uint8)
        self.counts = np.zeros(num_users, np.int64)
        blocks = [(users[part], items[part]) for users, items in pairs for part in parts(len(users))]  # views
        for users, items in blocks:
            self.counts += np.bincount(users, minlength=num_users)
            bits = np.sort(self._bits_of(users, items))  # in order the memory is reached faster
            np.bitwise_or.at(self._bits, bits >> 3, np.uint8(1) << (bits & 7).astype(np.uint8))
        if not self._exact:
            self._first = np.append(0, np.cumsum(self.counts))
            self._items, free = np.empty(number, np.int32), self._first[:-1].copy()
            for users, items in blocks:
                count = np.bincount(users, minlength=num_users)
                place = np.repeat(free - np.cumsum(count) + count, count) + np.arange(len(users))
                self._items[place] = items[np.argsort(users, kind="stable")]
                free += count
            for start, end in zip(self._first[:-1].tolist(), self._first[1:].tolist()):
                self._items[start:end].sort()

    def contains(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Bool array: whether each pair is in the set; the arguments broadcast."""
        users, items = np.broadcast_arrays(users, items)
        found = np.empty(users.shape, bool)
        for part in parts(len(users), max(1, _TOGETHER // max(1, users[:1].size))):
            bits = self._bits_of(users[part], items[part])
            there = found[part]  # a view
            there[:] = self._bits[bits >> 3] >> (bits & 7).astype(np.uint8) & 1
            if not self._exact:
                there[there] = self._search(users[part][there], items[part][there])
        return found

    def _bits_of(self, users, items):
        """The place of the bit of each pair: its own, or that of its hash."""
        keys = np.asarray(users, np.int64) * self.num_items + items
        return keys if self._exact else ((keys.view(np.uint64) * _ODD) >> np.uint64(64 - self._power)).view(np.int64)

    def _search(self, users, items):
        low, end = self._first[users], self._first[users + 1]
        high = end
        while (left := low < high).any():
            middle = (low + high) >> 1
            less = left & (self._items[np.minimum(middle, len(self._items) - 1)] < items)
            low, high = np.where(less, middle + 1, low), np.where(less, high, middle)
        found = low < end
        found[found] = self._items[low[found]] == items[found]
        return found


def sample_outside(users: np.ndarray, pairs: PairSet, rng: np.random.Generator, per_user: int = 1) -> np.ndarray:
    """(n, per_user) int32 items drawn uniformly among those that are not in `pairs`, independently (an item may recur).

    `users`: (n,) int; each must have an item outside `pairs`.
    """
    items = rng.integers(0, pairs.num_items, (len(users), per_user), dtype=np.int32)
    flat = items.reshape(-1)
    open_places = np.flatnonzero(pairs.contains(users[:, None], items))
    while len(open_places):
        drawn = rng.integers(0, pairs.num_items, len(open_places), dtype=np.int32)
        flat[open_places] = drawn
        open_places = open_places[pairs.contains(users[open_places // per_user], drawn)]
    return items


def own_samples_outside(users: np.ndarray, numbers: np.ndarray, pairs: PairSet, per_user: int = 1) -> np.ndarray:
    """What sample_outside draws, but for each entry of `users` by its own number, (n,) uint64, alone."""
    own, owner = own_numbers(0, "draw", numbers[:, None], np.arange(per_user)).ravel(), np.repeat(users, per_user)
    items, left = np.empty(len(own), np.int32), np.arange(len(own))
    while len(left):
        items[left] = own[left] % np.uint64(pairs.num_items)
        left = left[pairs.contains(owner[left], items[left])]
        own[left] = own_numbers(0, "again", own[left])
    return items.reshape(-1, per_user)


def sample_distinct_outside(pairs: PairSet, number: int, rng: np.random.Generator, rounds: int = 20) -> np.ndarray:
    """(num_users, number) int32: different items for every user, drawn uniformly among those that are not in `pairs`.

    Every user needs `number` of these. `rounds`: of redrawing what was in `pairs` or came twice, before the few users left
    are drawn one by one.
    """
    items = sample_outside(np.arange(pairs.num_users), pairs, rng, number)
    rows = np.arange(pairs.num_users)
    for _ in range(rounds):
        order = np.argsort(items[rows], axis=1, kind="stable")
        ranked = np.take_along_axis(items[rows], order, axis=1)
        again = np.zeros(ranked.shape, bool)
        np.put_along_axis(again, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
        row, column = np.nonzero(again)
        if not len(row):
            return items
        items[rows[row], column] = sample_outside(rows[row], pairs, rng)[:, 0]
        rows = rows[np.unique(row)]
    everything = np.arange(pairs.num_items)
    for user in rows:
        items[user] = rng.permutation(everything[~pairs.contains(user, everything)])[:number]
    return items
