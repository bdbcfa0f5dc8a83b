"""The users' pages: their numbers, what is left out of them, and how large they get."""
import base64
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from eval import evaluate_and_report
from src.common.variant import asked
from src.dataset import load_dataset
from src.evaluation.personal import Serving
from src.evaluation.withdraw import withdraw
from src.game.decisions import read_decisions
from src.game.preprocess import preprocess
from src.game.rule import Rule
from src.report import users as report_users
from src.report.page import write_report
from src.report.results import read_results
from src.report.users import sample_users, users_page
from src.training.train import train
from tests.report.reading import data_of, read, simulated_results, vetoed_items


def items_of(data, user):
    """Ids of the items of a user of the page."""
    return [int(data["items"][i][0]) for i in np.frombuffer(base64.b64decode(user["items"]), "<u4")]


def test_the_page_computes_with_the_numbers_of_disclosure_csv(finished_run):
    dataset, data = load_dataset(finished_run), data_of(finished_run)
    decisions = read_decisions(finished_run, dataset)
    assert len(data["users"]) == 40 and data["num_users"] == 60
    for user in data["users"][:5]:
        mine = dataset.user == int(user["id"]) - 1
        vetoed = vetoed_items(dataset, int(user["id"]) - 1)  # listed after what was decided
        for name, values, of_vetoed, kind in (("unwillingness", decisions.unwillingness, 1, "<f8"),
                                              ("expected", decisions.expected, 0, "<f8"),
                                              ("influence", decisions.influence.astype("f4"), 0, "<f4"),
                                              ("disclosed", decisions.disclosed, 0, "<u1")):
            found = np.frombuffer(base64.b64decode(user[name]), kind)
            assert found.tolist() == [*values[mine].tolist(), *[of_vetoed] * len(vetoed)]
        assert items_of(data, user) == dataset.item_ids[[*dataset.item[mine], *vetoed]].tolist()
    rule = Rule(decisions)
    assert rule.agreement(decisions) == data["agreement"] == 1.0
    assert len(data["prices"]) == 101 and data["prices"][60] == rule.weight
    assert data["veto"] is True and data["share"] <= 0.6


def test_what_is_vetoed_is_in_the_report_only_if_asked_for(cpu, copied):
    dataset = load_dataset(copied)
    assert len(dataset.dropped.user) > 50
    for shown in (True, False):
        write_report(asked(copied.replace(report_vetoed=shown)))
        page, data = read(copied), data_of(copied)
        for user in data["users"]:
            mine, vetoed = dataset.item[dataset.user == int(user["id"]) - 1], vetoed_items(dataset, int(user["id"]) - 1)
            assert items_of(data, user) == dataset.item_ids[[*mine, *vetoed] if shown else mine].tolist()
            assert shown or 1.0 not in np.frombuffer(base64.b64decode(user["unwillingness"]), "<f8")
        assert ("vetoed is left out here" in page) != shown


@pytest.mark.slow
def test_a_withdrawal_makes_no_veto_of_what_others_are_unwilling_with(cpu, copied):
    config = copied.replace(veto=False, report_vetoed=False)
    train(asked(config))
    preprocess(config)
    train(asked(config.replace(masked=True)))
    dataset = load_dataset(config)
    assert dataset.dropped is None
    minded = read_decisions(config, dataset).unwillingness == 1
    back = int(np.flatnonzero(minded)[0])
    user, item = int(dataset.user_ids[dataset.user[back]]), int(dataset.item_ids[dataset.item[back]])
    request = Path(config.output_path).parent / "request.csv"
    request.write_text(f"user_id,item_id\n{user},{item}\n")
    withdraw(asked(config.replace(withdraw=str(request))))
    evaluate_and_report(config)
    evaluate_and_report(config.replace(masked=True, report_users=60))
    data = data_of(config)
    assert data["veto"] is False and data["left_out"] is False and len(data["users"]) == 60
    for found in data["users"]:
        mine, theirs = dataset.user == int(found["id"]) - 1, int(found["id"]) == user
        assert items_of(data, found) == [i for i in dataset.item_ids[dataset.item[mine]] if not (theirs and i == item)]
        b = np.frombuffer(base64.b64decode(found["unwillingness"]), "<f8")
        assert (b == 1).sum() == minded[mine].sum() - theirs


def test_it_stays_small_whatever_the_data(cpu, finished_run, monkeypatch):
    results = simulated_results(finished_run, 3000, 300, 4000)
    results.models["NCF"].recommends = True
    monkeypatch.setattr(report_users, "load_serving", lambda *_: Serving(None, {}))
    monkeypatch.setattr(report_users, "top_items", lambda net, users, *_: [(np.arange(10), np.full(10, 0.5))] * len(users))
    page = users_page(results, finished_run.replace(report_users=1000))
    assert len(page["users"]) == 200  # of 300 interactions each
    assert 1e6 < len(json.dumps(page)) < 3.5e6
    chosen = sample_users(results.dataset, finished_run.replace(report_users=1000))
    assert [int(user["id"]) for user in page["users"]] == (chosen + 1).tolist() == sorted(set(chosen + 1))
    assert users_page(results, finished_run.replace(report_users=0)) is None


def test_large_ids_stay_what_they_are(finished_run):
    results = read_results(asked(finished_run))
    results.dataset = dataclasses.replace(results.dataset, user_ids=76561197960265729 + np.arange(60))
    for found in results.models.values():
        found.recommends = False  # no model is one of these users
    page = json.loads(json.dumps(users_page(results, finished_run)))
    assert {int(user["id"]) for user in page["users"]} <= set(results.dataset.user_ids.tolist())
