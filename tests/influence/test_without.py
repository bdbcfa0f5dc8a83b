"""The smallest sets of interactions without which an item leaves a list."""
from itertools import combinations

import numpy as np
import pytest

import src.influence.without as module
from src.dataset import load_dataset
from src.influence.rows import Rows
from src.influence.without import MARGIN, MOST, fewest, margin_of
from src.network import build
from tests.small import SMALL

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


def test_the_smallest_set_is_that_of_brute_force(given):
    config, dataset, net = given
    rows, sizes, by_influence = Rows(net, dataset, config), [], []
    for user in range(0, dataset.num_users, 2):
        unseen, history = unseen_of(dataset, user), dataset.history.of_users([user])
        base, = rows.without(np.array([user]), [history[:0]])
        for item in sorted(np.flatnonzero(unseen), key=lambda i: -base[i])[:K]:
            found, = fewest(rows, np.array([user]), np.array([item]), unseen[None], K, exhaustive=100)
            sets = [history[list(chosen)] for size in (1, 2) for chosen in combinations(range(len(history)), size)]
            margins = [margin_of(row, item, unseen, K) for row in rows.without(np.full(len(sets), user), sets)]
            clear = [len(one) for one, margin in zip(sets, margins) if margin >= MARGIN]
            quick, = fewest(rows, np.array([user]), np.array([item]), unseen[None], K)
            if clear:
                by_influence.append(quick is not None and quick.clear and len(quick.withheld) == min(clear))
                assert found.clear and len(found.withheld) == min(clear)
                best = max(margin for one, margin in zip(sets, margins) if len(one) == min(clear))
                assert found.margin == pytest.approx(best, abs=1e-4)
            else:
                assert found is None or not found.clear or len(found.withheld) > 2
            sizes.append(min(clear, default=3))
    assert {1, 2} < set(sizes) and np.mean(by_influence) > 0.8


def test_an_item_that_no_five_carry_is_left_alone(given):
    config, dataset, net = given
    rows, user = Rows(net, dataset, config), 2
    everything = np.ones((1, dataset.num_items), bool)
    assert fewest(rows, np.array([user]), np.array([0]), everything, dataset.num_items) == [None]


def test_the_margin_is_against_the_last_place_of_the_list():
    logits, unseen = np.array([3.0, 2.5, 9.0, 1.0, 0.0]), np.array([1, 1, 0, 1, 1], bool)
    assert [margin_of(logits, 0, unseen, k) for k in (1, 2, 3)] == [-0.5, -2.0, -3.0]
    assert margin_of(logits, 3, unseen, 2) == 1.5 and margin_of(logits, 0, unseen, 4) == -np.inf


def test_a_set_is_no_larger_than_it_must_be(given, monkeypatch):
    config, dataset, net = given
    rows = Rows(net, dataset, config)
    proposed = [np.arange(size)[None] for size in range(1, MOST + 1)]  # whatever carries the item comes last
    monkeypatch.setattr(module, "search", lambda *_: proposed)
    shrunk = 0
    for user in range(dataset.num_users):
        unseen, history = unseen_of(dataset, user), dataset.history.of_users([user])
        base, = rows.without(np.array([user]), [history[:0]])
        item = max(np.flatnonzero(unseen), key=lambda i: base[i])
        found, = fewest(rows, np.array([user]), np.array([item]), unseen[None], 1)
        if found is not None and found.clear:
            parts = [np.delete(found.withheld, k) for k in range(len(found.withheld))]
            fewer = rows.without(np.full(len(parts), user), parts)
            assert all(margin_of(row, item, unseen, 1) < MARGIN for row in fewer) or len(parts) == 1
            shrunk += found.withheld.tolist() != history[:len(found.withheld)].tolist()
    assert shrunk
