"""What ranks tell each other: arrays from all to all, and how they end, over a connection of each to the first one.

MindSpore's collectives, which sum the gradients, give up on a rank that comes half a minute later than others, as one does
that writes a table. These wait as long as it takes, and know whom they have lost.
"""
from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
from pathlib import Path

import numpy as np

AGAIN = "all were ended; the same command starts anew, with --resume from the last epoch of a training"
_HEAD = struct.Struct("<q")  # bytes that follow; below 0 that many of JSON: how the other has ended


class Ended(Exception):
    """Another rank has ended: its exit code, and what it says."""


class Exchange:
    """What Part talks through; `init` of MindSpore's communication comes before.

    Args:
        rank, size: see Share.
        local: how many ranks each host has.
        address: of the first host.
    """

    def __init__(self, rank: int, size: int, local: int, address: str):
        from mindspore import Tensor, ops
        self.rank, self.size, self.local = rank, size, local
        if rank == 0:
            server = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        port = ops.AllGather()(Tensor([0 if rank else server.getsockname()[1]])).asnumpy()[0]
        if rank:
            self.others = {0: socket.create_connection((address, int(port)))}
            self.others[0].sendall(_HEAD.pack(rank))
        else:
            found = [server.accept()[0] for _ in range(1, size)]
            self.others = dict(sorted((_HEAD.unpack(one.recv(_HEAD.size, socket.MSG_WAITALL))[0], one) for one in found))
        for one in self.others.values():
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def each(self, values: np.ndarray) -> np.ndarray:
        """(size, ...) arrays of one shape and kind from all ranks, which all call this at the same point."""
        content = values.tobytes()
        if self.rank:
            self._send(content)
            found = self._received(0)
        else:
            found = b"".join([content, *map(self._received, self.others)])
            self._send(found)
        return np.frombuffer(found, values.dtype).reshape(self.size, *values.shape)

    def of_first(self, content: bytes) -> bytes:
        """What the first rank says, to all."""
        if self.rank:
            return self._received(0)
        self._send(content)
        return content

    def tell_end(self, code: int, line: str) -> None:
        """Tells the first rank, or it all others, how this one ends."""
        with contextlib.suppress(OSError, Ended):
            self._send(json.dumps([code, line]).encode(), -1)

    def heard(self, scheduler: Path) -> Ended | None:
        """What others have told about their end, or who is silent, by the scheduler's log; None for neither."""
        for rank, one in self.others.items():
            one.settimeout(0.1)
            try:
                while True:
                    self._received(rank)
            except Ended as e:
                return e
            except OSError:
                pass
        said = scheduler.read_text(errors="replace") if scheduler.exists() else "The node: 0 is timed out"  # of another host
        silent = re.findall(r"The node: (\d+) is timed out", said)
        return self._lost(int(silent[0]), "gives no sign of life") if silent else None

    def _send(self, content, sign=1):
        for rank, one in self.others.items():
            try:
                one.sendall(_HEAD.pack(sign * len(content)) + content)
            except ConnectionError:
                raise self._lost(rank) from None

    def _received(self, rank):
        one = self.others[rank]
        try:
            (number,) = _HEAD.unpack(one.recv(_HEAD.size, socket.MSG_WAITALL))
            content = one.recv(abs(number), socket.MSG_WAITALL)
        except (ConnectionError, struct.error):
            raise self._lost(rank) from None
        if len(content) < abs(number):
            raise self._lost(rank)
        if number < 0:
            raise Ended(*json.loads(content))
        return content

    def _lost(self, rank, how="has ended, which says why"):
        return Ended(2, f"rank {rank} of {self.size} on host {rank // self.local} {how}; {AGAIN}")
