"""What ranks tell each other: arrays from all to all, and how they end, over a connection of each to the first one.

MindSpore's collectives, which sum the gradients, give up on a rank that comes half a minute later than others, as one does
that writes a table. These wait as long as it takes, and know whom they have lost.
"""
from __future__ import annotations

import contextlib
import json
import re
import secrets
import socket
from multiprocessing.connection import Client, Listener
from pathlib import Path

import numpy as np

AGAIN = "all were ended; the same command starts anew, with --resume from the last epoch of a training"
WAIT = 10  # seconds that others wait for the first one to say who is lost
_VALUES, _END = b"=", b"!"  # what a message begins with


class Ended(Exception):
    """Another rank has ended: its exit code, and what it says."""


class Exchange:
    """What Part talks through; `init` of MindSpore's communication comes before. `local`: how many ranks each host has."""

    def __init__(self, rank: int, size: int, local: int, address: str):
        from mindspore import Tensor, ops
        self.rank, self.size, self.local = rank, size, local
        key = secrets.randbits(31)
        listener = None if rank else Listener((address, 0), backlog=size, authkey=b"%d" % key)
        mine = np.array([0, 0] if rank else [listener.address[1], key], np.int32)
        port, key = ops.AllGather()(Tensor(mine)).asnumpy()[:2].tolist()
        found = [Client((address, port), authkey=b"%d" % key)] if rank else [listener.accept() for _ in range(1, size)]
        for one in found:
            with socket.socket(fileno=socket.dup(one.fileno())) as same:
                same.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if rank:
            found[0].send(rank)
        self.others = {0: found[0]} if rank else dict(sorted((one.recv(), one) for one in found))

    def each(self, values: np.ndarray) -> np.ndarray:
        """(size, ...) arrays of one shape and kind from all ranks, which all call this at the same point."""
        if self.rank:
            self._send(_VALUES + values.tobytes())
        found = self.of_first(b"" if self.rank else b"".join([values.tobytes(), *map(self._received, self.others)]))
        return np.frombuffer(found, values.dtype).reshape(self.size, *values.shape)

    def of_first(self, content: bytes) -> bytes:
        """What the first rank says, to all."""
        if self.rank:
            return self._received(0)
        self._send(_VALUES + content)
        return content

    def tell_end(self, code: int, line: str) -> None:
        """Tells the first rank, or it all others, how this one ends."""
        with contextlib.suppress(Ended):
            self._send(_END + json.dumps([code, line]).encode())

    def heard(self, scheduler: Path) -> Ended | None:
        """What others have told about their end, or who is silent, by the scheduler's log; None for neither."""
        try:
            for rank, one in self.others.items():
                while one.poll(WAIT if self.rank else 0.1):  # the first one hears of all, and tells
                    self._received(rank)
        except Ended as e:
            return e
        said = scheduler.read_text(errors="replace") if scheduler.exists() else "The node: 0 is timed out"  # of another host
        silent = re.search(r"The node: (\d+) is timed out", said)
        return self._lost(int(silent[1]), "gives no sign of life") if silent else None

    def _send(self, message):
        for rank, one in self.others.items():
            try:
                one.send_bytes(message)
            except OSError:
                raise self._lost(rank) from None

    def _received(self, rank):
        try:
            message = self.others[rank].recv_bytes()
        except (EOFError, OSError):
            raise self._lost(rank) from None
        if message[:1] == _END:
            raise Ended(*json.loads(message[1:]))
        return memoryview(message)[1:]

    def _lost(self, rank, how="has ended, which says why"):
        return Ended(2, f"rank {rank} of {self.size} on host {rank // self.local} {how}; {AGAIN}")
