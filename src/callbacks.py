"""What happens at the end of each training epoch: on_epoch_end(history, values).

It is called with the records of all epochs so far, which hold epoch (from 1), loss, the validation metrics if there are any,
and seconds, and with the parameters, see Network.values.
"""
from __future__ import annotations

import logging
import time
from pathlib import Path

import pandas as pd

from .common.files import write_text

logger = logging.getLogger("ifrqe")


class EpochReport:
    """Logs a line per epoch with the time left.

    Args:
        epochs: in total.
        done: epochs that a training before this one has done already.
    """

    def __init__(self, epochs: int, done: int = 0):
        self.epochs, self.done = epochs, done
        self.start = time.perf_counter()

    def on_epoch_end(self, history: list[dict], values: dict) -> None:
        record = history[-1]
        elapsed = time.perf_counter() - self.start
        left = elapsed / (record["epoch"] - self.done) * (self.epochs - record["epoch"])
        shown = "  ".join(f"{key} {value:.4f}" for key, value in record.items() if key not in ("epoch", "seconds"))
        logger.info("epoch %3d/%d  %s  %6.1f s  ETA %s", record["epoch"], self.epochs, shown, elapsed,
                    time.strftime("%H:%M:%S" if left >= 3600 else "%M:%S", time.gmtime(left)))


class BestEpoch:
    """Keeps the parameters of the epoch with the best value of a metric (the first of equals).

    Args:
        metric: key of the record.
        lower: whether lower is better.
    """

    def __init__(self, metric: str, lower: bool = False):
        self.metric = metric
        self.sign = -1 if lower else 1
        self.record = None
        self.values = None

    def on_epoch_end(self, history: list[dict], values: dict) -> None:
        if self.record is None or self.sign * history[-1][self.metric] > self.sign * self.record[self.metric]:
            self.record, self.values = history[-1], values


class AnchorEpochs(BestEpoch):
    """Keeps the parameters of epochs spread evenly over the training up to the anchor: 2, 4, 6 and 8 for an anchor of 8.

    The anchor is the epoch with the lowest cross-entropy of the validation item, or the last one without such items. As it
    is not known before the end, epochs are gathered at a stride that doubles whenever there would be too many.

    Args:
        metric, lower: see BestEpoch.
        number: epochs to keep, at most.
    """

    def __init__(self, metric: str, lower: bool, number: int):
        super().__init__(metric, lower)
        self.number = number
        self.gathered = {}  # parameters by epoch
        self.kept = {}  # of these the chosen ones, the anchor last

    def on_epoch_end(self, history: list[dict], values: dict) -> None:
        epoch = history[-1]["epoch"]
        super().on_epoch_end(history, values)
        stride = 1
        while epoch // stride >= 2 * self.number:
            stride *= 2
        self.gathered = {e: v for e, v in {**self.gathered, epoch: values}.items() if e % stride == 0}
        if self.record is history[-1]:
            wanted = [epoch * k / self.number for k in range(1, self.number)]
            chosen = {min(self.gathered, key=lambda e: abs(e - w)) for w in wanted if self.gathered} - {epoch}
            self.kept = {e: self.gathered[e] for e in sorted(chosen)} | {epoch: values}


class HistoryFile:
    """Writes the records as CSV after every epoch: a row per epoch, a column per key."""

    def __init__(self, path: str | Path):
        self.path = path

    def on_epoch_end(self, history: list[dict], values: dict) -> None:
        write_text(self.path, pd.DataFrame(history).to_csv(index=False, lineterminator="\n"))
