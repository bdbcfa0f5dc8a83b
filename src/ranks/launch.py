"""MindSpore's launcher, msrun, in a process of its own: starts the ranks of a host, and the scheduler on the first one."""
import json
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from .exchange import AGAIN
from .rank import ERROR, FOLDER, end_with_starter

LOG = "launcher.log"  # in the folder of the ranks


def launch(*line: str) -> None:
    """Becomes the launcher on its command line: its options, then "python", a module or "", a file or "", and arguments.

    What it would start, it forks, so that MindSpore is imported once, and the first rank has our screen.
    """
    from mindspore.parallel.cluster.process_entity import _api
    from mindspore.parallel.cluster.run import main
    folder, screen = Path(os.environ[FOLDER]), (os.dup(1), os.dup(2))
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)

    def start(_, stdout, preexec_fn=None, **options):
        return _Process(folder, screen if preexec_fn and os.environ["RANK_ID"] == "0" else [stdout.fileno()] * 2)
    _api.subprocess = SimpleNamespace(Popen=start, STDOUT=None, run=lambda *_, **options: None)
    _api.time = SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, 0.05)))
    threading.Thread(target=end_with_starter, daemon=True).start()
    sys.argv[1:] = line
    main()


class _Process:
    """A rank, or the scheduler through which ranks meet: what the launcher needs of a subprocess.Popen."""

    def __init__(self, folder, streams):
        self.folder, self.rank, self.returncode = folder, os.environ["RANK_ID"], None
        self.pid = os.fork()
        if self.pid:
            return
        os.setsid()
        for number, stream in enumerate(streams, 1):
            os.dup2(stream, number)
        threading.Thread(target=end_with_starter, daemon=True).start()
        if os.environ["MS_ROLE"] == "MS_SCHED":
            import mindspore
            mindspore.set_context(device_target="CPU")
            mindspore.communication.init()
            sys.exit()  # it waits for the end of all
        _, module, path, *sys.argv[1:] = sys.argv[sys.argv.index("python"):]
        sys.argv[0] = path or module
        if path:
            runpy.run_path(path, run_name="__main__")
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        sys.exit()

    def poll(self):
        """Its exit code, None while it runs. One that was stopped is as good as dead, and is killed."""
        if self.returncode is None:
            process, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if process and os.WIFSTOPPED(status):
                os.kill(self.pid, signal.SIGKILL)
            elif process:
                self.returncode = os.waitstatus_to_exitcode(status)
                path = self.folder / ERROR.format(self.rank)
                if self.returncode and not path.exists():
                    line = f"rank {self.rank} of {os.environ['MS_WORKER_NUM']} (process {self.pid}) has died; {AGAIN}"
                    path.write_text(json.dumps([False, -2, line]))
        return self.returncode

    def wait(self):
        """Ends the scheduler, which would look for the ranks for a while; all have ended."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.returncode = 0
