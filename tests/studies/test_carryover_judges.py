"""The judges of the carry-over study on known answers."""
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from src.dataset import load_dataset
from src.evaluation.evaluate import ranks_among_untouched
from studies import carryover_judges
from studies.carryover_judges import (
    ALS,
    BPR,
    EASE,
    GRIDS,
    ITEM_KNN,
    MOST_ITEMS,
    choose,
    ease_weights,
    fitted,
    in_chunks,
    matrix_of,
    reason_against,
    version_of,
)


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


def test_ranks_leave_out_what_is_withheld(small, settings):
    dataset = load_dataset(settings())  # items 1 to 9 are the positions 0 to 8; see conftest.small
    everyone = np.arange(4)
    falling = np.tile(np.arange(9.0, 0, -1), (4, 1))

    def ranks(scores, target=dataset.test):
        return ranks_among_untouched(dataset, target, in_chunks(lambda users: scores[users], 4, 9, 20)).tolist()
    # 1 has touched 1 to 6, 7 is to be validated; 2: 7, 1, 5 and 2; 3: 2 and 1; 4: 5
    assert ranks(falling) == [0, 4, 0, 4]  # before the test items 8, 9, 3, 6 come: none; 3 4 6 8; none; 1 2 3 4
    assert ranks(np.ones((4, 9))) == [1, 4, 6, 7]  # equal scores come before: all untouched ones
    assert ranks(falling, dataset.validation) == [0, 0, 0, 4]  # 7, 2, 1, 5; the test item is as untouched as any
    matrix = matrix_of(dataset.part(np.arange(dataset.num_interactions) != 0))
    assert matrix.shape == (4, 9) and matrix[0].indices.tolist() == [1, 2, 3, 4, 5]  # item 1 is withheld
    scores = falling.copy()
    scores[0, 0] = 100  # but it is not ranked, however likely
    assert ranks(scores) == [0, 4, 0, 4]
    assert [users.tolist() for users, _ in in_chunks(lambda users: scores[users], 4, 9, 20)] == [[0, 1], [2, 3]]
    assert everyone.tolist() == [u for users, _ in in_chunks(lambda users: scores[users], 4, 9, 1) for u in users]


def test_who_cannot_judge_has_a_reason(monkeypatch, tmp_path):
    assert set(GRIDS) == {ITEM_KNN, EASE, ALS, BPR}
    assert reason_against(EASE, MOST_ITEMS) == "" == reason_against("ncf", 10 ** 9)
    assert reason_against(EASE, 20_000) == "20,000 items are more than 15,000: a matrix of all their pairs takes 3.2 GB"
    monkeypatch.setitem(sys.modules, "implicit", None)  # as if it were not installed
    for judge in (ITEM_KNN, ALS, BPR):
        assert reason_against(judge, 10).endswith("; mend that with: pip install implicit")
    monkeypatch.delitem(sys.modules, "implicit")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "implicit").mkdir()
    for text, words in (("raise ValueError('numpy.dtype size\\nchanged')", "ValueError('numpy.dtype size\\nchanged')"),
                        ("import sys; sys.exit('no GPU')", "SystemExit('no GPU')")):
        (tmp_path / "implicit" / "bpr.py").write_text(text)  # the package can be imported, but not what judges
        (tmp_path / "implicit" / "__init__.py").touch()
        assert reason_against(BPR, 10).startswith(f"the package implicit does not serve ({words}); ")
    assert reason_against(EASE, 10) == "" and version_of(EASE) is None


def test_judges_are_set_on_validation_items_alone(small, settings, tmp_path, monkeypatch):
    config = settings("--top_k", 3)
    dataset = load_dataset(config)
    problem = SimpleNamespace(dataset=dataset)
    monkeypatch.setitem(GRIDS, EASE, [{"ridge": float(k)} for k in (1, 2, 3)])
    trained = []

    def made_up(judge, matrix, seed, setting):
        trained.append(matrix)
        best = {1.0: dataset.test, 2.0: dataset.validation, 3.0: dataset.validation}[setting["ridge"]]
        scores = np.zeros((4, 9))
        scores[np.arange(4), best] = 1
        return lambda users: scores[users]
    monkeypatch.setattr(carryover_judges, "fitted", made_up)
    path = tmp_path / "setting.npz"
    assert choose(EASE, problem, config, path, {"key": 1}) == {"ridge": 2.0}  # of equals the first
    found = np.load(path)["ndcg"]
    assert found[1:].tolist() == [1.0, 1.0] and found[0] < 1
    assert all(matrix.nnz == dataset.num_interactions for matrix in trained)
    for key, overwrite, times in (({"key": 1}, False, 3), ({"key": 2}, False, 6), ({"key": 2}, True, 9)):
        assert choose(EASE, problem, config.replace(overwrite=overwrite), path, key) == {"ridge": 2.0}
        assert len(trained) == times


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
