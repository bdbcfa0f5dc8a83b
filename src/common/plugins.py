"""Strategies, solvers, base models of one's own: a file, named where a built-in one would be. See docs/CONTRIBUTING.md."""
from __future__ import annotations

import builtins
import contextlib
import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from .errors import InputError, logger

_NAMES = "src", "ifrqe"  # of this package: in a checkout, and where it is installed
_PACKAGE = __package__.rpartition(".")[0]  # as it was imported


def is_file(name: str) -> bool:
    """Whether the value of --strategy, --solver or --model names a file."""
    return name.endswith(".py")


def identity(name: str) -> str:
    """What stands for such a value in records: of a file its name and a digest of what it holds, not where it is."""
    return f"{Path(name).name}@{hashlib.sha256(Path(name).read_bytes()).hexdigest()[:16]}" if is_file(name) else name


def label(name: str) -> str:
    """A name for tables and file names, of such a value or of its identity."""
    name = re.sub(r"(?<=\.py)@[0-9a-f]{16}$", "", name)
    return Path(name).stem if is_file(name) else name


def file_label(name: str) -> str:
    """The label as part of a file name: short enough for any file system, and without signs that some do not take."""
    own = label(name)
    plain = re.sub(r"[^\w.+-]", "_", own, flags=re.ASCII)[:40]
    return own if plain == own else f"{plain}-{hashlib.sha256(own.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def plugin_files(*names: str) -> list[Path]:
    """Of the values of such options the files, as inputs of a stage."""
    return [Path(name) for name in names if is_file(name)]


def _import(name, globals=None, locals=None, fromlist=(), level=0):
    """What `import` does in a file of a user's own: either name of this package means the modules that are running."""
    first, dot, rest = name.partition(".")
    own = first in _NAMES and not level
    found = builtins.__import__(_PACKAGE + dot + rest if own else name, globals, locals, fromlist, level)
    return sys.modules[_PACKAGE] if own and not fromlist else found


def load(path: str | Path, option: str, needed: str) -> ModuleType:
    """The module in a file that an option named; InputError if it is not there, cannot be run, or lacks `needed`."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"--{option} {path}: no such file; name a Python file that defines {needed}")
    spec = importlib.util.spec_from_file_location(f"ifrqe_plugin_{path.stem}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where MindSpore looks up the names of cells
    module.__builtins__ = {**vars(builtins), "__import__": _import}  # for its functions too, whenever they are called
    with guarded(path, option, "cannot be run"):
        spec.loader.exec_module(module)
    if not callable(getattr(module, needed, None)):
        raise InputError(f"--{option} {path}: does not define {needed}; see docs/CONTRIBUTING.md")
    return module


@contextlib.contextmanager
def guarded(name: str | Path, option: str, what: str) -> Iterator[None]:
    """Whatever the code of the file `name` raises within it, an attempt to exit too, is one line; the log has the traceback.

    Raises InputError: says `what` failed ("cannot be run"); errors of this program, and a lack of memory, go on as they are.
    """
    try:
        yield
    except (InputError, FloatingPointError, MemoryError):
        raise
    except (Exception, SystemExit) as e:
        logger.debug("--%s %s", option, name, exc_info=True)
        first = next(iter(str(e).splitlines()), "")  # MindSpore adds pages
        raise InputError(f"--{option} {name}: {what} ({type(e).__name__}: {first}); correct it") from e
