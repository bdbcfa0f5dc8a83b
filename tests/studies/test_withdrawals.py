"""The withdrawal study: what is measured, what is kept, and what stands in its tables."""
import numpy as np
import pandas as pd

from src.constants import WITHDRAWAL_FILE
from src.movielens import prepare
from src.studies import withdrawals as study
from src.studies.withdrawals import PLOT, TABLE, _left, withdrawal
from tests.common.test_figures import is_png
from tests.small import SMALL


def test_a_simulation_from_requests_to_tables(cpu, settings, tmp_path, monkeypatch):
    config = settings(*SMALL, "--dataset", "simulation", "--sim_users", 60, "--sim_items", 80, "--sim_ratings", 1500,
                      "--train_epochs", 1, "--warmup_epochs", 0, "--seeds", 1)
    monkeypatch.setattr(study, "HIDING", 10)
    monkeypatch.setattr(study, "IN_A_ROW", 5)
    monkeypatch.setattr(study, "OF_GENRE", 5)
    prepare(config)
    withdrawal(config)
    table = pd.read_csv(tmp_path / "output" / WITHDRAWAL_FILE)
    requests, hidden = table[table.request.notna()], table[table.hidden.notna()]
    assert list(requests.groupby("request", sort=False).size()) == [1] * 5
    assert requests.auc_original.between(0, 1).all() and (requests.faster > 0).all()
    assert (requests.hr_gap - (requests.hr_withdrawn - requests.hr_retrained)).abs().max() < 1e-12
    assert requests[requests.request == study.SINGLE].interactions.tolist() == [5]
    assert set(zip(hidden.hidden, hidden.road, hidden.group)) == {
        (kind, road, group) for kind in (study.HIDE_GENRE, study.HIDE_ITEM) for road in study.ROADS
        for group in ("hide", "control")}
    filtered = hidden[hidden.road == "filtered"]
    assert filtered[(filtered.hidden == study.HIDE_GENRE) & (filtered.group == "hide")].left.tolist() == [1]
    assert (filtered[filtered.group == "control"].left == 0).all()
    text = (tmp_path / "output" / TABLE).read_text()
    assert "| 5% of users |" in text and "| a genre | retrained |" in text and is_png(tmp_path / "output" / PLOT)
    monkeypatch.setattr(study, "train_in_memory", None)  # all trainings are kept
    withdrawal(config)


def test_alike_items_that_leave():
    lists = [np.array([1, 2, 3]), np.array([4, 5, 6])]
    alike = [np.isin(np.arange(9), [1, 2]), np.isin(np.arange(9), [6, 8])]
    assert _left(lists, [np.array([2, 3, 7]), np.array([8, 5, 6])], alike) == {"left": 1 / 3, "before": 1.5, "after": 1.5}
