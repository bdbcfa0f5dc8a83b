"""Masks and trainings of a seed: what is trained on, what is refitted, and that nothing vetoed takes part."""
import numpy as np
import pytest

from src.dataset import load_dataset
from src.evaluation.evaluate import ranks_among_untouched
from src.influence.rows import Rows
from src.metrics import mean_loss, ranks
from src.network import build, score, score_all
from studies.grid import Retraining, Study
from studies.masks import FULL, LOSS, NONE_VALIDATION, PERSONAL, RANK, masks_of_seed, quality
from tests.small import SMALL, refused

VETO = "user_id,item_id,unwillingness\n,,0.2\n,4,1\n2,,1\n"


@pytest.fixture
def parts(monkeypatch):
    """Trainings whose candidates stand in their order; the list of what they were trained on."""
    found = []

    def trained(self, part, seed):
        found.append(part)
        return lambda candidates: np.tile(np.arange(candidates.shape[1], 0.0, -1), (len(candidates), 1))
    monkeypatch.setattr(Retraining, "__call__", trained)
    return found


def masks_of(config, strategies=("none",), seed=1):
    return masks_of_seed(Study("study", __name__, config), seed, strategies)


def test_models_are_trained_on_what_is_disclosed_and_on_equal_masks_once(cpu, ratings, settings, parts):
    config = settings(*SMALL, "--personal", "False")
    masks, dataset = masks_of(config), load_dataset(config)
    decided = masks.decided([("threshold", 0.5), ("threshold", 1.0), ("random", 1.0), ("none", 1.0), (NONE_VALIDATION, 1.0)])
    values = masks.trained(decided)
    assert len(parts) == 3 and len(values) == 5 and (values[0][RANK] == 0).all()
    net = build(dataset, config)
    assert np.array_equal(values[0][FULL], ranks_among_untouched(dataset, dataset.test, score_all(
        net, dataset.scored, dataset.num_items, 1000)))
    mask = decided.disclosed[0]
    assert np.array_equal(parts[0].item, dataset.item[mask]) and decided.disclosed_share[0] == mask.mean() < 1
    assert decided.wv_share[0] == decided.spent_share[0] <= 0.5 and decided.wv_share[3] == 1
    assert parts[2].history_pairs().contains(np.arange(12), dataset.validation).all()
    masks_of(config).trained(decided)
    assert len(parts) == 3 and masks.config.checkpoint_path.endswith("seed_1")
    with refused("--wv_budget 1e-09"):
        masks.decided([("threshold", 1e-9)], "wv_budget")


def test_nothing_is_trained_on_what_is_vetoed(cpu, ratings, settings, tmp_path, parts):
    (tmp_path / "rules.csv").write_text(VETO)
    config = settings(*SMALL, "--veto", "--willingness_file", tmp_path / "rules.csv", "--personal", "False")
    masks, dataset = masks_of(config), load_dataset(config)
    masks.trained(masks.decided([(name, 1.0) for name in ("none", NONE_VALIDATION, "random", "threshold", "recent")]))
    item = int(np.flatnonzero(dataset.item_ids == 4)[0])
    assert (dataset.dropped.item == item).sum() > 1 and dataset.validation[1] == dataset.test[1] == -1
    for part in parts:  # held-out items neither: they are the last two that are allowed
        assert len(part.item) and not (part.item == item).any() and not (part.user == 1).any()
    assert item not in dataset.validation and len(parts[1].item) == len(parts[0].item) + 11


def test_personal_rows_are_refitted_on_all_that_is_not_vetoed(cpu, ratings, settings, tmp_path, monkeypatch):
    (tmp_path / "rules.csv").write_text("user_id,item_id,unwillingness\n,4,1\n2,,1\n")
    config = settings(*SMALL, "--veto", "--willingness_file", tmp_path / "rules.csv", "--embedding_std", 0.7,
                      "--personal", "auto")
    dataset, net = load_dataset(config), build(load_dataset(config), config)
    values = net.values()

    def trained(self, part, seed):
        self.shown.set_values(values)
        return lambda candidates: score(self.shown, candidates, 1000, dataset.scored)
    monkeypatch.setattr(Retraining, "__call__", trained)
    masks = masks_of(config)
    decided = masks.decided([("threshold", 0.5)])
    results, = masks.trained(decided)
    rows = Rows(net, dataset.part(decided.disclosed[0]), config)
    net.set_values(rows.refitted(dataset, rows.trained))
    assert not rows.length.all() and dataset.scored.tolist() == [0, *range(2, 12)]  # user 2 forbids all
    assert np.array_equal(results[PERSONAL], ranks(score(net, masks.retraining.test, 1000, dataset.scored)))
    plain, = masks_of(config.replace(personal="False")).trained(decided)
    assert len(plain) == PERSONAL and np.array_equal(plain, results[:PERSONAL])


def test_where_nothing_is_disclosed_the_network_stays_as_it_was_drawn(cpu, ratings, settings):
    config = settings(*SMALL, "--personal", "False")
    masks = masks_of(config)
    decided = masks.decided([("random", 0.0)])
    fresh = score(build(load_dataset(config), config), masks.retraining.test, config.eval_batch_size)
    assert decided.wv[0] == decided.disclosed_share[0] == 0
    assert masks.trained(decided)[0][LOSS] == pytest.approx(mean_loss(fresh))


def test_quality_and_what_users_gain():
    found = quality(np.array([0, 1, 5, 9]), 2, "full_", np.array([1, 7, 7, 7]))
    assert found["full_hr@2"] == 0.5 and found["gain_full_hr@2"] == 0.25
    assert found["full_hr@2_se"] == 0.25 and found["gain_full_hr@2_se"] == pytest.approx(np.sqrt(3) / 8)
    assert found["full_ndcg@2"] == pytest.approx((1 + 1 / np.log2(3)) / 4)
    assert found["gain_full_ndcg@2"] == pytest.approx(0.25)
    assert set(quality(np.arange(3), 2)) == {"hr@2", "hr@2_se", "ndcg@2", "ndcg@2_se"}
