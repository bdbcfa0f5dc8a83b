"""The rule of the game at a price, the sentences about it, and what --explain_user shows."""
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from eval import run as answer
from src.common.stage import main
from src.evaluation.explain import VETOED
from src.game.decisions import Decisions
from src.game.mirror_descent import Game
from src.game.rule import Rule, times
from tests.evaluation.test_recommend import ask, flags  # noqa: F401, a fixture


class Settings:
    prior, rounds, game_rate, anchor_use = 0.9, 1000, 100.0, "weighted"


def decided(influence, unwillingness, disclosed, weight, strategy="ifrqe"):
    record = {"strategy": strategy, "willingness_weight": weight, "prior": 0.9, "rounds": 1000, "game_rate": 100.0}
    influence = np.asarray(influence, float)
    return Decisions(np.asarray(disclosed, bool), np.asarray(unwillingness, float), weight, influence, influence, record)


def test_at_one_anchor_the_rule_is_the_game():
    rng = np.random.default_rng(3)
    influence, b = rng.normal(0, 0.01, 3000), rng.random(3000)
    b[:300], influence[300:400] = 0, 0  # free ones, and such as do nothing
    game = Game(influence, b, Settings)
    for weight in (0.0, 0.003, 0.01, 0.2):
        rule = Rule(decided(influence, b, game.play(weight)[0], weight))
        assert np.array_equal(rule.disclosed(influence, b), game.play(weight)[0])
    rule = Rule(decided(influence, b, game.play(0.01)[0], 0.01))
    shares = [0.0, 0.05, 0.3, 0.6, 0.99, 1.0]
    for share, price in zip(shares, rule.prices(decided(influence, b, b >= 0, 0.01), shares)):
        selection, weight = game.within(share * b.sum())
        rule = Rule(decided(influence, b, selection, price))
        assert price == weight and np.array_equal(rule.disclosed(influence, b), selection)


def test_unwillingness_of_1_is_in_the_game_where_it_is_no_veto():
    influence, b = np.array([1.0, 1.0, 1.0]), np.array([1.0, 0.5, 0.5])
    decisions = decided(influence, b, [1, 1, 1], 0.1)
    assert not decisions.under_veto and Rule(decisions).disclosed(influence, b).tolist() == [True, True, True]
    assert Rule(decisions).prices(decisions, [1.0, 0.5]) == [0.0, pytest.approx(1.5, abs=1e-3)]  # the two others are 1 of 2


def test_every_reason_in_a_sentence():
    rows = [(0.04, 0.5, 1, "disclosed: worth 4.0x its price"), (0.3, 0.5, 1, "disclosed: worth 30x its price"),
            (0.001, 0.0, 1, "disclosed: helps their recommendations and costs them nothing"),
            (-0.00001, 0.0, 1, "disclosed: makes too little difference to move the game from its start"),
            (-0.01, 0.0, 0, "withheld: hurts their recommendations"),
            (-0.01, 1.0, 0, "withheld: hurts their recommendations"),
            (0.005, 0.8, 0, "withheld: they asked, and it is worth only 0.31x its price"),
            (0.04, 0.5, 0, "withheld: a close call between the anchors"),
            (0.001, 0.5, 1, "disclosed: a close call between the anchors")]
    expected, b, disclosed, said = (np.array(column) for column in zip(*rows))
    rule = Rule(decided(expected, b, disclosed, 0.02))
    assert rule.reasons(expected, b, disclosed.astype(bool)) == said.tolist()
    assert rule.agreement(decided(expected, b, disclosed, 0.02)) == 7 / 9


def test_baselines_give_theirs():
    nothing, b = np.full(3, np.nan), np.array([0.5, 0.5, 1])
    for strategy, done, left in (
            ("threshold", "it is among what users mind least", "the budget went to what users mind less"),
            ("mine.py", "the strategy chose it", "the strategy did not choose it")):
        decisions = decided(nothing, b, [1, 0, 0], None, strategy)
        rule = Rule(decisions)
        assert not rule.played
        assert rule.reasons(nothing, b, decisions.disclosed) == [f"disclosed: {done}", *2 * [f"withheld: {left}"]]


@pytest.mark.parametrize("x, text", [(0.001, "less than 0.01x"), (0.31, "0.31x"), (0.999, "1.00x"), (2.04, "2.0x"),
                                     (12.4, "12x"), (1e6, "over 1000x")])
def test_multiples_are_short(x, text):
    assert times(x) == text


def test_a_user_is_explained(ask, finished_run):  # noqa: F811
    found = json.loads(ask("--explain_user", "5", "--format", "json"))["users"][0]
    table = pd.read_csv(f"{finished_run.output_path}/disclosure.csv").set_index(["user_id", "item_id"]).loc[5]
    vetoed = table.index[table.unwillingness == 1].tolist()  # in order of time
    rows = pd.DataFrame(found["interactions"]).set_index("item_id")
    assert sorted(rows.index) == sorted(table.index) and found["disclosed"] == table.disclosed.sum()
    assert len(vetoed) > 1 and rows.index[-len(vetoed):].tolist() == vetoed  # they take no part, and come last
    assert rows.by.to_dict() == table.reason.to_dict() and rows.by[vetoed[0]].startswith("veto unwillingness.csv:")
    assert rows.unwillingness.to_dict() == pytest.approx(table.unwillingness.to_dict(), rel=1e-12)
    for column in ("influence", "expected_influence"):
        assert rows[column].drop(vetoed).to_dict() == pytest.approx(table[column].drop(vetoed).to_dict(), rel=1e-12)
        assert rows[column][vetoed].isna().all() and table[column][vetoed].isna().all()
    assert rows.disclosed.astype(int).to_dict() == table.disclosed.to_dict()
    assert all(row.reason.startswith("disclosed: " if row.disclosed else "withheld: ") for row in rows.itertuples())
    assert (rows.reason == VETOED).tolist() == (rows.unwillingness == 1).tolist() and (rows.unwillingness == 1).any()
    assert {name: len(found) for name, found in found["recommended"].items()} == {"plain": 10, "masked": 10}
    plain = json.loads(ask("--recommend", "5", "--format", "json"))["users"][0]["items"]
    assert found["recommended"]["plain"] == plain

    shown = ask("--explain_user", "5")
    assert f"user 5: {found['disclosed']} of {len(rows)} interactions disclosed" in shown
    for row in found["interactions"]:
        assert row["title"] in shown and row["reason"] in shown
    assert shown.index("before: trained on everything") < shown.index("after: trained on what is disclosed")


@pytest.mark.parametrize("prior, said", [(0.1, "withheld"), (0.9, "disclosed")])
def test_where_the_game_hardly_moves_its_start_decides(prior, said):
    """Few rounds of small steps: what would be disclosed or withheld in the long run stays where it was."""
    expected, b = np.array([0.0134, 0.0134, 0.0]), np.array([0.5, 1.0, 0.0])
    decisions = decided(expected, b, np.full(3, prior > 0.5), 0.0142)
    decisions.record.update(prior=prior, rounds=10, game_rate=10.0)
    rule = Rule(decisions)
    assert rule.agreement(decisions) == 1.0
    still = f"{said}: makes too little difference to move the game from its start"
    reasons = rule.reasons(expected, b, decisions.disclosed)
    assert reasons == (["disclosed: worth 1.89x its price", still, still] if prior > 0.5 else
                       [still, "withheld: they asked, and it is worth only 0.94x its price",
                        "withheld: hurts their recommendations"])


def test_decisions_stand_without_a_masked_model(finished_run, tmp_path, capsys):
    """Right after a new preprocess.py the masked model is of another mask: JSON stays JSON, and a warning says so."""
    shutil.copy(f"{finished_run.checkpoint_path}/NCF.ckpt", tmp_path)
    folders = ["--checkpoint_path", tmp_path, "--output_path", tmp_path, "--decisions_path", finished_run.output_path]
    main(answer, "run_eval", "", flags(finished_run, "--explain_user", "5", "--format", "json", *folders))
    shown = capsys.readouterr()
    assert list(json.loads(shown.out)["users"][0]["recommended"]) == ["plain"]
    take_no_part, warning = shown.err.splitlines()
    assert take_no_part.startswith("simulation: 137 interactions take no part: 137 vetoed")
    assert "without the recommendations of the masked model" in warning


def test_without_a_validation_item_nothing_is_explained(finished_run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(answer, "run_eval", "", flags(finished_run, "--explain_user", "5", "--holdout", "1", "--output_path", tmp_path))
    assert capsys.readouterr().err.startswith("error: --holdout 1: leaves no validation item")


@pytest.mark.parametrize("lost", ["prior", "total_wv", "strategy"])
def test_decisions_of_another_version_are_named(finished_run, tmp_path, capsys, lost):
    for name in ("disclosure.csv", "preprocess.json"):
        shutil.copy(f"{finished_run.output_path}/{name}", tmp_path)
    record = json.loads((tmp_path / "preprocess.json").read_text())
    del record[lost]
    (tmp_path / "preprocess.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit):
        main(answer, "run_eval", "", flags(finished_run, "--explain_user", "5", "--output_path", tmp_path))
    assert capsys.readouterr().err == (f"error: {tmp_path}/preprocess.json: is no record of this program; "
                                       "run preprocess.py with --overwrite\n")
