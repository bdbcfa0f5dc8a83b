"""Files written whole, or as they come; JSON and CSV; digests."""
import os
import re
import stat
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from src.common import files
from src.common.errors import InputError
from src.common.files import atomic_write, digest, read_json, write_csv, write_json


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "x.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    with pytest.raises(RuntimeError):
        with atomic_write(path) as temporary:
            temporary.write_text("half of two")
            raise RuntimeError
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


def test_a_long_name_is_no_error(tmp_path):
    write_json(tmp_path / ("x" * 245 + ".json"), {})


def test_json_refuses_nan_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert read_json(path, "") == {"a": 1}


def test_missing_and_broken_json_are_named(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(InputError, match="x.json: no such file; run it"):
        read_json(path, "run it")
    path.write_text("{")
    with pytest.raises(InputError, match="x.json: not valid JSON .*; run it"):
        read_json(path, "run it")


def test_records_of_another_shape_are_named(tmp_path):
    path = tmp_path / "x.json"
    for text in ("[1]", "{}", "3"):
        path.write_text(text)
        with pytest.raises(InputError, match="x.json: is no record of this program; run it"):
            read_json(path, "run it", keys=["a"])


def test_digest_is_that_of_the_content(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert digest(path, "md5") == "900150983cd24fb0d6963f7d28e17f72"


@pytest.mark.parametrize("rows", [0, 1, 4, 5])
def test_a_table_written_in_parts_is_the_same_file(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(files, "_ROWS", 2)
    table = pd.DataFrame({"a": range(rows), "b": [0.1 * k for k in range(rows)], "c": ["x,\n"] * rows})
    write_csv(table, tmp_path / "parts.csv")
    table.to_csv(tmp_path / "whole.csv", index=False)
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_numbers_are_written_as_pandas_writes_them(tmp_path):
    rng = np.random.default_rng(0)
    number = rng.integers(0, 2 ** 63, 3000).view(np.float64)  # of all magnitudes
    number[:11] = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-4, 1e-5, 1e15, 1e16, 0.1, 1 / 3]
    table = pd.DataFrame({"id": rng.integers(-2 ** 63, 2 ** 63 - 1, 3000), "flag": rng.integers(0, 2, 3000).astype(np.int8),
                          "x": number, "rounded": np.round(rng.random(3000), 2), "empty": np.nan})
    write_csv(table, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == table.to_csv(index=False, lineterminator="\n")
    table["x"] = table.rounded.astype(np.float32)
    write_csv(table, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == table.to_csv(index=False, lineterminator="\n")


def test_categories_are_written_as_pandas_writes_them(tmp_path):
    names = ["price 0.5", 'a,b "c".csv:3', '"', ",", "two\nlines", "caf\u00e9", " blank ", "last"]
    code = np.random.default_rng(0).integers(0, len(names) - 1, 500)  # of one category there is none
    table = pd.DataFrame({"reason": pd.Categorical.from_codes(code, names), "x": code / 7,
                          "number": pd.Categorical.from_codes(code % 2, [3, 1])})
    write_csv(table, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_bytes() == table.to_csv(index=False, lineterminator="\n").encode()
    again = pd.read_csv(tmp_path / "x.csv")
    assert again.reason.tolist() == table.reason.tolist()


def test_a_large_file_that_changes_has_another_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LARGE", 0)
    seen = []
    for content in ("one", "two", "one"):
        files.write_text(tmp_path / "x", content)
        seen += [digest(tmp_path / "x"), digest(tmp_path / "x")]
    assert seen == [seen[0], seen[0], seen[2], seen[2], seen[0], seen[0]] and seen[0] != seen[2]


def test_names_of_categories_are_written_whatever_they_hold(tmp_path):
    names = ["veto r\udce8gles.csv:3", 'a "b", c', "plain"]
    write_csv(pd.DataFrame({"k": [1, 2, 3], "reason": pd.Categorical(names)}), tmp_path / "t.csv")
    assert pd.read_csv(tmp_path / "t.csv").reason.tolist() == ["veto r\\udce8gles.csv:3", *names[1:]]
