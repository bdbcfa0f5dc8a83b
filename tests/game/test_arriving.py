"""What is disclosed of what arrives: first by unwillingness, then by price, while the budget lasts."""
import numpy as np
import pytest

import src.game.arriving
from src.dataset import split_allowed
from src.game.arriving import Arriving, decide, left_of, with_rows
from src.game.decisions import ALONE
from src.influence.rows import Rows
from src.network import build
from src.sources.interactions import ordered
from tests.small import SMALL, refused

RECORD = {"strategy": "ifrqe", "willingness_weight": 2.0, "unwillingness_threshold": .3, "prior": .5, "rounds": 10,
          "game_rate": 1.0, "wv_budget": .5, "expectation": {}, "expected_mean": .1}
USER = np.repeat([0, 1, 2], [6, 5, 2])  # known, new, and new with too little to tell


def of_all(ids, *ratings):
    return split_allowed(ordered("shop", ids, ratings), 0)


def shop(rng, price=2.0):
    """Arriving of three users, and what is expected of each interaction."""
    ids = (np.arange(1, 4), np.arange(20))
    dataset = of_all(ids, USER, np.concatenate([np.arange(6), np.arange(5), [7, 8]]), np.arange(13))
    disclosed = np.arange(13) < 2
    return Arriving(dataset, ~disclosed & (np.arange(13) != 2), disclosed, rng.random(13).round(2),
                    np.array([0, -1, -1])), rng.normal(.6, .5, 13).round(2)


def by_hand(people, expected, record, left):
    """What is disclosed, one after the other, and the price of the first that did not fit."""
    price, order = record["willingness_weight"], []
    for k in np.flatnonzero(people.new):
        b, stranger = people.unwillingness[k], people.dataset.user[k] > 0 or price is None
        if stranger and b <= record["unwillingness_threshold"]:
            order.append((0, b, k))
        elif price is not None and expected[k] > 0 and (b == 0 or expected[k] / b > price):
            order.append((1, -expected[k] / b if b else -np.inf, k))
    chosen = people.disclosed.copy()
    for kind, level, k in sorted(order):
        left -= people.unwillingness[k]
        if left < 0:
            rest = [-level for kind, level, k in sorted(order) if kind == 1 and not chosen[k]]
            return chosen, max(rest, default=price)
        chosen[k] = True
    return chosen, price


@pytest.mark.parametrize("price", [2.0, None])
@pytest.mark.parametrize("left", [0.0, .4, 1.1, 2.3, np.inf])
def test_first_by_unwillingness_then_by_price_while_the_budget_lasts(cpu, settings, monkeypatch, left, price):
    spent = []
    for seed in range(20):
        people, expected = shop(np.random.default_rng(seed))
        expected[11:] = .1  # of whom nothing is known the mean
        record = {**RECORD, "willingness_weight": price}
        monkeypatch.setattr(src.game.arriving, "_expected", lambda *_, of=expected: (of, of))
        rows = Rows(build(people.dataset, settings(*SMALL)), people.dataset, settings(*SMALL))
        found = decide(people, rows, [], record, left)
        disclosed, weight = by_hand(people, expected, record, left)
        assert found.disclosed.tolist() == disclosed.tolist()
        assert found.weight == (None if price is None else pytest.approx(weight))
        assert found.disclosed[people.disclosed].all() and not found.disclosed[2]
        more = found.disclosed & people.new
        spent.append(people.unwillingness[more].sum())
        for k in np.flatnonzero(people.new):
            said = found.reason[k]
            first = price is None or people.dataset.user[k] > 0 and people.unwillingness[k] <= .3
            if first and people.unwillingness[k] <= .3 and not more[k]:
                assert said == "budget 0.5"
            elif price is not None and people.dataset.user[k] == 2:
                assert said == ALONE
            else:
                assert said == (f"unwillingness up to {.3:g}" if first else f"price {found.weight:.6g}")
    assert 0 <= max(spent) <= left * (1 + 1e-9)


def test_the_budget_is_of_the_whole_and_of_everything_there_is_none():
    assert left_of(RECORD, 10.0, 3.0) == 2.0 and left_of(RECORD, 10.0, 7.0) == 0
    for record in ({**RECORD, "wv_budget": None}, {**RECORD, "strategy": "none"}):
        assert left_of(record, 10.0, 10.0) == np.inf


@pytest.mark.parametrize("model", ["ncf", "mf", "lightgcn"])
def test_rows_of_who_was_trained_stay_and_others_are_refitted(cpu, settings, model):
    config = settings(*SMALL[2 if model != "ncf" else 0:], "--model", model)
    rng, ids = np.random.default_rng(0), np.arange(20)
    trained = of_all((np.arange(1, 4), ids), np.repeat([0, 1, 2], 5), rng.permutation(20)[:15], np.arange(15))
    known = of_all((np.arange(5), ids), np.repeat(np.arange(5), 4), rng.permutation(20), np.arange(20))
    net, place = build(trained, config), np.array([-1, 2, 0, -1, 1])
    values = {name: value * (30 if name in (*net.TABLES, *net.SCORED) else 1) for name, value in net.values().items()}
    rows = Rows(net, trained, config)
    found = with_rows(rows, values, place, known)
    refitted = rows.refitted(known)
    assert set(found) == set(values)
    for name, table in found.items():
        if name in net.of_users():
            assert table.dtype == values[name].dtype and table.shape == (5, values[name].shape[1])
            np.testing.assert_array_equal(table[[1, 2, 4]], values[name][[2, 0, 1]])
            assert np.isfinite(table).all() and (table[0] != table[3]).any()
        else:
            np.testing.assert_array_equal(table, values[name])
    assert (net.user_rows(found)[[0, 3]] != net.user_rows(refitted)[[1, 2]]).any()
    full = of_all((np.arange(1), ids), np.zeros(20, int), ids, np.arange(20))
    with refused("user 0"):
        with_rows(rows, values, np.array([-1]), full)
