"""Directional derivatives of the loss for many copies of the parameters: the graphs of solver `lissa`.

See docs/maths.md, section 3.
"""
from mindspore import nn, ops

from ..ncf import NUM_TABLES, USER_TABLES, Tangent


class Directional(nn.Cell):
    """Derivative of the weighted sum of the samples' cross-entropies along a direction, summed over the copies.

    Its gradient in the direction is the gradient of the loss, that in the parameters a Hessian-vector product.
    """

    def __init__(self, arrays):
        super().__init__()
        self.tangent = Tangent(arrays)

    def construct(self, label, weight, *arguments):
        """(b, 1) labels, 1 or 0, and weights; the rest as in Tangent -> scalar."""
        logit, derivative = self.tangent(*arguments)
        return (weight * (ops.sigmoid(logit) - label) * derivative).sum()


class Gradient(nn.Cell):
    """Gradients of Directional in the parameters and in the direction: a tuple of 2 * arrays arrays."""

    def __init__(self, arrays):
        super().__init__()
        self.directional = Directional(arrays)
        self.grad = ops.GradOperation(get_all=True)

    def construct(self, label, weight, *arguments):
        return self.grad(self.directional)(label, weight, *arguments)[2:]


class Recursion(nn.Cell):
    """One step of the recursion for u users on one batch of samples."""

    def __init__(self, arrays):
        super().__init__()
        self.arrays = arrays
        self.gradient = Gradient(arrays)
        self.gather = ops.Gather()
        self.transpose = ops.Transpose()
        self.segment_sum = ops.UnsortedSegmentSum()

    def construct(self, user, item, label, weight, keep, factor, *arguments):
        """v + keep * h - factor * H h.

        user, item (b,) rows of the samples in the tables; label, weight (b, 1). Then the parameters: tables (rows, width)
        and dense weights (u, ...); h and v: tables (rows, u, width) and dense weights (u, ...).

        Returns:
            The new h; (u,) squared norms of it, and of its difference from the old one.
        """
        n = self.arrays
        h, v = arguments[n:2 * n], arguments[2 * n:]
        copies = h[n - 1].shape[0]
        rows, directions = (), ()
        for k in range(n):
            if k < NUM_TABLES:
                index = user if k < USER_TABLES else item
                row = self.gather(arguments[k], index, 0)
                rows += (ops.broadcast_to(row, (copies, *row.shape)),)
                directions += (self.transpose(self.gather(h[k], index, 0), (1, 0, 2)),)
            else:
                rows += (arguments[k],)
                directions += (h[k],)
        products = self.gradient(label, weight, *rows, *directions)
        new, size, change = (), 0.0, 0.0
        for k in range(n):
            product = products[k]
            if k < NUM_TABLES:
                index = user if k < USER_TABLES else item
                product = self.segment_sum(self.transpose(product, (1, 0, 2)), index, h[k].shape[0])
            value = v[k] + keep * h[k] - factor * product
            axes = (0, 2) if k < NUM_TABLES else (1, 2)
            size += (value * value).sum(axes)
            change += ((value - h[k]) * (value - h[k])).sum(axes)
            new += (value,)
        return new, size, change


class Effect(nn.Cell):
    """Derivative along h of the cross-entropy of samples of u users, m each."""

    def __init__(self, arrays):
        super().__init__()
        self.arrays = arrays
        self.tangent = Tangent(arrays)
        self.gather = ops.Gather()

    def construct(self, user, item, user_place, item_place, label, *arguments):
        """user (u,), item (u, m) rows in the network's tables; user_place (u,), item_place (u, m) rows in the tables of h
        with their first two axes made one; label (u, m). Then the network's tables and dense weights (u, ...), and h.

        Returns:
            (u, m) products of the samples' gradients with h.
        """
        n = self.arrays
        h = arguments[n:]
        rows, directions = (), ()
        for k in range(n):
            if k < NUM_TABLES:
                width = arguments[k].shape[1]
                flat = h[k].reshape(-1, width)
                if k < USER_TABLES:
                    shape = (*item.shape, width)
                    rows += (ops.broadcast_to(ops.expand_dims(self.gather(arguments[k], user, 0), 1), shape),)
                    directions += (ops.broadcast_to(ops.expand_dims(self.gather(flat, user_place, 0), 1), shape),)
                else:
                    rows += (self.gather(arguments[k], item, 0),)
                    directions += (self.gather(flat, item_place, 0),)
            else:
                rows += (arguments[k],)
                directions += (h[k],)
        logit, derivative = self.tangent(*rows, *directions)
        return ((ops.sigmoid(logit) - ops.expand_dims(label, 2)) * derivative).reshape(label.shape)
