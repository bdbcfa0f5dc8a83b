"""The leakage audit: its measures on models, masks and genres whose answer is known, and the whole on a simulation."""
import numpy as np
import pandas as pd
import pytest

from src.dataset import load_dataset
from src.history import History
from studies.audit import MEASURES, audit, guessable, matched_samples, measured
from studies.grid import Retraining
from tests.small import SMALL, refused


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_models_are_trained_once_and_every_part_is_measured(cpu, simulated, tmp_path, monkeypatch):
    flags = (60, 120, 1500, *SMALL, "--train_epochs", 1, "--audit_strategies", "threshold", "--seeds", 1)
    trained = []

    def made_up(self, part, seed):
        trained.append((seed, part.num_interactions))
        self.shown.set_values({name: value + 0.1 * np.random.default_rng(part.num_interactions).standard_normal(value.shape)
                               .astype(np.float32) for name, value in self.shown.values().items()})
    monkeypatch.setattr(Retraining, "__call__", made_up)
    config = simulated(*flags)
    audit(config)
    table = pd.read_csv(tmp_path / "output" / "audit.csv")
    assert table.strategy.tolist() == ["none", "random", "threshold"]
    number = load_dataset(config).num_interactions
    assert trained == [(row.seed, round(row.disclosed_share * number)) for row in table.itertuples()]
    measures = table.loc[:, "own":]
    assert list(measures) == list(MEASURES)
    assert measures[table.strategy == "none"].isna().all(axis=None)  # it withholds nothing
    assert measures[table.strategy != "none"].stack().between(0, 1).sum() == 2 * len(MEASURES)
    assert "| threshold | 60% |" in (tmp_path / "output" / "audit.md").read_text()
    audit(simulated(*flags, "--audit_strategies", "threshold,recent"))
    assert len(trained) == 4  # the others are kept


def test_masks_that_withhold_nothing_leave_cells_empty(cpu, ratings, settings, tmp_path):
    audit(settings(*SMALL, "--train_epochs", 1, "--audit_strategies", "threshold", "--seeds", 1, "--wv_budget", 1))
    assert pd.read_csv(tmp_path / "output" / "audit.csv").loc[:, "own":].isna().all(axis=None)
    with refused("--num_eval_neg 15"):
        audit(settings(*SMALL, "--num_eval_neg", 15))


def test_a_model_that_memorises_gives_membership_away_and_the_others_nothing(cpu, simulated, rng):
    """Models that are functions of user and item."""
    config = simulated(60, 120, 1500, *SMALL)
    dataset = load_dataset(config)
    disclosed = rng.random(dataset.num_interactions) < 0.6

    def memory(pairs):
        return lambda user, item: pairs.contains(user, item) + 0.1 * rng.random(len(user))
    own, full = (memory(pairs) for pairs in (dataset.part(disclosed).history_pairs(), dataset.all_pairs()))
    found = measured(own, full, dataset, disclosed, config)
    assert found["membership"] == 1 and abs(found["membership_full"] - 0.5) < 0.05
    assert abs(found["own"] - 0.5) < 0.05 and measured(full, full, dataset, disclosed, config)["own"] == 1


def test_guesses_count_ties_by_half_and_users_alike():
    untouched = np.array([[3.0, 1.0, 2.0, 0.0], [5.0, 5.0, 5.0, 5.0]])
    assert guessable(np.array([9.0, 1.0, -1.0]), np.array([0, 0, 0]), untouched) == pytest.approx((1 + 0.375 + 0) / 3)
    assert guessable(np.array([9.0, 4.0, 5.0]), np.array([0, 1, 1]), untouched) == pytest.approx((1 + (0 + 0.5) / 2) / 2)


def test_samples_are_of_the_same_users(rng):
    history = History(np.repeat(np.arange(30), 12), 31)
    disclosed = rng.random(360) < 0.5
    disclosed[:12], disclosed[12:24] = False, True  # who discloses nothing, and who withholds nothing
    for number in (50, 1000):
        withheld, kept = matched_samples(disclosed, history, number, rng)
        assert (history.user[withheld] == history.user[kept]).all() and disclosed[kept].all()
        assert len(np.unique(withheld)) == len(withheld) == min(number, (~disclosed[12:]).sum())
        assert not disclosed[withheld].any() and not np.isin([0, 1], history.user[withheld]).any()
