"""The same small dataset through all that there is, stored as CSV and as Parquet: the same results."""
import json

import pandas as pd
import pytest

from eval import run as answer
from src.common.stored import CSV, PARQUET
from src.common.variant import asked
from src.evaluation.withdraw import withdraw
from src.game.decisions import decided
from src.game.preprocess import preprocess
from src.game.update import update
from src.movielens import prepare
from src.training.train import train
from tests.small import SMALL

SIMULATED = ["--dataset", "simulation", "--sim_users", 20, "--sim_items", 40, "--sim_ratings", 240, "--top_k", 3]


def tables(folder, ending):
    """By name the tables of a run, in one order and with ids as text, whatever they are stored as."""
    found = {}
    for path in (*folder.glob(f"data/*/*{ending}"), *folder.glob(f"output/disclosure{ending}")):
        if path.stem not in ("movies", "users"):
            table = pd.read_parquet(path) if ending == PARQUET else pd.read_csv(path, float_precision="round_trip")
            ids = {column: table[column].astype(str) for column in ("user_id", "item_id")}
            found[f"{path.parent.name}/{path.stem}"] = table.assign(**ids).sort_values(list(ids), ignore_index=True)
    return found


def live(config, folder, ending):
    """The tables of a run at each of its steps, and what eval.py says last."""
    masked, steps = config.replace(masked=True), []
    prepare(config)
    train(asked(config))
    preprocess(config)
    train(asked(masked))
    assert preprocess(config) is None and train(asked(masked)) is None  # done before
    steps.append(tables(folder, ending))
    user, item = steps[0]["output/disclosure"].query("disclosed == 1").iloc[0][["user_id", "item_id"]]
    for question in ("explain_user", "recommend", "receipt"):
        answer(masked.replace(**{question: user}))
    answer(masked.replace(verify_receipt=str(folder / "output" / f"receipt_{user}.json")))
    (folder / "request.csv").write_text(f"user_id,item_id\n{user},{item}\n")
    withdraw(asked(masked.replace(withdraw=str(folder / "request.csv"))))
    steps.append(tables(folder, ending))
    if config.holdout:
        answer(config)
        answer(masked)
        return steps, json.loads((folder / "output" / "eval_ifrqe.json").read_text())
    pd.DataFrame([(who, int(k), 2e9 + k, 4.5, 0.25) for who in ("new", 1) for k in range(1, 21)], columns=[
        "user_id", "item_id", "timestamp", "rating", "unwillingness"]).to_csv(folder / "more.csv", index=False)
    update(masked.replace(update=str(folder / "more.csv")))
    update(masked.replace(update=str(folder / "more.csv")))  # in which nothing is new now
    decided(config)
    train(asked(masked.replace(warm_start=True)))
    return [*steps, tables(folder, ending)], {}


@pytest.mark.parametrize("holdout, strategy", [(0, "ask-first"), pytest.param(2, "ifrqe", marks=pytest.mark.slow)])
def test_a_run_is_the_same_whatever_its_tables_are_stored_as(settings, tmp_path, cpu, holdout, strategy):
    found = []
    for ending in (CSV, PARQUET):
        folder = tmp_path / ending[1:]
        places = [word for name in ("data", "output", "checkpoint") for word in (f"--{name}_path", folder / name)]
        config = settings(*SMALL, *SIMULATED, *places, "--table", ending[1:], "--holdout", holdout, "--strategy", strategy,
                          *["--personal", "False"] * (not holdout))
        found.append(live(config, folder, ending))
        other = PARQUET if ending == CSV else CSV
        assert {path.stem for path in folder.glob(f"*/**/*{other}")} <= {
            "movies", "users", "request", "more", *(f"train_{name}" for name in ("ncf", "ifrqe")),
            *(f"eval_{name}_users" for name in ("ncf", "ifrqe"))}
    (one, said), (two, also) = found
    for before, after in zip(one, two):
        assert before.keys() == after.keys() and len(before) > 3
        for name, table in before.items():
            pd.testing.assert_frame_equal(table, after[name], check_dtype=False, check_exact=True, obj=name)
    same = [key for key in said if key not in ("seconds", "ratings_sha256")]
    assert [said[key] for key in same] == [also[key] for key in same] and len(one) == len(two)
