"""Ranks as threads of one process, which exchange arrays in memory; and what ranks do that MindSpore's launcher starts."""
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from src.common.errors import InputError
from src.influence_function import expected_at
from src.network import build
from src.training.deal import load_share
from src.training.trainer import Trainer


class Exchange:
    """As src.common.share.Exchange, for the thread of one rank."""

    def __init__(self, rank, barrier, said):
        self.rank, self.barrier, self.said = rank, barrier, said

    def each(self, values):
        self.said[self.rank] = np.array(values)
        self.barrier.wait(20)
        found = np.stack(self.said)
        self.barrier.wait(20)
        return found


def in_threads(size, work):
    """What work(exchange) returns in each of `size` ranks."""
    barrier, said = threading.Barrier(size), [None] * size
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: work(Exchange(rank, barrier, said)), range(size)))


def trained_and_influences(config, folder, exchange):
    """In ranks: an epoch's samples and what training on them leads to, lazily and densely; influences and expectations."""
    dataset = load_share(config, False, folder, exchange)
    share, found = dataset.share, {}
    for lazy in (True, False):
        trainer = Trainer(build(dataset, config), dataset, config.replace(lazy_adam=lazy), "CPU")
        users, items = trainer.samples(0)
        loss = trainer.run_steps(users, items, trainer.steps, trainer.steps, 0)
        values = trainer.net.all_values(trainer.net.values(), share)
        found["lazy" if lazy else "dense"] = {
            "steps": trainer.steps, "loss": loss, "bytes": trainer.bytes_sent,
            "users": share.each(share.users[users]).tolist(), "items": share.each(items).tolist(),
            "values": {name: value.tolist() for name, value in values.items()}}
    influence, expected, report = expected_at([trainer.net.values()], dataset, config)
    places = share.positions(dataset.num_interactions)
    for name, own in (("influence", influence), ("expected", expected)):
        whole = np.zeros(dataset.all_interactions)
        whole[places] = own
        found[name] = share.total(whole).tolist()
    return {**found, "report": report}


def refuse_in_one(config, folder, exchange):
    """In ranks: the second refuses, while the first waits for it."""
    if exchange.rank == 1:
        raise InputError("one: is wrong")
    exchange.each(np.zeros(1))
