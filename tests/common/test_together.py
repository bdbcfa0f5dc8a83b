"""Files that are replaced together: all old or all new, in the run's own folders and nowhere else."""
import hashlib
import json
import os

import pytest

from src.common.together import Together, finish


@pytest.fixture
def of(settings):
    """of(folder): the settings of a run with its folders below this one."""
    def make(folder):
        paths = {f"{name}_path": str(folder / name) for name in ("output", "checkpoint")}
        return settings().replace(data_path=str(folder), **paths)
    return make


@pytest.fixture
def run(of, tmp_path):
    """A run with the folders output and checkpoint, each of which has a file with `old`, and somebody else's file."""
    for name in ("output", "checkpoint"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("old")
    (tmp_path / "theirs.txt").write_text("theirs")
    return of(tmp_path)


def replace_all(config, folder):
    with Together(config) as files:
        for name in ("output", "checkpoint"):
            with files.write(name, "a.txt") as temporary:
                temporary.write_text("new")
            assert temporary in files.paths("temporary")
        files.write_json("checkpoint", "b.json", {"b": 1})
        files.remove("output", "X.last.ckpt")
        for name in ("movies.csv", "held_out.csv"):
            files.remove("checkpoint", name)
        assert {path.read_text() for path in folder.glob("*/a.txt")} == {"old"}


def content(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


OLD = {"output/a.txt": "old", "checkpoint/a.txt": "old", "theirs.txt": "theirs"}
NEW = {**OLD, "output/a.txt": "new", "checkpoint/a.txt": "new", "checkpoint/b.json": '{\n  "b": 1\n}\n'}


def test_files_are_replaced_and_removed_together(run, tmp_path):
    (tmp_path / "output" / "X.last.ckpt").write_text("knows more")
    (tmp_path / "checkpoint" / "movies.csv").write_text("of an earlier version")
    (tmp_path / "checkpoint" / "held_out.csv").write_text("of a study")
    (tmp_path / "output" / "a.txt").chmod(0o640)
    replace_all(run, tmp_path)
    assert content(tmp_path) == NEW and not finish(Together(run))
    assert (tmp_path / "output" / "a.txt").stat().st_mode & 0o777 == 0o640


def test_an_error_leaves_what_was_there(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with Together(run) as files:
            with files.write("output", "a.txt") as temporary:
                temporary.write_text("new")
            with files.write("checkpoint", "a.txt") as temporary:
                temporary.write_text("half")
                raise KeyboardInterrupt
    assert content(tmp_path) == OLD


@pytest.mark.parametrize("at", range(1, 6))  # b.json to its temporary, the journal, then the three files
@pytest.mark.parametrize("moved", [False, True])
def test_a_stop_at_any_moment_leaves_all_old_or_all_new(run, of, tmp_path, monkeypatch, at, moved):
    replace, done = os.replace, []

    def stop(source, target):
        done.append(target)
        if len(done) >= at:
            raise KeyboardInterrupt
        replace(source, target)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            replace_all(run, tmp_path)
    folder = tmp_path
    if moved:  # with all that lies beside it
        folder = tmp_path.rename(tmp_path.with_name(tmp_path.name + "_moved"))
    assert finish(Together(of(folder))) == (at > 2)
    assert content(folder) == (NEW if at > 2 else OLD)
    folder.rename(tmp_path)


def entry(folder="output", name="a.txt", text="new", **changed):
    return {"folder": folder, "name": name, "temporary": f".{name}.host.1.0123abcd.tmp.txt",
            "sha256": hashlib.sha256(text.encode()).hexdigest(), **changed}


@pytest.mark.parametrize("said", [
    "{", "\xff", [], {"files": {}}, {"files": [1]}, {"moves": {"/etc/passwd": "x"}, "removed": ["theirs.txt"]},
    *({"files": [entry(), entry(**changed)]} for changed in (
        {"name": "../theirs.txt"}, {"name": ".."}, {"name": ""}, {"name": None}, {"folder": ".."}, {"folder": ["output"]},
        {"temporary": "../theirs.txt"}, {"temporary": "/theirs.txt"}, {"temporary": "a.txt"}, {"sha256": None},
        {"temporary": ".b.txt.host.1.0123abcd.tmp.txt"})),
    *({"files": [{"folder": folder, "name": name, **more}]} for folder, name, more in (
        ("output", "a.txt", {}), ("output", "../X.last.ckpt", {}), ("output", "X.ckpt", {}), ("data", "movies.csv", {}),
        ("output", "X.last.ckpt", {"more": 1})))
])
def test_a_journal_that_is_not_of_this_program_moves_and_removes_nothing(run, tmp_path, caplog, said):
    text, journal = said if isinstance(said, str) else json.dumps(said), tmp_path / ".tiny.pending.json"
    journal.write_text(text)
    (tmp_path / "output" / ".a.txt.host.1.0123abcd.tmp.txt").write_text("new")
    (tmp_path / "tiny").mkdir()
    for name in ("output/X.last.ckpt", "output/X.ckpt", "X.last.ckpt", "tiny/movies.csv"):
        (tmp_path / name).write_text("X")
    before = content(tmp_path)
    assert not finish(Together(run))
    assert content(tmp_path) == before
    assert ".tiny.pending.json: is no journal of this program, and is left alone; remove it" in caplog.text


def test_a_file_that_is_not_what_the_journal_says_is_not_put_in_place(run, tmp_path, caplog):
    journal = tmp_path / ".tiny.pending.json"
    journal.write_text(json.dumps({"files": [entry(), entry(folder="checkpoint", text="other")]}))
    for folder in ("output", "checkpoint"):
        (tmp_path / folder / ".a.txt.host.1.0123abcd.tmp.txt").write_text("new")
    for _ in range(2):  # what lies in its folder is put in place; the other waits
        assert not finish(Together(run))
        assert [(tmp_path / name / "a.txt").read_text() for name in ("output", "checkpoint")] == ["new", "old"]
        assert [one["folder"] for one in json.loads(journal.read_text())["files"]] == ["checkpoint"]
    assert "a.txt still waits to be put in place by a program with the --output_path and --checkpoint_path" in caplog.text
    path = tmp_path / "checkpoint" / ".a.txt.host.1.0123abcd.tmp.txt"
    path.unlink()
    (tmp_path / "theirs.txt").write_text("other")
    path.symlink_to(tmp_path / "theirs.txt")  # is not followed
    assert not finish(Together(run)) and path.is_symlink()
    path.unlink()
    path.write_text("other")
    assert finish(Together(run)) and (tmp_path / "checkpoint" / "a.txt").read_text() == "other" and not journal.exists()
