"""Files written whole, or as they come; JSON; digests."""
from __future__ import annotations

import contextlib
import errno
import functools
import glob
import hashlib
import json
import os
import platform
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError
from .share import here

_HOST = re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "host"


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is on the disk and renamed to `path`, else removed.

    A `path` that is a symbolic link stays one: the file behind it is replaced. Of several ranks the first one alone does so.
    Raises OSError: it cannot be written; the error has the name of the file.
    """
    path = Path(os.path.realpath(path))
    with staged(path) as temporary:
        try:
            yield temporary
            if here().first:
                sync(temporary)
                put_in_place(temporary, path)
                sync(path.parent)
        finally:
            for left in path.parent.glob(glob.escape(temporary.name) + "*"):  # MindSpore adds an ending while it writes
                left.unlink()


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which is no link; errors have the name of `path`."""
    temporary = path.with_name(f".{path.name[:100]}.{_HOST}.{os.getpid()}.{secrets.token_hex(4)}.tmp{path.suffix[:20]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        yield temporary
    except OSError as e:
        if e.errno is None or e.filename not in (None, str(temporary)):
            raise
        raise OSError(e.errno, e.strerror, str(path)) from e


def put_in_place(temporary: Path, path: Path) -> None:
    """Renames a file to `path`, with the permissions of what it replaces there."""
    with contextlib.suppress(OSError):  # there may be nothing, or a file system without them
        temporary.chmod(path.stat().st_mode & 0o777)
    os.replace(temporary, path)


def sync(path: str | Path) -> None:
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
        if match := pattern.fullmatch(leftover.name):
            try:
                os.kill(int(match[1]), 0)
            except ProcessLookupError:
                leftover.unlink(missing_ok=True)
            except OSError:  # it is somebody else's, and alive
                pass


def write_text(path: str | Path, text: str) -> None:
    with atomic_write(path) as temporary:  # a file's name may be no text, which UTF-8 cannot hold
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, values: dict) -> None:
    """Writes `values` as indented JSON; NaN is refused, since it is no JSON."""
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path, remedy: str, keys: tuple[str, ...] = ()) -> dict:
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


def name_of(path: Path) -> str:
    """The name of the file that a temporary path is to become, see staged; that of any other path."""
    return path.name.partition(f".{_HOST}.")[0].strip(".")


_LARGE = 1 << 26  # bytes of a file from which on its digest is kept


def files_in(path: str | Path) -> list[Path]:
    """The file itself; of a folder its .parquet files by name, of which there must be one."""
    path = Path(path)
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: is a folder without a .parquet file; give the path of a file, or of a folder of such")
    return files


def digest(path: str | Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file, read once if it is large and stays the same; of a folder by that of each of files_in."""
    if os.path.isdir(path):
        content = "".join(f"{digest(file, algorithm)} {file.name}\n" for file in files_in(path))
        return hashlib.new(algorithm, content.encode("utf-8", "surrogateescape")).hexdigest()
    state = os.stat(path)
    compute = _digest if state.st_size >= _LARGE else _digest.__wrapped__
    return compute(os.path.realpath(path), algorithm, state.st_size, state.st_mtime_ns, state.st_ino)


@functools.cache
def _digest(path, algorithm, *_):
    state = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()
