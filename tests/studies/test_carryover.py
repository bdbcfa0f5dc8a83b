"""The carry-over study: who judges what, what is kept, what stands in its table; and the judges on known answers."""
import sys

import numpy as np
import pandas as pd
import pytest

from src.dataset import load_dataset
from studies import carryover as study
from studies.carryover import carryover, settings_of
from studies.carryover_judges import (
    ALS,
    BPR,
    EASE,
    GRIDS,
    ITEM_KNN,
    MOST_ITEMS,
    ease_weights,
    fitted,
    matrix_of,
    reason_against,
)
from studies.grid import Study
from tests.common.test_figures import is_png
from tests.small import SMALL

STUDY = [*SMALL, "--carryover_strategies", "threshold,random", "--carryover_judges", "ease,ncf", "--seeds", "1,2"]


def test_a_simulation_from_masks_to_table(cpu, simulated, tmp_path):
    carryover(simulated(40, 60, 800, *STUDY, "--train_epochs", 1, "--seeds", 1))
    output = tmp_path / "output"
    table = pd.read_csv(output / "carryover.csv")
    assert list(table) == ["judge", "strategy", "seed", "wv_share", "spent_share", "disclosed_share", "hr@3", "ndcg@3"]
    assert table[["judge", "strategy"]].values.tolist() == [
        [judge, strategy] for strategy in ("none", "threshold", "random") for judge in ("ease", "ncf")]
    share = table.groupby("strategy", sort=False).wv_share.first()
    assert share["none"] == 1 and (share[1:] <= 0.6).all() and (share[1:] > 0.5).all()
    assert (table.spent_share == table.wv_share).all()
    assert table["hr@3"].between(0, 1).all() and (table["ndcg@3"] <= table["hr@3"]).all()
    assert table[table.judge == "ease"]["hr@3"].max() > 3 / 60  # better than chance
    text = (output / "carryover.md").read_text()
    assert "| ease | threshold | 60% | 60% |" in text and is_png(output / "carryover.png")
    assert "- ncf: trained anew" in text and "- ease: ridge" in text and "±" not in text


def test_what_is_withheld_is_neither_trained_on_nor_ranked_and_judges_add_up(cpu, ratings, settings, tmp_path, monkeypatch):
    flags = [*STUDY, "--carryover_strategies", "random", "--carryover_judges", "ease", "--seeds", 1]
    dataset, matrices = load_dataset(settings(*flags)), []

    def knows_all(judge, matrix, seed, setting):
        matrices.append(matrix)
        scores = np.zeros((12, 20))
        scores[np.arange(12), dataset.test] = 1
        scores[dataset.user, dataset.item] = 2  # withheld or not
        scores[np.arange(12), dataset.validation] = 2
        return lambda users: scores[users]
    monkeypatch.setattr(study, "fitted", knows_all)
    carryover(settings(*flags))
    table = pd.read_csv(tmp_path / "output" / "carryover.csv")
    assert (table["hr@3"] == 1).all() and (table["ndcg@3"] == 1).all()
    matrices = matrices[len(GRIDS[EASE]):]  # by the first ones it was set
    assert [matrix.nnz for matrix in matrices] == [84, round(84 * table.disclosed_share[1])] and matrices[1].nnz < 84
    for matrix in matrices:
        assert dataset.history_pairs().contains(*matrix.nonzero()).all()
    monkeypatch.setattr(study, "fitted", None)  # what was judged is kept
    monkeypatch.setitem(sys.modules, "implicit", None)
    carryover(settings(*flags, "--carryover_judges", "als,ease"))
    text = (tmp_path / "output" / "carryover.md").read_text()
    assert text.count("- als: left out: the package implicit does not serve (ModuleNotFoundError(") == 1


@pytest.mark.parametrize("ridge", [0.5, 20.0])
def test_ease_is_the_constrained_least_squares(cpu, ratings, settings, ridge):
    matrix = matrix_of(load_dataset(settings()))
    x, found = matrix.toarray().astype(np.float64), ease_weights(matrix, ridge)
    for k in range(x.shape[1]):  # each column by itself, from all other items
        others = np.delete(x, k, 1)
        wanted = np.linalg.solve(others.T @ others + ridge * np.eye(others.shape[1]), others.T @ x[:, k])
        assert found[k, k] == 0 and np.delete(found[:, k], k) == pytest.approx(wanted, abs=1e-10)
    users = np.array([3, 0])
    assert fitted(EASE, matrix, 1, {"ridge": ridge})(users) == pytest.approx(x[users] @ found, abs=1e-5)


def test_who_cannot_judge_has_a_reason(monkeypatch):
    assert reason_against(EASE, MOST_ITEMS) == "" == reason_against("ncf", 10 ** 9)
    assert "20,000 items" in reason_against(EASE, 20_000)
    monkeypatch.setitem(sys.modules, "implicit", None)  # as if it were not installed
    for judge in (ITEM_KNN, ALS, BPR):
        assert reason_against(judge, 10).endswith("; mend that with: pip install implicit")


def test_judges_are_set_on_validation_items_alone(cpu, small, settings, monkeypatch):
    config = settings("--top_k", 3)
    dataset = load_dataset(config)
    monkeypatch.setitem(GRIDS, EASE, [{"ridge": float(k)} for k in (1, 2, 3)])
    trained = []

    def made_up(judge, matrix, seed, setting):
        trained.append(matrix.nnz)
        best = {1.0: dataset.test, 2.0: dataset.validation, 3.0: dataset.validation}[setting["ridge"]]
        scores = np.zeros((4, 9))
        scores[np.arange(4), best] = 1
        return lambda users: scores[users]
    monkeypatch.setattr(study, "fitted", made_up)
    for times, overwrite in (3, False), (3, False), (6, True):
        config = config.replace(overwrite=overwrite)
        assert settings_of(Study("mine", __name__, config), [EASE], dataset) == {EASE: {"ridge": 2.0}}  # of equals the first
        assert trained == [dataset.num_interactions] * times


@pytest.mark.parametrize("judge", [ITEM_KNN, ALS, BPR])
def test_judges_of_implicit_learn_from_the_matrix_and_the_seed_alone(ratings, settings, recwarn, judge):
    pytest.importorskip("implicit")
    matrix, users = matrix_of(load_dataset(settings())), np.arange(12)
    scores, again = (fitted(judge, matrix, 3, GRIDS[judge][0])(users) for _ in range(2))
    assert scores.shape == (12, 20) and np.isfinite(scores).all() and np.array_equal(scores, again)
    assert not recwarn.list
    if judge == ITEM_KNN:  # fewer items than neighbours: the whole cosine
        x = matrix.toarray().astype(np.float64)
        norm = np.sqrt(np.maximum((x ** 2).sum(0), 1))
        assert scores == pytest.approx(x @ (x.T @ x / norm / norm[:, None]), abs=1e-5)
    else:
        assert not np.array_equal(scores, fitted(judge, matrix, 4, GRIDS[judge][0])(users))
        touched = matrix.toarray() > 0
        assert scores[touched].mean() > scores[~touched].mean()
