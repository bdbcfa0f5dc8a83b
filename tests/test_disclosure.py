import itertools

import numpy as np
import pandas as pd
import pytest

from src.dataset import load_dataset
from src.disclosure import choose_disclosure, critical_payoff, load_unwillingness, mirror_descent, price_within_budget
from src.errors import InputError


def table_game(payoff, prior, rounds, rate):
    """Exponentiated gradient on the table of all 2^n selection vectors; the marginals averaged over the rounds."""
    selections = np.array(list(itertools.product((0, 1), repeat=len(payoff))))
    weight = np.prod(np.where(selections, prior, 1 - prior), axis=1)
    average = np.zeros(len(payoff))
    for _ in range(rounds):
        weight = weight * np.exp(rate * selections @ payoff)
        weight /= weight.sum()
        average += weight @ selections / rounds
    return average


@pytest.mark.parametrize("n", [1, 4, 10])
def test_product_form_is_the_update_of_the_full_table(n):
    payoff = np.random.default_rng(n).normal(0, 0.05, n)
    expected = table_game(payoff, 0.9, 200, 0.3)
    assert np.abs(mirror_descent(payoff, 0.9, 200, 0.3) - expected).max() < 1e-9
    assert 0.01 < expected.min() < 0.99  # neither saturated from the first round nor unmoved


def test_critical_payoff_parts_disclosed_from_withheld():
    critical = critical_payoff(0.9, 50, 2.0)
    below, above = mirror_descent(critical + np.array([-1e-6, 1e-6]), 0.9, 50, 2.0)
    assert below < 0.5 < above
    assert critical < 0  # the prior leans towards disclosure


def test_limit_is_the_dominant_strategy(settings):
    rng = np.random.default_rng(0)
    influence, unwillingness = rng.normal(0, 1, 500), rng.random(500)
    config = settings("--willingness_weight", 0.7, "--game_rate", 1e6)
    disclosed, weight = choose_disclosure(influence, unwillingness, config)
    assert weight == 0.7
    assert np.array_equal(disclosed, influence > 0.7 * unwillingness)


@pytest.mark.parametrize("seed", range(5))
def test_budget_gives_the_largest_selection_within_it(seed, settings):
    rng = np.random.default_rng(seed)
    influence, unwillingness = rng.normal(0.2, 1, 40), rng.random(40)
    unwillingness[::7] = 0  # free to disclose
    for share in (0.05, 0.3, 0.6):
        config = settings("--wv_budget", share, "--game_rate", 1e6)
        disclosed, weight = choose_disclosure(influence, unwillingness, config)
        budget = share * unwillingness.sum()
        assert unwillingness[disclosed].sum() <= budget
        # every selection that some price >= 0 leads to and that fits is no larger
        prices = [0, *(influence / np.maximum(unwillingness, 1e-12))]
        spent = [unwillingness[influence > p * unwillingness].sum() for p in prices if p >= 0]
        assert unwillingness[disclosed].sum() == pytest.approx(max(s for s in spent if s <= budget))
        assert np.array_equal(disclosed, influence > weight * unwillingness)


def test_budget_that_does_not_bind_costs_nothing():
    assert price_within_budget(np.array([1.0, -1.0]), np.array([0.5, 0.5]), 0.5, 0.0) == 0


def test_equal_prices_are_kept_or_dropped_together():
    influence, unwillingness = np.array([3.0, 1.0, 1.0, 1.0]), np.full(4, 0.5)
    weight = price_within_budget(influence, unwillingness, 1.2, 0.0)
    assert (influence > weight * unwillingness).tolist() == [True, False, False, False]


def test_nothing_fits_an_empty_budget():
    influence, unwillingness = np.array([2.0, 1.0]), np.array([0.5, 0.5])
    weight = price_within_budget(influence, unwillingness, 0.1, 0.0)
    assert not (influence > weight * unwillingness).any()


@pytest.fixture
def tiny(write_ratings, settings):
    """User 7 with history items 10, 20; user 9 with history item 30."""
    folder = write_ratings([(7, 10, 1), (7, 20, 2), (7, 30, 3), (7, 40, 4), (9, 30, 1), (9, 10, 2), (9, 40, 3)],
                           items=range(10, 70, 10))
    return folder, settings


def test_unwillingness_uniform_by_seed(tiny):
    _, settings = tiny
    dataset = load_dataset(settings())
    one, again, other = (load_unwillingness(dataset, settings("--seed", s)) for s in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert one.min() >= 0 and one.max() <= 1


def test_unwillingness_constant(tiny):
    _, settings = tiny
    config = settings("--unwillingness", "constant", "--unwillingness_value", 0.25)
    assert load_unwillingness(load_dataset(config), config).tolist() == [0.25] * 3


def write_unwillingness(folder, rows):
    pd.DataFrame(rows, columns=["user_id", "item_id", "unwillingness"]).to_csv(folder / "unwillingness.csv", index=False)


def test_unwillingness_from_file_in_any_order(tiny):
    folder, settings = tiny
    write_unwillingness(folder, [(9, 30, 0.1), (7, 20, 0.2), (7, 10, 0.3), (7, 40, 0.9)])
    assert load_unwillingness(load_dataset(settings()), settings()).tolist() == [0.3, 0.2, 0.1]


@pytest.mark.parametrize("rows, words", [
    ([(9, 30, 0.1), (7, 20, 0.2)], "user 7, item 10"),
    ([(9, 30, 0.1), (7, 20, 1.2), (7, 10, 0.3)], "row 2"),
    ([(9, 30, 0.1), (7, 20, "much"), (7, 10, 0.3)], "row 2"),
    ([(9, 30, 0.1), (7, 20, 0.2), (7, 10, 0.3), (7, 10, 0.4)], "row 4"),
])
def test_bad_unwillingness_files_are_named(tiny, rows, words):
    folder, settings = tiny
    write_unwillingness(folder, rows)
    with pytest.raises(InputError, match=words) as error:
        load_unwillingness(load_dataset(settings()), settings())
    assert "unwillingness.csv" in str(error.value)


def test_missing_unwillingness_file_is_named(tiny):
    _, settings = tiny
    with pytest.raises(InputError, match="unwillingness.csv: no such file"):
        load_unwillingness(load_dataset(settings()), settings("--unwillingness", "file"))
