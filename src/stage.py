"""What every stage of the pipeline has in common: whole files, records of settings, skipping, logs and error lines."""
import contextlib
import errno
import functools
import glob
import hashlib
import json
import logging
import os
import platform
import re
import secrets
import sys
from pathlib import Path

import numpy as np
import yaml

from . import __version__
from .config import load_config
from .device_adapter import adapter
from .errors import InputError
from .locks import locked
from .terminal import log_to, open_streams, show_error

logger = logging.getLogger("ifrqe")


_HOST = re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "host"


@contextlib.contextmanager
def whole_file(path):
    """Yields a temporary path beside `path`; on success it is on the disk and renamed to `path`, else removed.

    A `path` that is a symbolic link stays one: the file behind it is replaced.

    Raises:
        OSError: it cannot be written; the error has the name of the file.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name[:100]}.{_HOST}.{os.getpid()}.{secrets.token_hex(4)}.tmp{path.suffix[:20]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as e:
        if e.errno is None or e.filename not in (None, str(temporary)):
            raise
        raise OSError(e.errno, e.strerror, str(path)) from e
    finally:
        for left in path.parent.glob(glob.escape(temporary.name) + "*"):  # MindSpore adds an ending while it writes
            left.unlink()


def _sync(path):
    """Waits until a file, or the names in a folder, are on the disk, where that can be asked for."""
    with contextlib.suppress(PermissionError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EROFS):
                raise
        finally:
            os.close(handle)


def _remove_leftovers(path):
    """Removes the temporary files for `path` of processes of this machine that were killed while they wrote it."""
    pattern = re.compile(re.escape(f".{path.name[:100]}.{_HOST}.") + r"(\d{1,9})\.[0-9a-f]{8}\.tmp.*")
    for leftover in path.parent.glob(f".{glob.escape(path.name[:100])}.*"):
        match = pattern.fullmatch(leftover.name)
        if match and not _is_alive(int(match[1])):
            leftover.unlink(missing_ok=True)


def _is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def write_text(path, text):
    with whole_file(path) as temporary:  # a file's name may be no text, which UTF-8 cannot hold
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_json(path, values):
    """Writes `values` as indented JSON; NaN is refused, since it is no JSON."""
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def read_json(path, remedy, keys=()):
    """The dict in a JSON file; `remedy` ends the error line for one that is missing, broken or lacks one of `keys`."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except ValueError as e:
        raise InputError(f"{path}: not valid JSON ({e}); {remedy}") from None
    if not isinstance(content, dict) or not set(keys) <= set(content):
        raise InputError(f"{path}: is no record of this program; {remedy}")
    return content


def digest(path, algorithm="sha256"):
    """Hexadecimal digest of a file's content."""
    state = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


class PartialResults:
    """Arrays of a long computation, kept in one file as they come, so that it can go on where it was killed.

    Args:
        path: of the file; `remove` deletes it.
        key: dict, as JSON can hold it, that the results depend on: what a file of another key holds is dropped.
        overwrite: drop what is there in any case.
    """

    def __init__(self, path, key, overwrite=False):
        self.path = Path(path)
        if overwrite:
            self.path.unlink(missing_ok=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        header = json.dumps(key, sort_keys=True).encode() + b"\n"
        self.header = header
        self.file = open(self.path, "r+b" if self.path.exists() else "w+b")
        if self.file.read(len(header)) != header:
            self.file.seek(0)
            self.file.truncate()
            self.file.write(header)
            self.file.flush()
        self.resumed = self.path.stat().st_size > self.file.tell()

    def read(self, size):
        """The next array (size,) float64, or None from where on there is none.

        Raises:
            InputError: another run, with another key, has taken the file over.
        """
        self._check()
        start = self.file.tell()
        content = self.file.read(8 * size)
        if len(content) == 8 * size and not np.isinf(np.frombuffer(content)).any():
            return np.frombuffer(content)
        self.file.seek(start)
        self.file.truncate()  # what was cut off in the middle
        return None

    def write(self, values):
        """Appends an array; raises as `read` does."""
        self._check()
        self.file.write(np.ascontiguousarray(values, np.float64).tobytes())
        self.file.flush()

    def _check(self):
        with open(self.path, "rb") as file:
            if file.read(len(self.header)) != self.header:
                raise InputError(f"{self.path}: another run with other settings writes it; give each run its own "
                                 "--output_path")

    def remove(self):
        self.file.close()
        self.path.unlink(missing_ok=True)


def hardware():
    """One line: processor, cores, memory, versions; what cannot be found out is left out."""
    processor, memory = platform.processor() or platform.machine() or "processor unknown", ""
    with contextlib.suppress(OSError):
        names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
                 if line.startswith("model name") and ":" in line]
        processor = names[0] if names else processor
    with contextlib.suppress(OSError, ValueError, AttributeError):
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2 ** 30:.0f} GB"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor}, {cores} cores{memory}; Python {platform.python_version()}, MindSpore {mindspore_version()}"


def mindspore_version():
    import mindspore
    return mindspore.__version__


@functools.cache
def code_digest():
    """Hexadecimal digest of the program's source, on which all that it writes depends."""
    folder = Path(__file__).resolve().parent
    state = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".html", ".css", ".js", ".md")):
        state.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return state.hexdigest()


class Stage:
    """The record of one stage: the settings, inputs and outputs that belong together.

    The record `settings_NAME.yaml` under output_path is written last, so a stage that was cut off has none that fits.

    Args:
        name: of the stage, for the record's file name.
        config: effective settings.
        keys: names of the options that the outputs depend on.
        inputs: files that the outputs depend on.
        outputs: files that the stage writes.
        device: name of the device that computes, see set_device.

    `depends` is all that the outputs depend on: code, mindspore, device, dataset, settings and inputs.
    """

    def __init__(self, name, config, keys, inputs, outputs, device=None):
        self.path = Path(config.output_path) / f"settings_{name}.yaml"
        self.name = name
        self.config = config
        self.outputs = [Path(p) for p in outputs]
        self.depends = {"code": code_digest(), "mindspore": mindspore_version(), "device": device, "dataset": config.dataset,
                        "settings": config.select(dict.fromkeys(keys)),
                        "inputs": {}}
        for p in map(Path, inputs):
            name = p.name if p.name not in self.depends["inputs"] else f"{p.parent.name}/{p.name}"
            self.depends["inputs"][name] = digest(p)

    @property
    def basis(self):
        """What the outputs depend on beside the settings: the key of what is kept of a computation."""
        return {key: value for key, value in self.depends.items() if key != "settings"}

    def is_done(self):
        """Whether every output exists, unchanged, for the same settings and inputs, and --overwrite was not given."""
        if self.config.overwrite:
            return False
        record = self.read_record(self.config.output_path, self.name)
        wanted = {**self.depends, "outputs": self._digests()}
        changed = []
        for key, value in wanted.items():
            was = record.get(key)
            if was != value:
                both = isinstance(was, dict) and isinstance(value, dict)
                names = [name for name in {**was, **value} if was.get(name) != value.get(name)] if both else [""]
                changed += [f"{key} {name}".strip() for name in names]
        if changed:
            logger.debug("%s: to be done, %s", self.name,
                         f"for what has changed: {', '.join(changed)}" if record else "since there is no record of it")
        else:
            logger.info("%s: done before with these settings, %s kept (--overwrite redoes it)",
                        self.name, ", ".join(str(p) for p in self.outputs))
        return not changed

    def finish(self):
        """Writes the record; call when all outputs are in place."""
        record = {**self.depends, "outputs": self._digests(), "hardware": hardware(),
                  "all_settings": self.config.as_dict()}
        write_text(self.path, yaml.safe_dump(record, sort_keys=False))

    @staticmethod
    def read_record(output_path, name):
        """What `finish` has written for the stage `name`, a dict; empty if there is none."""
        path = Path(output_path) / f"settings_{name}.yaml"
        try:
            record = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
        except (yaml.YAMLError, UnicodeDecodeError):
            record = None  # a damaged record is none
        return record if isinstance(record, dict) else {}

    def _digests(self):
        return {p.name: digest(p) if p.is_file() else None for p in self.outputs}


@contextlib.contextmanager
def _log(config, name):
    """While it lasts, the log goes to the screen, and to NAME.log under output_path."""
    with contextlib.ExitStack() as stack:
        try:
            Path(config.output_path).mkdir(parents=True, exist_ok=True)
            stack.enter_context(log_to(logger, Path(config.output_path) / f"{name}.log", config.log_level,
                                       config.format == "json"))
        except OSError as e:
            raise InputError(f"--output_path {config.output_path}: {e.strerror}; name a folder that can be written") from e
        yield


_EXPECTED = (InputError, FloatingPointError, OSError, MemoryError)


def _one_line(error):
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check the path, its permissions and the space on its disk"
    if isinstance(error, MemoryError):
        return f"out of memory ({error}); lower --num_factors, --layers, --chunk_size or --eval_batch_size"
    return " ".join(str(error).split())


def main(stage, name, description, arguments=None):
    """Runs `stage(config)` as a program: parses the command line, locks its folders, logs.

    Bad input becomes one line and exit 2; any other error one line that names the log with its traceback, and exit 1.
    """
    open_streams()
    try:
        config = load_config(sys.argv[1:] if arguments is None else arguments, description)
        with locked(name, config), _log(config, name):
            try:
                logger.debug("%s %s with the settings %s", name, __version__, config.as_dict())
                with adapter(config).session(config):
                    _run(stage, config, name)  # inside the session, which may send the log elsewhere
            except _EXPECTED as e:  # of the session itself
                logger.error("error: %s", _one_line(e))
                sys.exit(2)
    except _EXPECTED as e:  # there is no log: the settings themselves are at fault, or folders are in use
        show_error(f"error: {_one_line(e)}")
        sys.exit(2)
    except KeyboardInterrupt:
        show_error("\nstopped; files written before are whole, and the same command goes on from there "
                   "(add --resume to go on within a training)")
        sys.exit(130)


def _run(stage, config, name):
    try:
        stage(config)
    except _EXPECTED as e:
        logger.error("error: %s", _one_line(e))
        sys.exit(2)
    except Exception as e:
        logger.error("error: %s: %s; this is a fault of the program: the traceback is in %s, please report it",
                     type(e).__name__, _one_line(e), Path(config.output_path) / f"{name}.log")
        logger.debug("traceback", exc_info=True)
        sys.exit(1)
