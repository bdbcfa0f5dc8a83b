"""The paper's table on a tiny simulation."""
import numpy as np
import pandas as pd
import pytest

from src import movielens
from src.common.errors import InputError
from src.constants import PAPER_FILE
from src.dataset import load_dataset
from src.game.strategies import Strategies
from src.metrics import mean_loss
from src.network import build, score
from studies.paper import (
    LIKEWISE,
    METHOD,
    PLOT,
    PROTOCOL,
    PUBLISHED,
    TABLE,
    TRAINING,
    PaperRuns,
    chance,
    markdown,
    paper,
    solver_of,
    with_options,
)
from studies.runs import SeedRuns
from tests.common.test_figures import is_png

TINY = ["--dataset", "simulation", "--sim_users", 40, "--sim_items", 60, "--sim_ratings", 400, "--num_eval_neg", 20,
        "--train_epochs", 2, "--num_factors", 4, "--layers", "8,4", "--batch_size", 64, "--lissa_depth", 2]


@pytest.mark.slow
def test_the_study_of_two_models_and_that_it_goes_on(cpu, settings, tmp_path, monkeypatch):
    config = settings(*TINY, "--seeds", 3, "--paper_models", "mf,lightgcn", "--instalments", "0.5,1")
    movielens.prepare(config)
    monkeypatch.setattr(SeedRuns, "_train", lambda self, strategy, disclosed: np.stack([
        np.full(self.dataset.num_users, 1 - disclosed.mean())] * 2 + [np.arange(self.dataset.num_users)]))
    decided, called = [], Strategies.__call__
    monkeypatch.setattr(Strategies, "__call__", lambda self, strategy, budget, weight=None: (
        decided.append((strategy, weight, self.config.solver, self.config.influence_lags, self.config.anchor_placing)),
        called(self, strategy, budget, weight))[1])
    paper(config)
    assert len(decided) == 2 * (1 + 2 * len(LIKEWISE))
    assert decided.count(("ifrqe++", 1.0, "block", 0, "binomial")) == 2
    assert {(solver, lags) for name, _, solver, lags, _ in decided if name == "ask-first"} == {("blend", 3)}
    table = pd.read_csv(tmp_path / "output" / PAPER_FILE)
    assert list(dict.fromkeys(table.model)) == ["mf", "lightgcn"] and set(table.seed) == {3}
    for _, part in table.groupby("model"):
        assert list(part.strategy) == ["none", *LIKEWISE, *LIKEWISE] and part.wv_share.iloc[0] == 1
        at_price, within = part[part.point == "price"], part[part.point == "budget"]
        for rows in (at_price, within):  # as much as ifrqe++, but no more
            spent = rows.set_index("strategy").wv_share
            assert (spent.drop("ifrqe") <= spent["ifrqe++"] + 1e-9).all()
        assert (within.wv_share <= 0.85 + 1e-9).all() and within.wv_share.min() > at_price.wv_share.max()
    assert table.loss.to_numpy()[table.wv > 0] == pytest.approx(1 - table.disclosed_share[table.wv > 0])
    assert table.reward.to_numpy() == pytest.approx(-table.loss - table.wv)
    assert table["f1@5"].to_numpy() == pytest.approx(table["hr@5"] / 3)
    assert table["precision@5"].to_numpy() == pytest.approx(table["hr@5"] / 5)
    assert (table["mrr@5"] <= table["ndcg@5"] + 1e-12).all()
    text = (tmp_path / "output" / TABLE).read_text()
    assert "| LightGCN | ifrqe++ | price 1 |" in text and "published" not in text  # it is not of the paper's size
    assert is_png(tmp_path / "output" / PLOT)
    before = table.to_csv()
    monkeypatch.setattr(Strategies, "__call__", lambda *_: pytest.fail("decides again"))
    paper(config)
    assert pd.read_csv(tmp_path / "output" / PAPER_FILE).to_csv() == before


def test_where_nothing_is_disclosed_the_network_stays_as_it_was_drawn(cpu, ratings, settings, tmp_path):
    config = with_options(settings(*TINY, "--dataset", "tiny", "--num_eval_neg", 6, "--top_k", 3), {**PROTOCOL, **TRAINING})
    bar = type("Bar", (), {"update": lambda self: None})()
    runs = PaperRuns(config, tmp_path / "runs", "CPU", False, bar)
    row = runs.at("price", "random", 0.0)
    fresh = score(build(load_dataset(config), config), runs.retraining.test, config.eval_batch_size)
    assert row["wv"] == row["disclosed_share"] == 0 and row["loss"] == pytest.approx(mean_loss(fresh).mean())


def test_chance_is_that_of_100_candidates(settings):
    found = chance(with_options(settings(), PROTOCOL))
    assert found == pytest.approx({"f1@5": 5 / 300, "precision@5": 0.01, "hr@5": 0.05, "ndcg@5": 0.0294846,
                                   "mrr@5": (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 100}, abs=1e-6)


def test_the_papers_options_give_way_to_those_that_are_given(settings):
    config = settings("--train_epochs", 3, "--anchors", 5)
    changed = with_options(config, {**TRAINING, **METHOD, "unheard_of": 1})
    assert (changed.train_epochs, changed.anchors, changed.num_factors, changed.rounds) == (3, 5, 64, 1000)
    assert [solver_of(config, model) for model in ("mf", "ncf", "lightgcn", "mine.py")] == ["block", "lissa"] + ["block"] * 2
    assert [solver_of(settings("--solver", "blend"), model) for model in ("mf", "ncf")] == ["blend"] * 2
    assert [solver_of(settings("--solver", "lissa"), model) for model in ("mf", "ncf")] == ["block", "lissa"]


def test_published_values_stand_beside_a_simulation_of_the_papers_size_only(settings):
    size = ["--sim_users", 1000, "--sim_items", 1000, "--sim_ratings", 6148]
    names = ("f1@5", "precision@5", "ndcg@5", "mrr@5", "hr@5", "loss", "wv", "wv_share", "reward", "seed")
    table = pd.DataFrame([{"model": model, "strategy": strategy, "point": "price", **dict.fromkeys(names, np.float64(1))}
                          for model, strategy in PUBLISHED])
    config = with_options(settings(*size, "--dataset", "simulation"), PROTOCOL)
    text = markdown(table, config)
    assert "| 0.70 | 1.80 | -2.11 |" in text and "another draw of the simulation" in text
    for other in (config.replace(dataset="steam"), config.replace(sim_ratings=60000), config.replace(max_ratings=10)):
        assert "ublished" not in markdown(table, other)


@pytest.mark.parametrize("flags, words", [
    (["--paper_models", "mf,magic"], "--paper_models mf,magic: there is no base model 'magic'; name some of ncf,mf"),
    (["--recipe", "fast"], "--recipe fast: this study has the paper's options"),
    (["--holdout", 1], "--holdout 1: leaves no validation item"),
    (["--willingness_weight", "none"], "--willingness_weight none: this study is of a price"),
])
def test_bad_settings_are_named(settings, flags, words):
    with pytest.raises(InputError, match=words):
        paper(settings(*flags))
