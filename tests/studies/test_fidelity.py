"""The fidelity study: scores with known answers, and the whole study on retrainings that are made up."""
import json

import numpy as np
import pytest

from src.common.errors import InputError
from src.common.variant import asked
from src.constants import FIDELITY_FILE, FIDELITY_PLOT
from src.dataset import load_dataset
from src.metrics import cross_entropy
from src.network import score
from src.training import trainer
from src.training.train import train
from studies import fidelity as study
from studies.fidelity import (
    Retrainings,
    ceilings,
    fidelity,
    mean_interval,
    predicted_losses,
    spearman,
    subset,
    table,
)

SMALL = ["--num_factors", 2, "--layers", "4,2", "--num_eval_neg", 5, "--top_k", 3, "--train_epochs", 2, "--num_neg", 2,
         "--fidelity_masks", 6, "--fidelity_solvers", "block"]


@pytest.fixture
def ratings(write_ratings):
    rng = np.random.default_rng(0)
    return write_ratings([(u, i, t) for u in range(1, 13) for t, i in enumerate(rng.permutation(20)[:8])], items=range(20))


def test_spearman_is_the_correlation_of_ranks():
    a = np.array([[3.0, 1], [5, 1], [5, 1], [-2, 1]])
    b = np.array([[0.1, 2], [0.3, 1], [0.2, 3], [0.4, 4]])
    expected = np.corrcoef([2, 3.5, 3.5, 1], [1, 3, 2, 4])[0, 1]  # ties have the mean of their ranks
    assert spearman(a, b)[0] == pytest.approx(expected) and np.isnan(spearman(a, b)[1])
    assert spearman(b, np.exp(b)) == pytest.approx(1) and spearman(b, -b) == pytest.approx(-1)


def test_subset_keeps_the_first_of_each_user(ratings, settings):
    dataset = load_dataset(settings())
    order = np.random.default_rng(1).random(dataset.num_interactions)
    for share, number in ((0.5, 3), (0.4, 3), (0.9, 6)):  # of 6 interactions, rounded up
        kept = subset(dataset, order, share)
        for user in range(dataset.num_users):
            mine = dataset.user == user
            assert kept[mine].sum() == number
            if number < 6:
                assert order[mine & kept].max() < order[mine & ~kept].min()


def test_predicted_loss_falls_with_what_helps(ratings, settings):
    dataset = load_dataset(settings())
    influence = np.where(np.arange(dataset.num_interactions) % 6 == 0, 2.0, 0.5)  # of each user the first
    kept = np.zeros((2, dataset.num_interactions), bool)
    kept[1, ::6] = True
    kept[1, 1] = True
    assert predicted_losses(influence, kept, dataset)[:, 0].tolist() == [0, -2.5]
    assert predicted_losses(influence, kept, dataset)[:, 1].tolist() == [0, -2.0]


def test_ceilings_are_what_the_best_prediction_reaches():
    """Losses = the user's own part + that of the others + noise: the own part itself is the best prediction."""
    rng = np.random.default_rng(2)
    masks, users = 400, 300
    own, others, again = rng.normal(0, 1, (3, masks, users)) * np.array([0.6, 0.5, 0.5])[:, None, None]
    noise = rng.normal(0, 0.7, (2, masks, users))
    losses = (own + others)[:, None] + noise.transpose(1, 0, 2)
    mixed = (own + again + rng.normal(0, 0.7, own.shape))[:, ::study.OWN_SHARE]
    found = ceilings(losses, mixed)
    reached = np.mean(spearman(own, losses.mean(1)))
    assert found["seed_agreement"] > found["own_agreement"] > 0
    assert found["ceiling_own"] == pytest.approx(reached, abs=0.03)
    assert found["ceiling_seed"] == pytest.approx(np.mean(spearman(own + others, losses.mean(1))), abs=0.03)
    assert ceilings(losses[:, :1], mixed)["ceiling_own"] is None


def test_ties_of_resampled_subsets_do_not_lower_the_interval(monkeypatch):
    monkeypatch.setattr(study, "SCORE_RESAMPLES", 200)
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=(24, 200))
    measured = predicted + 0.7 * rng.normal(size=(24, 200))
    low, high = study.score_interval(predicted, measured, rng)
    assert (low + high) / 2 == pytest.approx(spearman(predicted, measured).mean(), abs=0.006)  # 0.02 below it by quantiles


def test_interval_covers_the_mean():
    rng = np.random.default_rng(3)
    values = [mean_interval(rng.normal(0, 1, 50), rng) for _ in range(40)]
    assert 33 <= sum(low <= 0 <= high for _, (low, high) in values) <= 40
    assert np.mean([high - low for _, (low, high) in values]) == pytest.approx(2 * 1.96 / 50 ** 0.5, rel=0.1)


def test_a_retraining_sees_what_is_kept(cpu, ratings, settings, monkeypatch):
    config = settings(*SMALL)
    dataset = load_dataset(config)
    retrain = Retrainings(dataset, config, "CPU", None, 1)
    kept = subset(dataset, np.arange(dataset.num_interactions), 0.5)
    trained = []

    class Spy(trainer.Trainer):
        def __init__(self, net, part, *rest):
            super().__init__(net, part, *rest)
            trained.append((net, part))

    monkeypatch.setattr("studies.retraining.Trainer", Spy)
    loss, rank_loss, test_rank = retrain._train(kept, seed=5)
    (net, part), = trained
    assert np.array_equal(part.user, dataset.user[kept]) and np.array_equal(part.item, dataset.item[kept])
    scores = score(net, retrain.retrain.validation, 1000).astype(float)
    assert loss == pytest.approx(cross_entropy(scores)[:, 0])
    assert rank_loss == pytest.approx(-np.log(np.exp(scores[:, 0]) / np.exp(scores).sum(1)), rel=1e-5)
    test_scores = score(net, retrain.retrain.test, 1000)
    assert test_rank.tolist() == (test_scores[:, 1:] >= test_scores[:, :1]).sum(1).tolist()


def test_the_study_goes_on_where_it_was_stopped(cpu, ratings, settings, tmp_path, monkeypatch, caplog):
    config = settings(*SMALL)
    train(asked(config))
    dataset = load_dataset(config)
    truth = np.random.default_rng(4).normal(0, 1, dataset.num_interactions)
    monkeypatch.setattr(study, "influences", lambda *_, **__: (truth, {}))
    seeds = []

    def made_up(self, kept, seed):  # losses that the influences predict exactly, but for a little noise
        if len(seeds) == stop_after:
            raise KeyboardInterrupt
        seeds.append(seed)
        loss = -np.bincount(dataset.user, truth * kept) + 0.01 * np.random.default_rng(seed).normal(0, 1, dataset.num_users)
        return np.stack([loss, -loss, np.arange(dataset.num_users)])

    monkeypatch.setattr(Retrainings, "_train", made_up)
    stop_after = 7
    with pytest.raises(KeyboardInterrupt):
        fidelity(config)
    assert not (tmp_path / "output" / FIDELITY_FILE).exists()
    stop_after = None
    fidelity(config)
    assert len(seeds) == len(set(seeds)) == 6 * 3 + 4  # every model once, each with a seed of its own
    report = json.loads((tmp_path / "output" / FIDELITY_FILE).read_text())
    row = report["solvers"]["block"]
    assert row["lds_loss"] > 0.95 and row["lds_rank_loss"] < -0.95 and row["users"] == 12
    assert row["lds_loss_interval"][0] <= row["lds_loss"] <= row["lds_loss_interval"][1]
    assert row["contrast"]["loss_gain"] > 0 and row["contrast"]["top"]["loss"] < row["contrast"]["bottom"]["loss"]
    assert row["contrast"]["top"]["test_hr@3"] == 3 / 12
    assert report["ceilings"]["loss"]["seed_agreement"] > 0.95
    assert (tmp_path / "output" / FIDELITY_PLOT).stat().st_size
    assert "block" in table(report) and "0.250 / 0.250" in table(report)
    assert not (tmp_path / "output" / "fidelity").exists()
    with caplog.at_level("INFO", logger="ifrqe"):
        fidelity(config)
    assert "done before" in caplog.text and len(seeds) == 22


def test_what_cannot_be_studied_is_named(cpu, ratings, settings):
    with pytest.raises(InputError, match="--fidelity_solvers block,magic: there is no solver 'magic'; name some of block"):
        fidelity(settings(*SMALL, "--fidelity_solvers", "block,magic"))
    with pytest.raises(InputError, match="--fidelity_solvers block,lissa: lissa is written for the parameters of ncf"):
        fidelity(settings("--model", "mf", "--fidelity_solvers", "block,lissa"))
    with pytest.raises(InputError, match="--fidelity_keep 0.9: keeps every interaction of every user"):
        train(asked(settings(*SMALL)))
        fidelity(settings(*SMALL, "--fidelity_keep", 0.9))
    with pytest.raises(InputError, match="--holdout 1: leaves no validation item"):
        fidelity(settings(*SMALL, "--holdout", 1))
