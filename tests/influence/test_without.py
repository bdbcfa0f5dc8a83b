"""Lists without some interactions: the model's own where nothing is withheld, else the optimum; and the smallest sets."""
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize

import src.influence.without as module
from src.dataset import load_dataset
from src.influence.without import MARGIN, MOST, Without, fewest, margin_of, search
from src.network import build, score_all
from tests.small import SMALL
from tests.test_mf import logits as mf_logits
from tests.test_mf import rows_of

K = 3


@pytest.fixture(params=["mf", "ncf 6,4"])
def given(request, cpu, ratings, settings):
    """Settings, dataset and a network whose predictions differ: 12 users, 7 of 20 items each."""
    model, *layers = request.param.split()
    config = settings(*SMALL[2:], *(["--layers", *layers] if layers else []), "--model", model)
    dataset = load_dataset(config)
    net, rng = build(dataset, config), np.random.default_rng(2)
    net.set_values({name: rng.normal(0, 0.7, value.shape).astype(np.float32) for name, value in net.values().items()})
    return config, dataset, net


def unseen_of(dataset, user):
    unseen = np.ones(dataset.num_items, bool)
    unseen[dataset.item[dataset.user == user]] = False
    return unseen


def test_with_nothing_withheld_the_logits_are_the_models(given):
    config, dataset, net = given
    users = np.arange(dataset.num_users)
    found = Without(net, dataset, config).logits(users, [users[:0]] * len(users))
    wanted = np.concatenate([scores for _, scores in score_all(net, users, dataset.num_items, 1000)])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_chunks_and_who_else_is_asked_about_make_no_difference(given):
    config, dataset, net = given
    sets = [(user, np.flatnonzero(dataset.user == user)[k:k + 2]) for user in (3, 3, 8, 0) for k in (0, 2)]
    users, withheld = np.array([user for user, _ in sets]), [positions for _, positions in sets]
    together = Without(net, dataset, config).logits(users, withheld)
    alone = Without(net, dataset, config.replace(chunk_size=20))
    assert alone.together == 1
    np.testing.assert_allclose(np.concatenate([alone.logits(users[k:k + 1], withheld[k:k + 1]) for k in range(len(sets))]),
                               together, atol=1e-4)


@pytest.mark.parametrize("given", ["mf"], indirect=True)
def test_the_row_is_the_optimum_of_what_is_left_less_the_slope_of_all(given):
    config, dataset, net = given
    values, without, user = net.values(), Without(net, dataset, config), 5
    history, trained = without.history(user), rows_of(net.values(), "user")[5]

    def value(row, kept):
        positives = dataset.item[kept]
        negatives = np.setdiff1d(np.arange(dataset.num_items), positives)
        away = row - without.prior.mean
        weight = config.num_neg * len(positives) / len(negatives)  # as many draws, each from all of these
        return np.logaddexp(0, -mf_logits(values, row, positives)).sum() + \
            weight * np.logaddexp(0, mf_logits(values, row, negatives)).sum() + 0.5 * away @ without.prior.precision @ away

    steps = 1e-5 * np.eye(len(trained))
    slope = np.array([(value(trained + h, history) - value(trained - h, history)) / 2e-5 for h in steps])
    for withheld in (history[:1], history[[1, 4, 5]]):
        kept = np.setdiff1d(history, withheld)
        best = minimize(lambda row, kept=kept: value(row, kept) - slope @ row, trained, method="BFGS",
                        options={"gtol": 1e-7}).x
        found, = without.logits(np.array([user]), [withheld])
        np.testing.assert_allclose(found, mf_logits(values, best, np.arange(dataset.num_items)), atol=2e-3)


@pytest.mark.parametrize("given", ["mf", "ncf 6"], indirect=True)  # without a hidden layer, so that there are no kinks
def test_effects_tell_what_refits_come_to(given):
    config, dataset, net = given
    without, users = Without(net, dataset, config), np.array([4, 9])
    for user, (logits, effects) in zip(users, without.effects(users)):
        history = without.history(user)
        base, *exact = without.logits(np.full(8, user), [history[:0], *history[:, None]])
        np.testing.assert_allclose(logits, base, atol=1e-5)
        assert np.corrcoef(effects.ravel(), (np.array(exact) - base).ravel())[0, 1] > 0.9


def test_the_smallest_set_is_that_of_brute_force(given):
    config, dataset, net = given
    without, sizes = Without(net, dataset, config), []
    for user in range(0, dataset.num_users, 2):
        unseen, history = unseen_of(dataset, user), without.history(user)
        base, = without.logits(np.array([user]), [history[:0]])
        for item in sorted(np.flatnonzero(unseen), key=lambda i: -base[i])[:K]:
            found, = fewest(without, np.array([user]), np.array([item]), unseen[None], K, exhaustive=100)
            sets = [history[list(chosen)] for size in (1, 2) for chosen in combinations(range(len(history)), size)]
            margins = [margin_of(row, item, unseen, K) for row in without.logits(np.full(len(sets), user), sets)]
            clear = [len(one) for one, margin in zip(sets, margins) if margin >= MARGIN]
            if clear:
                assert found.clear and len(found.withheld) == min(clear)
                best = max(margin for one, margin in zip(sets, margins) if len(one) == min(clear))
                assert found.margin == pytest.approx(best, abs=1e-4)
            else:
                assert found is None or not found.clear or len(found.withheld) > 2
            sizes.append(min(clear, default=3))
    assert {1, 2} < set(sizes)


@pytest.mark.parametrize("given", ["mf"], indirect=True)
def test_the_one_interaction_that_carries_an_item_is_found(given):
    config, dataset, net = given
    values, user = net.values(), 6
    history = np.flatnonzero(dataset.user == user)
    unseen = np.flatnonzero(unseen_of(dataset, user))
    for name in ("item_factors", "item_bias", "user_bias", "head.bias"):
        values[name][:] = 0
    liked, asked = history[3], unseen[-1]
    values["item_factors"][[dataset.item[liked], asked], 0] = 2  # alike, and like no other
    values["item_factors"][unseen[:-1], 1] = np.linspace(0.1, 0.3, len(unseen) - 1)
    values["user_factors"] = np.tile([0.1, 0.5, 0], (dataset.num_users, 1)).astype(np.float32)
    values["user_factors"] += np.random.default_rng(0).normal(0, 1, values["user_factors"].shape).astype(np.float32)
    values["user_factors"][user] = [0.08, 0.5, 0]
    net.set_values(values)
    found, = fewest(Without(net, dataset, config), np.array([user]), np.array([asked]), unseen_of(dataset, user)[None], 1)
    assert found.withheld.tolist() == [liked] and found.clear


def test_an_item_that_no_five_carry_is_left_alone(given):
    config, dataset, net = given
    without, user = Without(net, dataset, config), 2
    everything = np.ones((1, dataset.num_items), bool)
    assert fewest(without, np.array([user]), np.array([0]), everything, dataset.num_items) == [None]


def test_the_search_adds_up_effects_and_keeps_sets_that_begin_badly():
    logits = np.array([1.0, 0.5, 0.0, -9.0])
    effects = np.zeros((4, 4))
    effects[0, 0], effects[1, 1], effects[2, 0] = -0.3, 0.3, -0.1
    found = search(logits, effects, 0, np.ones(4, bool), 1)
    assert len(found) == 4 < MOST and found[0][:, 0].tolist() in ([0, 1, 2, 3], [1, 0, 2, 3])
    assert found[1][0].tolist() == [0, 1] and found[2][0].tolist() == [0, 1, 2]
    assert all(len({tuple(one) for one in sets}) == len(sets) for sets in found)


def test_the_margin_is_against_the_last_place_of_the_list():
    logits, unseen = np.array([3.0, 2.5, 9.0, 1.0, 0.0]), np.array([1, 1, 0, 1, 1], bool)
    assert [margin_of(logits, 0, unseen, k) for k in (1, 2, 3)] == [-0.5, -2.0, -3.0]
    assert margin_of(logits, 3, unseen, 2) == 1.5 and margin_of(logits, 0, unseen, 4) == -np.inf


def test_a_set_is_no_larger_than_it_must_be(given, monkeypatch):
    config, dataset, net = given
    without = Without(net, dataset, config)
    proposed = [np.arange(size)[None] for size in range(1, MOST + 1)]  # whatever carries the item comes last
    monkeypatch.setattr(module, "search", lambda *_: proposed)
    shrunk = 0
    for user in range(dataset.num_users):
        unseen, history = unseen_of(dataset, user), without.history(user)
        base, = without.logits(np.array([user]), [history[:0]])
        item = max(np.flatnonzero(unseen), key=lambda i: base[i])
        found, = fewest(without, np.array([user]), np.array([item]), unseen[None], 1)
        if found is not None and found.clear:
            parts = [np.delete(found.withheld, k) for k in range(len(found.withheld))]
            rows = without.logits(np.full(len(parts), user), parts)
            assert all(margin_of(row, item, unseen, 1) < MARGIN for row in rows) or len(parts) == 1
            shrunk += found.withheld.tolist() != history[:len(found.withheld)].tolist()
    assert shrunk
