"""Users of similar history length, computed together. See docs/maths.md, section 3."""
from typing import NamedTuple

import numpy as np

from ..candidates import check_negatives
from ..common.share import cut, here
from ..history import History
from ..stat_utils import PairSet, generator, own_numbers, own_samples_outside, sample_outside


class Chunk(NamedTuple):
    """Users of similar history length, computed together; shorter histories are filled up."""
    users: np.ndarray  # (u,) int32
    inside: np.ndarray  # (u, m) bool, false where a history is filled up
    used: np.ndarray  # (u, m) bool, the interactions that the model was trained on
    items: np.ndarray  # (u, m, 1 + num_neg) int32, each positive with its sampled negatives


class Chunks:
    """Cuts a dataset into chunks of at most `chunk_size` user-item pairs, but at least one user.

    config: chunk_size, num_neg, seed (of the negatives).
    disclosed: (n,) bool, the interactions that the model was trained on, in the order of dataset.user; None for all.
    purpose: of the negatives: those of different purposes are drawn independently.
    own: whether the negatives of an interaction depend on it alone, as its user's device would draw them.
    """

    def __init__(self, dataset, config, disclosed=None, purpose="influence negatives", own=False):
        self.dataset, self.config, self.purpose = dataset, config, purpose
        self.names = dataset.numbers if own else None
        self.disclosed = np.ones(dataset.num_interactions, bool) if disclosed is None else disclosed
        self.history, self.length = dataset.history, dataset.history.length
        check_negatives(dataset, dataset.history_pairs().counts if dataset.dropped is not None else self.length)
        pairs = max(1, config.chunk_size // (1 + config.num_neg))
        # from the longest history down: the first sets the padding
        self.blocks = dict(dataset.share.blocks(self.length))
        self.parts = [(k, users) for k, block in self.blocks.items() for users in cut(block, self.length, pairs)]
        self._drawn = None, None  # number of a block, and the items of its users
        self._offset = np.zeros(dataset.num_users, np.int64)  # of the block that was drawn last
        self._together = {} if own else dataset.share.together(dataset.history_pairs, self._sampled)

    @property
    def pairs_per_call(self):
        """Largest number of user-item pairs of anybody's chunk: the shape of a graph moves last bits."""
        mine = max((len(users) * self.length[users[0]] for _, users in self.parts), default=1)
        return int(here().each(mine).max()) * (1 + self.config.num_neg)

    def __len__(self):
        return len(self.parts)

    def positions(self, k):
        """(m,) positions of the interactions of chunk k in the history."""
        return self.history.of_users(self.parts[k][1])

    def pairs_of(self, users):
        """PairSet of what some users' negatives avoid, see history_pairs, numbered by their place in `users`."""
        owner = self.history.owners(users)
        item = self.dataset.item[self.history.of_users(users)]
        if (gone := self.dataset.dropped) is not None:
            theirs = History(gone.user, self.dataset.num_users)
            owner = np.concatenate([owner, theirs.owners(users)])
            item = np.concatenate([item, gone.item[theirs.of_users(users)]])
        return PairSet([(owner, item)], len(users), self.dataset.num_items)

    def __getitem__(self, k):
        block, users = self.parts[k]
        if self._drawn[0] != block:
            self._drawn = block, self._draw(block)
        place = np.arange(self.length[users[0]])
        inside = place < self.length[users][:, None]
        place = np.where(inside, place, 0)
        used = inside & self.disclosed[self.history.first[users][:, None] + place]
        return Chunk(users, inside, used, self._drawn[1][self._offset[users][:, None] + place])

    def _draw(self, block):
        """(n, 1 + num_neg) items of the users of a block; notes where those of each begin."""
        config, users = self.config, self.blocks[block]
        self._offset[users] = np.cumsum(self.length[users]) - self.length[users]
        item, owner = self.dataset.item[self.history.of_users(users)], self.history.owners(users)
        if block in self._together:
            negatives = self._together[block]
        elif self.names is None:
            negatives = self._sampled(block, owner, self.pairs_of(users))
        else:
            numbers = own_numbers(config.seed, self.purpose, self.names[users][owner], item)
            negatives = own_samples_outside(owner, numbers, self.pairs_of(users), config.num_neg)
        return np.concatenate([item[:, None], negatives], 1)

    def _sampled(self, block, owner, pairs):
        """(n, num_neg) negatives for the interactions of a block, of (n,) users `owner` of a PairSet."""
        return sample_outside(owner, pairs, generator(self.config.seed, self.purpose, block), self.config.num_neg)
