"""The study of forgetting: who asks, what is trained and kept, and what stands in its table."""
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from src.history import History
from studies import withdrawal as study
from studies.withdrawal import EVERYTHING, METHODS, Judge, methods_of, quality, requests_of, withdrawal
from tests.small import SMALL, refused


def dataset_of(lengths):
    user = np.repeat(np.arange(len(lengths)), lengths)
    return SimpleNamespace(name="few", num_users=len(lengths), user=user, item=np.arange(len(user)) % 5,
                           num_interactions=len(user), history=History(user, len(lengths)))


@pytest.mark.slow
def test_a_simulation_from_requests_to_the_table(cpu, simulated, tmp_path, monkeypatch):
    for name, value in (("SHARDS", 3), ("PERCENT", (5, 20)), ("IN_A_ROW", (2, 10 ** 6))):
        monkeypatch.setattr(study, name, value)
    config = simulated(60, 80, 1500, *SMALL, "--train_epochs", 4, "--learning_rate", 0.03, "--seeds", "1,2")
    data = pd.read_csv(tmp_path / "data" / "simulation" / "ratings.csv")
    rows = [(user, item, 1) for user in data.user_id.unique()[:30] for item in (data.item_id.iloc[0], "of no use")]
    pd.DataFrame([*rows, (10 ** 9, 1, 1)], columns=["uid", "iid", "val"]).to_csv(tmp_path / "test.csv", index=False)
    withdrawal(config.replace(withdrawal_test=str(tmp_path / "test.csv")))
    table = pd.read_csv(tmp_path / "output" / "withdrawal.csv")
    names = [f"{percent}% {kind}" for kind in ("most active", "least active", "at random") for percent in (5, 20)]
    assert list(table.request.unique()) == [EVERYTHING, *names, "2 in a row"]
    assert all(set(some.method) == set(METHODS) for name, some in table.groupby("request") if name != EVERYTHING)
    assert table[table.request == "5% at random"].users.eq(3).all() and table["hr@3"].max() <= 0.5  # half is of no use
    assert (table[table.method == "retrain"].overlap == 1).all() and table[table.method != "before"].seconds.ge(0).all()
    assert table[table.method == "sisa"].groupby("request").shards.max()[[EVERYTHING, "2 in a row"]].tolist() == [3, 1]
    most = table[table.request == "20% most active"].set_index(["method", "seed"])
    assert most.auc.notna().all() and (most.auc["withdraw"] < most.auc["before"]).all()
    assert "nan" not in (tmp_path / "output" / "withdrawal.md").read_text()
    for name in ("train_in_memory", "carried_out"):  # all is kept
        monkeypatch.setattr(study, name, None)
    withdrawal(config.replace(withdrawal_test=str(tmp_path / "test.csv")))
    with refused("--model lightgcn"):
        withdrawal(config.replace(model="lightgcn"))
    rows = pd.DataFrame({"uid": [10 ** 9], "iid": [1]})
    rows.to_csv(tmp_path / "test.csv", index=False)
    with refused("--withdrawal_test", tmp_path / "test.csv"):
        withdrawal(config.replace(withdrawal_test=str(tmp_path / "test.csv")))


def test_who_takes_back_what():
    dataset = dataset_of([*range(1, 20), 400])
    found = requests_of(dataset, np.random.default_rng(0))
    users = {name: set(dataset.user[parts].ravel().tolist()) for name, parts in found.items()}
    assert users["10% most active"] == {18, 19} and users["20% least active"] == {0, 1, 2, 3} and not users[EVERYTHING]
    assert users["5% at random"] < users["20% at random"] and len(users["20% at random"]) == 4
    assert all(len(found[name]) == 1 for name in users if "%" in name)  # users leave at once
    assert {name: len(parts) for name, parts in found.items() if "row" in name} == {"100 in a row": 100, "300 in a row": 300}
    rows = found["300 in a row"].ravel()
    assert len(set(rows)) == 300 and np.array_equal(found["100 in a row"].ravel(), rows[:100])
    assert np.bincount(np.delete(dataset.user, rows), minlength=20).min() == 1
    with refused("dataset few"):
        requests_of(dataset_of([1, 0, 1]), np.random.default_rng(0))


def test_quality_on_known_lists():
    ndcg, hr = quality([np.array([4, 5]), np.array([6, 7])], [np.array([5, 1, -1]), np.array([8])])
    assert hr == pytest.approx((1 / 3 + 0) / 2)
    assert ndcg == pytest.approx(1 / np.log2(3) / (1 + 1 / np.log2(3) + 0.5) / 2)


def test_a_request_costs_the_shards_that_it_touches(monkeypatch):
    monkeypatch.setattr(study, "SHARDS", 3)
    same, anew = [("old", float(k)) for k in range(3)], [("new", 7.0), ("new", 9.0)]
    models = {**{((EVERYTHING, k), 1): same[k] for k in range(3)}, (EVERYTHING, 1): ("all", 5.0), ("some", 1): ("rest", 4.0),
              **{(("some", k), 1): model for k, model in enumerate([anew[0], same[1], anew[1]])}}
    for parts, shards, seconds in ((1, 2, 16), (4, 1, 8)):
        found = methods_of("some", models, {("some", 1): ("left", 2.0)}, 1, parts)
        assert found["sisa"] == ([anew[0], same[1], anew[1]], seconds, shards) and found["retrain"][1] == 4
        assert found["withdraw"] == ([("left", 2.0)], 2 / parts, 0) and found["before"][0] == [("all", 5.0)]


def test_each_user_is_served_by_their_shard():
    judge = Judge.__new__(Judge)
    judge.shard, judge.lists = np.array([0, 1, 0, 1]), lambda values, users: [f"{values}{user}" for user in users]
    assert judge.listed([("a", 0), ("b", 0)], np.array([0, 1, 3])) == ["a0", "b1", "b3"]
    assert judge.listed([("a", 0), ("b", 0)], np.array([1])) == ["b1"] and judge.listed([("a", 0)], np.array([3])) == ["a3"]
