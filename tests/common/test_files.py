"""Files written whole, or as they come; JSON; digests."""
import os
import re
import stat
import subprocess
import sys

import pytest

from src.common import files
from src.common.files import atomic_write, digest, read_json, write_json
from tests.small import refused


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "x.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    with pytest.raises(RuntimeError):
        with atomic_write(path) as temporary:
            temporary.write_text("half of two")
            raise RuntimeError
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert path.read_text() == "one" and [p.name for p in path.parent.iterdir()] == ["x.txt"]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    with atomic_write(tmp_path / "a.json") as temporary:
        temporary.touch()
        mine = temporary.name
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    dead = mine.replace(f".{os.getpid()}.", f".{killed.pid}.")
    names = [dead, mine.replace(f".{os.getpid()}.", f".{os.getppid()}."), dead.replace("a.json", "b.json", 1),
             re.sub(r"json\.[^.]*", "json.elsewhere", dead, count=1), ".a.json.mine.tmp.json",
             dead.replace(f".{killed.pid}.", f".{'9' * 25}.")]
    for name in (*names, dead + ".tmp"):
        (tmp_path / name).touch()
    write_json(tmp_path / "a.json", {})
    assert {p.name for p in tmp_path.iterdir()} == {"a.json", *names[1:]}


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "x.json").symlink_to(tmp_path / "disk" / "there.json")
    for value in (1, 2):
        write_json(tmp_path / "x.json", {"a": value})
        assert value == 1 or stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o600  # who may read it stays so
        (tmp_path / "x.json").chmod(0o600)
        assert (tmp_path / "x.json").is_symlink() and read_json(tmp_path / "disk" / "there.json", "") == {"a": value}
    assert [p.name for p in (tmp_path / "disk").iterdir()] == ["there.json"]


def test_what_cannot_be_written_is_named_by_its_own_name(tmp_path):
    with pytest.raises(OSError) as error:
        with atomic_write(tmp_path / "x.csv") as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")
    assert error.value.filename == str(tmp_path / "x.csv") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", [None, "{", "[1]", "{}"])
def test_a_missing_or_broken_record_is_named(tmp_path, text):
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with refused(path, "run it"):
        read_json(path, "run it", keys=["a"])


def test_a_large_file_that_changes_has_another_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LARGE", 0)
    seen = []
    for content in ("one", "two", "one"):
        files.write_text(tmp_path / "x", content)
        seen += [digest(tmp_path / "x"), digest(tmp_path / "x")]
    assert digest(tmp_path / "x", "md5") == "f97c5d29941bfb1b2fdab0874906ab82"  # of "one"
    assert seen == [seen[0], seen[0], seen[2], seen[2], seen[0], seen[0]] and seen[0] != seen[2]
