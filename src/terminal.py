"""What a person sees in a terminal: log lines, progress bars and colours, with the messages of native code kept apart."""
import contextlib
import io
import logging
import os
import re
import sys

from tqdm import tqdm

RESULT = 35  # level of what was asked for: above warnings, so that a quiet program shows it
logging.addLevelName(RESULT, "RESULT")
LOWEST = {"quiet": logging.WARNING, "normal": logging.INFO, "verbose": logging.DEBUG}  # on the screen, by log_level

_CODES = {"bold": 1, "red": 31, "green": 32, "yellow": 33}
_PAINT = re.compile(r"\x1b\[\d+m")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_DELAY = 0.5  # seconds before a bar appears
_LARGE = 100_000  # totals from here on are shown in k and M
_ROWS = 1 << 17  # of a table written at a time
_TEMPORARY = re.compile(r"^\.(.*)\.\d+\.tmp\..*$")  # see stage.whole_file

_bars_shown = True


def paint(text, colour):
    """The text in a colour (or bold); who writes it where there are no colours takes them out with `plain`."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def plain(text):
    """The text without what `paint` added."""
    return _PAINT.sub("", text)


def printable(text):
    """Text of a data file without line breaks and control characters, which could move a terminal's cursor."""
    return _CONTROL.sub(" ", str(text)).strip()


def has_colours(stream):
    """Whether to write in colours: to terminals only, and not if the variable NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Screen(logging.Handler):
    """Log lines on standard output or standard error, above a progress bar that may be there.

    Args:
        name: "stdout" or "stderr".
        lowest, below: of levels, the range that is shown.
    """

    def __init__(self, name, lowest, below=logging.CRITICAL + 1):
        super().__init__(lowest)
        self.name_of_stream = name
        self.addFilter(lambda record: record.levelno < below)

    def emit(self, record):
        try:
            stream = getattr(sys, self.name_of_stream)
            text = record.getMessage()
            if record.levelno == logging.WARNING:
                text = paint(text, "yellow")
            elif record.levelno >= logging.ERROR:
                text = paint(text, "red")
            with tqdm.external_write_mode(file=stream):
                stream.write((text if has_colours(stream) else plain(text)) + "\n")
                stream.flush()
        except BrokenPipeError:  # the reader, such as head, has gone; the work goes on without it
            self.setLevel(logging.CRITICAL + 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), getattr(sys, self.name_of_stream).fileno())
        except Exception:  # as every handler of the standard library does
            self.handleError(record)


class _PlainFormatter(logging.Formatter):
    def format(self, record):
        return plain(super().format(record))


@contextlib.contextmanager
def log_to(logger, path, level, results_alone=False):
    """While it lasts, the log goes to the screen as `level` says and, with native messages, to the file `path` as a whole.

    Python's own warnings go to the file as well. Native code, as MindSpore's, writes to the file descriptor of standard
    error: that becomes the file, while sys.stderr keeps the screen. With `results_alone` standard output has nothing but
    results, for other programs to read.

    Raises:
        OSError: the file cannot be opened.
    """
    global _bars_shown
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    if results_alone:
        screens = [Screen("stdout", RESULT, RESULT + 1), Screen("stderr", LOWEST[level], RESULT),
                   Screen("stderr", RESULT + 1)]
    else:
        screens = [Screen("stdout", LOWEST[level], logging.ERROR), Screen("stderr", logging.ERROR)]
    handlers = [*screens, file]
    warned = logging.getLogger("py.warnings")
    logger.setLevel(logging.DEBUG)
    for handler in handlers:
        logger.addHandler(handler)
    warned.addHandler(file)
    logging.captureWarnings(True)
    _bars_shown = level != "quiet"
    try:
        with _native_messages_to(file.stream):
            yield
    finally:
        _bars_shown = True
        logging.captureWarnings(False)
        warned.removeHandler(file)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


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


def progress(total, desc, unit, **options):
    """A progress bar with the time left, on standard error; none where that is no terminal, or the program is quiet.

    Args:
        total: of units; None if it is not known.
        desc: what is done.
        unit: of what there are `total`.
        options: of tqdm.
    """
    return tqdm(total=total, desc=desc, unit=unit, leave=False, delay=_DELAY, dynamic_ncols=True,
                unit_scale=total is None or total >= _LARGE, disable=None if _bars_shown else True, **options)


class _Counted(io.RawIOBase):
    """A binary file that moves a progress bar as it is read."""

    def __init__(self, file, bar):
        self.file, self.bar = file, bar

    def readable(self):
        return True

    def readinto(self, buffer):
        content = self.file.read(len(buffer))
        buffer[:len(content)] = content
        self.bar.update(len(content))
        return len(content)


@contextlib.contextmanager
def read_with_progress(file, size, name):
    """A binary file that shows how far it is read; `size` in bytes, `name` for the bar."""
    with progress(size, f"reading {name}", "B") as bar:
        yield io.BufferedReader(_Counted(file, bar), 1 << 20)


def write_csv(table, path):
    """Writes a DataFrame as CSV without its index, with a progress bar."""
    name = _TEMPORARY.sub(r"\1", path.name)
    with open(path, "w", encoding="utf-8", newline="") as file, progress(len(table), f"writing {name}", "row") as bar:
        for start in range(0, max(len(table), 1), _ROWS):
            part = table.iloc[start:start + _ROWS]
            part.to_csv(file, index=False, header=not start, lineterminator="\n")
            bar.update(len(part))
