"""What happens at the end of each training epoch."""
import logging
import time

logger = logging.getLogger("ifrqe")


class Callback:
    """Base class; `epoch` counts from 1, `record` holds epoch, loss and the validation metrics."""

    def on_epoch_end(self, net, record):
        """Called after each epoch."""


class EpochReport(Callback):
    """Logs a line per epoch with the time left.

    Args:
        epochs: in total.
        metrics: keys of the record to show.
    """

    def __init__(self, epochs, metrics):
        self.epochs = epochs
        self.metrics = metrics
        self.start = time.perf_counter()

    def on_epoch_end(self, net, record):
        elapsed = time.perf_counter() - self.start
        left = elapsed / record["epoch"] * (self.epochs - record["epoch"])
        shown = "  ".join(f"{key} {record[key]:.4f}" for key in self.metrics)
        logger.info("epoch %3d/%d  %s  %6.1f s  ETA %s", record["epoch"], self.epochs, shown, elapsed,
                    time.strftime("%H:%M:%S" if left >= 3600 else "%M:%S", time.gmtime(left)))


class BestEpoch(Callback):
    """Keeps the parameters of the epoch with the best validation metric (the first of equals).

    Args:
        metric: key of the record.
        lower: whether lower is better.
    """

    def __init__(self, metric, lower=False):
        self.metric = metric
        self.sign = -1 if lower else 1
        self.record = None
        self.values = None

    def on_epoch_end(self, net, record):
        if self.record is None or self.sign * record[self.metric] > self.sign * self.record[self.metric]:
            self.record = record
            self.values = net.values()
