import itertools

import numpy as np
import pytest

from src.game.mirror_descent import Game, critical_payoff, mirror_descent, prices_within_budgets


def table_game(payoffs, prior, rounds, rate, anchors=None, use="nearest"):
    """Exponentiated gradient on the table of all 2^n selection vectors; the marginals averaged over the rounds.

    With several anchors the distance of one from the play is the mean over the table of the Hamming distances.
    """
    payoffs = np.atleast_2d(payoffs)
    selections = np.array(list(itertools.product((0, 1), repeat=payoffs.shape[1])))
    weight = np.prod(np.where(selections, prior, 1 - prior), axis=1)
    average = np.zeros(payoffs.shape[1])
    for _ in range(rounds):
        payoff = payoffs[0]
        if anchors is not None:
            distance = np.array([weight @ (selections != anchor).sum(1) for anchor in anchors])
            shares = np.eye(len(anchors))[distance.argmin()] if use == "nearest" else 1 / distance / (1 / distance).sum()
            payoff = shares @ payoffs
        weight = weight * np.exp(rate * selections @ payoff)
        weight /= weight.sum()
        average += weight @ selections / rounds
    return average


@pytest.mark.parametrize("use", ["nearest", "weighted"])
def test_product_form_with_several_anchors_is_the_update_of_each_users_table(use):
    rng = np.random.default_rng(3)
    user = np.repeat([0, 1, 2], [7, 10, 5])
    anchors = np.array([np.ones(22), rng.random(22) < 0.5, rng.random(22) < 0.2], bool)
    payoffs = rng.normal(0, 0.1, 22) * [[1], [1], [-1]] + rng.normal(0, 0.05, (3, 22))
    average, used = mirror_descent(payoffs, 0.9, 200, 0.3, anchors, user, use)
    for u in range(3):
        mine = user == u
        expected = table_game(payoffs[:, mine], 0.9, 200, 0.3, anchors[:, mine], use)
        assert np.abs(average[mine] - expected).max() < 1e-5  # single precision
    first, alone = mirror_descent(payoffs[0], 0.9, 200, 0.3)
    for mine in np.split(np.arange(22), [7, 17]):
        assert np.abs(first[mine] - table_game(payoffs[0, mine], 0.9, 200, 0.3)).max() < 1e-9
    assert alone == pytest.approx(payoffs[0]) and 0.01 < first.min() < 0.99  # neither saturated at once nor unmoved
    assert np.abs(average - first).max() > 0.02  # the others are used
    assert (payoffs.min(0) - 1e-6 <= used).all() and (used <= payoffs.max(0) + 1e-6).all()


def test_users_do_not_depend_on_how_they_are_cut_into_blocks(monkeypatch):
    rng = np.random.default_rng(4)
    user = np.sort(rng.integers(0, 9, 60))
    anchors, payoffs = rng.random((2, 60)) < 0.6, rng.normal(0, 0.1, (2, 60))
    whole = mirror_descent(payoffs, 0.9, 50, 0.3, anchors, user)[0]
    monkeypatch.setattr("src.game.mirror_descent._BLOCK", 4)
    assert np.array_equal(mirror_descent(payoffs, 0.9, 50, 0.3, anchors, user)[0], whole)


@pytest.mark.parametrize("seed", range(5))
def test_budget_gives_the_largest_selection_within_it(seed, settings):
    rng = np.random.default_rng(seed)
    influence, unwillingness = rng.normal(0.2, 1, 40), rng.random(40)
    unwillingness[::7] = 0  # free to disclose
    for share in (0.05, 0.3, 0.6):
        budget = share * unwillingness.sum()
        disclosed, weight = Game(influence, unwillingness, settings("--game_rate", 1e6)).within(budget)
        assert unwillingness[disclosed].sum() <= budget
        # every selection that some price >= 0 leads to and that fits is no larger
        prices = [0, *(influence / np.maximum(unwillingness, 1e-12))]
        spent = [unwillingness[influence > p * unwillingness].sum() for p in prices if p >= 0]
        assert unwillingness[disclosed].sum() == pytest.approx(max(s for s in spent if s <= budget))
        assert np.array_equal(disclosed, influence > weight * unwillingness)


@pytest.mark.parametrize("use", ["nearest", "weighted"])
def test_with_several_anchors_the_budget_gives_the_largest_selection_within_it(use, settings):
    rng = np.random.default_rng(5)
    user = np.sort(rng.integers(0, 20, 200))
    influence, unwillingness = rng.normal(0.002, 0.01, 200) + rng.normal(0, 0.005, (3, 200)), rng.random(200)
    anchors = np.array([np.ones(200), rng.random(200) < 0.6, rng.random(200) < 0.3], bool)
    game = Game(influence, unwillingness, settings("--anchor_use", use, "--rounds", 100), anchors, user)
    for share in (0.1, 0.5):
        budget = share * unwillingness.sum()
        disclosed, weight = game.within(budget)
        again, used = game.play(weight)
        assert np.array_equal(disclosed, again) and unwillingness[disclosed].sum() <= budget
        # no other price leads to more that fits
        spent = [unwillingness[game.play(price)[0]].sum() for price in np.linspace(0, 3 * weight, 60)]
        best = max(s for s in spent if s <= budget)
        # a user may jump to another anchor and back: with the nearest, what is spent does not fall steadily with the price
        assert best <= unwillingness[disclosed].sum() * (1.01 if use == "nearest" else 1 + 1e-12)
        assert (influence.min(0) - 1e-9 <= used).all() and (used <= influence.max(0) + 1e-9).all()
    harmless, weight = game.within(unwillingness.sum())
    assert weight == 0 and np.array_equal(harmless, game.play(0.0)[0])


@pytest.mark.parametrize("influence, budget, wanted", [
    ([1.0, 0.1], 1.0, [True, True]), ([1.0, -1.0], 0.5, [True, False]),  # it does not bind, and costs nothing
    ([3.0, 1.0, 1.0, 1.0], 1.2, [True, False, False, False]),  # equal prices are kept or dropped together
    ([2.0, 1.0], 0.1, [False, False])])
def test_prices_of_half_an_unwillingness_each(influence, budget, wanted):
    influence = np.array(influence)
    (price,) = prices_within_budgets(influence, np.full(len(influence), 0.5), [budget], 0.0)
    assert (influence > price * 0.5).tolist() == wanted and (price == 0) == (budget in (1.0, 0.5))


@pytest.mark.parametrize("prior, rounds, rate", [(0.9, 1000, 100), (0.5, 3, 0.1), (0.5, 1000, 100), (0.999, 50, 1e6)])
def test_one_anchor_in_closed_form_is_the_game_in_rounds(settings, prior, rounds, rate):
    rng = np.random.default_rng(0)
    critical = critical_payoff(prior, rounds, rate)
    near = 10.0 ** -np.arange(1, 18)
    payoff = np.concatenate([rng.normal(0, 0.01, 500), critical * (1 + near), critical * (1 - near), [critical, 0, -1e-30],
                             10.0 ** -np.arange(300)])
    game = Game(payoff, np.zeros(len(payoff)), settings("--prior", prior, "--rounds", rounds, "--game_rate", rate))
    assert np.array_equal(game.play(0.0)[0], mirror_descent(payoff, prior, rounds, rate)[0] > 0.5)
