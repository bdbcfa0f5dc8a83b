"""The paper's table on a tiny simulation."""
import numpy as np
import pandas as pd
import pytest

from src.game.strategies import Strategies
from studies.masks import Masks
from studies.paper import METHOD, TRAINING, paper, solver_of, with_options

TINY = ["--num_eval_neg", 20, "--train_epochs", 2, "--num_factors", 4, "--layers", "8,4", "--batch_size", 64,
        "--lissa_depth", 2, "--instalments", "0.5,1", "--rounds", 50]


def test_the_study_of_a_model_and_that_it_goes_on(cpu, simulated, tmp_path, monkeypatch):
    config = simulated(40, 60, 400, *TINY, "--seeds", 3, "--paper_models", "mf")
    monkeypatch.setattr(Masks, "_train", lambda self, disclosed, validation: np.stack([
        np.full(self.dataset.num_users, 1 - disclosed.mean()), *[np.arange(self.dataset.num_users)] * 2]))
    decided, called = [], Strategies.__call__
    monkeypatch.setattr(Strategies, "__call__", lambda self, strategy, budget, weight=None: (
        decided.append((strategy, weight, self.config.solver, self.config.influence_lags, self.config.anchor_placing)),
        called(self, strategy, budget, weight))[1])
    paper(config)
    assert len(decided) == 11 and decided.count(("ifrqe++", 1.0, "block", 0, "binomial")) == 1
    assert {(solver, lags) for name, _, solver, lags, _ in decided if name == "ask-first"} == {("blend", 3)}
    table = pd.read_csv(tmp_path / "output" / "paper.csv")
    assert list(table) == ["model", "strategy", "point", "seed", "f1@5", "ndcg@5", "loss", "wv",
                           "wv_share", "disclosed_share", "reward"]
    likewise = ["random", "threshold", "ifrqe", "ifrqe++", "ask-first"]
    assert list(table.strategy) == ["none", *likewise, *likewise] and table.wv_share[0] == 1
    at_price, within = table[table.point == "price"], table[table.point == "budget"]
    for rows in (at_price, within):  # as much as ifrqe++, but no more
        spent = rows.set_index("strategy").wv_share
        assert (spent.drop("ifrqe") <= spent["ifrqe++"] + 1e-9).all()
    assert (within.wv_share <= 0.85 + 1e-9).all() and within.wv_share.min() > at_price.wv_share.max()
    assert table.reward.to_numpy() == pytest.approx(-table.loss - table.wv)
    assert table["f1@5"].to_numpy() == pytest.approx(5 / 40 / 3)
    assert "| mf | ifrqe++ | price |" in (tmp_path / "output" / "paper.md").read_text()
    monkeypatch.setattr(Strategies, "__call__", lambda *_: pytest.fail("decides again"))
    paper(config)
    assert table.equals(pd.read_csv(tmp_path / "output" / "paper.csv"))


def test_the_papers_options_give_way_to_those_that_are_given(settings):
    config = settings("--train_epochs", 3, "--anchors", 5)
    changed = with_options(config, {**TRAINING, **METHOD, "unheard_of": 1})
    assert (changed.train_epochs, changed.anchors, changed.num_factors, changed.rounds) == (3, 5, 64, 1000)
    assert [solver_of(config, model) for model in ("mf", "ncf", "lightgcn", "mine.py")] == ["block", "lissa"] + ["block"] * 2
    assert [solver_of(settings("--solver", "blend"), model) for model in ("mf", "ncf")] == ["blend"] * 2
    assert [solver_of(settings("--solver", "lissa"), model) for model in ("mf", "ncf")] == ["block", "lissa"]
