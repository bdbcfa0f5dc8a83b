"""What a process does that MindSpore's launcher starts: a rank, which runs a stage as one process would on its own users."""
from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from ..common.files import write_text
from ..common.share import being
from ..common.stage import what_ended
from ..common.terminal import log_to
from ..config import Config

logger = logging.getLogger("ifrqe")

FOLDER, LIFELINE = "IFRQE_RANKS", "IFRQE_LIFELINE"  # of the environment: a folder, and a pipe that ends with who started us
ERROR = "error_{}.json"  # how a rank ends and why


def serve(stage: Callable[[Config], None], name: str, config: Config) -> None:
    """Meets the other ranks and runs `stage(config)` as one of them; does not return.

    The first one logs as a program does, the others into a file of their own. Why one has failed, it leaves as ERROR.
    """
    rank, size, folder = int(os.environ["RANK_ID"]), int(os.environ["RANK_SIZE"]), os.environ[FOLDER]
    threading.Thread(target=end_with_starter, daemon=True).start()
    import mindspore.communication  # before the log takes standard error

    from ..device_adapter import set_device
    config = config.replace(device_id=int(os.environ["DEVICE_ID"]))
    place = (config.output_path, f"{name}.log") if rank == 0 else (folder, f"rank_{rank}.log")
    code = 0
    with log_to(*place, config.log_level):
        try:
            set_device(config)
            mindspore.communication.init()
            from .exchange import Exchange
            from .part import Part
            with being(Part(rank, size, Exchange())) as share:
                stage(config)
                share.each(0)  # who ends earlier might end the others
        except BaseException as e:
            code, why = what_ended(e, Path(config.output_path) / f"{name}.log")
            logger.debug("rank %d of %d: traceback", rank, size, exc_info=True)
            write_text(Path(folder) / ERROR.format(rank), json.dumps([code, why]))
    os._exit(code)  # without the wait for others that MindSpore makes at its end


def end_with_starter() -> None:
    """Waits until the process that started the ranks has ended, however it did, and ends this one."""
    os.read(int(os.environ[LIFELINE]), 1)
    os._exit(1)
