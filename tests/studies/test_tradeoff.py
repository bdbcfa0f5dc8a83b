"""The trade-off study on trainings that are made up, and its tables on known answers."""
import numpy as np
import pandas as pd
import pytest

from src.constants import RATINGS_FILE
from src.dataset import load_dataset
from studies.masks import Masks
from studies.tradeoff import by_kind, grouped, table_of_users, tradeoff, users_markdown
from tests.common.test_figures import is_png
from tests.small import SMALL, refused

STUDY = [*SMALL, "--tradeoff_budgets", "0.3,0.8", "--tradeoff_strategies", "threshold,ifrqe,none+validation",
         "--seeds", "1,2", "--train_epochs", 1]


@pytest.fixture
def trained(monkeypatch):
    """Trainings whose loss falls with what is disclosed; returns the list of their shares."""
    found = []

    def train(self, disclosed, validation):
        found.append((validation, self.config.seed, disclosed.mean()))
        loss = np.full(self.dataset.num_users, 1 - disclosed.mean())
        ranks = np.arange(self.dataset.num_users)
        return np.stack([loss, ranks, 2 * ranks])
    monkeypatch.setattr(Masks, "_train", train)
    return found


def test_the_table_of_a_study_that_can_grow(cpu, ratings, settings, tmp_path, trained):
    tradeoff(settings(*STUDY))
    assert len(trained) == 12  # 2 seeds, 2 budgets of 2 strategies, everything with and without
    output = tmp_path / "output"
    table = pd.read_csv(output / "tradeoff.csv")
    metrics = [name for metric in ("full_hr@3", "full_ndcg@3", "hr@3", "ndcg@3") for name in (metric, f"gain_{metric}")]
    assert set(table) == {"strategy", "budget", "seed", "loss", "wv", "wv_share", "spent_share", "disclosed_share",
                          "willingness_weight", "reward", *metrics, *(f"{name}_se" for name in metrics)}
    assert table[["seed", "strategy", "budget"]].values.tolist() == [
        [seed, name, budget] for seed in (1, 2) for name in ("none", "threshold", "ifrqe", "none+validation")
        for budget in (0.3, 0.8)]
    played = ~table.strategy.str.startswith("none")
    assert (table.wv_share <= table.budget + 1e-9)[played].all() and (table.wv_share == 1)[~played].all()
    assert (table.spent_share == 1)[table.strategy != "threshold"].all()
    assert table.loss.to_numpy() == pytest.approx(1 - table.disclosed_share) and (table["hr@3"] == 3 / 12).all()
    assert table["full_hr@3"].to_numpy() == pytest.approx(2 / 12) and (table["gain_hr@3"] == 0).all()
    for _, rows in table.groupby(["budget", "seed"]):
        assert rows.willingness_weight.nunique() == 1
        assert rows.reward.to_numpy() == pytest.approx(-rows.loss - rows.willingness_weight * rows.wv)
    text = (output / "tradeoff.md").read_text()
    assert is_png(output / "tradeoff.png") and "| 30% | ifrqe |" in text
    lines = [line.split(" | ")[:2] for line in text.splitlines()[2:10]]
    assert lines == [[f"| {b}%", name] for b in (30, 80) for name in ("none", "threshold", "ifrqe", "none+validation")]
    assert [(output / "tradeoff" / f"seed_{seed}" / "train_ncf.json").exists() for seed in (1, 2)] == [True, True]
    assert not (output / "train_ncf.json").exists()  # which is what train.py has to say
    tradeoff(settings(*STUDY, "--tradeoff_budgets", "0.3,0.5,0.8"))
    assert len(trained) == 12 + 4
    with refused("seed_2/NCF.ckpt", "train_epochs"):
        tradeoff(settings(*STUDY, "--train_epochs", 2, "--seeds", "2,1"))


def test_times_come_from_the_ratings(cpu, ratings, settings):
    config, values = settings(*SMALL), np.zeros((3, 12))
    runs = pd.DataFrame({"strategy": ["none", "random"], "budget": 0.5, "seed": 1, "values": [values, values]})
    assert "gap" not in table_of_users(runs, config)  # 0 to 4 are no times
    table = pd.read_csv(ratings / RATINGS_FILE)
    for unit in (1, 1000):  # seconds, milliseconds
        table.assign(timestamp=(table.timestamp * 60 + 10 ** 9) * unit).to_csv(ratings / RATINGS_FILE, index=False)
        users = table_of_users(runs, config)
        last = table.sort_values("timestamp", kind="stable").groupby("user_id").timestamp
        assert users.gap.to_numpy() == pytest.approx(last.agg(lambda t: t.iloc[-1] - t.iloc[-2]))
        assert users.gap.nunique() > 1 and (users.history == load_dataset(config).history.length).all()


def test_users_are_compared_by_what_they_are():
    one = pd.DataFrame({"strategy": "ifrqe", "budget": 0.6, "user": range(8), "history": range(10, 18),
                        "gap": 60.0 * np.arange(8), "loss_change": [-1, -1, 1, -1, 1, 1, 1, 1], "hit_change": 0.0})
    other = one.assign(loss_change=-one.loss_change / 2)  # another seed: the mean counts
    for users, worse in ((one, [0, 0.5, 1, 1]), (pd.concat([one, other]), [0, 0.5, 1, 1]), (other, [1, 0.5, 0, 0])):
        assert grouped(users, "history").worse.tolist() == worse
    assert grouped(one, "history").index.tolist() == ["10 to 11", "12 to 13", "14 to 15", "16 to 17"]
    found = by_kind(one)
    assert found.kind.tolist() == ["all", *["history"] * 4, *["gap"] * 4] and found.range.iloc[-1] == "360 to 420"
    assert "| ifrqe | all | all | 8 | 0.2500 | 0.6250 |  | 0.0000 |" in users_markdown(found)


def test_who_is_surely_worse_off():
    def seeds(*changes):
        same = {"strategy": "ifrqe", "budget": 0.6, "user": [0, 1, 2], "history": [1, 2, 3]}
        return pd.concat([pd.DataFrame({**same, "loss_change": change, "hit_change": 0.0}) for change in changes])

    three = seeds([1.0, 1.0, -1.0], [1.1, 5.0, -1.1], [0.9, -3.0, -0.9])  # by t = 17, 0.4 and -17, where 4.3 is needed
    assert grouped(three).surely.tolist() == [1 / 3]
    assert grouped(three, "history").surely.tolist() == [1, 0, 0]
    assert grouped(seeds([1.0, 1.0, -1.0])).surely.isna().all()
