"""The rule of the game at a price, and the sentences about it."""
import numpy as np
import pytest

from src.game.decisions import Decisions
from src.game.mirror_descent import Game
from src.game.rule import Rule

STILL = "makes too little difference to move the game from its start"


def decided(influence, unwillingness, disclosed, weight, strategy="ifrqe", **record):
    record = {"strategy": strategy, "prior": 0.9, "rounds": 1000, "game_rate": 100.0, **record}
    influence = np.asarray(influence, float)
    return Decisions(np.asarray(disclosed, bool), np.asarray(unwillingness, float), weight, influence, influence, record)


def test_at_one_anchor_the_rule_is_the_game(settings):
    rng = np.random.default_rng(3)
    influence, b = rng.normal(0, 0.01, 3000), rng.random(3000)
    b[:300], b[300:320], influence[320:400] = 0, 1, 0  # free ones, such as are no veto, and such as do nothing
    game = Game(influence, b, settings("--rounds", 1000, "--game_rate", 100))
    shares = [0.0, 0.05, 0.3, 0.6, 0.99, 1.0]
    prices = Rule(decided(influence, b, b >= 0, 0.01)).prices(decided(influence, b, b >= 0, 0.01), shares)
    for share, price in zip(shares, prices):
        selection, weight = game.within(share * b.sum())
        assert price == weight and np.array_equal(game.play(price)[0], selection)
        decisions = decided(influence, b, selection, price)
        assert np.array_equal(Rule(decisions).disclosed(influence, b), selection)
        assert Rule(decisions).agreement(decisions) == 1


def test_every_reason_in_a_sentence():
    rows = [(0.04, 0.5, 1, "disclosed: worth 4.0x its price"), (0.3, 0.5, 1, "disclosed: worth 30x its price"),
            (0.001, 0.0, 1, "disclosed: helps their recommendations and costs them nothing"),
            (-0.00001, 0.0, 1, f"disclosed: {STILL}"),
            (-0.01, 0.0, 0, "withheld: hurts their recommendations"),
            (-0.01, 1.0, 0, "withheld: hurts their recommendations"),
            (0.005, 0.8, 0, "withheld: they asked, and it is worth only 0.31x its price"),
            (0.04, 0.5, 0, "withheld: a close call between the anchors"),
            (0.001, 0.5, 1, "disclosed: a close call between the anchors")]
    expected, b, disclosed, said = (np.array(column) for column in zip(*rows))
    rule = Rule(decided(expected, b, disclosed, 0.02))
    assert rule.reasons(expected, b, disclosed.astype(bool)) == said.tolist()
    assert rule.agreement(decided(expected, b, disclosed, 0.02)) == 7 / 9


@pytest.mark.parametrize("prior, said", [
    (0.1, [f"withheld: {STILL}", "withheld: they asked, and it is worth only 0.94x its price",
           "withheld: hurts their recommendations"]),
    (0.9, ["disclosed: worth 1.89x its price", f"disclosed: {STILL}", f"disclosed: {STILL}"])])
def test_where_the_game_hardly_moves_its_start_decides(prior, said):
    """Few rounds of small steps: what would be disclosed or withheld in the long run stays where it was."""
    expected, b = np.array([0.0134, 0.0134, 0.0]), np.array([0.5, 1.0, 0.0])
    decisions = decided(expected, b, np.full(3, prior > 0.5), 0.0142, prior=prior, rounds=10, game_rate=10.0)
    assert Rule(decisions).agreement(decisions) == 1 and Rule(decisions).reasons(expected, b, decisions.disclosed) == said


@pytest.mark.parametrize("strategy, done, left", [
    ("threshold", "it is among what users mind least", "the budget went to what users mind less"),
    ("mine.py", "the strategy chose it", "the strategy did not choose it")])
def test_where_no_price_decided_the_strategy_gives_its_reasons(strategy, done, left):
    decisions = decided([0, 0], [0.5, 1], [1, 0], None, strategy)
    assert Rule(decisions).reasons(None, decisions.unwillingness, decisions.disclosed) == [
        f"disclosed: {done}", f"withheld: {left}"]
