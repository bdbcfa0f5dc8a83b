"""The tables as data: what is measured, what is stale, and that the pages say what the tables say."""
from pathlib import Path

import pytest
import yaml

import src.training.compiled
from studies import pages, results

ROOT = Path(__file__).resolve().parents[2]
STUDY = """#!/usr/bin/env bash
while [ $# -gt 1 ]; do if [ "$1" = --output_path ]; then out=$2; fi; if [ "$1" = --fails ]; then exit 3; fi; shift; done
mkdir -p "$out"; echo once >>"$out/runs"
printf 'seed,hr@10\\n1,0.5\\n' >"$out/one.csv"
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with a study `one`, which needs `shared` and not `other`, and a study that fails."""
    monkeypatch.setattr(results, "hardware", lambda: "a machine")
    monkeypatch.setattr(src.training.compiled, "program", lambda: None)
    for name, text in {"studies/one.py": "from .shared import x", "studies/shared.py": "from src import metrics",
                       "studies/other.py": "", "studies/bad.py": "", "scripts/run_one.sh": STUDY, "README.md": "",
                       "scripts/run_bad.sh": "exit 3", "data/a.csv": "", "docs/results.md": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    tables(tmp_path)
    return tmp_path


def tables(root, flags="--seeds 1,2"):
    (root / "results").mkdir(exist_ok=True)
    (root / "results/tables.yaml").write_text(yaml.safe_dump({
        "bad_sim": {"study": "bad"}, "one_b": {"study": "one", "dataset": "b", "file": "b.csv"},
        "one_a": {"study": "one", "dataset": "a", "file": "a.csv", "flags": flags, "quick": "--k 3"}}, sort_keys=False))


def runs(root, folder="results"):
    return len((root / f"output/{folder}/one_a/runs").read_text().split())


def test_a_table_is_measured_once(root, capfd):
    measure = ["one_a", "--data", str(root / "data")]
    assert results.main(["one_a", "--check"], root) == 1 and "one_a: no CSV" in capfd.readouterr().out
    assert [results.main(measure, root) for _ in range(2)] == [0, 0] and runs(root) == 1
    head, table = pages.read(root / "results/one_a.csv")
    assert table.to_dict("list") == {"seed": [1], "hr@10": [0.5]}
    assert head["run"] == "bash scripts/run_one.sh a FOLDER/a.csv --seeds 1,2" and head["study"] == "one"
    assert head["machine"] == "a machine; the graph trains NCF" and str(root) not in (root / "results/one_a.csv").read_text()
    assert results.main(["one_a", "--check"], root) == 0
    assert results.main([*measure, "--overwrite"], root) == 0 and runs(root) == 2
    assert results.main([*measure, "--quick"], root) == 0 and runs(root, "results-quick") == 1
    assert pages.read(root / "output/results-quick/one_a.csv")[0]["run"].endswith("--seeds 1,2 --seeds 1 --k 3")
