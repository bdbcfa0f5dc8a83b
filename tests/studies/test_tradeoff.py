"""The trade-off study: on trainings that are made up, and its tables on known answers."""
import json
import re

import numpy as np
import pandas as pd
import pytest

from src.common.errors import InputError
from src.common.variant import asked
from src.constants import RATINGS_FILE, TRADEOFF_FILE
from src.dataset import load_dataset
from src.studies.retraining import Retraining
from src.studies.tradeoff import (
    PLOT,
    TABLE,
    USERS_PLOT,
    SeedRuns,
    grouped,
    markdown,
    mean_and_std,
    read_run,
    settings_of_seed,
    tradeoff,
    users_markdown,
    write_run,
)
from src.training.train import train
from tests.game.test_preprocess import SMALL, ratings  # noqa: F401, a fixture

STUDY = [*SMALL, "--tradeoff_budgets", "0.3,0.8", "--tradeoff_strategies", "threshold,ifrqe,none+validation",
         "--seeds", "1,2"]


@pytest.fixture
def made_up(monkeypatch):
    """Trainings whose loss falls with what is disclosed; returns the list of their shares, and a place to stop at."""
    trained, stop = [], []

    def train(self, strategy, disclosed):
        if stop and len(trained) == stop[0]:
            raise KeyboardInterrupt
        trained.append((strategy, self.config.seed, disclosed.mean()))
        loss = np.full(self.dataset.num_users, 1 - disclosed.mean())
        return np.stack([loss, loss, np.arange(self.dataset.num_users)])

    monkeypatch.setattr(SeedRuns, "_train", train)
    return trained, stop


def test_the_study_goes_on_where_it_was_stopped_and_can_grow(cpu, ratings, settings, tmp_path, made_up):  # noqa: F811
    trained, stop = made_up
    stop.append(8)
    with pytest.raises(KeyboardInterrupt):
        tradeoff(settings(*STUDY))
    stop.clear()
    before = list(trained)
    tradeoff(settings(*STUDY))
    assert len(trained) == 12 and trained[:8] == before  # 2 seeds, 2 budgets of 2 strategies, everything with and without
    table = pd.read_csv(tmp_path / "output" / TRADEOFF_FILE)
    assert len(table) == 2 * 2 * 4 and set(table.strategy) == {"none", "none+validation", "threshold", "ifrqe"}
    assert (table.wv_share <= table.budget + 1e-9)[~table.strategy.str.startswith("none")].all()
    assert table.loss.to_numpy() == pytest.approx(1 - table.disclosed_share) and (table["hr@3"] == 3 / 12).all()
    for _, rows in table.groupby(["budget", "seed"]):
        assert rows.willingness_weight.nunique() == 1
        assert rows.reward.to_numpy() == pytest.approx(-rows.loss - rows.willingness_weight * rows.wv)
    for name in (PLOT, USERS_PLOT):
        assert (tmp_path / "output" / name).read_bytes()[:4] == b"\x89PNG"
    assert "| 30% | ifrqe |" in (tmp_path / "output" / TABLE).read_text()
    tradeoff(settings(*STUDY, "--tradeoff_budgets", "0.3,0.5,0.8"))
    assert len(trained) == 12 + 4
    with pytest.raises(InputError, match="seed_2/NCF.ckpt: was trained with train_epochs=2, but train_epochs=1 is needed"):
        tradeoff(settings(*STUDY, "--train_epochs", 1, "--seeds", "2,1"))
    tradeoff(settings(*STUDY, "--train_epochs", 1, "--overwrite", "--checkpoint_path", tmp_path / "other"))
    assert len(trained) == 16 + 12
    for seed in (1, 2):
        found = json.loads((tmp_path / "output" / "tradeoff" / f"seed_{seed}" / "train_ncf.json").read_text())
        assert found["seed"] == seed
    assert not (tmp_path / "output" / "train_ncf.json").exists()  # which is what train.py has to say


def test_runs_are_trained_on_what_is_disclosed(cpu, ratings, settings, tmp_path, monkeypatch):  # noqa: F811
    config = settings(*SMALL, "--train_epochs", 1)
    dataset = load_dataset(config)
    bar = type("Bar", (), {"update": lambda self: None})()
    runs = SeedRuns(config, tmp_path / "runs", "CPU", ["none"], bar)
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


def test_a_run_is_found_under_its_key_only(tmp_path):
    path, kept = tmp_path / "run.npz", np.arange(11) % 3 == 0
    for weight in (0.25, None):
        write_run(path, "key", kept, weight, np.ones((3, 4)))
        disclosed, found, values = read_run(path, "key", overwrite=False)
        assert np.array_equal(disclosed, kept) and found == weight and values.shape == (3, 4)
    assert read_run(path, "other", overwrite=False) is None and read_run(path, "key", overwrite=True) is None
    path.write_bytes(path.read_bytes()[:50])
    assert read_run(path, "key", overwrite=False) is None


def test_means_and_standard_deviations():
    assert mean_and_std([1.0, 3.0], 2) == "2.00 ± 1.41"
    assert mean_and_std([1.0], 1) == "1.0" and mean_and_std([None, np.nan]) == ""


def test_the_table_has_a_line_for_each_budget_and_strategy():
    runs = pd.DataFrame([{"strategy": strategy, "budget": budget, "wv_share": budget, "disclosed_share": 0.5, "hr@10": hr,
                          "loss": 1.0, "reward": None}
                         for budget in (0.1, 1.0, 0.05) for strategy, hr in (("none", 0.5), ("ifrqe", 0.6), ("ifrqe", 0.8))])
    lines = markdown(runs, ["hr@10"]).splitlines()
    assert lines[0] == "| budget | strategy | wv | disclosed | HR@10 | loss | reward |"
    assert [re.findall(r"[\w.]+", line)[:2] for line in lines[2:]] == [
        [b, s] for b in ("5", "10", "100") for s in ("none", "ifrqe")]
    assert lines[3] == "| 5% | ifrqe | 5% | 50% | 0.7000 ± 0.1414 | 1.0000 ± 0.0000 |  |"


def test_users_are_compared_by_what_they_are():
    one = pd.DataFrame({"strategy": "ifrqe", "budget": 0.6, "user": range(8), "history": range(10, 18), "unwillingness": 1.0,
                        "gap": 60.0 * np.arange(8), "loss_change": [-1, -1, 1, -1, 1, 1, 1, 1], "hit_change": 0.0})
    other = one.assign(loss_change=-one.loss_change / 2)  # another seed: the mean counts
    for users, worse in ((one, [0, 0.5, 1, 1]), (pd.concat([one, other]), [0, 0.5, 1, 1]), (other, [1, 0.5, 0, 0])):
        assert grouped(users, "history").worse.tolist() == worse
    assert grouped(one, "history").index.tolist() == ["10 to 11", "12 to 13", "14 to 15", "16 to 17"]
    assert grouped(one, "gap").index[-1] == "360 to 420"
    assert "minutes" in users_markdown(one)
    assert "minutes" not in users_markdown(one.drop(columns="gap")) and "no times" in users_markdown(one.drop(columns="gap"))
    assert grouped(one, "unwillingness").users.tolist() == [8]
    text = users_markdown(one)
    assert "| ifrqe | all | 8 | +0.2500 | 62% | +0.000 |" in text
    assert "| ifrqe | history length: 10 to 11 | 2 | -1.0000 | 0% | +0.000 |" in text


@pytest.mark.parametrize("flags, words", [
    (["--tradeoff_strategies", "ifrqe,magic"], "--tradeoff_strategies ifrqe,magic: there is no strategy 'magic'; name some"),
    (["--tradeoff_budgets", ""], "--tradeoff_budgets '': needs shares"),
    (["--holdout", 1], "--holdout 1: leaves no validation item"),
])
def test_bad_settings_are_named(settings, flags, words):
    with pytest.raises(InputError, match=words):
        tradeoff(settings(*flags))


def test_times_come_from_the_ratings(cpu, ratings, settings, tmp_path):  # noqa: F811
    config = settings(*SMALL)
    runs = SeedRuns(config, tmp_path / "runs", "CPU", ["none"], None)
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


def test_all_seeds_are_trained_alike(cpu, ratings, settings, tmp_path, caplog):  # noqa: F811
    plain = settings(*SMALL)
    assert settings_of_seed(plain, 1, True).checkpoint_path == plain.checkpoint_path  # none is there yet
    train(asked(plain))
    assert settings_of_seed(plain, 1, True).checkpoint_path == plain.checkpoint_path
    assert settings_of_seed(plain, 2, True).checkpoint_path.endswith("seed_2")
    other = settings(*SMALL, "--learning_rate", 0.01)
    assert settings_of_seed(other, 1, True).checkpoint_path.endswith("seed_1")
    assert "was trained with other options than the study (learning_rate 0.001)" in caplog.text
    assert settings_of_seed(other, 1, False).checkpoint_path == plain.checkpoint_path  # nothing looks at a model


def test_no_run_of_the_study_is_trained_on_what_is_vetoed(cpu, ratings, settings, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "rules.csv").write_text("user_id,item_id,unwillingness\n,,0.2\n,4,1\n2,,1\n")
    config = settings(*SMALL, "--train_epochs", 1, "--veto", "--willingness_file", tmp_path / "rules.csv")
    dataset = load_dataset(config)
    runs = SeedRuns(config, tmp_path / "runs", "CPU", ["none"], type("Bar", (), {"update": lambda self: None})())
    parts = []

    def trained(self, part, seed):
        parts.append(part)
        return lambda candidates: np.tile(np.arange(candidates.shape[1], 0.0, -1), (12, 1))
    monkeypatch.setattr(Retraining, "__call__", trained)
    for strategy in ("none", "none+validation", "random", "threshold", "recent"):
        runs.run(strategy, 1.0)
    everyone = np.arange(12)
    for part in parts:
        pairs = part.history_pairs()
        item = int(np.flatnonzero(dataset.item_ids == 4)[0])
        history = dataset.history_pairs().contains(everyone, np.full(12, item))
        assert not pairs.contains(everyone[history], np.full(history.sum(), item)).any()
        assert (part.item[part.user == 1] == dataset.validation[1]).all()  # user 2: at most the held-out item
    assert len(parts[1].item) > len(parts[0].item)
