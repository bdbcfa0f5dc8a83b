"""The carry-over study: who judges what, what is kept, what stands in its table; and the judges on known answers."""
import sys

import numpy as np
import pandas as pd
import pytest

from src.dataset import load_dataset
from studies import carryover as study
from studies.carryover import carryover, settings_of
from studies.carryover_judges import EASE, GRIDS, MOST_ITEMS, PARTS, ease_weights, fitted, matrix_of, reason_against
from studies.grid import Study
from tests.common.test_figures import is_png
from tests.small import SMALL


def test_a_simulation_from_masks_to_table(cpu, simulated, tmp_path):
    carryover(simulated(40, 60, 800, *SMALL[2:], "--train_epochs", 1, "--seeds", 1, "--model", "mf",
                        "--carryover_models", "ncf,mf", "--carryover_strategies", "ask-first,ifrqe,none,threshold",
                        "--carryover_judges", "ease,ncf", "--instalments", "0.5,1"))
    output, checkpoint = tmp_path / "output", tmp_path / "checkpoint"
    table = pd.read_csv(output / "carryover.csv")
    assert table.judge.unique().tolist() == ["ease", "ncf"]
    for _, rows in table.groupby("judge"):
        assert [*zip(rows.model, rows.strategy)] == [
            ("any", "none"), ("any", "threshold"),
            *((model, name) for model in ("ncf", "mf") for name in ("ask-first", "ifrqe"))]
    first = table[table.judge == "ease"].set_index(["model", "strategy"])
    share, spent = first.wv_share, first.spent_share
    assert share["any", "none"] == 1 and (share[1:] <= 0.6).all() and (share[1:] > 0.5).all()
    assert spent["ncf", "ifrqe"] == 1 and spent["mf", "ask-first"] == share["mf", "ask-first"]
    assert share["ncf", "ifrqe"] != share["mf", "ifrqe"]  # each by its own model
    assert all((checkpoint / "seed_1" / f"{model}.ckpt").is_file() for model in ("NCF", "MF"))
    for metric, most in ("full_hr@3", 1), ("full_ndcg@3", table["full_hr@3"]):
        assert table[metric].between(0, most).all()
        everything = table.judge.map(table[table.strategy == "none"].set_index("judge")[metric])
        assert table[f"gain_{metric}"].to_numpy() == pytest.approx((table[metric] - everything).to_numpy(), abs=1e-5)
    assert first["full_hr@3"].max() > 3 / 60  # better than chance
    text = (output / "carryover.md").read_text()
    assert "| ease | any | threshold | 60% | 60% |" in text and is_png(output / "carryover.png")
    assert "- ncf: trained anew" in text and "- ease: ridge" in text and "±" not in text


def test_what_is_withheld_is_neither_trained_on_nor_ranked_and_judges_add_up(cpu, ratings, settings, tmp_path, monkeypatch):
    flags = [*SMALL, "--carryover_strategies", "random", "--carryover_judges", "ease", "--seeds", 1]
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
    assert (table["full_hr@3"] == 1).all() and (table["full_ndcg@3"] == 1).all()
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
    for judge in PARTS:
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


@pytest.mark.parametrize("judge", PARTS)
def test_judges_of_implicit_learn_from_the_matrix_and_the_seed_alone(ratings, settings, recwarn, judge):
    pytest.importorskip("implicit")
    matrix, users = matrix_of(load_dataset(settings())), np.arange(12)
    scores, again = (fitted(judge, matrix, 3, GRIDS[judge][0])(users) for _ in range(2))
    assert scores.shape == (12, 20) and np.isfinite(scores).all() and np.array_equal(scores, again)
    assert not recwarn.list
    if judge == "item-knn":  # fewer items than neighbours: the whole cosine
        x = matrix.toarray().astype(np.float64)
        norm = np.sqrt(np.maximum((x ** 2).sum(0), 1))
        assert scores == pytest.approx(x @ (x.T @ x / norm / norm[:, None]), abs=1e-5)
    else:
        assert not np.array_equal(scores, fitted(judge, matrix, 4, GRIDS[judge][0])(users))
        touched = matrix.toarray() > 0
        assert scores[touched].mean() > scores[~touched].mean()
