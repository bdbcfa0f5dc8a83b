"""Files that are replaced together: all old or all new, in the run's own folders and nowhere else."""
import hashlib
import json
import os

import pytest

from src.common.together import Journal, Together, finish, journal_of


@pytest.fixture
def journal(tmp_path):
    """A journal of the folders one and two, each of which has a file with `old`, beside a file of somebody else's."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("old")
    (tmp_path / "theirs.txt").write_text("theirs")
    return of(tmp_path)


def of(folder):
    return Journal(folder / "journal.json", {"first": folder / "one", "second": folder / "two", "data": folder / "three"})


def replace_all(journal):
    with Together(journal) as files:
        for folder in ("first", "second"):
            with files.write(folder, "a.txt") as temporary:
                temporary.write_text("new")
            assert temporary in files.paths("temporary")
        files.write_json("second", "b.json", {"b": 1})
        files.remove("first", "X.last.ckpt")
        for name in ("movies.csv", "held_out.csv"):
            files.remove("second", name)
        assert {path.read_text() for path in journal.path.parent.glob("*/a.txt")} == {"old"}


def content(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


OLD = {"one/a.txt": "old", "two/a.txt": "old", "theirs.txt": "theirs"}
NEW = {**OLD, "one/a.txt": "new", "two/a.txt": "new", "two/b.json": '{\n  "b": 1\n}\n'}


def test_files_are_replaced_and_removed_together(journal, tmp_path):
    (tmp_path / "one" / "X.last.ckpt").write_text("knows more")
    (tmp_path / "two" / "movies.csv").write_text("of an earlier version")
    (tmp_path / "two" / "held_out.csv").write_text("of a study")
    (tmp_path / "one" / "a.txt").chmod(0o640)
    replace_all(journal)
    assert content(tmp_path) == NEW and not finish(journal)
    assert (tmp_path / "one" / "a.txt").stat().st_mode & 0o777 == 0o640


def test_an_error_leaves_what_was_there(journal, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with Together(journal) as files:
            with files.write("first", "a.txt") as temporary:
                temporary.write_text("new")
            with files.write("second", "a.txt") as temporary:
                temporary.write_text("half")
                raise KeyboardInterrupt
    assert content(tmp_path) == OLD


@pytest.mark.parametrize("at", range(1, 6))  # b.json to its temporary, the journal, then the three files
@pytest.mark.parametrize("moved", [False, True])
def test_a_stop_at_any_moment_leaves_all_old_or_all_new(journal, tmp_path, monkeypatch, at, moved):
    replace, done = os.replace, []

    def stop(source, target):
        done.append(target)
        if len(done) >= at:
            raise KeyboardInterrupt
        replace(source, target)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            replace_all(journal)
    folder = tmp_path
    if moved:  # with all that lies beside it
        folder = tmp_path.rename(tmp_path.with_name(tmp_path.name + "_moved"))
    assert finish(of(folder)) == (at > 2)
    assert content(folder) == (NEW if at > 2 else OLD)
    folder.rename(tmp_path)


def entry(folder="first", name="a.txt", text="new", **changed):
    return {"folder": folder, "name": name, "temporary": f".{name}.host.1.0123abcd.tmp.txt",
            "sha256": hashlib.sha256(text.encode()).hexdigest(), **changed}


@pytest.mark.parametrize("said", [
    "{", "\xff", [], {"files": {}}, {"files": [1]}, {"moves": {"/etc/passwd": "x"}, "removed": ["theirs.txt"]},
    *({"files": [entry(), entry(**changed)]} for changed in (
        {"name": "../theirs.txt"}, {"name": ".."}, {"name": ""}, {"name": None}, {"folder": "../one"}, {"folder": ["first"]},
        {"temporary": "../theirs.txt"}, {"temporary": "/theirs.txt"}, {"temporary": "a.txt"}, {"sha256": None},
        {"temporary": ".b.txt.host.1.0123abcd.tmp.txt"})),
    *({"files": [{"folder": folder, "name": name, **more}]} for folder, name, more in (
        ("first", "a.txt", {}), ("first", "../X.last.ckpt", {}), ("first", "X.ckpt", {}), ("data", "movies.csv", {}),
        ("first", "X.last.ckpt", {"more": 1})))
])
def test_a_journal_that_is_not_of_this_program_moves_and_removes_nothing(journal, tmp_path, caplog, said):
    text = said if isinstance(said, str) else json.dumps(said)
    journal.path.write_text(text)
    (tmp_path / "one" / ".a.txt.host.1.0123abcd.tmp.txt").write_text("new")
    (tmp_path / "three").mkdir()
    for name in ("one/X.last.ckpt", "one/X.ckpt", "X.last.ckpt", "three/movies.csv"):
        (tmp_path / name).write_text("X")
    before = content(tmp_path)
    assert not finish(journal)
    assert content(tmp_path) == before
    assert "journal.json: is no journal of this program, and is left alone; remove it" in caplog.text


def test_a_file_that_is_not_what_the_journal_says_is_not_put_in_place(journal, tmp_path, caplog):
    journal.path.write_text(json.dumps({"files": [entry(), entry(folder="second", text="other")]}))
    for folder in ("one", "two"):
        (tmp_path / folder / ".a.txt.host.1.0123abcd.tmp.txt").write_text("new")
    for _ in range(2):  # what lies in its folder is put in place; the other waits
        assert not finish(journal)
        assert (tmp_path / "one" / "a.txt").read_text() == "new" and (tmp_path / "two" / "a.txt").read_text() == "old"
        assert [one["folder"] for one in json.loads(journal.path.read_text())["files"]] == ["second"]
    assert "a.txt still waits to be put in place by a program with the --output_path and --checkpoint_path" in caplog.text
    path = tmp_path / "two" / ".a.txt.host.1.0123abcd.tmp.txt"
    path.unlink()
    (tmp_path / "theirs.txt").write_text("other")
    path.symlink_to(tmp_path / "theirs.txt")  # is not followed
    assert not finish(journal) and path.is_symlink()
    path.unlink()
    path.write_text("other")
    assert finish(journal) and (tmp_path / "two" / "a.txt").read_text() == "other" and not journal.path.exists()


def test_the_journal_of_a_run_lies_beside_the_data_and_knows_its_folders(settings, tmp_path):
    journal = journal_of(settings("--decisions_path", tmp_path / "decided"))
    assert journal.path == tmp_path / "data" / ".tiny.pending.json"
    assert journal.folders == {"data": tmp_path / "data" / "tiny", "masked": tmp_path / "data" / "masked_tiny",
                               "decisions": tmp_path / "decided", "output": tmp_path / "output",
                               "checkpoint": tmp_path / "checkpoint"}
