"""Several processes: starts a function in each rank under MindSpore's launcher, and watches over them.

Every rank runs `function(config, folder, exchange, *arguments)` of a module; the answer is that of rank 0. When one dies,
hangs or cannot join, all are ended, and one line names it. See docs/maths.md, section 11.
"""
from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ..config import Config
from .errors import InputError
from .files import is_alive, write_text
from .machine import peak_rss_mb
from .process import command
from .terminal import progress, tell_progress

logger = logging.getLogger("ifrqe")

FOLDER = "ranks"  # under output_path, while they run
TASK, ANSWER, LOG, STATE, LAUNCHER = "task.json", "answer.json", "log.jsonl", "rank_{}.json", "launcher.log"
STARTED, JOINING, JOINED, DONE, FAILED = "started", "joining", "joined", "done", "failed"
PARENT = "IFRQE_PARENT"  # variable of the environment: the process that started the ranks
SILENT = 30  # seconds without a sign of life after which a rank is given up
JOIN = 40  # seconds that a rank may take to start, and to reach the others once all are ready to
LOAD = 300  # seconds until all have loaded MindSpore
BEAT = 1  # seconds between signs of life
_RAISED = {kind.__name__: kind for kind in (InputError, FloatingPointError, MemoryError, OSError)}


def check_ranks(config: Config, known: dict[str, tuple]) -> None:
    """Raises InputError if several ranks are asked for with an option that is none of the values that go with them."""
    for key, values in known.items() if config.ranks > 1 else ():
        if (value := getattr(config, key)) not in values:
            raise InputError(f"--ranks {config.ranks}: does not go with --{key} {value}, only with "
                             f"{', '.join(map(str, values)) or 'none'}; give --ranks 1")


@contextlib.contextmanager
def rank_folder(config: Config) -> Iterator[Path]:
    """Yields the folder for what ranks are given and leave.

    It holds what is personal: it is removed at the end, and what a killed run has left by the next one.
    """
    folder = Path(config.output_path).resolve() / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def in_ranks(config: Config, folder: Path, module: str, function: str, *arguments: object) -> dict:
    """What `function(config, folder, exchange, *arguments)` of a module returns in rank 0; all `ranks` run it.

    Args:
        config: also ranks, device_target.
        folder: see rank_folder.
        arguments: as JSON can hold them, like the answer.

    Raises:
        InputError, FloatingPointError, MemoryError: that of a rank.
        ChildProcessError: a rank has died, hangs, or cannot reach the others.
    """
    if importlib.util.find_spec("mindspore.parallel.cluster") is None:
        raise InputError(f"--ranks {config.ranks}: this version of MindSpore has no launcher; install 2.3 or later, or give "
                         "--ranks 1")
    write_text(folder / TASK, json.dumps([module, function, config.as_dict(), config.sources, arguments]))
    port = _free_port()
    options = (f"--worker_num={config.ranks}", f"--local_worker_num={config.ranks}", "--master_addr=127.0.0.1",
               f"--master_port={port}", f"--log_dir={folder}", "--join=True")
    threads = str(max(1, (os.cpu_count() or 1) // config.ranks))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, PARENT: str(os.getpid())}
    with open(folder / LAUNCHER, "w") as output:
        launcher = subprocess.Popen(command(__name__, "launch", *options, "python", *command(__name__, "serve", folder)[1:]),
                                    env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                    start_new_session=True)
    watch = _Watch(config.ranks, folder, port)
    try:
        while not watch.over():
            if launcher.poll() is not None and not watch.over():
                time.sleep(BEAT)  # for what the ranks have left to say
                watch.look(launcher_gone=True)
            time.sleep(0.1)
        watch.say_memory()
    finally:
        watch.end(launcher)
    return json.loads((folder / ANSWER).read_text(encoding="utf-8"))


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class _Watch:
    """Looks after the ranks of a folder."""

    def __init__(self, size, folder, port):
        self.size, self.folder, self.port = size, folder, port
        self.begin, self.ready, self.read = time.monotonic(), None, 0
        self.bar, self.shown = None, ""

    def over(self):
        """Whether all are done; raises if one has failed, and passes on what they have logged."""
        self._pass_on()
        return self.look()

    def look(self, launcher_gone=False):
        now, running = time.monotonic(), [_is_running(self._state(k).get("process", 0)) for k in range(self.size)]
        states = [self._state(k) for k in range(self.size)]  # later, since what has just ended has said so before
        failed = [k for k, state in enumerate(states) if state.get("state") == FAILED]
        for k in failed:
            if (kind := _RAISED.get(states[k]["kind"], OSError)) is not OSError:
                raise kind(states[k]["error"])
        there = [k for k, state in enumerate(states) if state.get("state") in (STARTED, JOINING, JOINED)]
        where = [f"rank {k} of {self.size} (process {state.get('process')})" for k, state in enumerate(states)]
        if dead := [k for k in there if not running[k]]:
            log = (self.folder / LAUNCHER).read_text(errors="replace")  # the launcher ends the others
            first = min(dead, key=lambda k: f"Worker process {states[k]['process']} exit" not in log)
            raise ChildProcessError(f"{where[first]} has died; {self._last_words(first)}")
        for k in there:
            if states[k]["state"] == JOINING:  # MindSpore leaves a rank no time for signs of life then
                continue
            if time.time() - (self.folder / STATE.format(k)).stat().st_mtime > SILENT:
                raise ChildProcessError(f"{where[k]} has given no sign of life for {SILENT} seconds; {self._last_words(k)}")
        if failed:  # after those who have died, since the others fail for that reason
            self._last_words(failed[0])
            raise _RAISED.get(states[failed[0]]["kind"], RuntimeError)(f"rank {failed[0]}: {states[failed[0]]['error']}")
        reached = [state.get("state") for state in states]
        late = next((k for k, state in enumerate(reached) if state in (None, STARTED)), None)
        if late is not None and (launcher_gone or now - self.begin > (LOAD if reached[late] else JOIN)):
            raise ChildProcessError(f"rank {late} of {self.size} has not started{self._reason(late)}; "
                                    f"{self._last_words(late)}")
        meeting = self._state("scheduler").get("state") not in (None, STARTED)  # it loads MindSpore too, before it listens
        if late is None and self.ready is None and (meeting or now - self.begin > LOAD):
            self.ready = now
        late = next((k for k, state in enumerate(reached) if state == JOINING), None)
        if late is not None and self.ready is not None and now - self.ready > JOIN:
            raise ChildProcessError(f"rank {late} of {self.size} cannot reach the others at port {self.port} of this "
                                    f"machine; see whether a firewall is in the way; {self._last_words(late)}")
        return all(state == DONE for state in reached)

    def _state(self, k):
        try:
            return json.loads((self.folder / STATE.format(k)).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def _reason(self, k):
        """The last line of a rank that said nothing more, else of the launcher, in brackets."""
        for path in (self.folder / f"worker_{k}.log", self.folder / LAUNCHER):
            if path.exists() and (said := path.read_text(errors="replace").strip()):
                return f" ({said.splitlines()[-1]})"
        return ""

    def _last_words(self, k):
        """Puts the end of a rank's log into ours; returns what helps."""
        path = self.folder / f"worker_{k}.log"
        if path.exists():
            logger.debug("rank %d, end of its log:\n%s", k, "\n".join(path.read_text(errors="replace").splitlines()[-30:]))
        return "the others were ended; the same command starts anew, with --resume from the last epoch of a training"

    def _pass_on(self):
        path = self.folder / LOG
        if not path.exists():
            return
        with open(path, "rb") as file:
            file.seek(self.read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.read += len(line)
                level, told = json.loads(line)
                if level is None:
                    self._show(*told)
                else:
                    logger.log(level, "%s", told)

    def _show(self, total, desc, unit, done):
        """Shows the progress of rank 0."""
        if self.bar is not None and (done is None or self.shown != desc):
            self.bar.close()
            self.bar = None
        if done is not None:
            if self.bar is None:
                self.bar, self.shown = progress(total, desc, unit), desc
            self.bar.update(done - self.bar.n)

    def say_memory(self):
        """Logs the largest memory that each rank has had."""
        peaks = ", ".join(f"{self._state(k)['peak']:.0f}" for k in range(self.size))
        logger.debug("peak memory of the ranks: %s MB", peaks)

    def end(self, launcher):
        """Ends what is left of the ranks, their scheduler and their launcher."""
        self._pass_on()
        if self.bar is not None:
            self.bar.close()
        left = [self._state(k).get("process") for k in (*range(self.size), "scheduler")]
        left = [process for process in left if process]
        deadline = time.monotonic() + (5 if all(self._state(k).get("state") == DONE for k in range(self.size)) else 0)
        while time.monotonic() < deadline and launcher.poll() is None:
            time.sleep(0.05)
        for process in (*left, launcher.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if _is_running(process):
                    os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()


def _is_running(process):
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        if Path("/proc/self").exists():
            return False
    return is_alive(process)


class _Sender(logging.Handler):
    """Leaves log lines and progress for the process that started the ranks."""

    def __init__(self, path):
        super().__init__(logging.DEBUG)
        self.file = open(path, "a", encoding="utf-8")

    def emit(self, record):
        self.send(record.levelno, record.getMessage())

    def send(self, *what):
        self.file.write(json.dumps(what) + "\n")
        self.file.flush()


def launch(*arguments: str) -> None:
    """What the process does that becomes MindSpore's launcher, on its command line `arguments`."""
    class Popen(subprocess.Popen):  # it starts what is called python on the path, which may be another
        def __init__(self, args, *more, **options):
            super().__init__([sys.executable, *args[1:]] if args[0] == "python" else args, *more, **options)
    subprocess.Popen, sys.argv[1:] = Popen, arguments
    from mindspore.parallel.cluster.run import main
    main()


def serve(folder: str) -> None:
    """What each process does that MindSpore's launcher starts: a rank, or the scheduler through which ranks meet."""
    folder, scheduler = Path(folder), os.environ.get("MS_ROLE") == "MS_SCHED"
    name = "scheduler" if scheduler else int(os.environ["RANK_ID"])
    path, parent, state = folder / STATE.format(name), int(os.environ[PARENT]), {"process": os.getpid()}

    def say(**what):
        state.update(what)
        with contextlib.suppress(FileNotFoundError):  # the folder is gone: nobody listens any more
            write_text(path, json.dumps(state))

    def beat():
        while True:
            time.sleep(BEAT)
            try:
                os.utime(path)
            except OSError:
                os._exit(1)
            if not _is_running(parent):
                os._exit(1)

    say(state=STARTED)
    threading.Thread(target=beat, daemon=True).start()
    module, function, values, given, arguments = json.loads((folder / TASK).read_text(encoding="utf-8"))
    config = Config(values, given)
    try:
        if not scheduler:
            config = config.replace(device_id=int(os.environ["DEVICE_ID"]))
        _join(config, say)
        if scheduler:
            return
        if name == 0:
            logger.setLevel(logging.DEBUG)
            sender = _Sender(folder / LOG)
            logger.addHandler(sender)
            tell_progress(lambda *bar: sender.send(None, bar))
        logger.propagate = False
        from .share import Exchange
        found = getattr(importlib.import_module(module), function)(config, folder, Exchange(name), *arguments)
        if name == 0:
            write_text(folder / ANSWER, json.dumps(found))
        say(state=DONE, peak=peak_rss_mb())
    except BaseException as e:
        import traceback
        traceback.print_exc()
        kind = next((name for name, kind in _RAISED.items() if isinstance(e, kind)), "")
        say(state=FAILED, kind=kind, error=str(e))
        os._exit(1)
    os._exit(0)  # without the wait for others that MindSpore makes at its end


def _join(config, say):
    """Sets the device and meets the other ranks."""
    from mindspore import communication

    from ..device_adapter import set_device
    set_device(config)
    say(state=JOINING)
    communication.init()
    say(state=JOINED)
