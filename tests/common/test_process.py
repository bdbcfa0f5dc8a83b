"""A function in a process of its own: what it is given, what comes back, and what becomes of its errors."""
import subprocess
import sys

import pytest

from src.common.errors import InputError
from src.common.process import ask


def describe(config, *arguments):
    """What a fresh process is asked for."""
    if not arguments:
        raise InputError("nothing to describe")
    print("said on the way")
    return [config.num_neg, sorted(config.given)[-1], *arguments]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The current folder is not the project's, and has a module that would stand in for one of the program."""
    (tmp_path / "src.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)


def test_a_function_gets_settings_and_arguments_wherever_it_is_asked(settings, elsewhere):
    assert ask("tests.common.test_process", "describe", settings("--num_neg", 7), "a b", [1.5, None]) == [
        7, "output_path", "a b", [1.5, None]]


def test_its_errors_are_an_exit_status(settings, elsewhere, capfd):
    with pytest.raises(subprocess.CalledProcessError) as failed:
        ask("tests.common.test_process", "describe", settings())
    assert failed.value.returncode == 1 and "error: nothing to describe" in capfd.readouterr().err
