"""The training step: binary cross-entropy and Adam, many steps in one graph call. See docs/maths.md, section 1."""
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops


class Loss(nn.Cell):
    """Binary cross-entropy of groups whose first item is the positive: (g, 1 + num_neg), in nats."""

    def __init__(self, head, groups, num_neg):
        super().__init__()
        self.head = head
        self.label = Tensor(np.tile(np.eye(1, 1 + num_neg, dtype=np.float32), (groups, 1)))
        self.cross_entropy = ops.SigmoidCrossEntropyWithLogits()

    def construct(self, *rows):
        return self.cross_entropy(self.head(*rows), self.label)


class TrainSteps(nn.Cell):
    """Many training steps of Adam in one graph call.

    net: Network; its parameters are trained.
    groups: groups a step.
    config: num_neg; beta1, beta2 and epsilon of Adam; weight_decay, decoupled, of the tables (AdamW), needs "dense".
    update: how the embedding tables are updated. "lazy" updates the rows that occur in the batch and leaves the moments of
        all others as they are, so that a step does not touch the whole tables: the fused CPU kernel; "lazy basic" is the
        same in basic operations, which run on every device. "dense" is plain Adam, faster once most rows occur in a batch.
    propagation: see Network.propagation; needs "dense".
    """

    def __init__(self, net, groups, config, update, propagation=None):
        super().__init__()
        self.net = net
        self.weights = ms.ParameterTuple(net.head.trainable_params())
        self.weights_m, self.weights_v = (self.weights.clone(name, "zeros") for name in "mv")
        self.tables = ms.ParameterTuple([getattr(net, name) for name in net.TABLES])
        self.tables_m, self.tables_v = (self.tables.clone(name, "zeros") for name in "mv")
        self.user_tables = net.USER_TABLES
        self.propagation, self.propagates = propagation, propagation is not None
        self.loss = Loss(net.head, groups, config.num_neg)
        self.has_weights = len(self.weights) > 0
        self.grad = ops.GradOperation(get_all=True, get_by_list=self.has_weights, sens_param=True)
        shape = (groups, 1 + config.num_neg)
        self.weight = Tensor(np.full(shape, 1 / np.prod(shape), np.float32))  # of each sample in the mean loss
        self.beta1, self.beta2, self.epsilon = (Tensor(x, ms.float32) for x in (config.beta1, config.beta2, config.epsilon))
        self.zero = Tensor(0, ms.float32)  # beta^t: the bias of the moments is in the rates already
        self.weight_decay, self.decays = Tensor(config.weight_decay, ms.float32), config.weight_decay > 0
        self.update, self.adam, self.adam_w = update, ops.Adam(), ops.AdamWeightDecay()
        self.row_adam = ops.FusedSparseLazyAdam() if update == "lazy" else None
        self.gather, self.segment_sum, self.scatter = ops.Gather(), ops.UnsortedSegmentSum(), ops.ScatterUpdate()

    def construct(self, users, items, rates, steps, step, total, weights=None):
        """Runs the steps `step` to `steps` - 1.

        users (s, g) and items (s, g * (1 + num_neg)) int32; rates (s,) learning rate of each step, corrected for the
        bias of the moments; weights: see SharedSteps. The counter and `total` (g, 1 + num_neg) start as arguments, since
        constants of a graph would keep their last value for the next call.
        Returns: `total` and the cross-entropy of all steps, added up.
        """
        while step < steps:
            user, item = self.gather(users, step, 0), self.gather(items, step, 0)
            read = self.propagation(*self.tables) if self.propagates else self.tables
            rows = ()
            for k in range(len(self.tables)):
                rows += (self.gather(read[k], user if k < self.user_tables else item, 0),)
            weight = self._weight(weights, step)
            total += self._counted(self.loss(*rows), weight)
            grads = ()
            if self.has_weights:
                row_grads, grads = self.grad(self.loss, self.weights)(*rows, weight)
            else:
                row_grads = self.grad(self.loss)(*rows, weight)
            self._update(user, item, rows, row_grads, grads, self.gather(rates, step, 0))
            step += 1
        return total

    def _weight(self, weights, step):
        return self.weight

    def _counted(self, loss, weight):
        return loss

    def _update(self, user, item, rows, row_grads, grads, rate):
        if self.propagates:
            self._update_propagated(user, item, row_grads, rate)
        else:
            for k in range(len(self.tables)):
                self._update_table(k, user if k < self.user_tables else item, rows[k], row_grads[k], rate)
        for k in range(len(self.weights)):
            self._adam(self.weights[k], self.weights_m[k], self.weights_v[k], rate, grads[k])

    def _adam(self, weight, m, v, rate, grad):
        self.adam(weight, m, v, self.zero, self.zero, rate, self.beta1, self.beta2, self.epsilon, grad)

    def _update_propagated(self, user, item, row_grads, rate):
        """Updates all tables; the gradients in what was propagated go back the way it came."""
        dense = ()
        for k in range(len(self.tables)):
            dense += (self.segment_sum(row_grads[k], user if k < self.user_tables else item, self.tables[k].shape[0]),)
        dense = self.propagation(*dense)
        for k in range(len(self.tables)):
            self._update_dense(k, dense[k], rate)

    def _update_dense(self, k, grad, rate):
        table, m, v = self.tables[k], self.tables_m[k], self.tables_v[k]
        if self.decays:
            self.adam_w(table, m, v, rate, self.beta1, self.beta2, self.epsilon, self.weight_decay, grad)
        else:
            self._adam(table, m, v, rate, grad)

    def _update_table(self, k, index, rows, grad, rate):
        table, m, v = self.tables[k], self.tables_m[k], self.tables_v[k]
        if self.update == "lazy":
            self.row_adam(table, m, v, self.zero, self.zero, rate, self.beta1, self.beta2, self.epsilon, grad, index)
        elif self.update == "dense":
            self._update_dense(k, self.segment_sum(grad, index, table.shape[0]), rate)
        else:
            # a row that occurs several times is written several times, each time with the same value
            grad = self.gather(self.segment_sum(grad, index, table.shape[0]), index, 0)
            m_rows = self.beta1 * self.gather(m, index, 0) + (1 - self.beta1) * grad
            v_rows = self.beta2 * self.gather(v, index, 0) + (1 - self.beta2) * grad * grad
            self.scatter(table, index, rows - rate * m_rows / (ops.sqrt(v_rows) + self.epsilon))
            self.scatter(m, index, m_rows)
            self.scatter(v, index, v_rows)
