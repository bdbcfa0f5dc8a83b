"""What each strategy discloses, on known answers."""
import numpy as np
import pytest

from src.dataset import load_dataset
from src.game.problem import Problem
from src.game.strategies import Strategies
from src.influence_function import influences
from tests.test_ncf import randomised

NETWORK = ["--num_factors", 3, "--layers", "6,4", "--num_neg", 2, "--anchor_warm_epochs", 1, "--batch_size", 6]


@pytest.fixture
def make(cpu, small, settings):
    """make(flags, b) -> dataset with histories of 6, 3, 1 and 0, Strategies, and the model's parameters."""
    def strategies(*flags, b=None):
        config = settings(*NETWORK, *flags)
        dataset = load_dataset(config)
        values = randomised(4, 9, 3, [6, 4], seed=2)[1]
        model = {1: values}, {"settings": config.as_dict()}
        b = np.linspace(1, 0.1, dataset.num_interactions) if b is None else np.asarray(b, float)
        return dataset, Strategies(Problem(dataset, b), model, config, "CPU"), values
    return strategies


def test_threshold_takes_the_least_unwilling_first(make):
    _, decide, _ = make(b=[0.5, 0.1, 0.4, 0.2, 0.9, 0.3, 0.2, 0.6, 0.7, 0.1])  # 4.0 in all
    assert decide("threshold", 0.25).disclosed.nonzero()[0].tolist() == [1, 3, 5, 6, 9]  # 0.9 of 1.0: 0.4 would not fit
    assert decide("threshold", 1.0).disclosed.all()


def test_recent_takes_the_same_share_of_each_history_latest_first(make):
    _, decide, _ = make(b=np.full(10, 0.5))
    # 6, 3 and 1 interactions; by place from the end over length: 1/6, 1/3 (two of them), 1/2, 2/3 (two), ...
    assert decide("recent", 0.3).disclosed.nonzero()[0].tolist() == [4, 5, 8]
    assert decide("recent", 0.6).disclosed.nonzero()[0].tolist() == [2, 3, 4, 5, 7, 8]


def test_random_follows_the_seed(make):
    kept = [make("--seed", seed)[1]("random", 0.5).disclosed.tolist() for seed in (1, 1, 2)]
    assert kept[0] == kept[1] != kept[2]


def test_similarity_goes_by_cosine_per_unwillingness(make):
    dataset, decide, values = make()
    embedding = np.concatenate([values["item_gmf"], values["item_mlp"]], 1).astype(float)
    cosine = np.array([embedding[i] @ embedding[dataset.validation[u]] / np.linalg.norm(embedding[i])
                       / np.linalg.norm(embedding[dataset.validation[u]]) for u, i in zip(dataset.user, dataset.item)])
    assert (cosine > 0).any() and (cosine < 0).any()
    assert np.array_equal(decide("similarity", 1.0).disclosed, cosine > 0)
    b, kept = np.linspace(1, 0.1, 10), decide("similarity", 0.2).disclosed
    assert kept.any() and (cosine[kept] / b[kept]).min() > (cosine / b)[~kept & (cosine > 0)].max()


def test_the_game_goes_by_the_validation_item_without_lags(make):
    dataset, decide, values = make("--influence_lags", 0, "--shrinkage", 0)
    decision = decide("ifrqe", 0.5)
    assert np.array_equal(decision.influence, decision.expected)
    assert decision.influence == pytest.approx(influences([values], dataset, decide.config)[0], rel=1e-5)
    assert np.array_equal(decide("ifrqe", 0.5, weight=0.0).disclosed, decision.influence > 0)


def test_shrinkage_goes_from_the_game_to_the_order_of_threshold(make):
    _, decide, _ = make("--shrinkage", 0)
    own, whole = decide("ifrqe", 0.5), make("--shrinkage", 1)[1]("ifrqe", 0.5)
    half = make("--shrinkage", 0.5)[1]("ifrqe", 0.5)
    mean = max(own.expected.mean(), 0)
    assert half.expected == pytest.approx((own.expected + mean) / 2) and whole.expected == pytest.approx(np.full(10, mean))
    assert (half.record["shrinkage"], half.record["expected_mean"]) == (0.5, pytest.approx(own.expected.mean()))
    assert np.array_equal(whole.disclosed, decide("threshold", 0.5).disclosed)


@pytest.mark.parametrize("placing", ["successive", "binomial"])
def test_each_anchor_is_trained_on_what_it_discloses(make, monkeypatch, placing):
    dataset, decide, _ = make("--anchor_placing", placing, "--anchors", 3)
    asked = []
    monkeypatch.setattr("src.influence_function.influences", lambda parameters, dataset, config, targets, anchor: (
        asked.append(anchor), (np.random.default_rng(len(asked)).normal(0.01, 1, (10, targets.shape[1])), {}))[1])
    decision = decide("ifrqe++", 0.5)
    b = np.linspace(1, 0.1, 10)
    assert asked[0] is None and len(asked) == 3 and len(decision.record["anchor_wv"]) == 3
    assert decision.record["anchor_wv"] == pytest.approx([b.sum() / 4, *(b[o].sum() / 4 for o in asked[1:])])
    if placing == "successive":
        assert np.array_equal(asked[1], decide("ifrqe", 0.5).disclosed)
        assert all(b[o].sum() <= 0.5 * b.sum() for o in asked[1:])


def test_influences_at_everything_are_computed_once(make, monkeypatch):
    _, decide, _ = make()
    decide("ifrqe", 0.5)
    monkeypatch.setattr("src.influence_function.influences", lambda *_: pytest.fail("computed again"))
    decide("ifrqe", 0.2)
