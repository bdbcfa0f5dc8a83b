"""What a person sees in a terminal: log lines, progress bars and colours, with the messages of native code kept apart."""
from __future__ import annotations

import codecs
import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from .errors import InputError, logger

RESULT = 35  # level of what was asked for: above warnings, so that a quiet program shows it
logging.addLevelName(RESULT, "RESULT")
_SCREEN_LEVELS = {"quiet": logging.WARNING, "normal": logging.INFO, "verbose": logging.DEBUG}  # the lowest, by log_level

_CODES = {"bold": 1, "red": 31, "green": 32, "yellow": 33}
_PAINT = re.compile(r"\x1b\[\d+m")
# control characters, marks that turn the direction of the text, other line breaks, and bytes of file names that are no text
_STEERING = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNSAFE = re.compile(f"[{_STEERING}]")
_NO_LINE = re.compile(f"[\t\n{_STEERING}]+")

_AS_JSON = "ifrqe.json"  # how a stream writes what its encoding cannot hold
codecs.register_error(_AS_JSON, lambda error: (json.dumps(error.object[error.start:error.end])[1:-1], error.end))


class Painted(str):
    """Text that may hold our colours; of any other, what could steer a terminal is escaped before it is shown."""


def paint(text: str, colour: str) -> Painted:
    """The text in a colour (or bold); who writes it where there are no colours takes them out with `plain`."""
    return Painted(f"\x1b[{_CODES[colour]}m{escaped(text)}\x1b[0m")


def escaped(text: object) -> str:
    """The text with what could steer a terminal written as \\uXXXX, as JSON does; line breaks and tabs stay."""
    return text if isinstance(text, Painted) else _UNSAFE.sub(lambda c: f"\\u{ord(c[0]):04x}", str(text))


def _message(record):
    """The message of a log record, with all that is not ours escaped."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    safe = tuple(a if isinstance(a, (int, float, Painted)) else escaped(a) for a in arguments)
    return escaped(record.msg) % safe if safe else escaped(record.msg)


def open_streams() -> None:
    """Lets a program go on whose standard streams are closed, or cannot show all characters."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w"))
        if number and hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors=_AS_JSON)


def show_error(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # there may be nobody to read it
        print(escaped(text), file=sys.stderr)


def plain(text: str) -> str:
    """The text without what `paint` added."""
    return _PAINT.sub("", text)


def printable(text: object) -> str:
    """Text of a data file on one line, without what could steer a terminal."""
    return _NO_LINE.sub(" ", str(text)).strip()


def counted(number: int, noun: str) -> str:
    """"1 seed", "2 seeds"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def has_colours(stream: TextIO) -> bool:
    """Whether to write in colours: to terminals only, and not if the variable NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class _Screen(logging.Handler):
    """Log lines of some levels on the stream "stdout" or "stderr", above a progress bar that may be there."""

    def __init__(self, name: str, lowest: int, below: int = logging.CRITICAL + 1):
        super().__init__(lowest)
        self.name_of_stream = name
        self.addFilter(lambda record: record.levelno < below)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            stream = getattr(sys, self.name_of_stream)
            text = _message(record)
            if colour := {logging.WARNING: "yellow", logging.ERROR: "red"}.get(record.levelno):
                text = paint(plain(text), colour)
            text = text if has_colours(stream) else plain(text)
            tqdm.write(text, file=stream)
            stream.flush()
        except BrokenPipeError:  # the reader, such as head, has gone; the work goes on without it
            self.setLevel(logging.CRITICAL + 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), getattr(sys, self.name_of_stream).fileno())
        except Exception:  # as every handler of the standard library does
            self.handleError(record)


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        trace = f"\n{escaped(self.formatException(record.exc_info))}" if record.exc_info else ""
        return f"{self.formatTime(record)} {record.levelname} {plain(_message(record))}{trace}"


@contextlib.contextmanager
def log_to(folder: str, name: str, level: str, results_alone: bool = False) -> Iterator[None]:
    """While it lasts, the log goes to the screen as `level` says and, as a whole, to a file with all other messages.

    These are Python's own warnings and what native code, as MindSpore's, writes to the file descriptor of standard error:
    that becomes the file, while sys.stderr keeps the screen. With `results_alone` standard output has nothing but results,
    for other programs to read.
    Raises InputError: the file cannot be opened.
    """
    lowest = _SCREEN_LEVELS[level]
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(Path(folder) / name, encoding="utf-8")
    except OSError as e:
        raise InputError(f"--output_path {folder}: {e.strerror}; name a folder that can be written") from e
    file.setFormatter(_PlainFormatter())
    file.handleError = lambda record: None  # a line that its disk does not take is lost, and the work goes on
    if results_alone:
        screens = [_Screen("stdout", RESULT, RESULT + 1), _Screen("stderr", lowest, RESULT), _Screen("stderr", RESULT + 1)]
    else:
        screens = [_Screen("stdout", lowest, logging.ERROR), _Screen("stderr", logging.ERROR)]
    added = [(logger, handler) for handler in (*screens, file)] + [(logging.getLogger("py.warnings"), file)]
    logger.setLevel(logging.DEBUG)
    logging.captureWarnings(True)
    with contextlib.ExitStack() as afterwards:
        for log, handler in added:
            log.addHandler(handler)
            afterwards.callback(handler.close)
            afterwards.callback(log.removeHandler, handler)
        afterwards.callback(logging.captureWarnings, False)
        afterwards.enter_context(_native_messages_to(file.stream))
        yield


@contextlib.contextmanager
def off_the_record() -> Iterator[None]:
    """While it lasts, the log goes to the screen alone and not to its file."""
    with contextlib.ExitStack() as afterwards:
        for handler in [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]:
            logger.removeHandler(handler)
            afterwards.callback(logger.addHandler, handler)
        yield


@contextlib.contextmanager
def _native_messages_to(file):
    sys.stderr.flush()
    before, screen = sys.stderr, os.dup(2)
    if before is sys.__stderr__:  # else it is a test's, or somebody's, and has no part in this
        sys.stderr = open(screen, "w", buffering=1, encoding=before.encoding, errors=before.errors, closefd=False)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(screen, 2)
        sys.stderr = before
        os.close(screen)


def progress(total: int | None, desc: str, unit: str, initial: int = 0) -> tqdm:
    """A bar with the time left of `total` units (None: unknown), on standard error, in a program that is not quiet."""
    shown = any(isinstance(handler, _Screen) and handler.level < logging.WARNING for handler in logger.handlers)
    return tqdm(total=total, desc=desc, unit=unit, initial=initial, leave=False, delay=0.5, dynamic_ncols=True,
                unit_scale=total is None or total >= 100_000, disable=None if shown else True)
