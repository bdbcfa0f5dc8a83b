"""The runs of the trade-off study: what they are trained on, under which key they are kept, and what describes users."""
import numpy as np
import pandas as pd
import pytest

from src.common.variant import asked
from src.constants import RATINGS_FILE
from src.dataset import load_dataset
from src.influence.refit import refitted
from src.metrics import ranks
from src.network import build, score
from src.training.train import train
from studies.retraining import Retraining
from studies.runs import SeedRuns, settings_of_seed
from tests.small import SMALL


def test_runs_are_trained_on_what_is_disclosed(cpu, ratings, settings, tmp_path, monkeypatch):
    config = settings(*SMALL, "--train_epochs", 1)
    dataset = load_dataset(config)
    bar = type("Bar", (), {"update": lambda self: None})()
    runs = SeedRuns(config, tmp_path / "runs", "CPU", False, bar)
    parts = []

    def trained(part, seed):
        parts.append((part, seed))
        return lambda candidates: np.tile(np.arange(candidates.shape[1], 0.0, -1), (12, 1))

    monkeypatch.setattr(Retraining, "__call__", lambda self, part, seed: trained(part, seed))
    kept, weight, values = runs.run("threshold", 0.5)
    assert weight is None and (values[2] == 0).all()  # the test item has the highest score
    assert np.array_equal(parts[0][0].item, dataset.item[kept]) and parts[0][1] == 1
    runs.run("threshold", 1.0)
    runs.run("random", 1.0)
    runs.run("none", 1.0)
    assert len(parts) == 2  # the same selection is trained on once
    runs.run("none+validation", 1.0)
    assert parts[2][0].history_pairs().contains(np.arange(12), dataset.validation).all()


def test_times_come_from_the_ratings(cpu, ratings, settings, tmp_path):
    config = settings(*SMALL)
    runs = SeedRuns(config, tmp_path / "runs", "CPU", False, None)
    runs.found = {(name, 1.0 if name == "none" else 0.5): (None, None, np.zeros((3, 12))) for name in ("none", "random")}
    users = runs.of_users(["none", "random"], 0.5)
    assert "gap" not in users  # 0 to 4 are no times
    table = pd.read_csv(ratings / RATINGS_FILE)
    for unit in (1, 1000):  # seconds, milliseconds
        table.assign(timestamp=(table.timestamp * 60 + 10 ** 9) * unit).to_csv(ratings / RATINGS_FILE, index=False)
        users = runs.of_users(["none", "random"], 0.5)
        last = table.sort_values("timestamp", kind="stable").groupby("user_id").timestamp
        assert users.gap.to_numpy() == pytest.approx(last.agg(lambda t: t.iloc[-1] - t.iloc[-2]))
        assert users.gap.nunique() > 1


def test_all_seeds_are_trained_alike(cpu, ratings, settings, tmp_path, caplog):
    plain = settings(*SMALL)
    assert settings_of_seed(plain, 1, True).checkpoint_path == plain.checkpoint_path  # none is there yet
    train(asked(plain))
    assert settings_of_seed(plain, 1, True).checkpoint_path == plain.checkpoint_path
    assert settings_of_seed(plain, 2, True).checkpoint_path.endswith("seed_2")
    other = settings(*SMALL, "--learning_rate", 0.01)
    assert settings_of_seed(other, 1, True).checkpoint_path.endswith("seed_1")
    assert "was trained with other options than the study (learning_rate 0.001)" in caplog.text
    assert settings_of_seed(other, 1, False).checkpoint_path == plain.checkpoint_path  # nothing looks at a model


def test_no_run_of_the_study_is_trained_on_what_is_vetoed(cpu, ratings, settings, tmp_path, monkeypatch):
    (tmp_path / "rules.csv").write_text("user_id,item_id,unwillingness\n,,0.2\n,4,1\n2,,1\n")
    config = settings(*SMALL, "--train_epochs", 1, "--veto", "--willingness_file", tmp_path / "rules.csv")
    dataset = load_dataset(config)
    runs = SeedRuns(config, tmp_path / "runs", "CPU", False, type("Bar", (), {"update": lambda self: None})())
    parts = []

    def trained(self, part, seed):
        parts.append(part)
        return lambda candidates: np.tile(np.arange(candidates.shape[1], 0.0, -1), (12, 1))
    monkeypatch.setattr(Retraining, "__call__", trained)
    for strategy in ("none", "none+validation", "random", "threshold", "recent"):
        runs.run(strategy, 1.0)
    item = int(np.flatnonzero(dataset.item_ids == 4)[0])
    assert (dataset.dropped.item == item).sum() > 1 and dataset.validation[1] == dataset.test[1] == -1
    for part in parts:  # held-out items neither: they are the last two that are allowed
        assert len(part.item) and not (part.item == item).any() and not (part.user == 1).any()
    assert item not in dataset.validation and len(parts[1].item) == len(parts[0].item) + 11


def test_personal_rows_are_refitted_on_all_that_is_not_vetoed(cpu, ratings, settings, tmp_path, monkeypatch):
    (tmp_path / "rules.csv").write_text("user_id,item_id,unwillingness\n,4,1\n2,,1\n")
    config = settings(*SMALL, "--veto", "--willingness_file", tmp_path / "rules.csv", "--embedding_std", 0.7)
    dataset, net = load_dataset(config), build(load_dataset(config), config)
    values = net.values()

    def trained(self, part, seed):
        self.shown.set_values(values)
        return lambda candidates: score(self.shown, candidates, 1000, dataset.scored)
    monkeypatch.setattr(Retraining, "__call__", trained)
    bar = type("Bar", (), {"update": lambda self: None})()
    found = {}
    for personal in ("auto", "False"):
        runs = SeedRuns(config.replace(personal=personal), tmp_path / personal, "CPU", False, bar)
        found[personal], = runs.rows(["threshold"], [0.5])
        kept, _, results = runs.run("threshold", 0.5)
        if personal == "auto":
            used = np.bincount(dataset.user[kept], minlength=12) > 0
            new = refitted(net, values, dataset, used, config)
            net.set_values(new)
            assert not used.all() and dataset.scored.tolist() == [0, *range(2, 12)]  # user 2 forbids all
            assert not (dataset.item == np.flatnonzero(dataset.item_ids == 4)).any()
            assert np.array_equal(results[3], ranks(score(net, runs.retraining.test, 1000, dataset.scored)))
            assert found["auto"]["personal_hr@3"] == pytest.approx(np.mean(results[3] < 3))
            again = SeedRuns(config.replace(personal=personal), tmp_path / personal, "CPU", False, bar)
            assert np.array_equal(again.run("threshold", 0.5)[2], results)  # as it was kept
    assert list(found["False"]) == ["strategy", "budget", "seed", "hr@3", "ndcg@3", "loss", "pos_loss", "wv", "wv_share",
                                    "spent_share", "disclosed_share", "willingness_weight", "reward"]
    assert {key: value for key, value in found["auto"].items() if "personal" not in key} == found["False"]
