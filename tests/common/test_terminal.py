"""What a person sees in a terminal, and what goes to the log file instead."""
import io
import logging
import os
import pty
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from src.common.stage import main
from src.common.terminal import RESULT, has_colours, paint, plain, printable

ROOT = Path(__file__).resolve().parents[2]
LOGGER = logging.getLogger("ifrqe")

# a program that shows a bar for a second, logs while it does, and has a result
PROGRAM = """
import logging, sys, time
from src.common.stage import main
from src.common.terminal import RESULT, paint, progress
logger = logging.getLogger("ifrqe")
def stage(config):
    with progress(10, "counting", "sheep") as bar:
        for k in range(10):
            time.sleep(0.12)
            bar.update()
            if k == 7:
                logger.info("seven")
                logger.warning("careful")
    logger.log(RESULT, "%s", paint("done", "green"))
main(stage, "test", "", sys.argv[1:])
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_colours_are_for_terminals_that_do_not_refuse_them_and_can_be_taken_out(monkeypatch):
    for variables, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)):
        for name, value in {"NO_COLOR": "", "TERM": "xterm", **variables}.items():
            monkeypatch.setenv(name, value)
        assert has_colours(Terminal()) == coloured and not has_colours(io.StringIO())
    assert printable("Toy\x1b[2J Story\r\n(1995)\x9b") == "Toy [2J Story (1995)"
    assert paint("a", "red") != "a" and plain(f"{paint('a', 'red')} {paint('b', 'bold')}") == "a b"


def say_everything(config):
    LOGGER.debug("how")
    LOGGER.info("what")
    LOGGER.warning("careful")
    LOGGER.log(RESULT, "answer")


@pytest.mark.parametrize("level, shown", [("quiet", ["careful", "answer"]), ("normal", ["what", "careful", "answer"]),
                                          ("verbose", ["how", "what", "careful", "answer"])])
def test_levels_choose_what_is_on_the_screen_and_the_file_has_all(tmp_path, capsys, level, shown):
    main(say_everything, "test", "", ["--output_path", str(tmp_path), "--log_level", level])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith("test ")] == shown  # verbose also tells the settings
    log = (tmp_path / "test.log").read_text()
    assert all(f" {word}\n" in log for word in ("DEBUG how", "INFO what", "WARNING careful", "RESULT answer"))


def test_native_messages_and_warnings_go_to_the_log_file(tmp_path, capfd):
    def stage(config):
        os.write(2, b"[WARNING] from native code\n")
        warnings.warn("from Python", stacklevel=1)
        raise FloatingPointError("the loss is lost")
    with pytest.raises(SystemExit):
        main(stage, "test", "", ["--output_path", str(tmp_path)])
    assert capfd.readouterr().err == "error: the loss is lost\n"
    log = (tmp_path / "test.log").read_text()
    assert "[WARNING] from native code\n" in log and "from Python" in log and "error: the loss is lost" in log
    os.write(2, b"and afterwards to the screen again\n")
    assert capfd.readouterr().err == "and afterwards to the screen again\n"


def run_in_terminal(arguments, **variables):
    """Runs PROGRAM with a terminal for its output; returns what it showed."""
    ours, its = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, arguments)], cwd=ROOT, stdout=its, stderr=its,
                               env={**environment, "TERM": "xterm", **variables})
    os.close(its)
    shown = b""
    while True:
        try:
            block = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        shown += block
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return shown.decode()


def test_a_terminal_shows_bars_with_the_time_left_and_colours(tmp_path):
    shown = run_in_terminal(["--output_path", tmp_path])
    assert "counting" in shown and "<00:0" in shown  # tqdm: elapsed<left
    assert "seven" in shown and paint("done", "green") in shown and paint("careful", "yellow") in shown
    assert shown.rstrip().endswith(paint("done", "green"))  # the bar is gone
    assert plain(shown) != shown and "\x1b" not in (tmp_path / "test.log").read_text()


def test_a_quiet_terminal_shows_no_bar_and_no_color_is_respected(tmp_path):
    shown = run_in_terminal(["--output_path", tmp_path, "--log_level", "quiet"], NO_COLOR="1")
    assert shown.split() == ["careful", "done"]


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    program = PROGRAM.replace('"done", "green")', '"line\\n" * 100_000, "green")')
    command = f"'{sys.executable}' -c '{program}' --output_path '{tmp_path}' | head -n 1; exit ${{PIPESTATUS[0]}}"
    process = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0 and process.stdout == "seven\n" and process.stderr == ""  # no bars either
