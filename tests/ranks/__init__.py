"""Ranks as threads of one process, which exchange arrays in memory."""
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from src.common.share import being
from src.ranks.part import Part


class Exchange:
    """As src.ranks.exchange.Exchange, for the thread of one rank."""

    def __init__(self, rank, barrier, said):
        self.rank, self.barrier, self.said = rank, barrier, said

    def each(self, values):
        self.said[self.rank] = np.array(values)
        self.barrier.wait(20)
        found = np.stack(self.said)
        self.barrier.wait(20)
        return found


def in_threads(size, work):
    """What work(exchange) returns in each of `size` ranks; raises what the first to fail has raised."""
    barrier, said, failed = threading.Barrier(size), [None] * size, []

    def rank(number):
        try:
            return work(Exchange(number, barrier, said))
        except BaseException as e:
            failed.append(e)
            barrier.abort()
    with ThreadPoolExecutor(size) as pool:
        found = list(pool.map(rank, range(size)))
    if failed:
        raise failed[0]
    return found


def as_ranks(size, work):
    """What work() returns in each of `size` ranks."""
    def rank(exchange):
        with being(Part(exchange.rank, size, exchange)):
            return work()
    return in_threads(size, rank)
