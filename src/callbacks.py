"""What is kept of the epochs of a training: on_epoch_end(record, values).

It is called after each epoch with its record, which holds epoch (from 1), loss, the validation metrics if there are any, and
seconds, and with the parameters, see Network.values.
"""
from __future__ import annotations


class BestEpoch:
    """Keeps the parameters of the epoch, of equals the first, with the highest (or lowest) value of a metric."""

    def __init__(self, metric: str, lower: bool = False):
        self.metric, self.sign, self.record, self.values = metric, -1 if lower else 1, None, None

    def on_epoch_end(self, record: dict, values: dict) -> None:
        if self.record is None or self.sign * record[self.metric] > self.sign * self.record[self.metric]:
            self.record, self.values = record, values


class AnchorEpochs(BestEpoch):
    """Keeps the parameters of epochs spread evenly over the training up to the anchor: 2, 4, 6 and 8 for an anchor of 8.

    The anchor is the epoch with the lowest cross-entropy of the validation item, or the last one without such items. As it
    is not known before the end, epochs are gathered at a stride that doubles whenever there would be too many.

    `number`: epochs to keep, at most; `last`: the last epoch that may be the anchor, None for any.
    """

    def __init__(self, metric: str, lower: bool, number: int, last: int | None = None):
        super().__init__(metric, lower)
        self.number, self.last = number, last
        self.gathered = {}  # parameters by epoch
        self.kept = {}  # of these the chosen ones, the anchor last

    def on_epoch_end(self, record: dict, values: dict) -> None:
        epoch = record["epoch"]
        if self.last is not None and epoch > self.last:
            return
        super().on_epoch_end(record, values)
        stride = 1
        while epoch // stride >= 2 * self.number:
            stride *= 2
        self.gathered = {e: v for e, v in {**self.gathered, epoch: values}.items() if e % stride == 0}
        if self.record is record:
            wanted = [epoch * k / self.number for k in range(1, self.number)]
            chosen = {min(self.gathered, key=lambda e: abs(e - w)) for w in wanted if self.gathered} - {epoch}
            self.kept = {e: self.gathered[e] for e in sorted(chosen)} | {epoch: values}
