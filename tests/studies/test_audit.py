"""The leakage audit: its measures on models, masks and genres whose answer is known, and the whole on a simulation."""
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from src.dataset import load_dataset
from src.history import History
from studies.audit import Measured, as_many_at_random, audit, guessable, matched_samples, taste
from studies.grid import Retraining
from tests.small import SMALL, refused


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_models_are_trained_once_and_every_part_is_measured(cpu, simulated, tmp_path, monkeypatch):
    flags = (60, 120, 1500, *SMALL, "--train_epochs", 1, "--audit_strategies", "threshold", "--seeds", "1,2")
    monkeypatch.setattr("studies.audit.FOLDS", 2)
    trained = []

    def made_up(self, part, seed):
        trained.append((seed, part.num_interactions))
        self.shown.set_values({name: value + 0.1 * np.random.default_rng(part.num_interactions).standard_normal(value.shape)
                               .astype(np.float32) for name, value in self.shown.values().items()})
    monkeypatch.setattr(Retraining, "__call__", made_up)
    config = simulated(*flags)
    audit(config)
    table = pd.read_csv(tmp_path / "output" / "audit.csv")
    assert table[["seed", "strategy"]].values.tolist() == [
        [seed, name] for seed in (1, 2) for name in ("none", "random", "threshold")]
    number = load_dataset(config).num_interactions
    assert trained == [(row.seed, round(row.disclosed_share * number)) for row in table.itertuples()]
    measures = table.loc[:, "own":]
    assert list(measures) == ["own", "full", "popularity", "membership", "membership_full", "taste", "taste_matched"]
    assert measures[table.strategy == "none"].isna().all(axis=None)  # it withholds nothing
    assert measures[table.strategy != "none"].stack().between(0, 1).sum() == 4 * 7
    assert "| threshold | 60% |" in (tmp_path / "output" / "audit.md").read_text()
    audit(simulated(*flags, "--audit_strategies", "threshold,recent"))
    assert len(trained) == 8  # the others are kept


def test_data_without_genres_and_masks_that_withhold_nothing_leave_cells_empty(cpu, ratings, settings, tmp_path):
    audit(settings(*SMALL, "--train_epochs", 1, "--audit_strategies", "threshold", "--seeds", 1))
    table = pd.read_csv(tmp_path / "output" / "audit.csv").set_index("strategy")
    assert table.loc["threshold", "own":"membership_full"].notna().all() and table.taste.isna().all()
    audit(settings(*SMALL, "--train_epochs", 1, "--audit_strategies", "threshold", "--seeds", 1, "--wv_budget", 1))
    assert pd.read_csv(tmp_path / "output" / "audit.csv").loc[:, "own":].isna().all(axis=None)
    for flags in (["--audit_strategies", "ifrqe,magic"], ["--holdout", 1], [*SMALL, "--num_eval_neg", 15]):
        with refused(*flags[-2:]):
            audit(settings(*flags))


def test_a_model_that_memorises_gives_membership_away_and_what_is_known_is_guessed(cpu, simulated, rng):
    """Models that are functions of user and item."""
    config = simulated(60, 120, 1500, *SMALL)
    dataset = load_dataset(config)
    disclosed = rng.random(dataset.num_interactions) < 0.6
    pairs, touched = dataset.part(disclosed).history_pairs(), dataset.all_pairs()
    measured = Measured(SimpleNamespace(config=config, dataset=dataset, retraining=SimpleNamespace(shown=None)),
                        lambda u, i: touched.contains(u, i) * 1.0 + 1e-9 * rng.random(len(u)))
    measured._scores = lambda values, user, item: values(user, item)
    found = measured(disclosed, lambda u, i: pairs.contains(u, i) + 0.1 * rng.random(len(u)))
    assert found["membership"] == 1 and abs(found["membership_full"] - 0.5) < 0.05
    assert found["full"] == 1 and abs(found["own"] - 0.5) < 0.05


def test_guesses_count_ties_by_half():
    untouched = np.array([[0.0, 1.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0]])
    auc = guessable(np.array([9.0, 1.0, -1.0, 5.0]), np.array([0, 0, 0, 1]), untouched)
    assert auc.tolist() == [1, 0.375, 0, 0.5]


def test_samples_are_of_the_same_users_and_random_masks_withhold_as_many(rng):
    history = History(np.repeat(np.arange(30), 12), 31)
    disclosed = rng.random(360) < 0.5
    disclosed[:12], disclosed[12:24] = False, True  # who discloses nothing, and who withholds nothing
    for number in (50, 1000):
        withheld, kept = matched_samples(disclosed, history, number, rng)
        assert (history.user[withheld] == history.user[kept]).all() and disclosed[kept].all()
        assert len(np.unique(withheld)) == len(withheld) == min(number, (~disclosed[12:]).sum())
        assert not disclosed[withheld].any() and not np.isin([0, 1], history.user[withheld]).any()
    mask = as_many_at_random(disclosed, history, rng)
    assert (history.sums(mask) == history.sums(disclosed)).all() and (mask != disclosed).any()


def test_a_planted_pattern_of_withholding_is_found(rng):
    """Users like all genres alike; in one mask each hides the more of genre 0 the more of genre 1 they show."""
    history, item = History(np.repeat(np.arange(150), 40), 150), rng.integers(0, 200, 6000)
    flags = np.eye(5, dtype=bool)[np.arange(200) % 5]
    hides = np.arange(150)[history.user] % 2 == 0
    disclosed = np.where(hides, ~np.isin(item % 5, (0, 2)), ~np.isin(item % 5, (1, 3)))
    assert taste(disclosed, history, item, flags, 1) > 0.85
    assert abs(taste(as_many_at_random(disclosed, history, rng), history, item, flags, 1) - 0.5) < 0.1
    for mask, genres in ((np.ones(6000, bool), flags), (disclosed, flags[:, :0]), (disclosed | (history.user > 30), flags)):
        assert np.isnan(taste(mask, history, item, genres, 1))  # nothing is withheld, no genres, too few users
