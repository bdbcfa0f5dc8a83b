"""What disclosure.csv lists: decisions and what takes no part, in one order; read back, and after a withdrawal."""
import json

import numpy as np
import pytest

from src.common.files import digest
from src.consent.allowed import TOO_FEW, VETO
from src.dataset import split_allowed
from src.game.decisions import Decisions, barred_by, read_decisions
from src.game.problem import Problem
from src.game.rule import with_reasons
from src.sources.interactions import read_interactions
from tests.small import refused

# user 1: items 1 to 6, user 2: items 3 and 1, user 3: items 2, 4 and 5, in order of time
ROWS = [(1, i, i) for i in range(1, 7)] + [(2, 3, 1), (2, 1, 2)] + [(3, 2, 1), (3, 4, 2), (3, 5, 3)]
WHY = [0, VETO, 0, 2, 0, 0, VETO, 0, VETO, 0, 0]
LINE = [7, 5, 0, 0, 0, 0, -3, 0, 0, 0, 0]


@pytest.fixture
def decided(write_ratings, settings, tmp_path):
    """Settings, a Dataset of which some takes no part, and Decisions about the rest, which are in its files."""
    write_ratings(ROWS)
    config = settings("--strategy", "threshold", "--willingness_file", tmp_path / "a, b.csv")
    dataset = split_allowed(read_interactions(config), 2, np.array(WHY), said=(np.zeros(len(LINE)), np.array(LINE)))
    decisions = Decisions(np.array([True, False]), np.array([0.25, 0.5]), influence=np.array([0.1, -0.2]),
                          expected=np.array([1 / 3, -1e-9]), record={"strategy": "threshold"},
                          instalment=np.array([1, 0], np.int8))
    with_reasons(decisions, Problem(dataset, decisions.unwillingness, np.array([7, 0])), config)
    write(decisions, dataset, tmp_path)
    return config, dataset, decisions


def write(decisions, dataset, tmp_path):
    path = tmp_path / "output" / "disclosure.csv"
    path.parent.mkdir(exist_ok=True)
    decisions.write(path, dataset)
    said = {key: None for key in ("unwillingness", "wv", "total_wv", "wv_budget", "disclosed_share", "seconds",
                                  "peak_rss_mb")}
    path.with_name("preprocess.json").write_text(json.dumps({
        "dataset": "tiny", "strategy": "threshold", "willingness_weight": None, **said, "disclosure_sha256": digest(path)}))
    return path


def test_what_takes_no_part_is_listed_where_it_stands_in_time(decided, tmp_path):
    _, dataset, decisions = decided
    assert dataset.rows.tolist() == [0, 2] and dataset.held_out.tolist() == [[4, 5], [-1, -1], [9, 10]]
    assert dataset.dropped.rows.tolist() == [1, 3, 6, 7, 8] and dataset.dropped.before.tolist() == [1, 2, 2, 2, 2]
    assert dataset.dropped.why.tolist() == [VETO, 2, VETO, TOO_FEW, VETO]
    table, = decisions.listed(dataset)
    assert table.user_id.tolist() == [1, 1, 1, 1, 2, 2, 3]
    assert table.item_id.tolist() == [1, 2, 3, 4, 3, 1, 2]  # but for what is held out
    reasons = ["budget 0.6, a, b.csv:7", "veto a, b.csv:5", "budget 0.6", "withdrawn 2", "veto unwillingness.csv:3",
               "too few rows", "veto"]
    assert table.reason.tolist() == reasons and decisions.barred.tolist() == [reasons[k] for k in (1, 3, 4, 5, 6)]
    assert barred_by(None, {}) is None
    assert barred_by(dataset.dropped, {3: "x", 7: "x", 6: "veto rules.csv:9"}).tolist() == [
        "veto", "withdrawn 2", "veto rules.csv:9", "too few rows", "veto"]  # a veto without a known rule is just a veto
    assert (tmp_path / "output" / "disclosure.csv").read_text().splitlines() == [
        "user_id,item_id,influence,unwillingness,disclosed,expected_influence,instalment,reason",
        '1,1,0.1,0.25,1,0.3333333333333333,1,"budget 0.6, a, b.csv:7"', '1,2,,1.0,0,,0,"veto a, b.csv:5"',
        "1,3,-0.2,0.5,0,-1e-09,0,budget 0.6", "1,4,,1.0,0,,0,withdrawn 2", "2,3,,1.0,0,,0,veto unwillingness.csv:3",
        "2,1,,,0,,0,too few rows", "3,2,,1.0,0,,0,veto"]


def test_what_was_listed_is_read_back(decided, tmp_path):
    config, dataset, decisions = decided
    read = read_decisions(config, dataset)
    for name in ("disclosed", "unwillingness", "influence", "expected", "instalment", "barred"):
        assert getattr(read, name).tolist() == getattr(decisions, name).tolist(), name
    assert read.reason.tolist() == decisions.reason.tolist() and read.weight is None and not read.under_veto
    before = (tmp_path / "output" / "disclosure.csv").read_bytes()
    assert write(read, dataset, tmp_path).read_bytes() == before
    whole = split_allowed(read_interactions(config), 2)
    with refused("disclosure.csv", "tiny"):
        read_decisions(config, whole)
    path = tmp_path / "output" / "disclosure.csv"
    path.write_bytes(before.replace(b"1,1,0.1,0.25,1", b"1,1,0.1,0.25,0"))
    with refused("disclosure.csv", "preprocess.json"):
        read_decisions(config, dataset)


def test_after_a_withdrawal_the_decisions_about_the_rest_stay(decided, tmp_path):
    config, dataset, decisions = decided
    later = np.zeros(11, int)
    later[[0, 9]] = 3  # the first interaction of user 1, and what was held out of user 3
    after = split_allowed(read_interactions(config), 2, np.array(WHY), later, (np.zeros(len(LINE)), np.array(LINE)))
    assert after.rows.tolist() == [2] and after.scored.tolist() == [0]
    left = decisions.of(dataset, after)
    assert (left.disclosed.tolist(), left.reason.tolist(), left.expected.tolist()) == ([False], ["budget 0.6"], [-1e-9])
    table, = left.listed(after)
    assert table.reason.tolist() == ["withdrawn 3", "veto a, b.csv:5", "budget 0.6", "withdrawn 2",
                                     "veto unwillingness.csv:3", "too few rows", "veto", "withdrawn 3"]
    assert table.item_id.tolist() == [1, 2, 3, 4, 3, 1, 2, 4]  # but not item 5, which waits
    write(left, after, tmp_path)
    assert read_decisions(config, after).barred.tolist()[:-1] == left.barred.tolist()[:-1]
