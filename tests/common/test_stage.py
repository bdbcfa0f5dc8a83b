import logging
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import yaml

from src.common.errors import InputError
from src.common.files import PartialResults, atomic_write, digest, read_json, write_json
from src.common.stage import Stage, main


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


def test_partial_results_of_another_key_are_never_read(tmp_path):
    one = PartialResults(tmp_path / "p", {"damping": 1})
    one.write(np.ones(3))
    two = PartialResults(tmp_path / "p", {"damping": 9})
    two.write(np.full(3, 9.0))
    for act in (lambda: one.write(np.ones(3)), lambda: one.read(3)):
        with pytest.raises(InputError, match="another run with other settings writes it"):
            act()
    again = PartialResults(tmp_path / "p", {"damping": 9})
    assert again.resumed and again.read(3).tolist() == [9, 9, 9] and again.read(3) is None


def test_a_record_depends_on_code_device_and_mindspore(stage, settings, tmp_path, monkeypatch):
    assert stage().is_done()
    other = Stage("test", settings(), ["num_neg"], [tmp_path / "in"], [tmp_path / "out"], "GPU")
    assert not other.is_done() and set(other.basis) == {"code", "mindspore", "device", "dataset", "inputs"}
    for name in ("code_digest", "mindspore_version"):
        monkeypatch.setattr(f"src.common.stage.{name}", lambda: "other")
        assert not stage().is_done()
        monkeypatch.undo()

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


@pytest.fixture
def stage(settings, tmp_path):
    """stage(*arguments): a stage that depends on num_neg and on the file `in`, and writes `out`."""
    (tmp_path / "in").write_text("1")

    def make(*arguments):
        return Stage("test", settings(*arguments), ["num_neg"], [tmp_path / "in"], [tmp_path / "out"])
    first = make()
    assert not first.is_done()
    (tmp_path / "out").write_text("2")
    first.finish()
    return make


def test_a_stage_is_skipped_only_for_the_same_settings_inputs_and_outputs(stage, tmp_path):
    assert stage().is_done()
    assert stage("--batch_size", 64).is_done()  # not one that it depends on
    assert not stage("--num_neg", 5).is_done()
    assert not stage("--dataset", "other").is_done()
    assert not stage("--overwrite").is_done()
    (tmp_path / "in").write_text("changed")
    assert not stage().is_done()
    (tmp_path / "in").write_text("1")
    (tmp_path / "out").write_text("changed")
    assert not stage().is_done()
    (tmp_path / "out").unlink()
    assert not stage().is_done()


@pytest.mark.parametrize("text", ["", "[1]", "x", "a: [", "version: 0"])
def test_a_damaged_record_is_none(stage, tmp_path, text):
    (tmp_path / "output" / "settings_test.yaml").write_text(text)
    assert not stage().is_done()


def test_a_stage_records_its_effective_settings(stage, tmp_path):
    record = yaml.safe_load((tmp_path / "output" / "settings_test.yaml").read_text())
    assert record["settings"] == {"num_neg": 4} and record["all_settings"]["batch_size"] == 256


def test_programs_turn_bad_input_into_one_line_and_exit_2(tmp_path, capsys):
    def fail(config):
        raise InputError("x.csv: is empty; fetch it")
    with pytest.raises(SystemExit) as stop:
        main(fail, "test", "", ["--output_path", str(tmp_path)])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: x.csv: is empty; fetch it\n"
    assert "x.csv: is empty" in (tmp_path / "test.log").read_text()


def test_a_fault_of_the_program_is_one_line_with_the_log_that_has_more(tmp_path, capsys):
    def fail(config):
        raise KeyError("a\x1b[2J\nb")
    with pytest.raises(SystemExit) as stop:
        main(fail, "test", "", ["--output_path", str(tmp_path)])
    shown = capsys.readouterr().err
    assert stop.value.code == 1 and shown.startswith("error: KeyError: ") and str(tmp_path / "test.log") in shown
    assert shown.count("\n") == 1 and "\x1b" not in shown
    assert "Traceback" in (tmp_path / "test.log").read_text() and "\x1b" not in (tmp_path / "test.log").read_text()


def test_an_error_line_shows_no_control_characters(tmp_path, capsys):
    def fail(config):
        raise InputError("user \x1b[31mred\x9b\u202e\u2028\x07 is unknown; choose another")
    with pytest.raises(SystemExit):
        main(fail, "test", "", ["--output_path", str(tmp_path)])
    shown = capsys.readouterr().err
    assert "user \\u001b[31mred\\u009b\\u202e" in shown and not set("\x1b\x9b\u202e\u2028\x07") & set(shown)


@pytest.mark.parametrize("error, words", [
    (FileExistsError(17, "File exists", "a/b"), "error: a/b: File exists; check the path"),
    (MemoryError("Unable to allocate 9 TiB"), "error: out of memory"),
    (FloatingPointError("scores\nare not finite"), "error: scores are not finite"),
])
def test_other_failures_are_one_line_too(tmp_path, capsys, error, words):
    def fail(config):
        raise error
    with pytest.raises(SystemExit) as stop:
        main(fail, "test", "", ["--output_path", str(tmp_path)])
    shown = capsys.readouterr().err
    assert stop.value.code == 2 and shown.startswith(words) and shown.count("\n") == 1


def test_programs_name_an_unknown_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(lambda config: None, "test", "", ["--maksed"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: unknown option --maksed; did you mean --masked?\n"


def test_programs_name_an_output_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(lambda config: None, "test", "", ["--output_path", str(tmp_path / "file" / "o")])
    assert stop.value.code == 2
    assert "--output_path" in capsys.readouterr().err


def test_programs_stop_quietly_when_interrupted(tmp_path, capsys):
    def interrupt(config):
        raise KeyboardInterrupt
    with pytest.raises(SystemExit) as stop:
        main(interrupt, "test", "", ["--output_path", str(tmp_path)])
    assert stop.value.code == 130 and "the same command goes on" in capsys.readouterr().err


def test_the_log_goes_to_screen_and_file(tmp_path, capsys):
    main(lambda config: logging.getLogger("ifrqe").info("hello"), "test", "", ["--output_path", str(tmp_path)])
    assert capsys.readouterr().out == "hello\n"
    assert "hello" in (tmp_path / "test.log").read_text()


def test_the_log_says_why_a_stage_is_done_again(stage, tmp_path, caplog):
    with caplog.at_level(logging.DEBUG, "ifrqe"):
        stage("--num_neg", 5).is_done()
        (tmp_path / "in").write_text("changed")
        stage().is_done()
        (tmp_path / "output" / "settings_test.yaml").unlink()
        stage().is_done()
    assert [record.getMessage() for record in caplog.records] == [
        "test: to be done, for what has changed: settings num_neg", "test: to be done, for what has changed: inputs in",
        "test: to be done, since there is no record of it"]
