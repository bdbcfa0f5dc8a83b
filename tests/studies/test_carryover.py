"""The carry-over study: who judges what, what is kept, and what stands in its table."""
import sys

import numpy as np
import pandas as pd
import pytest

from src.common.errors import InputError
from src.config import shipped
from src.constants import CARRYOVER_FILE
from src.dataset import load_dataset
from src.movielens import prepare
from studies import carryover as study
from studies.carryover import PLOT, TABLE, JudgedSeed, carryover
from tests.common.test_figures import is_png
from tests.small import SMALL

STUDY = [*SMALL, "--carryover_strategies", "threshold,random", "--carryover_judges", "ease,ncf", "--seeds", "1,2"]


@pytest.fixture
def made_up(monkeypatch):
    """Judges who rank by what is disclosed; returns the list of what they were trained on, and a place to stop at."""
    judged, stop = [], []

    def judge(self, name, part):
        if stop and len(judged) == stop[0]:
            raise KeyboardInterrupt
        judged.append((name, self.config.seed, part.num_interactions))
        return np.arange(self.dataset.num_users) + part.num_interactions % 7

    monkeypatch.setattr(JudgedSeed, "_judge", judge)
    return judged, stop


def test_a_simulation_from_masks_to_table(cpu, settings, tmp_path):
    config = settings(*STUDY, "--dataset", "simulation", "--sim_users", 40, "--sim_items", 60, "--sim_ratings", 800,
                      "--train_epochs", 1, "--seeds", 1)
    prepare(config)
    carryover(config)
    output = tmp_path / "output"
    table = pd.read_csv(output / CARRYOVER_FILE)
    assert list(table) == ["judge", "strategy", "seed", "wv_share", "spent_share", "disclosed_share", "hr@3", "ndcg@3",
                           "q1", "q2", "q3", "q4"]
    assert table[["judge", "strategy"]].values.tolist() == [
        [judge, strategy] for strategy in ("none", "threshold", "random") for judge in ("ease", "ncf")]
    share = table.groupby("strategy", sort=False).wv_share.first()
    assert share["none"] == 1 and (share[1:] <= 0.6).all() and (share[1:] > 0.5).all()
    assert (table.spent_share == table.wv_share).all()
    assert table[["hr@3", "q1", "q4"]].stack().between(0, 1).all() and (table["ndcg@3"] <= table["hr@3"]).all()
    assert table[table.judge == "ease"]["hr@3"].max() > 3 / 60  # better than chance
    text = (output / TABLE).read_text()
    assert "| HR@3 | none | threshold | random |" in text and "| spent on the way | 100% | 60% | 60% |" in text
    assert "- ncf: trained anew" in text and "- ease: ridge" in text and "±" not in text
    assert is_png(output / PLOT)


def test_the_study_goes_on_where_it_was_stopped_and_can_grow(cpu, ratings, settings, tmp_path, made_up, monkeypatch):
    judged, stop = made_up
    decided = []
    decide = JudgedSeed.decide
    monkeypatch.setattr(JudgedSeed, "decide", lambda self, *of: decided.append((*of, self.config.seed)) or decide(self, *of))
    stop.append(7)
    with pytest.raises(KeyboardInterrupt):
        carryover(settings(*STUDY))
    stop.clear()
    before = list(judged)
    carryover(settings(*STUDY))
    assert len(judged) == 12 and judged[:7] == before and len(decided) == 6  # 2 seeds, 3 strategies, 2 judges
    assert decided[:3] == [("none", 1.0, 1), ("threshold", 0.6, 1), ("random", 0.6, 1)]
    table = pd.read_csv(tmp_path / "output" / CARRYOVER_FILE)
    assert len(table) == 12 and table.seed.nunique() == 2
    history = np.bincount(load_dataset(settings()).user)
    assert (history == 7).all() and table.q2.isna().all() and (table.q1 == table["hr@3"]).all()  # one group
    monkeypatch.setitem(sys.modules, "implicit", None)
    carryover(settings(*STUDY, "--carryover_judges", "ease,als,ncf"))
    assert len(judged) == 12
    text = (tmp_path / "output" / TABLE).read_text()
    assert text.count("- als: left out: the package implicit does not serve (ModuleNotFoundError(") == 1
    carryover(settings(*STUDY, "--carryover_strategies", "random,recent", "--seeds", "2"))
    assert len(judged) == 14 and len(decided) == 7
    carryover(settings(*STUDY, "--wv_budget", 0.3))
    assert len(judged) == 14 + 8  # everything disclosed is the same at every budget
    carryover(settings(*STUDY, "--overwrite"))
    assert len(judged) == 22 + 12


def test_what_is_withheld_is_neither_trained_on_nor_ranked(cpu, ratings, settings, tmp_path, monkeypatch):
    config = settings(*STUDY, "--carryover_strategies", "random", "--carryover_judges", "ease", "--seeds", 1)
    dataset = load_dataset(config)
    matrices = []

    def knows_all(judge, matrix, seed, setting):
        matrices.append(matrix)
        scores = np.zeros((12, 20))
        scores[np.arange(12), dataset.test] = 1
        scores[dataset.user, dataset.item] = 2  # withheld or not
        scores[np.arange(12), dataset.validation] = 2
        return lambda users: scores[users]
    monkeypatch.setattr(study, "fitted", knows_all)
    carryover(config)
    table = pd.read_csv(tmp_path / "output" / CARRYOVER_FILE)
    assert (table["hr@3"] == 1).all() and (table["ndcg@3"] == 1).all()
    assert [matrix.nnz for matrix in matrices] == [84, round(84 * table.disclosed_share[1])] and matrices[1].nnz < 84
    touched = dataset.history_pairs()
    for matrix in matrices:
        assert touched.contains(*matrix.nonzero()).all()


def test_the_table_says_means_over_seeds_by_judge(cpu, ratings, settings, tmp_path, monkeypatch):
    # hits by judge, strategy and seed: of 12 users the first so many
    hits = {("ease", "none"): (6, 9), ("ease", "random"): (3, 3), ("ncf", "none"): (12, 12), ("ncf", "random"): (0, 6)}
    monkeypatch.setattr(JudgedSeed, "ranks", lambda self, judge, strategy, disclosed: np.where(
        np.arange(12) < hits[judge, strategy][self.config.seed - 1], 0, 9))
    carryover(settings(*STUDY, "--carryover_strategies", "random"))
    text = (tmp_path / "output" / TABLE).read_text()
    assert "| ease | 0.6250 ± 0.1768 | 0.2500 ± 0.0000 |" in text and "| ncf | 1.0000 ± 0.0000 | 0.2500 ± 0.3536 |" in text
    assert "| judge | strategy | 7 |" in text and "| ncf | random | 0.2500 |" in text


def test_other_base_models_judge_by_their_recipes(cpu, ratings, settings, tmp_path, monkeypatch):
    asked = []

    class Retrained:
        shown = None

        def __init__(self, dataset, config, device):
            asked.append((config.model, config.num_factors))

        def __call__(self, part, seed):
            asked.append((part.num_interactions, seed))
    monkeypatch.setattr(study, "Retraining", Retrained)
    monkeypatch.setattr(study, "ranks_among_untouched", lambda *_: np.zeros(12, int))
    flags = [*SMALL, "--carryover_strategies", "none", "--seeds", 5]
    carryover(settings(*flags, "--carryover_judges", "mf,ncf"))
    width = shipped()[1]["mf"]["num_factors"]
    assert asked == [("mf", width), (84, 5), ("ncf", settings(*SMALL).num_factors), (84, 5)]
    assert width != settings(*SMALL).num_factors


@pytest.mark.parametrize("flags, words", [
    (["--carryover_strategies", "magic"], "--carryover_strategies magic: there is no strategy 'magic'; name some of"),
    (["--carryover_judges", "ease,mine.py"],
     "--carryover_judges ease,mine.py: there is no judge 'mine.py'; name some of item-knn,ease,als,bpr,ncf,mf,lightgcn"),
    (["--carryover_judges", "ease,ease"], "--carryover_judges ease,ease: 'ease' would stand for two"),
    (["--holdout", 1], "--holdout 1: leaves no validation item"),
    (["--carryover_judges", "als"], "--carryover_judges als: none of them can judge here .als: the package implicit do"),
    ([*SMALL, "--carryover_judges", "ncf", "--carryover_strategies", "threshold", "--wv_budget", 1e-9],
     "--wv_budget 1e-09: is too small for threshold to disclose anything; raise it"),
])
def test_bad_settings_are_one_line(cpu, ratings, settings, monkeypatch, made_up, flags, words):
    monkeypatch.setitem(sys.modules, "implicit", None)
    with pytest.raises(InputError, match=words):
        carryover(settings(*flags))
