"""The trade-off study on trainings that are made up."""
import json

import numpy as np
import pandas as pd
import pytest

from src.common.errors import InputError
from src.constants import TRADEOFF_FILE, TRADEOFF_PLOT
from studies.runs import SeedRuns
from studies.tradeoff import TABLE, USERS_PLOT, tradeoff
from tests.small import SMALL

STUDY = [*SMALL, "--tradeoff_budgets", "0.3,0.8", "--tradeoff_strategies", "threshold,ifrqe,none+validation",
         "--seeds", "1,2"]


@pytest.fixture
def made_up(monkeypatch):
    """Trainings whose loss falls with what is disclosed; returns the list of their shares, and a place to stop at."""
    trained, stop = [], []

    def train(self, strategy, disclosed):
        if stop and len(trained) == stop[0]:
            raise KeyboardInterrupt
        trained.append((strategy, self.config.seed, disclosed.mean()))
        loss = np.full(self.dataset.num_users, 1 - disclosed.mean())
        return np.stack([loss, loss, np.arange(self.dataset.num_users)])

    monkeypatch.setattr(SeedRuns, "_train", train)
    return trained, stop


@pytest.mark.slow
def test_the_study_goes_on_where_it_was_stopped_and_can_grow(cpu, ratings, settings, tmp_path, made_up):
    trained, stop = made_up
    stop.append(8)
    with pytest.raises(KeyboardInterrupt):
        tradeoff(settings(*STUDY))
    stop.clear()
    before = list(trained)
    tradeoff(settings(*STUDY))
    assert len(trained) == 12 and trained[:8] == before  # 2 seeds, 2 budgets of 2 strategies, everything with and without
    table = pd.read_csv(tmp_path / "output" / TRADEOFF_FILE)
    assert len(table) == 2 * 2 * 4 and set(table.strategy) == {"none", "none+validation", "threshold", "ifrqe"}
    assert (table.wv_share <= table.budget + 1e-9)[~table.strategy.str.startswith("none")].all()
    assert table.loss.to_numpy() == pytest.approx(1 - table.disclosed_share) and (table["hr@3"] == 3 / 12).all()
    for _, rows in table.groupby(["budget", "seed"]):
        assert rows.willingness_weight.nunique() == 1
        assert rows.reward.to_numpy() == pytest.approx(-rows.loss - rows.willingness_weight * rows.wv)
    for name in (TRADEOFF_PLOT, USERS_PLOT):
        assert (tmp_path / "output" / name).read_bytes()[:4] == b"\x89PNG"
    assert "| 30% | ifrqe |" in (tmp_path / "output" / TABLE).read_text()
    tradeoff(settings(*STUDY, "--tradeoff_budgets", "0.3,0.5,0.8"))
    assert len(trained) == 12 + 4
    with pytest.raises(InputError, match="seed_2/NCF.ckpt: was trained with train_epochs=2, but train_epochs=1 is needed"):
        tradeoff(settings(*STUDY, "--train_epochs", 1, "--seeds", "2,1"))
    tradeoff(settings(*STUDY, "--train_epochs", 1, "--overwrite", "--checkpoint_path", tmp_path / "other"))
    assert len(trained) == 16 + 12
    for seed in (1, 2):
        found = json.loads((tmp_path / "output" / "tradeoff" / f"seed_{seed}" / "train_ncf.json").read_text())
        assert found["seed"] == seed
    assert not (tmp_path / "output" / "train_ncf.json").exists()  # which is what train.py has to say


@pytest.mark.parametrize("flags, words", [
    (["--tradeoff_strategies", "ifrqe,magic"], "--tradeoff_strategies ifrqe,magic: there is no strategy 'magic'; name some"),
    (["--tradeoff_budgets", ""], "--tradeoff_budgets '': needs shares"),
    (["--holdout", 1], "--holdout 1: leaves no validation item"),
])
def test_bad_settings_are_named(settings, flags, words):
    with pytest.raises(InputError, match=words):
        tradeoff(settings(*flags))
