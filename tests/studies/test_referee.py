"""The referee study: what RecBole is given and must rank, what stands in the table, and what is refused."""
import numpy as np
import pandas as pd
import pytest

from src.dataset import load_dataset
from studies.referee import referee
from tests.small import SMALL, refused

# stands for the Python of RecBole, with an answer made before
STUB = """#!/bin/sh
[ "$1" = -c ] && exec echo 1.2.1 2.0
cp data/data.inter {0}/given; cp {0}/answer.npy $6; echo $4 $5 >> {0}/calls
"""
FLAGS = [*SMALL, "--referee_models", "ncf", "--seeds", "3,4"]


@pytest.fixture
def recbole(cpu, ratings, settings, tmp_path, monkeypatch):
    """recbole(change=0) -> settings of the study, for which each user's test item has their place as its rank."""
    python, dataset = tmp_path / "python", load_dataset(settings())
    python.write_text(STUB.format(tmp_path))
    python.chmod(0o755)
    monkeypatch.setenv("RECBOLE_PYTHON", str(python))

    def make(change=0):
        np.save(tmp_path / "answer.npy", [np.arange(12), dataset.test, np.full(12, 20 - 8 + change)])
        return settings(*FLAGS)
    return make


def test_recbole_gets_the_same_interactions_and_all_is_kept(recbole, tmp_path):
    dataset = load_dataset(config := recbole())
    referee(config), referee(config)
    assert (tmp_path / "calls").read_text().split("\n") == ["NeuMF 3", "NeuMF 4", ""]
    given = pd.read_csv(tmp_path / "given", sep="\t").sort_values("timestamp:float")["user_id:token item_id:token".split()]
    for user, rows in given.groupby("user_id:token"):
        history = dataset.item[dataset.user == user].tolist()
        assert rows["item_id:token"].tolist() == [*history, dataset.validation[user], dataset.test[user]]
    table = pd.read_csv(tmp_path / "output" / "referee.csv")
    assert (table["library"] + table.model).tolist() == ["RecBoleNeuMF"] * 2 + ["oursncf"] * 2 and set(table.seed) == {3, 4}
    assert table["full_hr@3"].tolist()[:2] == [3 / 12] * 2 and table["full_hr@3"].between(0, 1).all()
    text = (tmp_path / "output" / "referee.md").read_text()
    assert "RecBole 1.2.1" in text and "| RecBole | NeuMF | 0.2500 ± 0.0000 |" in text and "_se" not in text


def test_what_cannot_be_compared_is_refused(recbole, settings, monkeypatch):
    with refused("--dataset tiny"):
        referee(recbole(change=1))
    with refused("--referee_models"):
        referee(settings("--referee_models", "ease"))
    monkeypatch.setenv("RECBOLE_PYTHON", "/bin/false")
    with refused("RECBOLE_PYTHON=/bin/false", "scripts/run_referee.sh"):
        referee(recbole() and settings(*FLAGS))
