"""Several files replaced together: whenever the process dies, all of them are the old ones or all become the new ones.

The new files are written beside the old ones first. Then a journal names them: from that moment on they count, and whoever
finds the journal puts them in place.
"""
from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from .files import staged, sync, write_json


class Together:
    """New files, and files to remove, that take effect together. `path` of the journal.

    Used as a context: nothing has changed before its end, nor if it ends with an error.
    """

    def __init__(self, path: str | Path):
        self.path, self.moves, self.removed = Path(path), {}, []

    def __enter__(self) -> Together:
        finish(self.path)
        return self

    @contextlib.contextmanager
    def write(self, path: str | Path) -> Iterator[Path]:
        """Yields the temporary path of what is to become `path`; raises as atomic_write does."""
        path = Path(os.path.realpath(path))
        with staged(path) as temporary:
            self.moves[str(path)] = str(temporary)
            yield temporary
            sync(temporary)

    def write_json(self, path: str | Path, values: dict) -> None:
        """Writes a JSON file as files.write_json does."""
        with self.write(path) as temporary:
            write_json(temporary, values)

    def remove(self, path: str | Path) -> None:
        """Removes a file, if it is there."""
        self.removed.append(os.path.abspath(path))

    def __exit__(self, kind, *_) -> None:
        try:
            if kind is None:
                write_json(self.path, {"moves": self.moves, "removed": self.removed})
        except BaseException:
            kind = True
            raise
        finally:
            if kind is not None:
                for temporary in self.moves.values():
                    Path(temporary).unlink(missing_ok=True)
        finish(self.path)


def finish(path: str | Path) -> bool:
    """Puts in place what a journal names, if there is one; whether there was. Any number of processes may do so at once."""
    path = Path(path)
    try:
        journal = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    folders = {path.parent}
    for target, temporary in journal["moves"].items():
        with contextlib.suppress(FileNotFoundError):  # it is in its place already
            os.replace(temporary, target)
        folders.add(Path(target).parent)
    for gone in journal["removed"]:
        Path(gone).unlink(missing_ok=True)
    for folder in folders:
        sync(folder)
    path.unlink(missing_ok=True)
    sync(path.parent)
    return True
