import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from src.common.errors import InputError
from src.common.stage import Stage, main

SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def stage(settings, tmp_path):
    """stage(*arguments): a stage that depends on num_neg and on the file `in`, and writes `out`."""
    (tmp_path / "in").write_text("1")

    def make(*arguments):
        return Stage("test", "src.common.stage", settings(*arguments), ["negatives"], [tmp_path / "in"], [tmp_path / "out"])
    first = make()
    assert not first.is_done()
    (tmp_path / "out").write_text("2")
    first.finish()
    return make


def test_a_stage_is_skipped_only_for_the_same_of_all_that_it_depends_on(stage, settings, tmp_path, monkeypatch, caplog):
    assert stage().is_done()
    record = yaml.safe_load((tmp_path / "output" / "settings_test.yaml").read_text())
    assert record["settings"] == {"num_neg": 4} and record["all_settings"]["batch_size"] == 256
    other = Stage("test", "src.common.stage", settings(), ["negatives"], [tmp_path / "in"], [tmp_path / "out"], "GPU")
    assert not other.is_done()
    for name in ("code_digest", "mindspore_version"):
        monkeypatch.setattr(f"src.common.stage.{name}", lambda *_: "other")
        assert not stage().is_done()
        monkeypatch.undo()
    assert stage("--batch_size", 64).is_done()  # not one that it depends on
    caplog.set_level(logging.INFO, "ifrqe")  # what is shown at the normal level
    for changed in (("--num_neg", 5), ("--dataset", "other"), ("--overwrite",)):
        assert not stage(*changed).is_done()
    assert "test: is done again, for this has changed: settings num_neg" in caplog.messages
    for path, was in ((tmp_path / "in", "1"), (tmp_path / "out", "2")):
        path.write_text("changed")
        assert not stage().is_done()
        path.write_text(was)
    assert stage().is_done()
    (tmp_path / "out").unlink()
    assert not stage().is_done()


@pytest.mark.parametrize("text", ["", "[1]", "a: [", "version: 0"])
def test_a_damaged_record_is_none(stage, tmp_path, text):
    (tmp_path / "output" / "settings_test.yaml").write_text(text)
    assert not stage().is_done()


def end_of(stage, capsys, *arguments):
    """Exit code of a program that runs `stage`, and what it wrote to standard error."""
    with pytest.raises(SystemExit) as stop:
        main(stage, "test", "", list(map(str, arguments)))
    return stop.value.code, capsys.readouterr().err


@pytest.mark.parametrize("error, code, words", [
    (InputError("x.csv: is empty; fetch it"), 2, "error: x.csv: is empty; fetch it\n"),
    (InputError("user \x1b[31mred\x9b\u202e\u2028\x07 is unknown"), 2, "error: user \\u001b[31mred\\u009b\\u202e"),
    (FileExistsError(17, "File exists", "a/b"), 2, "error: a/b: File exists; check the path"),
    (MemoryError("Unable to allocate 9 TiB"), 2, "error: out of memory"),
    (ImportError("numpy.core failed", name="scipy"), 2, "error: the package scipy cannot be imported (numpy.core failed)"),
    (FloatingPointError("scores\nare not finite"), 2, "error: scores are not finite"),
    (KeyError("a\x1b[2J\nb"), 1, "error: KeyError: "),  # a fault of the program
    (KeyboardInterrupt(), 130, "\nstopped; files written before are whole, and the same command goes on"),
])
def test_what_ends_a_program_is_one_line_on_the_screen_and_in_the_log(tmp_path, capsys, error, code, words):
    def fail(config):
        raise error
    found, shown = end_of(fail, capsys, "--output_path", tmp_path)
    log = (tmp_path / "test.log").read_text()
    assert found == code and shown.startswith(words) and shown.strip().count("\n") == 0
    assert not set("\x1b\x9b\u202e\u2028\x07") & set(shown + log)
    assert ("Traceback" in log and str(tmp_path / "test.log") in shown) == (code == 1)
    assert code == 130 or shown.split(": ")[1].split(";")[0].strip() in log


def test_what_keeps_a_program_from_starting_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert end_of(lambda config: None, capsys, "--maksed") == (
        2, "error: --maksed: unknown option; did you mean --masked?\n")
    code, shown = end_of(lambda config: None, capsys, "--output_path", tmp_path / "file" / "o")
    assert code == 2 and "--output_path" in shown and shown.count("\n") == 1


def test_a_stage_depends_on_the_code_that_it_can_import_and_on_no_other(tmp_path):
    """What each of several changes to a copy of the program does to the digests of its stages."""
    shutil.copytree(SRC, tmp_path / "other")
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "study.py").write_text("from other.game.preprocess import x\nfrom .part import y\n")
    (tmp_path / "beside" / "part.py").touch()
    code = "from other.common.machine import code_digest as d; print(*(d(m, 'ncf') for m in sys.argv[1:]))"

    def digests():
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}",
                   "other.training.train", "other.game.preprocess", "other.evaluation.evaluate", "beside.study"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    before = digests()
    assert len(set(before)) == 4
    for name, changed in [("training/compiled.c", [1, 1, 0, 1]), ("ncf.py", [1, 1, 1, 1]), ("mf.py", [0, 0, 0, 0]),
                          ("game/mirror_descent.py", [0, 1, 0, 1]), ("report/templates/report.css", [0, 0, 0, 0]),
                          ("training/.#train.py", [0, 0, 0, 0]), ("training/train~.py", [0, 0, 0, 0]),
                          ("../beside/part.py", [0, 0, 0, 1]), ("game/preprocess.py", [0, 1, 0, 1])]:
        path = tmp_path / "other" / name
        was = path.read_text() if path.exists() else None
        if path.name.startswith("."):
            path.symlink_to("someone@desk.4711")
        else:
            path.write_text((was or "") + "\n")
        assert [int(a != b) for a, b in zip(before, digests())] == changed, name
        path.unlink()
        if was is not None:
            path.write_text(was)
