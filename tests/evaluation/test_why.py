"""Why an item is recommended: what --why shows, and what it refuses."""
import json

import numpy as np
import pandas as pd
import pytest

from src.common.terminal import RESULT
from src.common.variant import asked
from src.dataset import load_dataset
from src.evaluation.recommend import have_had, top_items
from src.evaluation.why import why
from src.game.decisions import read_decisions
from src.influence.rows import Rows
from src.influence.without import MOST
from src.network import build
from tests.small import SMALL


def recommended(ask, user, *more):
    """The records of what a model recommends to a user."""
    return json.loads(ask("--recommend", user, "--format", "json", *more))["users"][0]["items"]


@pytest.mark.parametrize("masked", [[], ["--masked"]])
def test_the_item_and_what_each_interaction_adds(ask, finished_run, masked):
    listed = recommended(ask, 42, *masked)
    last = listed[-1]
    found = json.loads(ask("--why", 42, last["item_id"], "--format", "json", *masked))
    assert found["user_id"] == 42 and found["model"] == ("IFRQE" if masked else "NCF") and found["top_k"] == 10
    assert found["item"] == {**last, "score": pytest.approx(last["score"], abs=2e-6)}  # what --recommend shows
    dataset = load_dataset(finished_run)
    mine = dataset.user_ids[dataset.user] == 42
    if masked:
        mine &= read_decisions(finished_run, dataset).disclosed
    assert {row["item_id"] for row in found["interactions"]} == set(dataset.item_ids[dataset.item[mine]])
    effects = [row["effect"] for row in found["interactions"]]
    assert effects == sorted(effects, reverse=True)

    def log_odds(score):
        return np.log(score / (1 - score))
    for row in found["interactions"]:
        assert row["effect"] == pytest.approx(log_odds(last["score"]) - log_odds(row["without"]["score"]), abs=1e-3)
    text = ask("--why", 42, last["item_id"], *masked)
    assert f"of their {mine.sum()} {'disclosed ' if masked else ''}interactions" in text
    assert f"{effects[0]:+9.4f} {found['interactions'][0]['without']['rank']:5d}" in text


@pytest.fixture
def alive(cpu, ratings, settings, monkeypatch):
    """Settings and dataset of 12 users with 9 of 20 items each, and the network that counts as trained on it."""
    config = settings(*SMALL[2:], "--model", "mf")
    dataset = load_dataset(config)
    net, rng = build(dataset, config), np.random.default_rng(2)
    net.set_values({name: rng.normal(0, 0.7, value.shape).astype(np.float32) for name, value in net.values().items()})
    monkeypatch.setattr("src.evaluation.personal.load_checkpoint", lambda *_: (net, {}))
    monkeypatch.setattr("src.evaluation.why.dataset_of", lambda *_: dataset)
    return config, dataset, net


def test_the_fewest_and_what_takes_its_place(alive, caplog):
    config, dataset, net = alive
    (listed, scores), = top_items(net, np.array([5]), dataset, 3, 1000)
    item, user = dataset.item_ids[listed[-1]], dataset.user_ids[5]
    config = config.replace(why=[str(user), str(item)])

    def said(of):
        caplog.clear()
        with caplog.at_level(RESULT):
            why(asked(of))
        return "\n".join(record.getMessage() for record in caplog.records if record.levelno == RESULT)
    found = json.loads(said(config.replace(format="json")))
    assert found["item"]["rank"] == 3 and found["item"]["score"] == pytest.approx(scores[-1], abs=1e-5)
    least, mine = found["fewest"], dataset.item_ids[dataset.item[dataset.user == 5]]
    withheld = [row["item_id"] for row in least["withheld"]]
    assert 1 <= len(withheld) <= MOST and set(withheld) <= set(mine) and least["margin"] > 0
    effects = [row["effect"] for row in found["interactions"]]
    assert sorted(row["item_id"] for row in found["interactions"]) == sorted(mine) and effects[0] > effects[-1] + 0.01
    # the list of the refit without them
    positions = dataset.history.of_users([5])[np.isin(mine, withheld)]
    logits, = Rows(net, dataset, config).without(np.array([5]), [positions])
    free = ~have_had(np.array([5]), dataset)[0]
    after = dataset.item_ids[np.argsort(-np.where(free, logits, -np.inf))[:free.sum()]].tolist()
    assert after.index(item) + 1 == least["without"]["rank"] > 3
    assert [row["item_id"] for row in least["instead"]] == [i for i in after[:3] if i not in dataset.item_ids[listed]]
    assert [after.index(row["item_id"]) + 1 for row in least["instead"]] == [row["rank"] for row in least["instead"]]
    text = said(config)
    number = "this one" if len(withheld) == 1 else f"these {len(withheld)}"
    assert f"without {number} of their 7 interactions it is at place {least['without']['rank']}" in text
    assert all(f"item {i}" in text for i in (*withheld, item, *mine)) and ("close call" in text) != least["clear"]


def test_what_no_five_interactions_carry_is_said_so(ask):
    first = recommended(ask, 42, "--top_k", 90)[0]
    found = json.loads(ask("--why", 42, first["item_id"], "--top_k", 90, "--format", "json"))
    assert found["fewest"] is None and found["item"]["rank"] == 1
    assert "no 5 of their" in ask("--why", 42, first["item_id"], "--top_k", 90)


def test_what_cannot_be_answered_is_refused_in_one_line(ask, refuse, finished_run, tmp_path):
    ratings = pd.read_csv(f"{finished_run.data_path}/simulation/ratings.csv")
    had = ratings.item_id[ratings.user_id == 42].iloc[0]
    far = recommended(ask, 42, "--top_k", 40)[39]["item_id"]
    for wrong, named in (((99, 5), ["--why 99", "'99'"]), (("42,7", 5), ["--why 42,7 5", "2 users"]),
                         ((42, "x9"), ["--why 42 x9", "'x9'"]), ((42, had), [f"--why 42 {had}"]),
                         ((42, far), [f"--why 42 {far}", "40"]), ((42, far, "--personal", "auto"), ["--personal auto"]),
                         ((42, far, "--masked", "--decisions_path", tmp_path), ["simulation", "preprocess.py"])):
        assert all(name in refuse("--why", *wrong) for name in named)
