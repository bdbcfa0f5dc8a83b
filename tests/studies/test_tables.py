"""The tables as data: what is measured, what is stale, and that the pages say what the tables say."""
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

import src.training.compiled
from studies import pages, tables

STUDY = """for word; do case "$word" in --output_path=*) out=${word#*=} ;; esac; done
mkdir -p "$out"; echo once >>"$out/runs"; printf 'seed,hr@10\\n1,0.5\\n' | tee "$out/one.csv" >"$out/one_users.csv"
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with a study `one`, which imports `shared` and not `other`, and a study `bad` that fails."""
    monkeypatch.setattr(tables, "hardware", lambda: "a machine")
    monkeypatch.setattr(src.training.compiled, "program", lambda: None)
    one = {"study": "one", "dataset": "a", "file": "a.csv", "flags": "--seeds 1,2", "quick": "--k 3"}
    for name, text in {"studies/one.py": "from .shared import x", "studies/shared.py": "from src import metrics",
                       "studies/other.py": "", "studies/bad.py": "", "README.md": "", "docs/results.md": "",
                       "data/a.csv": "", "scripts/run_one.sh": STUDY, "scripts/run_bad.sh": "exit 3",
                       "results/tables.yaml": yaml.safe_dump(
                           {"bad_sim": {"study": "bad"}, "one_a": one, "one_b": {"study": "one", "file": "b.csv"}})}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_table_is_measured_once(root, capfd):
    measure, check = ["one_a", "--data", str(root / "data")], ["one_a", "--check"]

    def runs(folder="results"):
        return (root / f"output/{folder}/one_a/runs").read_text().count("once")
    assert tables.main(check, root) == 1 and "one_a: no CSV" in capfd.readouterr().out
    assert [tables.main(measure, root) for _ in range(2)] == [0, 0] and runs() == 1
    head, table = pages.read(root / "results/one_a.csv")
    assert table.to_dict("list") == {"seed": [1], "hr@10": [0.5]} and pages.read(root / "results/one_users_a.csv")[0] == head
    assert head["run"] == "bash scripts/run_one.sh a FOLDER/a.csv --seeds 1,2" and head["data"] == "a"
    assert head["machine"] == "a machine; the graph trains NCF" and str(root) not in (root / "results/one_a.csv").read_text()
    assert tables.main([*measure, "--overwrite"], root) == 0 and runs() == 2
    assert tables.main([*measure, "--quick"], root) == 0 and runs("results-quick") == 1
    assert pages.read(root / "output/results-quick/one_a.csv")[0]["run"].endswith(" --seeds 1 --k 3")
    assert tables.main(check, root) == 0
    listed = root / "results/tables.yaml"
    listed.write_text(listed.read_text().replace("--seeds 1,2", "--seeds 1"))
    assert tables.main(check, root) == 1 and "one_a: other run" in capfd.readouterr().out


def test_the_digest_is_that_of_the_study_and_of_what_it_imports(root):
    for name, same in (("other", True), ("shared", False), ("one", False)):
        path, before = root / f"studies/{name}.py", tables.code_of(root / "studies/one.py")
        path.write_text(path.read_text() + "\n# changed")
        assert (tables.code_of(root / "studies/one.py") == before) == same, name


def test_minutes_are_those_of_all_runs_and_a_failure_stops_nothing(root, capfd, monkeypatch):
    data, times = ["--data", str(root / "data")], iter([0, 120, 1000, 1060, 2000, 2060])
    monkeypatch.setattr(tables, "time", SimpleNamespace(monotonic=lambda: next(times)))
    with monkeypatch.context() as stopped:
        stopped.setattr(tables.subprocess, "run", lambda *_, **__: sys.exit("as a signal does"))
        with pytest.raises(SystemExit):
            tables.main(["one_a", *data], root)
    assert tables.main(["bad", "one_a", *data], root) == 1 and "bad_sim (exit status 3)" in capfd.readouterr().err
    assert pages.read(root / "results/one_a.csv")[0]["minutes"] == "3.0"


@pytest.mark.parametrize("wrong, named", [(["nothing"], "nothing"), (["one_b", "--quick"], "one_b"), (["one"], "--data"),
                                          (["one", "--data", "{}/data"], "b.csv")])
def test_what_is_wrong_is_said_before_anything_runs(root, capfd, wrong, named):
    assert tables.main([word.format(root) for word in wrong], root) == 2
    out, err = capfd.readouterr()
    assert not out and named in err and err.count("\n") == 1 and not (root / "output").exists()


@pytest.fixture
def made(root):
    """The table `one_a` with two strategies at two budgets and two seeds; `alone` is hr@10 without its standard error."""
    means = ("none", 0.1, 0.5), ("none", 0.6, 0.5), ("ifrqe", 0.1, 0.4), ("ifrqe", 0.6, 0.6)
    table = pd.DataFrame([(s, b, k, v + d, 0.01, v + d, None) for s, b, v in means for k, d in ((1, -0.01), (2, 0.01))],
                         columns=["strategy", "budget", "seed", "hr@10", "hr@10_se", "alone", "empty"])
    (root / "results/one_a.csv").write_text("# data: a\n" + table.to_csv(index=False))
    return root


@pytest.mark.parametrize("marker, shown", {
    "rows=strategy columns=data,budget values=hr@10 best=yes":
        "||a, 10%|a, 60%|\n|---|---|---|\n|`none`|**0.500**|0.500|\n|`ifrqe`|0.400|**0.600**|",
    "rows=budget:0.6/0.1 values=hr@10,empty,alone where=strategy:ifrqe labels=0.1:little,alone:HR form=.0%":
        "||hr@10|HR|\n|---|---|---|\n|60%|60%|60%|\n|little|40%|40%|",
    # seeds' sd / sqrt(2) is .01, with one degree of freedom; users' .01 beside it makes (1 + 1)^2 = 4 of them
    "where=strategy:none,budget:0.1 values=alone form=+.4f ci=yes": f"+0.5000 ± {12.7062 * 0.01:.4f}",
    "where=strategy:none,budget:0.1 values=hr@10 form=+.4f ci=yes": f"+0.5000 ± {2.7764 * 0.01 * 2 ** 0.5:.4f}"}.items())
def test_views(made, marker, shown):
    assert pages.view(made / "results", "|" in shown, "one_a", **dict(w.split("=") for w in marker.split())).strip() == shown


@pytest.mark.parametrize("marker", ["one_a values=hr@10", "one_a values=hr@10 where=strategy:none", "one_a values=nothing",
                                    "one_a values=hr@10 where=strategy:mine", "one_c values=hr@10", "one_a valves=hr@10",
                                    "one_a values=empty rows=strategy,budget"])
@pytest.mark.parametrize("between", ["0.1", "\n"])
def test_a_view_that_says_nothing_is_refused_and_left(made, capsys, marker, between):
    text = f"so <!-- results: {marker} -->{between}<!-- end --> it is"
    (made / "README.md").write_text(text)
    assert pages.rewrite(made) == 1 and (made / "README.md").read_text() == text
    said = capsys.readouterr().out
    assert said.startswith("error: README.md: one_") and said.count("\n") == 1


def test_a_page_is_what_its_tables_say(made):
    page, marker = made / "docs/results.md", "<!-- results: one_a values=hr@10 where=strategy:ifrqe,budget:0.6"
    page.write_text(f"it has {marker} -->0.7<!-- end --> and\n{marker} rows=strategy -->\n<!-- end -->\n")
    assert pages.rewrite(made, check=True) == 1 and "0.7" in page.read_text()
    assert pages.rewrite(made) == 0 and f"it has {marker} -->0.600<!-- end --> and" in page.read_text()
    assert pages.rewrite(made, check=True) == 0
    now = page.read_text()
    for before, after in (("0.600<", "0.601<"), ("|0.600", "|0.599"), ("<!-- end -->", "")):
        page.write_text(now.replace(before, after))
        assert now != page.read_text() and pages.rewrite(made, check=True) == 1, before


def test_the_pages_of_this_project_say_what_its_tables_say(capsys):
    assert pages.rewrite(Path(__file__).resolve().parents[2], check=True) == 0, capsys.readouterr().out
