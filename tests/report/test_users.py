"""The users' pages: their numbers, what is left out of them, and how large they get."""
import base64
import dataclasses
import json
from pathlib import Path

import numpy as np

from src.common.variant import asked
from src.dataset import Ids, load_dataset
from src.evaluation.explain import Rule
from src.evaluation.personal import Serving
from src.game.decisions import read_decisions
from src.report import users as report_users
from src.report.page import write_report
from src.report.results import read_results
from src.report.users import sample_users, users_page
from src.sources.withdrawn import line_of, withdrawn_path
from tests.report.reading import data_of, read, simulated_results


def test_the_page_computes_with_the_numbers_of_disclosure_csv(finished_run):
    dataset, data = load_dataset(finished_run), data_of(finished_run)
    decisions = read_decisions(finished_run, dataset)
    assert len(data["users"]) == 40 and data["num_users"] == 60
    for user in data["users"][:5]:
        mine = dataset.user == int(user["id"]) - 1
        for name, values, kind in (("unwillingness", decisions.unwillingness, "<f8"),
                                   ("expected", decisions.expected, "<f8"),
                                   ("influence", decisions.influence.astype("f4"), "<f4"),
                                   ("disclosed", decisions.disclosed, "<u1")):
            assert np.array_equal(np.frombuffer(base64.b64decode(user[name]), kind), values[mine])
        items = np.frombuffer(base64.b64decode(user["items"]), "<u4")
        assert [int(data["items"][i][0]) for i in items] == dataset.item_ids[dataset.item[mine]].tolist()
    rule = Rule(decisions)
    assert rule.agreement(decisions) == data["agreement"] == 1.0
    assert len(data["prices"]) == 101 and data["prices"][60] == rule.weight
    assert data["veto"] is True and data["share"] <= 0.6


def test_what_is_vetoed_is_in_the_report_only_if_asked_for(cpu, copied):
    dataset = load_dataset(copied)
    decisions = read_decisions(copied, dataset)
    vetoed = decisions.vetoed
    assert vetoed.sum() > 50
    for shown in (True, False):
        write_report(asked(copied.replace(report_vetoed=shown)))
        page, data = read(copied), data_of(copied)
        for user in data["users"]:
            mine = (dataset.user == int(user["id"]) - 1) & (shown | ~vetoed)
            items = [data["items"][i][0] for i in np.frombuffer(base64.b64decode(user["items"]), "<u4")]
            assert items == list(map(str, dataset.item_ids[dataset.item[mine]]))
            for column, kind in (("unwillingness", "<f8"), ("expected", "<f8"), ("disclosed", "<u1"), ("influence", "<f4")):
                assert len(np.frombuffer(base64.b64decode(user[column]), kind)) == mine.sum()
            assert shown or 1.0 not in np.frombuffer(base64.b64decode(user["unwillingness"]), "<f8")
        assert ("vetoed is left out here" in page) != shown


def test_a_withdrawal_makes_no_veto_of_what_others_are_unwilling_with(cpu, copied):
    record = Path(copied.output_path) / "preprocess.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "vetoed": 0}))
    dataset = load_dataset(copied)
    back = int(np.flatnonzero(read_decisions(copied, dataset).unwillingness == 1)[0])
    pair = [int(dataset.user_ids[dataset.user[back]]), int(dataset.item_ids[dataset.item[back]])]
    withdrawn_path(copied).write_text(line_of({"time": "", "model": "IFRQE", "file_sha256": "", "interactions": [pair],
                                               "forbidden": [], "before": {}, "after": {}}, []) + "\n")
    decisions = read_decisions(copied, dataset)
    assert decisions.vetoed.sum() == 1 and decisions.vetoed[back] and (decisions.unwillingness == 1).sum() > 1
    write_report(asked(copied))
    data = data_of(copied)
    assert data["veto"] is False
    user = next(user for user in data["users"] if user["id"] == str(pair[0]))
    items = [int(data["items"][i][0]) for i in np.frombuffer(base64.b64decode(user["items"]), "<u4")]
    assert items == dataset.item_ids[dataset.item[(dataset.user == dataset.user[back]) & ~decisions.vetoed]].tolist()


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
    results.dataset = dataclasses.replace(
        results.dataset, ids=Ids(76561197960265729 + np.arange(60), results.dataset.item_ids))
    for found in results.models.values():
        found.recommends = False  # no model is one of these users
    page = json.loads(json.dumps(users_page(results, finished_run)))
    assert {int(user["id"]) for user in page["users"]} <= set(results.dataset.user_ids.tolist())
