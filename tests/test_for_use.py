"""For use: nothing is held out, from the masks of all strategies to what the programs answer and take back."""
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eval import evaluate_and_report
from eval import run as answer
from src.common.seeds import over_seeds
from src.common.variant import asked
from src.constants import train_file
from src.dataset import LEAST, load_dataset
from src.game import ask_first
from src.game.decisions import ALONE, decided, read_decisions
from src.game.preprocess import preprocess
from src.game.rule import UNKNOWN
from src.training.checkpoint import read_checkpoint
from src.training.train import train
from src.training.trainer import Trainer
from tests.report.reading import data_of, words
from tests.small import SMALL, refused

USE = [*SMALL, "--holdout", 0, "--min_ratings", 1]
FEW = {1: 1, 2: 2, 3: 3}  # interactions of these users; the others have 8
BASELINES, PLAYED = ("none", "random", "threshold", "recent"), ("similarity", "ifrqe", "ifrqe++", "ask-first")


@pytest.fixture(autouse=True)
def rows(write_ratings, cpu, monkeypatch):
    """Rows of 14 users, some of whom have too few interactions for anything to be known; ask-first looks at influences."""
    monkeypatch.setattr(ask_first, "FEW", 0)
    rng = np.random.default_rng(0)
    found = [(u, int(i), t) for u in range(1, 15) for t, i in enumerate(rng.permutation(24)[:FEW.get(u, 8)])]
    write_ratings(found, items=range(24))
    return found


def pairs(path):
    """User and item of each row of a table."""
    return list(pd.read_csv(path)[["user_id", "item_id"]].itertuples(index=False, name=None))


def use(settings, *more, strategy="ask-first"):
    """The settings of the masked model of a run in which all stages are done."""
    config = settings(*USE, "--strategy", strategy, *more)
    train(asked(config))
    preprocess(config)
    train(asked(config.replace(masked=True)))
    return config.replace(masked=True)


@pytest.mark.parametrize("strategy, more", [
    *((strategy, ["--veto", "--willingness_file"]) for strategy in (*BASELINES, *PLAYED)),
    *(pytest.param(strategy, [], marks=pytest.mark.slow) for strategy in (*BASELINES, *PLAYED))])
def test_every_strategy_decides_every_interaction(settings, rows, tmp_path, strategy, more):
    rules = tmp_path / "rules.csv"
    last = [i for u, i, _ in rows if u == 6][-1]
    rules.write_text(f"user_id,item_id,unwillingness\n5,,1\n1,,0.25\n6,{last},1\n")
    config = settings(*USE, "--strategy", strategy, *more, *[rules] * bool(more))
    preprocess(config)
    assert not list((tmp_path / "checkpoint").glob("*"))  # no model in a file has a part in it
    folder, (dataset, found) = tmp_path / "data" / "masked_tiny", decided(config)
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.json", "ratings.csv"]
    assert dataset.num_interactions == len(rows) - (9 if more else 0)
    disclosed = list(zip(dataset.user_ids[dataset.user[found.disclosed]], dataset.item_ids[dataset.item[found.disclosed]]))
    assert sorted(pairs(folder / "ratings.csv")) == sorted(disclosed)
    b, record = found.unwillingness, found.record
    assert strategy == "none" or b[found.disclosed].sum() <= 0.6 * b.sum() * (1 + 1e-9)
    assert record["spent_wv"] <= record["total_wv"] and (strategy != "ask-first" or record["spent_wv"] == record["wv"])
    few = dataset.history.length[dataset.user] < LEAST
    assert few.any() and (few == [reason.startswith(ALONE) for reason in found.reason]).all() == (strategy in PLAYED)
    if strategy in PLAYED:  # who knows nothing of what they are worth goes by unwillingness alone
        assert b[few & found.disclosed].max(initial=0) <= b[few & ~found.disclosed].min(initial=1)
    if "ifrqe" in strategy:
        rest = ~dataset.yardstick | found.disclosed  # the model that decides has seen no yardstick, the last one has
        assert record["spent_wv"] == pytest.approx(b[rest].sum() / dataset.num_users)
        assert (found.influence[few] == 0).all() and np.ptp(found.expected[few]) < 1e-8


@pytest.mark.parametrize("strategy", ["ifrqe", "ifrqe++", "similarity", "ask-first"])
def test_models_that_decide_never_see_a_yardstick(settings, monkeypatch, strategy):
    trained, init = [], Trainer.__init__

    def begin(trainer, net, dataset, *arguments):
        trained.append(set(zip(dataset.user.tolist(), dataset.item.tolist())))
        init(trainer, net, dataset, *arguments)
    monkeypatch.setattr(Trainer, "__init__", begin)
    config = settings(*USE, "--strategy", strategy, "--anchors", 2)
    preprocess(config)
    dataset = load_dataset(config)
    last = set(zip(dataset.user[dataset.yardstick].tolist(), dataset.item[dataset.yardstick].tolist()))
    assert len(last) == dataset.num_users - 2 and trained and not set.union(*trained) & last
    disclosed = read_decisions(config, dataset).disclosed
    assert (disclosed & dataset.yardstick).any()  # yet they are decided, and train the model in the end
    train(asked(config.replace(masked=True)))
    assert trained[-1] == set(zip(dataset.user[disclosed].tolist(), dataset.item[disclosed].tolist()))


def test_where_nobody_has_three_a_game_is_refused_and_the_rest_goes_by_unwillingness(settings, write_ratings):
    write_ratings([(u, (u + t) % 9, t) for u in range(1, 13) for t in range(1 + u % 2)], items=range(9))
    for strategy in ("ifrqe", "similarity"):
        with refused("--strategy", "no user of tiny has 3 interactions", "--strategy threshold"):
            preprocess(settings(*USE, "--num_eval_neg", 4, "--strategy", strategy))
    config = use(settings, "--num_eval_neg", 4)
    found = decided(config)[1]
    assert found.expected is None and not any(found.record["instalment_weights"])
    assert found.unwillingness[found.disclosed].max() <= found.unwillingness[~found.disclosed].min()


def test_nothing_is_scored_and_the_report_has_all_the_rest(settings, caplog, tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    study = {"model": "NCF", "dataset": "tiny", "hr@3": 0.987654}
    (output / "eval_ncf.json").write_text(json.dumps(study))  # of a study in the same folder
    (output / "eval_ncf_users.csv").write_text("user_id,rank\n1,0\n")
    config = use(settings)
    caplog.set_level("INFO", "ifrqe")
    for one in (config.replace(masked=False), config):
        caplog.clear()
        evaluate_and_report(one)
        assert [record.message for record in caplog.records][0].startswith("--holdout 0: nothing is held out")
    assert json.loads((output / "eval_ncf.json").read_text()) == study and not (output / "eval_ifrqe.json").exists()
    said, page = words(config), data_of(config)
    assert "held out of each user | nothing" in said and "users | 14" in said
    assert "strategy | ask-first" in said and "train IFRQE" in said and "evaluate" not in said.split("What was run")[1]
    assert "Both models" not in said and "987" not in said and "validation item" not in said
    assert page["prices"] and page["num_candidates"] is None and len(page["users"]) == 14
    dataset, found = decided(config)
    for user in page["users"]:
        assert user["next"] is None and user["ranks"] == {} and len(user["live"]) > 2
        assert all(len(items) == 3 for items in user["lists"].values()) and list(user["lists"]) == ["NCF", "IFRQE"]
        assert user["alone"] == (int(user["id"]) in (1, 2))


def test_the_programs_answer(settings, capsys, tmp_path, caplog):
    config = use(settings)
    dataset, found = decided(config)
    few = config.replace(format="json")

    def said(**question):
        caplog.clear()
        answer(few.replace(**question))
        return json.loads(caplog.messages[-1])
    explained, = said(explain_user="1")["users"]
    row, = explained["interactions"]
    assert row["reason"].endswith(UNKNOWN) and row["influence"] is None and row["by"] == ALONE
    explained, = said(explain_user="7")["users"]
    assert len(explained["interactions"]) == 8 and not any(UNKNOWN in row["reason"] for row in explained["interactions"])
    listed = said(recommend="3")["users"][0]["items"]
    had = dataset.item_ids[dataset.item[dataset.user == 2]]
    assert len(listed) == 3 and not {row["item_id"] for row in listed} & set(had)
    assert said(why=["3", str(listed[0]["item_id"])])["item"]["rank"] == 1
    answer(config.replace(receipt="7"))
    path = tmp_path / "output" / "receipt_7.json"
    receipt = json.loads(path.read_text())
    assert receipt["held_out"] == [] and len(receipt["interactions"]) == 8
    assert not any("held_out" in name for name in receipt["files"])
    assert "Kept aside" not in path.with_suffix(".html").read_text()
    assert all(check["ok"] for check in said(verify_receipt=str(path))["checks"])


def test_a_masked_folder_is_of_one_holdout_and_goes_with_it(settings, tmp_path):
    config, study = (settings(*flags, "--strategy", "threshold") for flags in (USE, SMALL))
    held, kept = tmp_path / "data" / "masked_tiny" / "held_out.csv", tmp_path / "data" / "tiny" / "ratings.csv"
    table = pd.read_csv(kept)
    table[table.user_id > 3].to_csv(kept, index=False)
    preprocess(study)
    assert len(pairs(held)) == 2 * 11
    with refused("masked_tiny", "--holdout 2", "run preprocess.py with --holdout 0"):
        load_dataset(config, masked=True)
    preprocess(config)
    assert not held.exists()
    with refused("masked_tiny", "--holdout 0", "run preprocess.py with --holdout 2"):
        load_dataset(study, masked=True)
    alone = load_dataset(config, masked=True)
    for folder, given in (("data", "masked_tiny"), ("elsewhere", "given")):  # beside its source, and given away alone
        where = tmp_path / folder / given
        if not where.exists():
            shutil.copytree(held.parent, where)
        given = config.replace(data_path=str(where.parent), dataset=given, output_path=str(tmp_path / folder / "out"),
                               checkpoint_path=str(tmp_path / folder / "ckpt"))
        train(asked(given))
        found = load_dataset(given)
        assert found.num_interactions == alone.num_interactions and found.validation is None and not len(found.scored)
        with refused("--holdout 0"):
            load_dataset(given.replace(holdout=2))
    preprocess(study)
    assert len(pairs(held)) == 2 * 11


def epochs(config):
    """How many epochs train_MODEL.json says that a training had."""
    return json.loads((Path(config.output_path) / train_file(asked(config).model)).read_text())["epochs"]


def test_as_many_epochs_are_trained_as_a_study_of_the_same_settings_recommends(settings, rows, write_ratings, tmp_path):
    write_ratings([row for row in rows if row[0] > 3], items=range(24))
    study = settings(*SMALL, "--train_epochs", 4, "--learning_rate", 0.05)
    train(asked(study))
    path = tmp_path / "output" / "train_ncf.json"
    best = json.loads(path.read_text())["best_epoch"]
    if best == 4:  # any other number does for this
        pytest.skip("the last epoch was the best")
    by_default = [str(flag) for flag in SMALL]
    del by_default[(k := by_default.index("--train_epochs")):k + 2]
    config = settings(*by_default, "--holdout", 0, "--learning_rate", 0.05)
    for changed in ({}, {"overwrite": True}):
        train(asked(config.replace(**changed)))
        assert epochs(config) == best
        assert read_checkpoint(tmp_path / "checkpoint" / "NCF.ckpt", "")[1]["settings"]["train_epochs"] == best
    made = path.stat().st_mtime_ns
    train(asked(config))
    assert path.stat().st_mtime_ns == made  # done before
    asked_for = settings(*SMALL, "--holdout", 0, "--learning_rate", 0.05, "--train_epochs", 3)
    train(asked(asked_for))
    assert epochs(config) == 3
    train(asked(config))
    assert epochs(config) == best  # it is still known
    other = settings(*by_default, "--holdout", 0, "--learning_rate", 0.04).replace(train_epochs=2)
    train(asked(other))
    assert epochs(config) == 2  # no study of these settings
    train(asked(config.replace(train_epochs=3)))
    assert epochs(config) == 3  # what was trained without a study is none


def test_seeds_are_trained_and_reported_one_by_one(settings, tmp_path):
    config = use(settings, strategy="threshold").replace(seeds=[1, 2])
    over_seeds(lambda one: train(asked(one)), train_file)(config)
    answer(config)
    for seed in (1, 2):
        assert "held out of each user | nothing" in words(config.replace(output_path=f"{tmp_path}/output/seed_{seed}"))


@pytest.mark.parametrize("name", ["withdrawal", "tradeoff", "benchmark", "scaling"])
def test_studies_refuse_it(name, tmp_path):
    from src.config import load_config
    with refused("--holdout 0"):
        load_config(["--holdout", "0", "--output_path", str(tmp_path)], program=f"run_{name}")
