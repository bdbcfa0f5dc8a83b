"""Several files replaced together: whenever the process dies, all of them are the old ones or all become the new ones.

The new files are written beside the old ones first. Then a journal beside the dataset's folder names them: from that moment
on they count, and whoever finds the journal puts them in place. It says no path, but in which of a run's own folders a file
is, its name and its digest, so that a folder that was copied or moved is completed where it is, and a journal that somebody
else wrote cannot reach beyond these folders.
"""
from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

from ..config import Config
from ..constants import DISCLOSURE_FILE, HELD_OUT_FILE, MOVIES_FILE, RATINGS_FILE, UNWILLINGNESS_FILE, USES_FILE
from .files import digest, put_in_place, staged, sync, write_json
from .share import here
from .stored import named, stored
from .terminal import logger
from .variant import CHECKPOINT, DATA, DECISIONS, MASKED, OUTPUT, dataset_folder, folders_of

PENDING_FILE = ".{}.pending.json"  # the journal of a dataset, beside its folder
_OTHER = {one: other for name in (RATINGS_FILE, HELD_OUT_FILE, UNWILLINGNESS_FILE, DISCLOSURE_FILE)
          for one, other in itertools.permutations((name, named(name, "parquet")))}  # as a table may be stored, too


class Together:
    """New files in the folders of a run, see folders_of, and files to remove there, that take effect together.

    Used as a context: nothing has changed before its end, nor if it ends with an error. Of what is rewritten the records
    of a run say the digest: see `rewrite` and `renewed`.
    """
    DATA, MASKED, DECISIONS, OUTPUT, CHECKPOINT = DATA, MASKED, DECISIONS, OUTPUT, CHECKPOINT

    def __init__(self, config: Config):
        data = dataset_folder(config)
        self.journal, self.folders = data.with_name(PENDING_FILE.format(data.name)), folders_of(config)
        self.entries, self.digests = [], {}

    def __fspath__(self) -> str:
        return str(self.journal)

    def paths(self, what: str) -> list[Path]:
        """Paths of the new files: "temporary" until they are put in place, "name" from then on."""
        return [self.folders[entry["folder"]] / entry[what] for entry in self.entries if "temporary" in entry]

    def __enter__(self) -> Together:
        finish(self)
        return self

    @contextlib.contextmanager
    def write(self, folder: str, name: str) -> Iterator[Path]:
        """Yields the temporary path of what becomes the file `name`; of a table the one that is stored otherwise goes."""
        if (other := self.folders[folder] / _OTHER.get(name, "")).is_file():
            self.remove(folder, other.name)
        with staged(self.folders[folder] / name) as temporary:
            self.entries.append({"folder": folder, "name": name, "temporary": temporary.name})
            entry = self.entries[-1]
            yield temporary
            if here().first:
                sync(temporary)
                entry["sha256"] = digest(temporary)

    @contextlib.contextmanager
    def rewrite(self, folder: str, name: str) -> Iterator[tuple[Path, Path]]:
        """Yields the path of a file, which may be missing, and the temporary path of what it becomes; notes both digests."""
        path = self.folders[folder] / name
        path = stored(path) if name in _OTHER else path
        before = digest(path) if path.is_file() else None
        with self.write(folder, path.name) as temporary:
            yield path, temporary
        self.digests[path.name if folder != DATA else f"{folder}/{name}"] = before, digest(temporary)

    def renewed(self, record: dict) -> dict:
        """A record in which each digest of before is that of now, as `digests` has both; `sha256`, of a source, stays."""
        now = dict(self.digests.values())
        return {key: self.renewed(value) if isinstance(value, dict) else now.get(value, value)
                if isinstance(value, str) and key != "sha256" else value for key, value in record.items()}

    def write_json(self, folder: str, name: str, values: dict) -> None:
        """Writes a JSON file as files.write_json does."""
        with self.write(folder, name) as temporary:
            write_json(temporary, values)

    def remove(self, folder: str, name: str) -> None:
        """Removes a file, if it is there."""
        self.entries.append({"folder": folder, "name": name})

    def __exit__(self, kind, *_) -> None:
        with contextlib.ExitStack() as unless_written:
            for temporary in self.paths("temporary"):
                unless_written.callback(temporary.unlink, missing_ok=True)
            if kind is None and here().first:
                write_json(self.journal, {"files": self.entries})
                unless_written.pop_all()
        finish(self)


def finish(files: Together) -> bool:
    """Puts in place what the journal of a run names, if there is one; whether all of it is. Several may do so at once.

    What lies in folders of another run waits for that one; a file that is no journal of this program is left alone.
    """
    journal, folders = files.journal, files.folders
    if not here().first:
        return False
    try:
        content = json.loads(journal.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except ValueError:
        content = None
    entries = content.get("files") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(_is_sound(entry, folders) for entry in entries):
        logger.warning("%s: is no journal of this program, and is left alone; remove it", journal)
        return False
    left = [entry for entry in entries if not _put_in_place(entry, folders[entry["folder"]])]
    for name in {entry["folder"] for entry in entries}:
        if folders[name].is_dir():
            sync(folders[name])
    if left:
        logger.warning("%s: %s still waits to be put in place by a program with the --output_path and --checkpoint_path of "
                       "the run that was stopped; if that is gone, remove the journal", journal,
                       ", ".join(entry["name"] for entry in left))
        if left != entries:
            write_json(journal, {"files": left})
        return False
    journal.unlink(missing_ok=True)
    sync(journal.parent)
    return True


def _is_sound(entry, folders):
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        return False
    folder, name = entry.get("folder"), entry.get("name", "")
    if folder not in folders or not re.fullmatch(r"[^/]+", name) or name in (".", ".."):
        return False
    if set(entry) == {"folder", "name"}:
        other = name in (MOVIES_FILE, USES_FILE) or name.endswith((".last.ckpt", ".partial.ckpt"))
        return name in _OTHER or folder != DATA and other
    temporary = re.escape(f".{name[:100]}.") + r"[^/]*\.tmp[^/]*"
    return set(entry) == {"folder", "name", "temporary", "sha256"} and bool(re.fullmatch(temporary, entry["temporary"]))


def _put_in_place(entry, folder):
    target = folder / entry["name"]
    if "temporary" not in entry:
        target.unlink(missing_ok=True)
        return True
    temporary = folder / entry["temporary"]
    with contextlib.suppress(FileNotFoundError):  # it is in its place already, or in another run's folder
        if not temporary.is_symlink() and digest(temporary) == entry["sha256"]:
            put_in_place(temporary, target)
            return True
    return target.is_file() and digest(target) == entry["sha256"]
