"""Starts a program in several processes under MindSpore's launcher, and waits for them.

Every rank is this program on the same command line, on this host or others. What starts them holds the locks and no data.
"""
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ..common import stage as one
from ..common.errors import InputError, logger
from ..common.process import command
from ..config import Config, load_config
from . import launch
from .launch import LOG
from .rank import ERROR, FOLDER, LIFELINE, serve

MEET = 45  # seconds in which all must have started, on all hosts


def main(stage: Callable[[Config], None], name: str, description: str) -> None:
    """Runs `stage(config)` as stage.main does, in each of `--ranks` processes if these are several."""
    if FOLDER in os.environ:
        serve(stage, name, load_config(sys.argv[1:], description, name))
    one.main(lambda config: (stage if config.ranks == 1 else start)(config), name, description, needs="mindspore")


def start(config: Config, *program: str) -> None:
    """Runs this program once more in each rank of this host and waits for them; ends as the one that failed, if one did.

    `program`: another one, see launch.launch.
    Raises InputError: MindSpore has no launcher.
    Raises ChildProcessError: no rank has started.
    """
    found = importlib.util.find_spec("mindspore")  # not that of a package within, for which it would be loaded
    if found is None or not (Path(found.origin).parent / "parallel" / "cluster").is_dir():
        raise InputError(f"--ranks {config.ranks}: this version of MindSpore has no launcher; install 2.3 or later, or give "
                         "--ranks 1")
    folder = Path(config.output_path).resolve() / "ranks"  # for logs, which may hold what is personal
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    local = config.local_ranks or config.ranks
    options = (f"--worker_num={config.ranks}", f"--local_worker_num={local}", f"--node_rank={config.node_rank}",
               f"--master_addr={config.master_addr or '127.0.0.1'}", f"--master_port={config.master_port or _free_port()}",
               f"--log_dir={folder}", "--join=True", f"--cluster_time_out={MEET}", f"--tail_worker_log={config.ranks}")
    read, write = os.pipe()  # whatever ends this process, closes it, and ends the others
    threads = str(max(1, (os.cpu_count() or 1) // local))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, FOLDER: str(folder),
                   LIFELINE: str(read), "MS_RETRY_INTERVAL_LOWER": "1", "MS_RETRY_INTERVAL_UPPER": "1"}  # seconds
    program = program or ("", os.path.abspath(sys.argv[0]), *sys.argv[1:])
    launcher = subprocess.Popen(command(launch.__name__, "launch", *options, "python", *program), env=environment,
                                stdin=subprocess.DEVNULL, stderr=sys.stderr, pass_fds=(read,), start_new_session=True)
    try:
        if launcher.wait():
            _fail(folder)
    finally:
        os.close(write)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def _fail(folder):
    for path in folder.glob("rank_*.log"):
        logger.debug("the last that %s says:\n%s", path.stem, "\n".join(path.read_text(errors="replace").splitlines()[-30:]))
    if not (left := [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(ERROR.format("*"))]):
        said = (folder / LOG).read_text(errors="replace")
        logger.debug("the launcher of the ranks said:\n%s", said)
        raise ChildProcessError(f"the ranks have not started ({said.strip().splitlines()[-1]})")
    _, code, line = min(left)
    logger.error("error: %s", line)
    sys.exit(-code)
