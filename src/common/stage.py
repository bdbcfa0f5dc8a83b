"""What every stage of the pipeline has in common: whole files, records of settings, skipping, logs and error lines."""
from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from .. import __version__
from ..config import Config, load_config
from ..device_adapter import adapter
from .errors import InputError
from .files import digest, write_text
from .locks import locked
from .machine import code_digest, hardware, mindspore_version
from .share import here
from .stored import as_csv
from .terminal import log_to, logger, open_streams, show_error
from .together import Together, finish


def is_the_same(name, was, now):
    """Whether what was done depended on just what it would now; else the log says what has changed."""
    changed = []
    for key in {**was, **now}:
        old, new = was.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changed += [f"{key} {part}" for part in {**old, **new} if old.get(part) != new.get(part)]
        elif old != new:
            changed.append(key)
    if changed:
        logger.info("%s: is done again, for this has changed: %s", name, ", ".join(changed))
    return not changed


class Stage:
    """The record of one stage: the settings, inputs and outputs that belong together.

    The record `settings_NAME.yaml` under output_path is written last, so a stage that was cut off has none that fits.
    name: of the stage, for the record's file name.
    module: __name__ of the module that computes: the outputs depend on its code, and on that of all it can import.
    config: effective settings; groups: of the options that the outputs depend on.
    inputs, outputs: files that they depend on, and that the stage writes.
    device: name of the device that computes, see set_device; more: dict of what else they depend on.

    `depends` is all that the outputs depend on: code, mindspore, device, dataset, settings and inputs.
    """

    def __init__(self, name: str, module: str, config: Config, groups: list[str], inputs: list[Path], outputs: list[Path],
                 device: str | None = None, more: dict | None = None):
        self.name, self.config, self.path = name, config, Path(config.output_path) / f"settings_{name}.yaml"
        self.outputs, digests = [Path(p) for p in outputs], {}
        for p in map(Path, inputs):
            name = as_csv(p.name)
            digests[name if name not in digests else f"{p.parent.name}/{name}"] = digest(p)
        self.depends = {"code": code_digest(module, config.model), "mindspore": mindspore_version(), "device": device,
                        "dataset": config.dataset, "settings": config.select(*groups), "inputs": digests, **(more or {})}

    def is_done(self) -> bool:
        """Whether every output exists, unchanged, for the same settings and inputs, and --overwrite was not given.

        Of several ranks the first one says so.
        """
        return bool(here().each(here().first and not self.config.overwrite and self._is_done())[0])

    def _is_done(self):
        record, now = self.read_record(self.config.output_path, self.name), {**self.depends, "outputs": self._digests()}
        if not record or not is_the_same(self.name, {key: record.get(key) for key in now}, now):
            return False
        logger.info("%s: done before with these settings, %s kept (--overwrite redoes it)",
                    self.name, ", ".join(map(str, self.outputs)))
        return True

    def finish(self) -> None:
        """Writes the record; call when all outputs are in place."""
        if here().first:
            record = {**self.depends, "outputs": self._digests(), "hardware": hardware(),
                      "all_settings": self.config.as_dict()}
            write_text(self.path, yaml.safe_dump(record, sort_keys=False))
        here().each(0)  # other ranks may read it all then

    @staticmethod
    def read_record(output_path: str | Path, name: str) -> dict:
        """What `finish` has written for the stage `name`, a dict; empty if there is none."""
        path = Path(output_path) / f"settings_{name}.yaml"
        try:
            record = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
        except (yaml.YAMLError, UnicodeDecodeError):
            record = None  # a damaged record is none
        return record if isinstance(record, dict) else {}

    def _digests(self):
        return {p.name: digest(p) if p.is_file() else None for p in self.outputs}


_EXPECTED = (InputError, FloatingPointError, OSError, MemoryError, ImportError)


def _one_line(error):
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check the path, its permissions and the space on its disk"
    if isinstance(error, ImportError):
        return f"the package {error.name} cannot be imported ({' '.join(str(error).split())}); run scripts/setup_env.sh anew"
    if isinstance(error, MemoryError):
        return f"out of memory ({error}); lower --num_factors, --layers, --chunk_size or --eval_batch_size"
    return " ".join(str(error).split())


def what_ended(error: BaseException, log: Path) -> tuple[int, str]:
    """The exit code of a program that an error ends, and what is said about it; the traceback of a fault is in `log`."""
    if isinstance(error, _EXPECTED):
        return 2, _one_line(error)
    return 1, (f"{type(error).__name__}: {_one_line(error)}; this is a fault of the program: the traceback is in {log}, "
               "please report it")


def main(stage: Callable[[Config], None], name: str, description: str, arguments: list[str] | None = None,
         needs: str | None = None, own: dict[str, tuple[str, object, str]] | None = None) -> None:
    """Runs `stage(config)` as a program: parses the command line, locks its folders, logs.

    Bad input becomes one line and exit 2; any other error one line that names the log with its traceback, and exit 1.
    `own`: see load_config. `needs` names a module that takes long to import, without which --help and bad options do. It is
    imported before the log takes standard error, since MindSpore keeps the stream that it finds.
    """
    open_streams()
    try:
        config = load_config(sys.argv[1:] if arguments is None else arguments, description, name, own)
        if needs and config.ranks == 1:
            importlib.import_module(needs)
        log = log_to(config.output_path, f"{name}.log", config.log_level, config.format == "json")
        with locked(name, config), log, _errors_to_log(config, name):
            logger.debug("%s %s with the settings %s", name, __version__, config.as_dict())
            if finish(Together(config)):
                logger.info("what was stopped while its files were put in place is complete now")
            with adapter(config).session(config), _errors_to_log(config, name):  # a session may send the log elsewhere
                stage(config)
    except _EXPECTED as e:  # there is no log: the settings themselves are at fault, or folders are in use
        show_error(f"error: {_one_line(e)}")
        sys.exit(2)
    except KeyboardInterrupt:
        show_error("\nstopped; files written before are whole, and the same command goes on from there "
                   "(add --resume to go on within a training)")
        sys.exit(130)


@contextlib.contextmanager
def _errors_to_log(config, name):
    try:
        yield
    except Exception as e:
        code, said = what_ended(e, Path(config.output_path) / f"{name}.log")
        logger.error("error: %s", said)
        if code == 1 or isinstance(e, ImportError):
            logger.debug("traceback", exc_info=True)
        sys.exit(code)
