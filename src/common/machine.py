"""What this program runs on, and how much memory it has had."""
import ast
import contextlib
import functools
import hashlib
import os
import platform
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from ..constants import MODELS

_ROOT, _NAME = Path(__file__).resolve().parent.parent, __package__.split(".")[0]  # of this package


def hardware() -> str:
    """One line: processor, cores, memory, versions; what cannot be found out is left out."""
    processor, memory = platform.processor() or platform.machine() or "processor unknown", ""
    with contextlib.suppress(OSError):
        named = re.search(r"^model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(errors="replace"), re.M)
        processor = named[1] if named else processor
    with contextlib.suppress(OSError, ValueError):
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2 ** 30:.0f} GB"
    cores = len(os.sched_getaffinity(0))
    return f"{processor}, {cores} cores{memory}; Python {platform.python_version()}, MindSpore {mindspore_version()}"


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Many small products in one thread each: several wait for each other longer than they compute."""
    with _blas().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _blas():
    from threadpoolctl import ThreadpoolController
    return ThreadpoolController()  # which looks through the libraries that are loaded, once


def mindspore_version() -> str:
    import mindspore
    return mindspore.__version__


@functools.cache
def code_digest(module: str, model: str) -> str:
    """Hexadecimal digest of a module (its __name__) here or in a package beside this program, and of all that it imports.

    A base model is imported by its name, so it is named here. Of other files beside them, such as templates, nothing counts.
    """
    if module == "__main__":  # a study that runs as a program
        module = sys.modules[module].__spec__.name
    found = needed(_place(module).with_suffix(".py")) | (needed(_ROOT / f"{model}.py") if model in MODELS else set())
    state = hashlib.sha256()
    for path in sorted({*found, *(c for path in found if (c := path.with_suffix(".c")).is_file())}):
        state.update(f"{path.relative_to(_ROOT.parent).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return state.hexdigest()


def _place(name):
    """Where a package or module lies that is named as in an import, without a suffix: in this program, or beside it."""
    top, *rest = name.split(".")
    return (_ROOT if top == _NAME else _ROOT.parent / top).joinpath(*rest)


@functools.cache
def needed(path):
    """A file, and all modules of this program or of the file's package that it imports, wherever, and that these import."""
    found = {path}
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and (node.level or node.module.split(".")[0] == _NAME):
            names = (node.module or "").split(".")
            base = path.parents[node.level - 1].joinpath(*names) if node.level else _place(node.module)
            found.update(*(needed(file) for place in (base, *(base / name.name for name in node.names))
                           if (file := place.with_suffix(".py")).is_file()))
    return found


def peak_rss_mb() -> float:
    """Largest memory that this process has had in RAM so far, in MB."""
    with contextlib.suppress(OSError):  # unlike ru_maxrss, which a process inherits from its parent
        if match := re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text()):
            return int(match[1]) * 1024 / 1e6
    return max_rss_mb(resource.getrusage(resource.RUSAGE_SELF))


def max_rss_mb(usage: resource.struct_rusage) -> float:
    """The largest memory of what `usage` is of, in MB."""
    return usage.ru_maxrss * 1024 / 1e6
