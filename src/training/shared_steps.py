"""The training step of one of several ranks: its own users' rows stay with it, what all share moves by everyone's gradients.

A step's batch is that of all ranks together. Rows of users are updated where they are. The gradients of item tables and
dense weights are summed over the ranks, so that these stay the same everywhere: with "dense" whole tables in one AllReduce,
with "lazy" the rows of the batch, while others keep their moments, by AllGather. See docs/maths.md, section 11.
"""
import numpy as np
from mindspore import ops

from .steps import TrainSteps


class SharedSteps(TrainSteps):
    """See TrainSteps; `groups` are those of a step of this rank, as many as of any other."""

    def __init__(self, net, groups, config, update):
        super().__init__(net, groups, config, update)
        self.width = 1 + config.num_neg
        self.item_tables = tuple(range(self.user_tables, len(self.tables)))
        if update == "dense":
            sizes = [self.tables[k].size for k in self.item_tables]
            self.exchange = ops.AllReduce()
        else:
            sizes = [groups * self.width * self.tables[k].shape[1] for k in self.item_tables]
            self.exchange, self.items_of_all = ops.AllGather(), ops.AllGather()
        sizes += [weight.size for weight in self.weights]
        self.ends = tuple(int(end) for end in np.cumsum([0, *sizes]))
        self.told = self.ends[-1] + (0 if update == "dense" else groups * self.width)  # the items themselves come too
        self.concat = ops.Concat()

    @property
    def bytes_sent(self):
        """That a rank gives away in a step."""
        return 4 * self.told

    def construct(self, users, items, weights, rates, steps, step, total):
        """As TrainSteps; weights (s, g), of each sample of a group in the mean loss over all ranks, 0 for what fills up."""
        while step < steps:
            user, item = self.gather(users, step, 0), self.gather(items, step, 0)
            weight = ops.tile(self.gather(weights, step, 0).reshape(-1, 1), (1, self.width))
            rows = ()
            for k in range(len(self.tables)):
                rows += (self.gather(self.tables[k], user if k < self.user_tables else item, 0),)
            total += self.loss(*rows) * weight
            grads = ()
            if self.has_weights:
                row_grads, grads = self.grad(self.loss, self.weights)(*rows, weight)
            else:
                row_grads = self.grad(self.loss)(*rows, weight)
            rate = self.gather(rates, step, 0)
            for k in range(self.user_tables):
                self._update_table(k, user, rows[k], row_grads[k], rate)
            if self.update == "dense":
                grads = self._dense_items(item, row_grads, grads, rate)
            else:
                grads = self._lazy_items(item, row_grads, grads, rate)
            for k in range(len(self.weights)):
                self._adam(self.weights[k], self.weights_m[k], self.weights_v[k], rate, grads[k])
            step += 1
        return total

    def _dense_items(self, item, row_grads, grads, rate):
        """Updates the item tables by the sum over all ranks; returns that of the dense weights' gradients."""
        parts = ()
        for k in self.item_tables:
            parts += (self.segment_sum(row_grads[k], item, self.tables[k].shape[0]).reshape(-1),)
        for grad in grads:
            parts += (grad.reshape(-1),)
        summed = self.exchange(self.concat(parts))
        ends, n, found = self.ends, 0, ()
        for k in self.item_tables:
            self._update_dense(k, summed[ends[n]:ends[n + 1]].reshape(self.tables[k].shape), rate)
            n += 1
        for weight in self.weights:
            found += (summed[ends[n]:ends[n + 1]].reshape(weight.shape),)
            n += 1
        return found

    def _lazy_items(self, item, row_grads, grads, rate):
        """The same, of the rows that occur in any rank's batch."""
        parts, index = (), self.items_of_all(item)
        for k in self.item_tables:
            parts += (row_grads[k].reshape(-1),)
        for grad in grads:
            parts += (grad.reshape(-1),)
        told = self.exchange(self.concat(parts)).reshape(-1, self.ends[-1])  # (ranks, all of it)
        ends, n, found = self.ends, 0, ()
        for k in self.item_tables:
            grad = told[:, ends[n]:ends[n + 1]].reshape(-1, self.tables[k].shape[1])
            self._update_table(k, index, self.gather(self.tables[k], index, 0), grad, rate)
            n += 1
        for weight in self.weights:
            found += (told[:, ends[n]:ends[n + 1]].sum(0).reshape(weight.shape),)
            n += 1
        return found
