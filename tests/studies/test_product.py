"""The study of use: what both kinds of run know, how long they train, and the table on known answers."""
import json

import numpy as np
import pandas as pd
import pytest

from src.common.variant import Variant
from src.dataset import load_dataset
from src.evaluation.evaluate import evaluate
from src.training.train import train
from studies import product as study
from studies.grid import Study
from studies.product import IN_A_ROW, NEW, QUALITY, Hidden, product
from tests.small import SMALL


@pytest.mark.slow
def test_a_simulation_from_data_to_the_table(cpu, simulated, tmp_path, monkeypatch):
    strategies = ["threshold", "ifrqe"]
    config = simulated(40, 60, 800, *SMALL, "--embedding_std", 0.3, "--learning_rate", 0.03, "--train_epochs", 6,
                       "--seeds", "1,2", "--product_parts", "holdout", "--product_strategies", ",".join(strategies))
    data = load_dataset(config.replace(holdout=1))
    hidden = set(zip(data.user_ids.tolist(), data.item_ids[data.test].tolist()))
    product(config)
    table = pd.read_csv(tmp_path / "output" / "product.csv")
    assert table[["seed", "strategy"]].values.tolist() == [[seed, name] for seed in (1, 2) for name in strategies]
    assert (table.product_epochs == table.study_epochs).all() and table.study_epochs.min() < config.train_epochs
    assert (table.filter(like="wv_share") <= config.wv_budget + 1e-9).all(axis=None)
    said = []
    for name, number in (("study", data.num_interactions - 2 * data.num_users), ("product", data.num_interactions)):
        folder = tmp_path / "output" / "product" / "seed_2" / f"ifrqe_{name}"
        said.append(pd.read_csv(folder / "disclosure.csv").set_index(["user_id", "item_id"]).unwillingness)
        rows = pd.concat([pd.read_csv(path)[["user_id", "item_id"]] for path in folder.glob("*simulation/[rhu]*.csv")])
        assert len(said[-1]) == number and not hidden & set(rows.itertuples(index=False, name=None))
    assert said[0].equals(said[1][said[0].index]) and said[0].nunique() > 0.9 * len(said[0])
    assert "product_full_ndcg@3" in (tmp_path / "output" / "product.md").read_text()
    monkeypatch.setattr(study, "Hidden", None)  # done before
    product(config.replace(holdout=0))


def test_the_hidden_item_is_scored_as_a_test_item_is(cpu, simulated, tmp_path):
    config = simulated(40, 60, 800, *SMALL, "--eval_mode", "full", "--holdout", 1, "--train_epochs", 1)
    train(Variant(config))
    evaluate(Variant(config))
    asked = json.loads((tmp_path / "output" / "eval_ncf.json").read_text())
    found = Hidden(Study("product", __name__, config), load_dataset(config), config.seed).compared("none")
    qualities = [name.format(3) for name in QUALITY]
    assert [found[f"product_{name}"] for name in qualities] == [asked[name] for name in qualities]  # the same training
    assert found["product_wv_share"] == found["study_wv_share"] == 1


def test_what_arrives_is_the_latest_of_its_user(cpu, simulated):
    config = simulated(120, 60, 3000, *SMALL)
    data = load_dataset(config.replace(holdout=1))
    number = Hidden(Study("product", __name__, config), data, 1).arriving()
    strangers = 0
    for user in range(data.num_users):
        own = number[data.history.of(user)]
        strangers += (own >= 0).all()
        assert (np.diff(own) >= 0).all()  # so that -1, what does not arrive, comes first
    assert strangers == 1 and number.max() < IN_A_ROW and len(np.unique(number)) > IN_A_ROW / 2
    assert -1 < (number >= 0).sum() - NEW * len(number) <= data.history.length.max() + 1  # and one stranger


@pytest.mark.slow
def test_updates_are_measured(cpu, simulated, tmp_path):
    config = simulated(60, 60, 1500, *SMALL, "--product_parts", "updates", "--product_strategies", "none,ask-first",
                       "--seeds", 1)
    product(config)
    row = pd.read_csv(tmp_path / "output" / "product.csv").set_index("strategy").loc["ask-first"]
    assert 0 < row["once_new"] <= 1 and row["seeds_all"] > 0.5 and 0 < row["row_wv_share"] <= config.wv_budget + 1e-9
    assert row["warm_seconds"] > 0
    folder = tmp_path / "output" / "product" / "seed_1"
    decided = {name: len(pd.read_csv(folder / f"ask-first_{name}" / "disclosure.csv"))
               for name in ("product", "before", "once", "row")}
    assert decided["before"] < decided["product"] == decided["once"] == decided["row"]
    assert not (folder / "none_before").exists()
