"""Random generators that one seed feeds, sampling of items that a user has not interacted with, and the sigmoid."""
from __future__ import annotations

import zlib

import numpy as np
from pandas.util import hash_array

# Above this size (in bits) the table of all user-item pairs gives way to a sorted list of the pairs that occur.
MAX_TABLE_BITS = 1 << 33
_ODD = np.uint64(0x9E3779B97F4A7C15)  # without it 0 would be mixed to 0
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


class PairSet:
    """A set of (n,) 0-based users with items, in a grid of num_users by num_items, that answers for whole arrays.

    max_table_bits: size of the grid up to which a bit for each pair is kept.
    """

    def __init__(self, users: np.ndarray, items: np.ndarray, num_users: int, num_items: int,
                 max_table_bits: int = MAX_TABLE_BITS):
        self.num_users, self.num_items = num_users, num_items
        if num_users * num_items <= max_table_bits:
            # one bit a pair: several times faster than a search, and 2.8 MB for ml-1m
            self._bits = np.zeros(num_users * num_items // 8 + 1, np.uint8)
            for start in range(0, len(users), _TOGETHER):
                keys = np.asarray(users[start:start + _TOGETHER], np.int64) * num_items + items[start:start + _TOGETHER]
                np.bitwise_or.at(self._bits, keys >> 3, np.uint8(1) << (keys & 7).astype(np.uint8))
        else:
            self._bits = None
            self._keys = np.append(np.unique(np.asarray(users, np.int64) * num_items + items), np.iinfo(np.int64).max)
        self.counts = np.bincount(users, minlength=num_users)  # (num_users,) pairs of each user

    def contains(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Bool array: whether each pair is in the set; the arguments broadcast."""
        users, items = np.broadcast_arrays(users, items)
        found = np.empty(users.shape, bool)
        step = max(1, _TOGETHER // max(1, users[:1].size))
        for start in range(0, len(users), step):
            found[start:start + step] = self._contains(users[start:start + step], items[start:start + step])
        return found

    def _contains(self, users, items):
        keys = np.asarray(users, np.int64) * self.num_items + items
        if self._bits is not None:
            return (self._bits[keys >> 3] >> (keys & 7).astype(np.uint8) & 1).astype(bool)
        return self._keys[np.searchsorted(self._keys, keys)] == keys


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
        outside = everything[~pairs.contains(user, everything)]
        items[user] = rng.permutation(outside)[:number]
    return items
