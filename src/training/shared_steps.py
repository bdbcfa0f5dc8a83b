"""The training step of one of several ranks: its own users' rows stay with it, what all share moves by everyone's gradients.

A step's batch is that of all ranks together. Rows of users are updated where they are. The gradients of item tables and
dense weights are summed over all, so that these stay the same everywhere: with "dense" those of whole tables, with
"lazy" those of the rows of all batches, while others keep their moments. See docs/maths.md, section 11.
"""
from mindspore import ops

from ..common.errors import InputError
from .steps import TrainSteps


class SharedSteps(TrainSteps):
    """See TrainSteps; `groups` are those of a step of this process, as many as of any other.

    weights (s, g) of `construct`: of each sample of a group in everyone's mean loss, 0 for fillers; bytes_sent: in a step.
    """

    def __init__(self, net, groups, config, update, propagation=None):
        if propagation is not None:
            raise InputError(f"--model {config.model}: trains every row on the data of all users, so that it is for one "
                             "process; give --ranks 1")
        super().__init__(net, groups, config, update)
        self.width, self.samples = 1 + config.num_neg, groups * (1 + config.num_neg)
        self.sum, self.each, self.depend = ops.AllReduce(), ops.AllGather(), ops.Depend()
        shapes = [table.shape for table in self.tables[self.user_tables:]]
        rows = sum(n * width if update == "dense" else self.samples * width for n, width in shapes)
        self.bytes_sent = 4 * (rows + self.samples * (update != "dense") + sum(weight.size for weight in self.weights))

    def _weight(self, weights, step):
        return ops.tile(self.gather(weights, step, 0).reshape(-1, 1), (1, self.width))

    def _counted(self, loss, weight):
        return loss * weight * self.samples

    def _update(self, user, item, rows, row_grads, grads, rate):
        for k in range(self.user_tables):
            self._update_table(k, user, rows[k], row_grads[k], rate)
        last = index = item if self.update == "dense" else self.each(item)  # exchanges keep one order
        for k in range(self.user_tables, len(self.tables)):
            if self.update == "dense":
                last = self.sum(self.depend(self.segment_sum(row_grads[k], item, self.tables[k].shape[0]), last))
                self._update_dense(k, last, rate)
            else:
                last = self.each(self.depend(row_grads[k], last))
                self._update_table(k, index, self.gather(self.tables[k], index, 0), last, rate)
        for k in range(len(self.weights)):
            last = self.sum(self.depend(grads[k], last))
            self._adam(self.weights[k], self.weights_m[k], self.weights_v[k], rate, last)
