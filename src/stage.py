"""What every stage of the pipeline has in common: whole files, records of settings, skipping, logs and error lines."""
import contextlib
import glob
import hashlib
import json
import logging
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import yaml

from . import __version__
from .config import load_config
from .device_adapter import adapter
from .errors import InputError
from .terminal import log_to

logger = logging.getLogger("ifrqe")


@contextlib.contextmanager
def whole_file(path):
    """Yields a temporary path in the folder of `path`; on success it is renamed to `path`, else removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(path):
    """Removes the temporary files for `path` of processes that were killed while they wrote it."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp{glob.escape(path.suffix)}"):
        try:
            os.kill(int(leftover.name[len(path.name) + 2:].split(".")[0]), 0)
        except ProcessLookupError:
            leftover.unlink(missing_ok=True)
        except (ValueError, OSError):
            pass  # not ours, or that process lives


def write_text(path, text):
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
        self.file = open(self.path, "r+b" if self.path.exists() else "w+b")
        if self.file.read(len(header)) != header:
            self.file.seek(0)
            self.file.truncate()
            self.file.write(header)
        self.resumed = self.path.stat().st_size > self.file.tell()

    def read(self, size):
        """The next array (size,) float64, or None from where on there is none."""
        start = self.file.tell()
        content = self.file.read(8 * size)
        if len(content) == 8 * size:
            return np.frombuffer(content)
        self.file.seek(start)
        self.file.truncate()  # what was cut off in the middle
        return None

    def write(self, values):
        """Appends an array."""
        self.file.write(np.ascontiguousarray(values, np.float64).tobytes())
        self.file.flush()

    def remove(self):
        self.file.close()
        self.path.unlink(missing_ok=True)


def hardware():
    """One line: processor, cores, memory, versions."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                 if line.startswith("model name")]
        processor = names[0] if names else processor
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 ** 30
    return (f"{processor}, {cores} cores, {memory:.0f} GB; Python {platform.python_version()}, "
            f"MindSpore {metadata.version('mindspore')}")


class Stage:
    """The record of one stage: the settings, inputs and outputs that belong together.

    The record `settings_NAME.yaml` under output_path is written last, so a stage that was cut off has none that fits.

    Args:
        name: of the stage, for the record's file name.
        config: effective settings.
        keys: names of the options that the outputs depend on.
        inputs: files that the outputs depend on.
        outputs: files that the stage writes.
    """

    def __init__(self, name, config, keys, inputs, outputs):
        self.path = Path(config.output_path) / f"settings_{name}.yaml"
        self.name = name
        self.config = config
        self.outputs = [Path(p) for p in outputs]
        self.depends = {"version": __version__, "dataset": config.dataset,
                        "settings": config.select(dict.fromkeys(keys)),
                        "inputs": {}}
        for p in map(Path, inputs):
            name = p.name if p.name not in self.depends["inputs"] else f"{p.parent.name}/{p.name}"
            self.depends["inputs"][name] = digest(p)

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


_ERRORS = (InputError, FloatingPointError, OSError, MemoryError)


def _one_line(error):
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check the path and its permissions"
    if isinstance(error, MemoryError):
        return f"out of memory ({error}); lower --num_factors, --layers, --chunk_size or --eval_batch_size"
    return " ".join(str(error).split())


def main(stage, name, description, arguments=None):
    """Runs `stage(config)` as a program: parses the command line, logs, and turns bad input into one line and exit 2."""
    try:
        config = load_config(sys.argv[1:] if arguments is None else arguments, description)
        with _log(config, name):
            try:
                logger.debug("%s %s with the settings %s", name, __version__, config.as_dict())
                with adapter(config).session(config):
                    try:
                        stage(config)
                    except _ERRORS as e:
                        logger.error("error: %s", _one_line(e))  # inside the session, which may send the log elsewhere
                        sys.exit(2)
            except _ERRORS as e:  # of the session itself
                logger.error("error: %s", _one_line(e))
                sys.exit(2)
    except _ERRORS as e:  # there is no log: the settings themselves are at fault
        print(f"error: {_one_line(e)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped; files written before are whole, and the same command goes on from there "
              "(add --resume to go on within a training)", file=sys.stderr)
        sys.exit(130)
