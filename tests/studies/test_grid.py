"""What studies share: cells are measured once, and a table says means over what is grouped."""
import sys

import numpy as np
import pandas as pd
import pytest

from studies.audit import audit
from studies.carryover import carryover
from studies.fidelity import fidelity
from studies.grid import Study, averages, grid, markdown_table, mean_and_std, names_of
from studies.paper import paper
from studies.tradeoff import tradeoff
from tests.small import refused


def test_cells_are_measured_once_and_a_stopped_study_goes_on(cpu, ratings, settings, tmp_path, caplog):
    measured, stop = [], [2]

    def measure(name, seed):
        if len(measured) in stop:
            raise KeyboardInterrupt
        measured.append((name, seed))
        return {"number": 0.1 + 0.2, "rank": np.arange(seed)}
    cells = [{"name": name, "seed": seed} for name in ("a/b c", "none") for seed in (1, 2)]

    def table(cells=cells, depends=None, **options):
        study = Study("mine", __name__, settings().replace(**options))
        return grid(study, cells, measure, study.depends(("model",), []) if depends is None else depends)
    with pytest.raises(KeyboardInterrupt):
        table()
    stop.clear()
    found = table()
    assert measured == [(cell["name"], cell["seed"]) for cell in cells]
    assert list(found) == ["name", "seed", "number", "rank"] and found.number.tolist() == [0.1 + 0.2] * 4
    assert [len(rank) for rank in table()["rank"]] == [1, 2, 1, 2] and len(measured) == 4
    path, = (tmp_path / "output" / "mine").glob("none_2.npz")
    whole = path.read_bytes()
    for damaged in (whole[:50], b"", b"x" * 300, whole[:len(whole) // 2] + bytes(len(whole) - len(whole) // 2)):
        path.write_bytes(damaged)
        table()
        assert measured.pop() == ("none", 2) and len(measured) == 4
    table([*cells, {"name": "more", "seed": 1}])
    assert measured[4:] == [("more", 1)]
    with caplog.at_level("INFO", logger="ifrqe"):
        table(num_factors=3)
    assert len(measured) == 9 and "num_factors" in caplog.text  # says why
    table(num_factors=3, overwrite=True)
    assert len(measured) == 13
    for other, times in ("a", 17), ("b", 19):  # a key for each cell
        table(depends=lambda name, seed, other=other: {"of": "none" if name == "none" else other})
        assert len(measured) == times


def test_a_cell_of_a_file_depends_on_what_the_file_holds(cpu, ratings, settings, tmp_path):
    study, file, seen = Study("mine", __name__, settings()), tmp_path / "own.py", []
    for text in ("a = 1", "a = 1", "a = 2"):
        file.write_text(text)
        grid(study, [{"name": str(file)}], lambda name: seen.append(name) or {"x": 1}, {})
    assert seen == [str(file)] * 2 and [path.name for path in study.folder.iterdir()] == ["own.npz"]


def test_texts_are_shown_as_they_are_written():
    assert [mean_and_std(values, 1) for values in ([1.0], [None, np.nan])] == ["1.0", ""]
    assert markdown_table(["name", "x"], [["a|b", "1"], ["*\n<i>", ""]]) == \
        "| name | x |\n|---|---|\n| a\\|b | 1 |\n| \\* &lt;i> |  |"


def test_averages_are_means_over_the_rest():
    table = pd.DataFrame({"who": ["b", "b", "a$_"], "hr": [0.6, 0.8, 0.5], "wv_share": [0.5, 0.7, 1], "x": [1, 2, None]})
    lines = averages(table, ["who"], {"wv_share": "wv", "hr": "HR", "x": "X"}).splitlines()
    assert lines[0] == "| who | wv | HR | X |" and lines[2] == "| b | 60% | 0.7000 ± 0.1414 | 1.5000 ± 0.7071 |"
    assert lines[3].endswith("| 100% | 0.5000 |  |") and len(lines) == 4


def test_names_are_known_or_files(settings):
    asked = settings("--tradeoff_strategies", "one, mine.py")
    assert names_of(asked, "tradeoff_strategies", "strategy", ("one",)) == ["one", "mine.py"]
    for text, files in (("two", True), ("one,mine.py", False), *((text, True) for text in (
            "one,one", "a/one.py", "a/x.py,b/x.py"))):
        with refused("--tradeoff_strategies", text):
            names_of(settings("--tradeoff_strategies", text), "tradeoff_strategies", "strategy", ("one",), files)


@pytest.mark.parametrize("study, flags", [
    *((study, ["--holdout", 1]) for study in (tradeoff, fidelity, audit, carryover, paper)),
    (tradeoff, ["--tradeoff_strategies", "ifrqe,magic"]), (tradeoff, ["--tradeoff_budgets", ""]),
    (audit, ["--audit_strategies", "ifrqe,magic"]),
    (carryover, ["--carryover_strategies", "magic"]), (carryover, ["--carryover_judges", "ease,mine.py"]),
    (carryover, ["--carryover_judges", "als"]), (paper, ["--paper_models", "mf,magic"]), (paper, ["--recipe", "fast"]),
    (paper, ["--willingness_weight", "none"]), (fidelity, ["--fidelity_solvers", "block,magic"]),
    (fidelity, ["--model", "mf", "--fidelity_solvers", "block,lissa"]), (fidelity, ["--fidelity_keep", 0.99])])
def test_bad_settings_are_one_line(cpu, ratings, settings, monkeypatch, study, flags):
    monkeypatch.setitem(sys.modules, "implicit", None)
    with refused(*flags[-2:]):
        study(settings(*flags))
