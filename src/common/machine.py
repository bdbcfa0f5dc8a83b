"""What this program runs on, and how much memory it has had."""
from __future__ import annotations

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


def hardware() -> str:
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
def code_digest() -> str:
    """Hexadecimal digest of the program's source, on which all that it writes depends."""
    folder = Path(__file__).resolve().parent.parent
    state = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".c", ".html", ".css", ".js", ".md")):
        state.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return state.hexdigest()


def reset_peak_rss() -> None:
    """On Linux lets peak_rss_mb count anew from what is in RAM now, where that is allowed."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_mb() -> float:
    """Largest memory that this process has had in RAM so far, in MB."""
    with contextlib.suppress(OSError):  # unlike ru_maxrss, which a process inherits from its parent
        if match := re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text()):
            return int(match[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
