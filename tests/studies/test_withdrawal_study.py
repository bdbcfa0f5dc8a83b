"""The withdrawal study: what is measured, what is kept, and what stands in its tables."""
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from src.history import History
from studies import withdrawal as study
from studies.withdrawal import left, requests_of, withdrawal
from tests.common.test_figures import is_png
from tests.small import SMALL, refused


@pytest.mark.slow
def test_a_simulation_from_requests_to_tables(cpu, simulated, tmp_path, monkeypatch):
    config = simulated(60, 80, 1500, *SMALL[2:], "--model", "mf", "--train_epochs", 1, "--warmup_epochs", 0, "--seeds", 1)
    for name, number in (("HIDING", 10), ("IN_A_ROW", 2), ("OF_GENRE", 5)):
        monkeypatch.setattr(study, name, number)
    measured = iter(np.linspace(0, 1, 12))  # of 4 requests without, with and after what is withdrawn
    monkeypatch.setattr(study, "membership_auc", lambda *_: next(measured))
    withdrawal(config)
    table = pd.read_csv(tmp_path / "output" / "withdrawal.csv")
    requests, hidden = table[table.request.notna()], table[table.hidden.notna()]
    assert requests.request.tolist() == [study.SINGLE, study.USER, study.FIVE_PERCENT, study.GENRE]  # 1% of 60 users is none
    assert requests.overlap_relative.isna().all() and requests.overlap_seeds.isna().all()  # nothing is known of two seeds
    assert requests.auc_original.between(0, 1).all() and (requests.faster > 0).all()
    assert (requests.hr_gap - (requests.hr_withdrawn - requests.hr_retrained)).abs().max() < 1e-12
    assert requests[requests.request == study.SINGLE].interactions.tolist() == [2]
    assert set(zip(hidden.hidden, hidden.road, hidden.group)) == {
        (kind, road, group) for kind in (study.HIDE_GENRE, study.HIDE_ITEM) for road in ("retrained", "withdrawn")
        for group in ("hide", "control")}
    text = (tmp_path / "output" / "withdrawal.md").read_text()
    assert "nan" not in text and "| 5% of users |" in text and "| a genre | retrained |" in text
    assert is_png(tmp_path / "output" / "withdrawal.png")
    monkeypatch.setattr(study, "train_in_memory", None)  # all trainings are kept
    monkeypatch.setattr(study, "compared", None)  # which comes after them
    with pytest.raises(TypeError):
        withdrawal(config)
    with refused("--model lightgcn"):
        withdrawal(config.replace(model="lightgcn"))


@pytest.mark.parametrize("users, requests, most", [
    (1000, [study.SINGLE, study.USER, study.ONE_PERCENT, study.FIVE_PERCENT, study.GENRE], 100),
    (12, [study.SINGLE, study.USER, study.GENRE], 6), (2, [study.SINGLE, study.USER], 1), (1, [study.SINGLE], 1)])
def test_few_users_make_fewer_requests(users, requests, most):
    user = np.repeat(np.arange(users), 3)
    dataset = SimpleNamespace(num_users=users, user=user, item=np.arange(len(user)) % 5, num_interactions=len(user),
                              history=History(user, users))
    found = requests_of(dataset, pd.Series(["Drama"] * 5).str.split("|"), np.random.default_rng(0))
    assert list(found) == requests and found[study.SINGLE].sum() == most and (np.sum(list(found.values()), 0) <= 1).all()


def test_nobody_who_could_withdraw_is_one_line():
    with refused("dataset few"):
        requests_of(SimpleNamespace(name="few", history=History(np.array([0, 1]), 2)), None, np.random.default_rng(0))


def test_alike_items_that_leave():
    lists = [np.array([1, 2, 3]), np.array([4, 5, 6])]
    alike = [np.isin(np.arange(9), [1, 2]), np.isin(np.arange(9), [6, 8])]
    assert left(lists, [np.array([2, 3, 7]), np.array([8, 5, 6])], alike) == {"left": 1 / 3, "before": 1.5, "after": 1.5}
