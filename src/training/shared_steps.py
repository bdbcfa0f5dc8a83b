"""The training step of one of several ranks: its own users' rows stay with it, what all share moves by everyone's gradients.

A step's batch is that of all ranks together. Rows of users are updated where they are. The gradients of item tables and
dense weights are summed over the ranks, so that these stay the same everywhere: with "dense" whole tables in one AllReduce,
with "lazy" the rows of the batch, while others keep their moments, by AllGather. See docs/maths.md, section 11.
"""
from mindspore import ops

from .steps import TrainSteps


class SharedSteps(TrainSteps):
    """See TrainSteps; `groups` are those of a step of this rank, as many as of any other.

    Of `construct`, weights (s, g) are those of each sample of a group in the mean loss over all ranks, 0 for what fills up.
    """

    def __init__(self, net, groups, config, update):
        super().__init__(net, groups, config, update)
        self.width, tables = 1 + config.num_neg, self.tables[self.user_tables:]
        samples = self.samples = groups * self.width
        self.numbers = [table.size if update == "dense" else samples * table.shape[1] for table in tables]
        self.numbers += [weight.size for weight in self.weights]
        self.bytes_sent = 4 * (sum(self.numbers) + (0 if update == "dense" else samples))  # by a rank in a step
        self.concat, self.depend = ops.Concat(), ops.Depend()
        self.sum_of_all, self.each = ops.AllReduce(), ops.AllGather()

    def _weight(self, weights, step):
        return ops.tile(self.gather(weights, step, 0).reshape(-1, 1), (1, self.width))

    def _counted(self, loss, weight):
        return loss * weight * self.samples

    def _update(self, user, item, rows, row_grads, grads, rate):
        for k in range(self.user_tables):
            self._update_table(k, user, rows[k], row_grads[k], rate)
        dense, index, parts = self.update == "dense", item, ()
        for k in range(self.user_tables, len(self.tables)):
            grad = self.segment_sum(row_grads[k], item, self.tables[k].shape[0]) if dense else row_grads[k]
            parts += (grad.reshape(-1),)
        for grad in grads:
            parts += (grad.reshape(-1),)
        told = self.concat(parts)
        if dense:
            told = self.sum_of_all(told).reshape(1, -1)
        else:
            index = self.each(item)
            told = self.each(self.depend(told, index)).reshape(-1, told.shape[0])  # (ranks, numbers), after the items
        parts, found = ops.split(told, self.numbers, 1), ()
        for k in range(self.user_tables, len(self.tables)):
            grad = parts[k - self.user_tables].reshape(-1, self.tables[k].shape[1])
            if dense:
                self._update_dense(k, grad, rate)
            else:
                self._update_table(k, index, self.gather(self.tables[k], index, 0), grad, rate)
        for k in range(len(self.weights)):
            found += (parts[k - len(self.weights)].sum(0).reshape(self.weights[k].shape),)
        self._update_weights(found, rate)
