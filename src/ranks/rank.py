"""What a process does that MindSpore's launcher starts: a rank, which runs a stage as one process would on its own users."""
import contextlib
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from ..common.errors import InputError
from ..common.files import write_text
from ..common.share import being
from ..common.stage import what_ended
from ..common.terminal import log_to, logger
from ..config import Config
from .exchange import Ended, Exchange

FOLDER, LIFELINE = "IFRQE_RANKS", "IFRQE_LIFELINE"  # of the environment: a folder, and a pipe that ends with who started us
ERROR = "error_{}.json"  # in the folder, of a rank that has failed: whether another is to blame, -exit code, and line


def serve(stage: Callable[[Config], None], name: str, config: Config) -> None:
    """Meets the other ranks and runs `stage(config)` as one of them; does not return.

    The first one logs as a program does, the others into files of their own. Why one has failed it leaves as ERROR, and
    tells the others.
    """
    from .hosts import bring_inputs
    from .part import Part
    rank, folder, local = int(os.environ["RANK_ID"]), Path(os.environ[FOLDER]), config.local_ranks or config.ranks
    log, exchange, code = Path(config.output_path) / f"{name}.log", None, 0
    with log_to(*((config.output_path, log.name) if rank == 0 else (folder, f"rank_{rank}.log")), config.log_level):
        try:
            exchange = _met(rank, config.ranks, local, config)
            with being(Part(rank, config.ranks, exchange)) as share:
                if local < config.ranks:
                    bring_inputs(config, share, local)
                stage(config.replace(device_id=int(os.environ["DEVICE_ID"])))
                share.each(0)  # who ends earlier might end the others
        except BaseException as e:
            logger.debug("rank %d of %d: traceback", rank, config.ranks, exc_info=True)
            if exchange and (isinstance(e, KeyboardInterrupt) or  # so MindSpore ends all when it has lost one
                             isinstance(e, RuntimeError) and re.search("cluster|All(Reduce|Gather)", str(e))):
                e = exchange.heard(folder / "scheduler.log") or e
            of_others = isinstance(e, Ended)
            code, line = e.args if of_others else what_ended(e, log)
            if exchange:
                who = "" if of_others else f"rank {rank} of {config.ranks} on host {rank // local}: "
                exchange.tell_end(code, who + line)
            write_text(folder / ERROR.format(rank), json.dumps([of_others, -code, line]))
    os._exit(code)  # without the wait for others that MindSpore makes at its end


def _met(rank, size, local, config):
    from mindspore import communication

    from ..device_adapter import set_device
    set_device(config)
    address = os.environ["MS_SCHED_HOST"]
    try:
        with _short_sleeps():
            communication.init()
            return Exchange(rank, size, local, address)
    except (RuntimeError, OSError, KeyboardInterrupt) as e:
        logger.debug("no meeting", exc_info=True)
        raise InputError(f"--ranks {size}: rank {rank} cannot reach the others by {address}:{os.environ['MS_SCHED_PORT']}; "
                         "start all hosts at about the same time, and see whether the address is right, the port taken or a "
                         "firewall in the way") from e


@contextlib.contextmanager
def _short_sleeps():
    """MindSpore sleeps for 3 seconds whenever it asks for the address of a rank that is not there yet: 10 times for less."""
    left = iter(range(10))
    signal.signal(signal.SIGALRM, lambda *_: next(left, None) is None and signal.setitimer(signal.ITIMER_REAL, 0))
    signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


def end_with_starter() -> None:
    """Waits until the process that started the ranks has ended, however it did, and ends this one."""
    os.read(int(os.environ[LIFELINE]), 1)
    os._exit(1)
