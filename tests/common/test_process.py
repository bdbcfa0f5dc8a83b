import subprocess

from src.common.process import command


def say(*arguments):
    print(arguments)


def test_a_function_is_called_wherever_the_current_folder_is(tmp_path):
    (tmp_path / "tests.py").write_text("raise SystemExit(9)")  # would stand in for a package of the program
    asked = command("tests.common.test_process", "say", "a b", 1.5)
    assert subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "('a b', '1.5')\n"
