"""Influences against brute force: loss in NumPy, gradients and Hessians by finite differences, dense solve."""
import functools

import numpy as np
import pytest

from src import influence_function
from src.dataset import load_dataset
from src.influence.chunks import Chunks
from src.influence_function import influences, influences_of_pairs
from src.network import build
from tests import reference
from tests.test_ncf import randomised


def block(values, dataset, config):
    """(n,) influences of solver `block` at one set of parameters."""
    return influences([values], dataset, config.replace(solver="block"))[0]


def sampled(dataset, config):
    """(n, 1 + num_neg) items: each positive with the negatives that its chunk draws."""
    chunks = Chunks(dataset, config)
    groups = np.zeros((dataset.num_interactions, 1 + config.num_neg), int)
    for k in range(len(chunks)):
        chunk = chunks[k]
        groups[chunks.positions(k)] = chunk.items[chunk.inside]
    return groups


def brute_force_user(values, row, validation, items, damping, disclosed=None):
    """Influence of each positive (items[:, 0]) of a user alone."""
    disclosed = np.ones(len(items), bool) if disclosed is None else disclosed
    labels = np.zeros(items.shape, int)
    labels[:, 0] = 1

    def loss(items, labels):
        return lambda r: reference.cross_entropy(reference.logits(values, r, items.ravel()), labels.ravel()).sum()

    hessian = reference.hessian(loss(items[disclosed], labels[disclosed]), row)
    hessian += damping * np.diag(reference.hessian(loss(items, labels), row)).mean() * np.eye(len(row))
    direction = np.linalg.solve(hessian, reference.gradient(loss(validation, np.ones(1, int)), row))
    return [direction @ reference.gradient(loss(i[:1], k[:1]), row) for i, k in zip(items, labels)]


@pytest.mark.parametrize("layers, damping, disclosed", [
    ([6], 1.0, np.ones(10)), ([8, 5, 3], 0.1, np.ones(10)),
    ([6, 4], 0.1, np.array([1, 0, 1, 1, 0, 0, 0, 1, 0, 0]))])  # at an anchor: nothing of the third user
def test_block_equals_brute_force_with_the_hessian_of_what_is_disclosed(cpu, small, settings, layers, damping, disclosed):
    config = settings("--num_factors", 3, "--layers", ",".join(map(str, layers)), "--damping", damping, "--num_neg", 3,
                      "--solver", "block")
    dataset, disclosed = load_dataset(config), disclosed.astype(bool)
    values = randomised(4, 9, 3, layers, seed=1)[1]
    found, _ = influences([values], dataset, config, disclosed=None if disclosed.all() else disclosed)
    groups, double = sampled(dataset, config), {k: v.astype(float) for k, v in values.items()}
    for user in (0, 1, 2):
        rows = dataset.user == user
        own = brute_force_user(double, reference.user_row(double, user), dataset.validation[[user]], groups[rows],
                               damping, disclosed[rows])
        assert np.abs(own).max() > 1e-4
        assert found[rows] == pytest.approx(own, rel=1e-3, abs=1e-4 * np.abs(own).max())


@pytest.mark.parametrize("solver", ["block", "blend", pytest.param("lissa", marks=pytest.mark.slow)])
def test_several_targets_are_predicted_each_by_itself_in_whatever_chunks(cpu, small, settings, solver):
    config = settings("--num_factors", 3, "--layers", "6,4", "--solver", solver, "--lissa_scale", 5, "--lissa_depth", 2)
    dataset, values = load_dataset(config), randomised(4, 9, 3, [6, 4], seed=2)[1]
    targets = np.array([[6, 7], [1, 8], [0, 2], [4, 5]], np.int32)
    narrow = config if solver == "lissa" else config.replace(chunk_size=1)  # lissa draws its samples by chunk
    assert [len(Chunks(dataset, c)) for c in (narrow, config)] == [1 if solver == "lissa" else 3, 1]
    both, _ = influences([values], dataset, config, targets=targets)
    for k in (0, 1):
        dataset.validation = targets[:, k]
        alone, _ = influences([values], dataset, narrow)
        # sums of some hundred float32 products, in another order
        assert both[:, k] == pytest.approx(alone, rel=1e-3, abs=1e3 * np.finfo(np.float32).eps * np.abs(both).max())


def test_chunks_cover_every_interaction_once_with_negatives_of_its_user(write_ratings, settings):
    rng = np.random.default_rng(5)
    write_ratings([(u, i, t) for u in range(40) for t, i in enumerate(rng.permutation(30)[:3 + u // 2])])
    config = settings("--chunk_size", 200, "--num_neg", 3)
    dataset = load_dataset(config)
    chunks = Chunks(dataset, config)
    assert len(chunks) > 5 and chunks.pairs_per_call <= 200
    places = [chunks.positions(k) for k in range(len(chunks))]
    assert sorted(np.concatenate(places)) == list(range(dataset.num_interactions))
    groups, pairs = sampled(dataset, config), dataset.history_pairs()
    assert np.array_equal(groups[:, 0], dataset.item)
    assert not pairs.contains(dataset.user[:, None], groups[:, 1:]).any()
    for k, place in enumerate(places):
        assert chunks[k].inside.sum() == len(place)
        assert set(dataset.user[place]) == set(chunks[k].users)


def test_blend_adds_the_terms_of_a_ridge_regression(cpu, small, settings):
    config = settings("--num_factors", 3, "--layers", "6,4", "--solver", "blend")
    dataset = load_dataset(config)
    _, values = randomised(4, 9, 3, [6, 4], seed=3)
    added = influences([values], dataset, config)[0] - block(values, dataset, config)
    embedding = np.concatenate([values["item_gmf"], values["item_mlp"]], 1).astype(float)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    for user in range(3):
        rows = dataset.user == user
        history, wanted = embedding[dataset.item[rows]], embedding[dataset.validation[user]]
        gram = history.T @ history
        ridge = 10 * np.diag(gram).mean()
        # the regression of 1 on the history, in its dual form, gives y the sum of the terms as score
        dual = np.linalg.solve(history @ history.T + ridge * np.eye(len(history)), np.ones(len(history)))
        slope = 1 / (1 + np.exp(reference.logits({k: v.astype(float) for k, v in values.items()},
                                                 reference.user_row(values, user), dataset.validation[[user]])[0]))
        assert added[rows].sum() == pytest.approx(slope * wanted @ history.T @ dual, rel=1e-3)
        assert added[rows] == pytest.approx(slope * history @ np.linalg.solve(gram + ridge * np.eye(6), wanted), rel=1e-3,
                                            abs=1e-6)


def test_influences_are_the_mean_over_the_anchors(cpu, small, settings):
    config = settings("--num_factors", 3, "--layers", "6,4")
    dataset = load_dataset(config)
    one, other = (randomised(4, 9, 3, [6, 4], seed=k)[1] for k in (1, 2))
    a, b, both = (influences(anchors, dataset, config)[0] for anchors in ([one], [other], [one, other]))
    assert np.abs(a - b).max() > 1e-3 and both == pytest.approx((a + b) / 2, rel=1e-6, abs=1e-9)


def test_influence_predicts_the_change_when_an_interaction_is_withheld(cpu, write_ratings, settings):
    """Scale: on a convex problem trained to its optimum, I is the first-order change of the validation loss."""
    rng = np.random.default_rng(0)
    write_ratings([(1, i, i) for i in range(1, 43)], items=range(1, 61))
    config = settings("--damping", 0.5, "--num_neg", 4, "--num_factors", 3, "--layers", 2)
    dataset = load_dataset(config)
    _, values = randomised(1, 60, 3, [2])
    values = {name: np.zeros_like(value) for name, value in values.items()}
    values["head.gmf_weight"][:] = 1
    values["item_gmf"] = rng.normal(0, 1, (60, 3)).astype(np.float32)
    groups = sampled(dataset, config)
    items, labels = groups.ravel(), np.tile([1, 0, 0, 0, 0], len(groups))
    features = values["item_gmf"][items].astype(float)

    def optimum(weight, ridge, row=None):
        row = np.zeros(3) if row is None else row
        for _ in range(50):  # Newton on the logistic loss with a ridge towards where the row already was
            p = 1 / (1 + np.exp(-features @ row))
            h = (features * (weight * p * (1 - p))[:, None]).T @ features
            row = row - np.linalg.solve(h + ridge * np.eye(3), features.T @ (weight * (p - labels)) + ridge * (row - centre))
        return row, h

    centre = np.zeros(3)
    trained, h = optimum(np.ones(len(items)), 0.0)
    ridge = config.damping * np.diag(h).mean()
    centre = trained  # the damping is a ridge around the trained row
    values["user_gmf"][0] = trained
    predicted = block(values, dataset, config)

    def validation_loss(row):
        return np.logaddexp(0, -values["item_gmf"][dataset.validation[0]] @ row)

    actual = []
    for k in range(len(groups)):
        weight = np.ones(len(items))
        weight[5 * k] = 0
        actual.append(validation_loss(optimum(weight, ridge, trained)[0]) - validation_loss(trained))
    assert np.corrcoef(predicted, actual)[0, 1] > 0.99
    assert np.polyfit(predicted, actual, 1)[0] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("solver", ["block", "blend", pytest.param("lissa", marks=pytest.mark.slow)])
def test_no_look_at_the_test_item(cpu, small, settings, solver):
    config = settings("--num_factors", 3, "--layers", "6,4", "--solver", solver, "--lissa_scale", 5, "--lissa_depth", 1)
    dataset = load_dataset(config)
    _, values = randomised(4, 9, 3, [6, 4], seed=2)
    before, _ = influences([values], dataset, config)
    dataset.test = np.zeros_like(dataset.test)
    assert np.array_equal(before, influences([values], dataset, config)[0])


def test_a_certain_user_gives_no_nan_and_what_is_not_finite_raises(cpu, small, settings):
    config = settings("--num_factors", 3, "--layers", "6,4")
    dataset = load_dataset(config)
    _, values = randomised(4, 9, 3, [6, 4])
    certain = {**values, "head.out_bias": np.full_like(values["head.out_bias"], 200)}  # every probability is 1
    assert np.isfinite(influences([certain], dataset, config)[0]).all()
    values["user_gmf"][0] = np.nan
    with pytest.raises(FloatingPointError, match="--solver blend"):
        influences([values], dataset, config)


@pytest.mark.parametrize("solver", ["block", "blend"])
@pytest.mark.parametrize("model", ["ncf", "mf"])
def test_pairs_alone_are_worth_what_they_are_in_their_history(cpu, small, settings, monkeypatch, solver, model):
    flags = ["--num_factors", 3, "--solver", solver, "--model", model]
    config = settings(*flags, *(["--layers", "6,4"] if model == "ncf" else []), "--num_neg", 2, "--chunk_size", 9)
    dataset, targets = load_dataset(config), np.array([[6, 1], [1, 3], [0, 2], [4, 5]])
    sets = [build(dataset, config.replace(seed=k, embedding_std=0.5)).values() for k in (1, 2)]
    part = dataset.part(np.arange(10) % 3 > 0)
    pairs = part.user, part.item
    found = influences_of_pairs(sets, part, pairs, targets, config, build(dataset, config))
    # whatever else is asked about; who has disclosed nothing has no row
    order = np.r_[3, 0, 5, 5, 1]
    again = influences_of_pairs(sets, part, (pairs[0][order], pairs[1][order]), targets, config, build(dataset, config))
    assert again.tobytes() == found[order].tobytes() and found.all()
    nobody = influences_of_pairs(sets, part, (np.full(3, 3, np.int32), np.arange(3, dtype=np.int32)), targets, config,
                                 build(dataset, config))
    assert not nobody.any()
    chunks = functools.partial(Chunks, purpose="negatives of a device", own=True)
    monkeypatch.setattr(influence_function, "Chunks", lambda dataset, config, disclosed: chunks(dataset, config))
    np.testing.assert_allclose(found, influences(sets, part, config, targets)[0], rtol=2e-4, atol=1e-6)


def test_negatives_of_a_device_do_not_depend_on_other_users(small, settings):
    config = settings("--num_neg", 2, "--seed", 3)
    dataset = load_dataset(config)

    def drawn(part):
        chunks, found = Chunks(part, config, own=True), {}
        for k in range(len(chunks)):
            places, negatives = chunks.positions(k), chunks[k].items[chunks[k].inside][:, 1:].tolist()
            found.update(zip(zip(part.user[places], part.item[places]), negatives))
        return found
    alone, together, kept = drawn(dataset.part(dataset.user == 1)), drawn(dataset), np.arange(10) != 2
    assert len(alone) == 3 and alone.items() <= together.items()
    assert not any(np.isin(row, dataset.item[kept & (dataset.user == u)]).any()
                   for (u, _), row in drawn(dataset.part(kept)).items())
