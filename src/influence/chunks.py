"""Users of similar history length, computed together. See docs/maths.md, section 3."""
from dataclasses import dataclass

import numpy as np

from ..dataset import check_negatives
from ..stat_utils import PairSet, generator, sample_outside

MAX_TABLE_BITS = 1 << 28  # of a table of all pairs of some users and the items: 32 MB, else pairs are searched
DRAWN_TOGETHER = 1 << 16  # interactions whose negatives one generator draws: results do not depend on chunk_size


@dataclass
class Chunk:
    """Users of similar history length, computed together.

    users: (u,) int32.
    inside: (u, m) bool; shorter histories are filled up, with false.
    used: (u, m) bool, the interactions that the model was trained on.
    items: (u, m, 1 + num_neg) int32, each positive with its sampled negatives.
    """
    users: np.ndarray
    inside: np.ndarray
    used: np.ndarray
    items: np.ndarray

    def of(self, users):
        """The Chunk of some of its users, an index of their places."""
        return Chunk(self.users[users], self.inside[users], self.used[users], self.items[users])


class Chunks:
    """Cuts a dataset into chunks of at most `chunk_size` user-item pairs, but at least one user.

    Args:
        dataset: Dataset.
        config: chunk_size, num_neg, seed (of the negatives).
        disclosed: (n,) bool, the interactions that the model was trained on, in the order of dataset.user; None for all.
        purpose: of the negatives: those of different purposes are drawn independently.
    """

    def __init__(self, dataset, config, disclosed=None, purpose="influence negatives"):
        self.dataset, self.config, self.purpose = dataset, config, purpose
        self.disclosed = np.ones(dataset.num_interactions, bool) if disclosed is None else disclosed
        self.length = np.bincount(dataset.user, minlength=dataset.num_users)
        check_negatives(dataset, self.length)
        self.first = np.cumsum(self.length) - self.length
        order = np.argsort(self.length, kind="stable")[::-1]  # from the longest history down: the first sets the padding
        order = order[self.length[order] > 0].astype(np.int32)
        pairs = max(1, config.chunk_size // (1 + config.num_neg))
        self.blocks = list(self._cut(order, DRAWN_TOGETHER))
        self.parts = [(k, users) for k, block in enumerate(self.blocks) for users in self._cut(block, pairs)]
        self._drawn = None  # number of a block, and the items of its users
        self._offset = np.zeros(dataset.num_users, np.int64)  # of the block that was drawn last

    def _cut(self, users, interactions):
        """Splits users, sorted by falling length, into parts of at most `interactions` padded interactions."""
        start = 0
        while start < len(users):
            end = start + max(1, interactions // self.length[users[start]])
            yield users[start:end]
            start = end

    @property
    def pairs_per_call(self):
        """Largest number of user-item pairs of a chunk."""
        return max((len(users) * self.length[users[0]] for _, users in self.parts), default=1) * (1 + self.config.num_neg)

    def __len__(self):
        return len(self.parts)

    def size(self, k):
        """Interactions of chunk k."""
        return int(self.length[self.parts[k][1]].sum())

    def positions(self, k):
        """(size,) positions of the interactions of chunk k in the history."""
        return self._positions_of(self.parts[k][1])

    def _positions_of(self, users):
        length = self.length[users]
        begin = np.cumsum(length) - length
        return np.arange(length.sum()) + np.repeat(self.first[users] - begin, length)

    def pairs_of(self, users):
        """PairSet of the interactions of some users, numbered by their place in `users`."""
        owner = np.repeat(np.arange(len(users)), self.length[users])
        item = self.dataset.item[self._positions_of(users)]
        return PairSet(owner, item, len(users), self.dataset.num_items, MAX_TABLE_BITS)

    def __getitem__(self, k):
        block, users = self.parts[k]
        if self._drawn is None or self._drawn[0] != block:
            self._drawn = block, self._draw(block)
        items = self._drawn[1]
        place = np.arange(self.length[users[0]])
        inside = place < self.length[users][:, None]
        place = np.where(inside, place, 0)
        used = inside & self.disclosed[self.first[users][:, None] + place]
        return Chunk(users, inside, used, items[self._offset[users][:, None] + place])

    def _draw(self, block):
        """(n, 1 + num_neg) items of the users of a block; notes where those of each begin."""
        config, users = self.config, self.blocks[block]
        length = self.length[users]
        self._offset[users] = np.cumsum(length) - length
        item = self.dataset.item[self._positions_of(users)]
        owner = np.repeat(np.arange(len(users)), length)
        negatives = sample_outside(owner, self.pairs_of(users), generator(config.seed, self.purpose, block),
                                   config.num_neg)
        return np.concatenate([item[:, None], negatives], 1)
