"""What eval.py answers on a finished run; its log goes elsewhere."""
import pytest

from eval import run as answer
from src.common.stage import main
from tests.small import flags


@pytest.fixture
def ask(finished_run, tmp_path, capsys):
    """ask(*flags) -> what eval.py prints."""
    def run(*more):
        where = "--output_path", tmp_path, "--decisions_path", finished_run.output_path
        main(answer, "run_eval", "", flags(finished_run, *where, *more))
        return capsys.readouterr().out
    return run


@pytest.fixture
def refuse(ask, capsys):
    """refuse(*flags) -> the one line of an error."""
    def run(*more):
        with pytest.raises(SystemExit) as stop:
            ask(*more)
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.count("\n") == 1
        return error
    return run
