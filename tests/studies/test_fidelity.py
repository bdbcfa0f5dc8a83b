"""The fidelity study: scores with known answers, and the whole study on retrainings that are made up."""
import numpy as np
import pandas as pd
import pytest

from src.dataset import load_dataset
from studies import fidelity as study
from studies.fidelity import OWN_SHARE, ceiling, fidelity, spearman, subset
from studies.grid import Retraining

SMALL = ["--num_factors", 2, "--layers", "4,2", "--num_eval_neg", 5, "--top_k", 3, "--train_epochs", 2, "--num_neg", 2,
         "--fidelity_masks", 6, "--fidelity_solvers", "block"]


def test_spearman_is_the_correlation_of_ranks():
    a = np.array([[3.0, 1], [5, 1], [5, 1], [-2, 1]])
    b = np.array([[0.1, 2], [0.3, 1], [0.2, 3], [0.4, 4]])
    expected = np.corrcoef([2, 3.5, 3.5, 1], [1, 3, 2, 4])[0, 1]  # ties have the mean of their ranks
    assert spearman(a, b)[0] == pytest.approx(expected) and np.isnan(spearman(a, b)[1])
    assert spearman(b, np.exp(b)) == pytest.approx(1) and spearman(b, -b) == pytest.approx(-1)


def test_subset_keeps_the_first_of_each_user(ratings, settings):
    dataset = load_dataset(settings())
    order = np.random.default_rng(1).random(dataset.num_interactions)
    for share, number in ((0.5, 4), (0.4, 3), (0.9, 7)):  # of 7 interactions, rounded up
        kept = subset(dataset, order, share)
        for user in range(dataset.num_users):
            mine = dataset.user == user
            assert kept[mine].sum() == number
            if number < 7:
                assert order[mine & kept].max() < order[mine & ~kept].min()


def test_the_ceiling_is_what_the_best_prediction_reaches():
    """Losses = the user's own part + that of the others + noise: the own part itself is the best prediction."""
    rng = np.random.default_rng(2)
    masks, users = 400, 300
    own, others, again = rng.normal(0, 1, (3, masks, users)) * np.array([0.6, 0.5, 0.5])[:, None, None]
    noise = rng.normal(0, 0.7, (2, masks, users))
    losses = (own + others)[:, None] + noise.transpose(1, 0, 2)
    mixed = (own + again + rng.normal(0, 0.7, own.shape))[:, ::OWN_SHARE]
    assert ceiling(losses, mixed) == pytest.approx(np.mean(spearman(own, losses.mean(1))), abs=0.03)
    assert np.isnan(ceiling(losses[:, :1], mixed))


def test_ties_of_resampled_subsets_do_not_lower_the_interval(monkeypatch):
    monkeypatch.setattr(study, "SCORE_RESAMPLES", 200)
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=(24, 200))
    measured = predicted + 0.7 * rng.normal(size=(24, 200))
    low, high = study.score_interval(predicted, measured, rng)
    assert (low + high) / 2 == pytest.approx(spearman(predicted, measured).mean(), abs=0.006)  # 0.02 below it by quantiles


def test_the_study_scores_each_solver_by_retrainings(cpu, ratings, settings, tmp_path, monkeypatch):
    """Losses that the influences predict exactly, but for a little noise."""
    config = settings(*SMALL)
    dataset = load_dataset(config)
    truth, trained = np.random.default_rng(4).normal(0, 1, dataset.num_interactions), []
    monkeypatch.setattr(study, "influences", lambda *_: (truth, {}))

    def made_up(self, part, seed):
        trained.append(seed)
        kept = np.isin(dataset.rows, part.rows)
        loss = -dataset.history.sums(truth * kept) + 0.01 * np.random.default_rng(seed).normal(0, 1, dataset.num_users)
        first = np.log(np.expm1(-np.minimum(-loss - 9, -1e-9)))  # the logit whose cross-entropy is loss + 9
        return lambda candidates: np.column_stack([-first, np.tile(np.arange(candidates.shape[1] - 1.0), (12, 1))])
    monkeypatch.setattr(Retraining, "__call__", made_up)
    fidelity(config)
    assert trained == list(range(20_001, 20_001 + 6 * 3 + 4))  # every model once, each with a seed of its own
    row, = pd.read_csv(tmp_path / "output" / "fidelity.csv").to_dict("records")
    assert (row["solver"], row["seed"]) == ("block", 1) and row["lds"] > 0.95
    assert row["lds_low"] <= row["lds"] <= row["lds_high"] and 0 < row["lds_ceiling"] < 1.1
    assert {"rank_lds", "seconds", "most_hr@3", "least_hr@3"} < set(row)
    assert "| block | 0.9" in (tmp_path / "output" / "fidelity.md").read_text()
    fidelity(settings(*SMALL, "--fidelity_masks", 3))
    assert trained[22:] == list(range(20_010, 20_014))  # the halves alone, which have other numbers
    fidelity(settings(*SMALL, "--seeds", "1,2"))
    assert pd.read_csv(tmp_path / "output" / "fidelity.csv").seed.tolist() == [1, 2]
    assert trained[-22:] == list(range(30_001, 30_023))


def test_the_softmax_loss_by_hand_and_without_overflow():
    losses = study.softmax_loss(np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0], [-1000.0, 1000.0, 0.0]], np.float32))
    assert losses == pytest.approx([np.log(3), np.log(1 + np.e + np.exp(-1)), 2000])
