"""The paper's table on a tiny simulation."""
import numpy as np
import pandas as pd
import pytest

from src.game.strategies import Strategies
from studies.masks import Masks
from studies.paper import MEASURES, METHOD, PROTOCOL, PUBLISHED, TRAINING, markdown, paper, solver_of, with_options

TINY = ["--num_eval_neg", 20, "--train_epochs", 2, "--num_factors", 4, "--layers", "8,4", "--batch_size", 64,
        "--lissa_depth", 2, "--instalments", "0.5,1", "--rounds", 50]


def test_the_study_of_a_model_and_that_it_goes_on(cpu, simulated, tmp_path, monkeypatch):
    config = simulated(40, 60, 400, *TINY, "--seeds", 3, "--paper_models", "mf")
    monkeypatch.setattr(Masks, "_train", lambda self, disclosed, validation: np.stack([
        np.full(self.dataset.num_users, 1 - disclosed.mean())] * 2 + [np.arange(self.dataset.num_users)]))
    decided, called = [], Strategies.__call__
    monkeypatch.setattr(Strategies, "__call__", lambda self, strategy, budget, weight=None: (
        decided.append((strategy, weight, self.config.solver, self.config.influence_lags, self.config.anchor_placing)),
        called(self, strategy, budget, weight))[1])
    paper(config)
    assert len(decided) == 11 and decided.count(("ifrqe++", 1.0, "block", 0, "binomial")) == 1
    assert {(solver, lags) for name, _, solver, lags, _ in decided if name == "ask-first"} == {("blend", 3)}
    table = pd.read_csv(tmp_path / "output" / "paper.csv")
    assert list(table) == ["model", "strategy", "point", "seed", "f1@5", "precision@5", "ndcg@5", "mrr@5", "hr@5", "loss",
                           "wv", "wv_share", "disclosed_share", "reward"]
    likewise = ["random", "threshold", "ifrqe", "ifrqe++", "ask-first"]
    assert list(table.strategy) == ["none", *likewise, *likewise] and table.wv_share[0] == 1
    at_price, within = table[table.point == "price"], table[table.point == "budget"]
    for rows in (at_price, within):  # as much as ifrqe++, but no more
        spent = rows.set_index("strategy").wv_share
        assert (spent.drop("ifrqe") <= spent["ifrqe++"] + 1e-9).all()
    assert (within.wv_share <= 0.85 + 1e-9).all() and within.wv_share.min() > at_price.wv_share.max()
    assert table.reward.to_numpy() == pytest.approx(-table.loss - table.wv)
    assert table["f1@5"].to_numpy() == pytest.approx(table["hr@5"] / 3)
    assert MEASURES["mrr"](np.array([0, 1, 3]), 2) == pytest.approx((1 + 1 / 2) / 3)
    assert table["precision@5"].to_numpy() == pytest.approx(table["hr@5"] / 5)
    text = (tmp_path / "output" / "paper.md").read_text()
    assert "| MF | ifrqe++ | price 1 |" in text and "Published" not in text  # it is not of the paper's size
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


def test_published_values_stand_beside_a_simulation_of_the_papers_size_only(settings):
    names = ("f1@5", "precision@5", "ndcg@5", "mrr@5", "hr@5", "loss", "wv", "wv_share", "reward", "seed")
    table = pd.DataFrame([{"model": model, "strategy": strategy, "point": "price", **dict.fromkeys(names, np.float64(1))}
                          for model, strategy in PUBLISHED])
    config = with_options(settings("--sim_users", 1000, "--sim_items", 1000, "--sim_ratings", 6148, "--dataset",
                                   "simulation"), PROTOCOL)
    assert "| 0.70 | 1.80 | -2.11 |" in markdown(table, config)
    for other in (config.replace(dataset="steam"), config.replace(sim_ratings=60000), config.replace(max_ratings=10)):
        assert "ublished" not in markdown(table, other)
