"""What a process does that MindSpore's launcher starts: a rank, which runs a stage as one process would on its own users."""
from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from ..common.errors import InputError
from ..common.files import write_text
from ..common.share import being
from ..common.stage import what_ended
from ..common.terminal import log_to
from ..config import Config
from .exchange import Ended, Exchange
from .hosts import bring_inputs
from .part import Part

logger = logging.getLogger("ifrqe")

FOLDER, LIFELINE = "IFRQE_RANKS", "IFRQE_LIFELINE"  # of the environment: a folder, and a pipe that ends with who started us
ERROR = "error_{}.json"  # in the folder, of a rank that has failed: exit code, line, and whether it is another rank's


def serve(stage: Callable[[Config], None], name: str, config: Config) -> None:
    """Meets the other ranks and runs `stage(config)` as one of them; does not return.

    The first one logs as a program does, the others into files of their own. Why one has failed it leaves as ERROR, and
    tells the others.
    """
    rank, folder = int(os.environ["RANK_ID"]), Path(os.environ[FOLDER])
    on_host = f" on host {config.node_rank}" if config.local_ranks else ""
    log, exchange, code = Path(config.output_path) / f"{name}.log", None, 0
    with log_to(*((config.output_path, log.name) if rank == 0 else (folder, f"rank_{rank}.log")), config.log_level):
        try:
            exchange = _met(rank, config)
            with being(Part(rank, config.ranks, exchange)) as share:
                if 0 < config.local_ranks < config.ranks:
                    bring_inputs(config, share, config.local_ranks)
                stage(config.replace(device_id=int(os.environ["DEVICE_ID"])))
                share.each(0)  # who ends earlier might end the others
        except BaseException as e:
            logger.debug("rank %d of %d: traceback", rank, config.ranks, exc_info=True)
            if exchange and (isinstance(e, KeyboardInterrupt) or  # so MindSpore ends all when it has lost one
                             isinstance(e, RuntimeError) and re.search("cluster|All(Reduce|Gather)", str(e))):
                e = exchange.heard(folder / "scheduler.log") or e
            code, line = e.args if isinstance(e, Ended) else what_ended(e, log)
            if exchange:
                exchange.tell_end(code, line if isinstance(e, Ended) else f"rank {rank} of {config.ranks}{on_host}: {line}")
            write_text(folder / ERROR.format(rank), json.dumps([code, line, isinstance(e, Ended)]))
    os._exit(code)  # without the wait for others that MindSpore makes at its end


def _met(rank, config):
    """Exchange with the other ranks."""
    from mindspore import communication

    from ..device_adapter import set_device
    set_device(config)
    address, port = os.environ["MS_SCHED_HOST"], os.environ["MS_SCHED_PORT"]
    try:
        with _short_sleeps():
            communication.init()
            return Exchange(rank, config.ranks, config.local_ranks or config.ranks, address)
    except (RuntimeError, OSError, KeyboardInterrupt) as e:
        logger.debug("no meeting", exc_info=True)
        raise InputError(f"--ranks {config.ranks}: rank {rank} cannot reach the others by {address}, port {port}; start all "
                         "hosts at about the same time, and see whether the address is right, the port taken or a firewall "
                         "in the way") from e


@contextlib.contextmanager
def _short_sleeps():
    """MindSpore sleeps for 3 seconds whenever it asks for the address of a rank that is not there yet: 10 times for less."""
    left = iter(range(10))
    signal.signal(signal.SIGALRM, lambda *_: next(left, None) is None and signal.setitimer(signal.ITIMER_REAL, 0))
    signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def end_with_starter() -> None:
    """Waits until the process that started the ranks has ended, however it did, and ends this one."""
    os.read(int(os.environ[LIFELINE]), 1)
    os._exit(1)
