import math

import numpy as np
import pytest

from src import metrics

SCORES = np.array([[5.0, 1.0, 2.0, 3.0], [1.0, 0.0, 2.0, -1.0], [-1.0, 0.0, 2.0, 3.0]])
RANK = np.array([0, 1, 3])  # of the item in column 0


def test_ranks_by_hand():
    assert np.array_equal(metrics.ranks(SCORES), RANK)
    assert metrics.ranks(np.zeros((1, 4))).tolist() == [3]  # ties count against the positive
    with pytest.raises(FloatingPointError):
        metrics.ranks(np.array([[np.nan, 0.0]]))


@pytest.mark.parametrize("found, expected", [
    (metrics.hit_ratio_of_ranks(RANK, 1), 1 / 3), (metrics.hit_ratio_of_ranks(RANK, 2), 2 / 3),
    (metrics.ndcg_of_ranks(RANK, 2), (1 + 1 / math.log2(3)) / 3),
    (metrics.ndcg_of_ranks(RANK, 4), (1 + 1 / math.log2(3) + 1 / math.log2(5)) / 3),
    (metrics.willingness_violation(np.array([True, False, True]), np.array([0.5, 0.9, 0.25]), num_users=2), 0.375)])
def test_measures_by_hand(found, expected):
    assert found == pytest.approx(expected)


def test_losses_by_hand_and_without_overflow():
    losses = metrics.cross_entropy(np.array([[0.0, 0.0], [1.0, -2.0], [-1000.0, 1000.0]], np.float32))
    expected = [[math.log(2)] * 2, [math.log(1 + math.exp(-1)), math.log(1 + math.exp(-2))], [1000, 1000]]
    assert losses == pytest.approx(np.array(expected))


def test_all_metrics_joins_them():
    # positives 5, 1, -1 against negatives 1 2 3 0 2 -1 0 2 3: 9 + (3.5 + 1) + 0.5 pairs won of 27
    won = sum((p > n) + 0.5 * (p == n) for p in SCORES[:, 0] for n in SCORES[:, 1:].ravel())
    losses = metrics.cross_entropy(SCORES)
    assert metrics.all_metrics(SCORES, 2) == pytest.approx({
        "hr@2": 2 / 3, "ndcg@2": metrics.ndcg_of_ranks(RANK, 2), "auc": won / 27, "loss": losses.mean(),
        "pos_loss": losses[:, 0].mean()})
