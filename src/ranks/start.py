"""Starts a program in several processes under MindSpore's launcher, msrun, and waits for them.

Every rank is this program on the same command line. What starts them holds the locks and has no data.
"""
from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..common import stage as one
from ..common.errors import InputError
from ..common.process import command
from ..config import Config, load_config
from .rank import ERROR, FOLDER, LIFELINE, end_with_starter, serve

logger = logging.getLogger("ifrqe")

LAUNCHER, DIED = "launcher.log", "died"  # in the folder of the ranks


def main(stage: Callable[[Config], None], name: str, description: str) -> None:
    """Runs `stage(config)` as stage.main does, in each of `--ranks` processes if these are several."""
    if FOLDER in os.environ:
        return serve(stage, name, load_config(sys.argv[1:], description, name))
    one.main(lambda config: (stage if config.ranks == 1 else start)(config), name, description, needs="mindspore")


def start(config: Config) -> None:
    """Runs this program once more in each rank and waits for them; ends as the one that failed, if one did.

    Raises:
        InputError: MindSpore has no launcher.
        ChildProcessError: a rank has died, hangs, or cannot reach the others.
    """
    if importlib.util.find_spec("mindspore.parallel.cluster") is None:
        raise InputError(f"--ranks {config.ranks}: this version of MindSpore has no launcher; install 2.3 or later, or give "
                         "--ranks 1")
    folder = Path(config.output_path).resolve() / "ranks"  # for logs, which may hold what is personal
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    read, write = os.pipe()
    options = (f"--worker_num={config.ranks}", f"--local_worker_num={config.ranks}", "--master_addr=127.0.0.1",
               f"--master_port={_free_port()}", f"--log_dir={folder}", "--join=True")
    threads = str(max(1, (os.cpu_count() or 1) // config.ranks))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, FOLDER: str(folder),
                   LIFELINE: str(read)}
    launcher = subprocess.Popen(command(__name__, "launch", *options, "python", *_again()), env=environment,
                                stdin=subprocess.DEVNULL, stderr=_screen(), pass_fds=(read,), start_new_session=True)
    try:
        if launcher.wait():
            _fail(config, folder)
    finally:
        os.close(write)  # ends all that are left
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _screen():
    """Standard error as it is shown, which the log may have left aside; None for what is inherited."""
    try:
        return sys.stderr.fileno()
    except (OSError, AttributeError, ValueError):
        return None


def _again():
    """Arguments of an interpreter that runs this program once more."""
    started = sys.modules["__main__"]
    spec = getattr(started, "__spec__", None)
    return command(__name__, "run_again", spec.name if spec else "", spec and "" or os.path.abspath(started.__file__),
                   *sys.argv[1:])[1:]


def run_again(module: str, path: str, *arguments: str) -> None:
    """What each process does that the launcher starts; or the scheduler through which ranks meet."""
    if os.environ["MS_ROLE"] == "MS_SCHED":
        threading.Thread(target=end_with_starter, daemon=True).start()
        import mindspore.communication
        mindspore.set_context(device_target="CPU")
        mindspore.communication.init()
        return
    sys.argv[:] = [path or module, *arguments]
    if module:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(path, run_name="__main__")


def launch(*arguments: str) -> None:
    """What the process does that becomes MindSpore's launcher, on its command line `arguments`.

    It starts what is called python on the path, which may be another; its ranks are to see the screen and end with us; one
    that is stopped is as good as dead.
    """
    folder, lifeline, screen = Path(os.environ[FOLDER]), int(os.environ[LIFELINE]), (os.dup(1), os.dup(2))
    log = os.open(folder / LAUNCHER, os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)

    class Popen(subprocess.Popen):
        def __init__(self, args, *more, **options):
            role, self.rank = os.environ.get("MS_ROLE"), os.environ.get("RANK_ID")
            if role:
                options["pass_fds"] = (lifeline,)
            if args[0] == "python":
                args = [sys.executable, *args[1:]]
            if role == "MS_WORKER" and self.rank == "0":
                options["stdout"], options["stderr"] = screen
            super().__init__(args, *more, **options)

        def poll(self):
            before = self.returncode
            code = super().poll()
            if code and before is None:
                with open(folder / DIED, "a") as file:
                    file.write(f"{self.rank} {self.pid} {code}\n")
            if code is None and os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG):
                self.kill()
            return code

        def wait(self, timeout=None):
            self.kill()  # the scheduler, which would look for the ranks for a while; all have ended
            super().wait(timeout)
            self.returncode = 0
    sleep = time.sleep
    subprocess.Popen, time.sleep, sys.argv[1:] = Popen, lambda seconds: sleep(min(seconds, 0.05)), arguments
    threading.Thread(target=end_with_starter, daemon=True).start()
    from mindspore.parallel.cluster.run import main
    main()


def _fail(config, folder):
    """Ends with the line of the rank that failed first."""
    left = {}
    for path in folder.glob(ERROR.format("*")):
        left[int(path.stem.rpartition("_")[2])] = json.loads(path.read_text(encoding="utf-8"))
    died = (folder / DIED).read_text().split() if (folder / DIED).exists() else []
    for rank in sorted(left, key=lambda rank: (-left[rank][0], rank)):
        if left[rank][0] == 2 or not set(died[::3]) - set(map(str, left)):
            logger.error("error: %s", left[rank][1])
            sys.exit(left[rank][0])
    for rank, process in zip(died[::3], died[1::3]):
        if int(rank) not in left:
            raise ChildProcessError(f"rank {rank} of {config.ranks} (process {process}) has died; the others were ended; "
                                    "the same command starts anew, with --resume from the last epoch of a training")
    raise ChildProcessError("the ranks have not started: " + (folder / LAUNCHER).read_text()[-300:])
