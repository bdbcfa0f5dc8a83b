"""What --explain_user shows."""
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from eval import run as answer
from src.common.stage import main
from src.evaluation.explain import VETOED
from tests.small import flags


def test_a_user_is_explained(ask, finished_run):
    found = json.loads(ask("--explain_user", "5", "--format", "json"))["users"][0]
    table = pd.read_csv(f"{finished_run.output_path}/disclosure.csv").set_index(["user_id", "item_id"]).loc[5]
    vetoed = table.index[table.unwillingness == 1].tolist()  # in order of time
    rows = pd.DataFrame(found["interactions"]).set_index("item_id")
    assert sorted(rows.index) == sorted(table.index) and found["disclosed"] == table.disclosed.sum()
    assert len(vetoed) > 1 and rows.index[-len(vetoed):].tolist() == vetoed  # they take no part, and come last
    assert rows.by.to_dict() == table.reason.to_dict() and rows.by[vetoed[0]].startswith("veto unwillingness.csv:")
    assert rows.unwillingness.to_dict() == pytest.approx(table.unwillingness.to_dict(), rel=1e-12)
    for column in ("influence", "expected_influence"):
        assert rows[column].drop(vetoed).to_dict() == pytest.approx(table[column].drop(vetoed).to_dict(), rel=1e-12)
        assert rows[column][vetoed].isna().all() and table[column][vetoed].isna().all()
    assert rows.disclosed.astype(int).to_dict() == table.disclosed.to_dict()
    assert all(row.reason.startswith("disclosed: " if row.disclosed else "withheld: ") for row in rows.itertuples())
    assert (rows.reason == VETOED).tolist() == (rows.unwillingness == 1).tolist() and (rows.unwillingness == 1).any()
    assert {name: len(found) for name, found in found["recommended"].items()} == {"plain": 10, "masked": 10}
    plain = json.loads(ask("--recommend", "5", "--format", "json"))["users"][0]["items"]
    assert found["recommended"]["plain"] == plain

    shown = ask("--explain_user", "5")
    assert f"user 5: {found['disclosed']} of {len(rows)} interactions disclosed" in shown
    for row in found["interactions"]:
        assert row["title"] in shown and row["reason"] in shown
    assert shown.index("before: trained on everything") < shown.index("after: trained on what is disclosed")


def test_decisions_stand_without_a_masked_model(finished_run, tmp_path, capsys):
    """Right after a new preprocess.py the masked model is of another mask: JSON stays JSON, and a warning says so."""
    shutil.copy(f"{finished_run.checkpoint_path}/NCF.ckpt", tmp_path)
    folders = ["--checkpoint_path", tmp_path, "--output_path", tmp_path, "--decisions_path", finished_run.output_path]
    main(answer, "run_eval", "", flags(finished_run, "--explain_user", "5", "--format", "json", *folders))
    shown = capsys.readouterr()
    assert list(json.loads(shown.out)["users"][0]["recommended"]) == ["plain"]
    take_no_part, warning = shown.err.splitlines()
    assert take_no_part.startswith("simulation: 137 interactions take no part: 137 vetoed")
    assert "without the recommendations of the masked model" in warning


@pytest.mark.parametrize("lost", ["prior", "total_wv", "strategy"])
def test_decisions_of_another_version_are_named(finished_run, refuse, tmp_path, lost):
    shutil.copy(f"{finished_run.output_path}/disclosure.csv", tmp_path)
    record = json.loads(Path(f"{finished_run.output_path}/preprocess.json").read_text())
    (tmp_path / "preprocess.json").write_text(json.dumps({key: record[key] for key in record if key != lost}))
    for options, said in ([], f"error: {tmp_path}/preprocess.json: "), (["--holdout", "1"], "error: --holdout 1: "):
        assert refuse("--explain_user", "5", "--decisions_path", tmp_path, *options).startswith(said)
