import math

import numpy as np
import pytest

from src import metrics

# ranks 0, 1 and 3 of the item in column 0
SCORES = np.array([[5.0, 1.0, 2.0, 3.0], [1.0, 0.0, 2.0, -1.0], [-1.0, 0.0, 2.0, 3.0]])


def test_ranks_by_hand():
    assert metrics.ranks(SCORES).tolist() == [0, 1, 3]


def test_ties_count_against_the_positive():
    assert metrics.ranks(np.zeros((1, 4))).tolist() == [3]
    assert metrics.hit_ratio_of_ranks(metrics.ranks(np.zeros((5, 100))), 10) == 0


def test_hit_ratio_and_ndcg_by_hand():
    rank = metrics.ranks(SCORES)
    assert metrics.hit_ratio_of_ranks(rank, 1) == pytest.approx(1 / 3)
    assert metrics.hit_ratio_of_ranks(rank, 2) == pytest.approx(2 / 3)
    assert metrics.ndcg_of_ranks(rank, 2) == pytest.approx((1 + 1 / math.log2(3)) / 3)
    assert metrics.ndcg_of_ranks(rank, 4) == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(5)) / 3)


def test_mrr_precision_and_f1_by_hand():
    rank = metrics.ranks(SCORES)  # 0, 1 and 3
    assert metrics.mrr_of_ranks(rank, 2) == pytest.approx((1 + 1 / 2) / 3)
    assert metrics.mrr_of_ranks(rank, 4) == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)
    assert metrics.precision_of_ranks(rank, 2) == pytest.approx((1 / 2 + 1 / 2) / 3)
    # each hit has P = 1 / 2 and R = 1
    assert metrics.f1_of_ranks(rank, 2) == pytest.approx(2 * (2 * 0.5 * 1 / (0.5 + 1)) / 3)
    assert metrics.f1_of_ranks(rank, 5) == pytest.approx(1 / 3) and metrics.f1_of_ranks(rank + 5, 5) == 0


def test_softmax_loss_by_hand_and_without_overflow():
    losses = metrics.softmax_loss(np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0], [-1000.0, 1000.0, 0.0]], np.float32))
    assert losses == pytest.approx([math.log(3), math.log(1 + math.e + math.exp(-1)), 2000])


def test_cross_entropy_by_hand_and_without_overflow():
    losses = metrics.cross_entropy(np.array([[0.0, 0.0], [1.0, -2.0], [-1000.0, 1000.0]], np.float32))
    assert losses[0] == pytest.approx([math.log(2)] * 2)
    assert losses[1] == pytest.approx([math.log(1 + math.exp(-1)), math.log(1 + math.exp(-2))])
    assert losses[2] == pytest.approx([1000, 1000])


def test_all_metrics_joins_loss_and_pos_loss():
    result = metrics.all_metrics(SCORES, 2)
    losses = metrics.cross_entropy(SCORES)
    assert result["loss"] == pytest.approx(losses.mean())
    assert result["pos_loss"] == pytest.approx(losses[:, 0].mean())
    assert set(result) == {"hr@2", "ndcg@2", "auc", "loss", "pos_loss"}


def test_auc_by_hand():
    # positives 5, 1, -1 against negatives 1 2 3 0 2 -1 0 2 3: 9 + (3.5 + 1) + 0.5 pairs won of 27
    won = sum((p > n) + 0.5 * (p == n) for p in SCORES[:, 0] for n in SCORES[:, 1:].ravel())
    assert metrics.auc(SCORES) == pytest.approx(won / 27)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(FloatingPointError, match="not finite"):
        metrics.ranks(np.array([[np.nan, 0.0]]))


def test_willingness_violation_by_hand():
    disclosed, unwillingness = np.array([True, False, True]), np.array([0.5, 0.9, 0.25])
    assert metrics.willingness_violation(disclosed, unwillingness, num_users=2) == pytest.approx(0.375)
