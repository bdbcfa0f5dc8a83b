"""Rules that name a time: what they mean, whatever the data's unit, and what is refused."""
import json

import numpy as np
import pandas as pd
import pytest

from src.consent.rules import Rules
from src.consent.unwillingness import check_rules, load_stated, stated
from src.consent.withdrawn import head_of, read_request, taken_back, with_request
from src.dataset import load_dataset
from src.sources.interactions import read_interactions, read_masked
from tests.small import refused

NOV, DEC, NEW, LATE = "2020-11-30T23:59:59", "2020-12-01", "2021-01-01", "2021-06-01 12:00:00"
DATES = [(7, 10, NOV), (7, 20, DEC), (7, 30, NEW), (7, 40, LATE), (9, 10, DEC), (9, 30, "2020-12-31T23:59:59"), (9, 40, NEW)]
# of 7 and 9 what is of December: the first moment is, the first of January is not
DECEMBER = [False, True, False, False, True, True, False]
SECONDS = [int(pd.Timestamp(date).timestamp()) for *_, date in DATES]


@pytest.fixture(params=["dates", "seconds", "milliseconds", "calendar"])
def data(request, write_ratings):
    """The folder, and what a time is called there: data by hand, or in a unit of their own."""
    times = {"dates": [date for *_, date in DATES], "seconds": SECONDS, "milliseconds": [1000 * s for s in SECONDS],
             "calendar": [pd.Timestamp(date).strftime("%Y%m%d%H%M%S") for *_, date in DATES]}[request.param]
    folder = write_ratings([(user, item, time) for (user, item, _), time in zip(DATES, times)])
    pd.DataFrame({"item_id": range(10, 70, 10), "title": "", "genres": ["A", "A", "B", "B", "B", "C"]}).to_csv(
        folder / "movies.csv", index=False)
    return folder, dict(zip(SECONDS, times))


@pytest.fixture
def by(data, settings, tmp_path):
    """by(lines, header, *options) -> settings with rules of these lines."""
    def write(lines, header="user_id,item_id,genre,since,until,unwillingness", *options):
        path = tmp_path / "rules.csv"
        path.write_text("\n".join([header, *lines]) + "\n")
        return settings("--willingness_file", path, *options)
    return write


def said(config):
    """What is stated of all interactions, in the order of the rows."""
    whole = read_interactions(config)
    return stated(whole, config, whole=True)[0][np.argsort(whole.rows)].tolist()


@pytest.mark.parametrize("since, until", [("2020-12-01", "2021-01-01"),
                                          ("2020-12-01T01:00:00+01:00", "2020-12-31 23:59:59.5Z"), (1, 2)])
def test_a_time_is_half_open_and_is_a_date_or_a_number_of_the_data(data, by, since, until):
    _, times = data
    if since == 1:
        since, until = (DATES[k][2] if len(str(times[SECONDS[k]])) == 14 else times[SECONDS[k]] for k in (1, 2))
    assert said(by([f"7,,,{since},{until},1", f"9,,,{since},{until},1"])) == [float(b) for b in DECEMBER]
    assert said(by([f"7,,,{since},,1"])) == [0, 1, 1, 1, 0, 0, 0] and said(by([f",,,,{until},1"])) == [1, 1, 0, 0, 1, 1, 0]


@pytest.mark.parametrize("lines, expected", [
    (["7,,,,,.2", "7,,,2020-12-01,,.1", ",,,,2020-12-01,.9"], [.2, .1, .1, .1, 0, 0, 0]),  # a kind first, then a time
    (["7,,A,,,.3", "7,,,2020-12-01,,.9"], [.3, .3, .9, .9, 0, 0, 0]), (["7,,,2020-12-01,,.1", "7,,,,2021-06-01,.4"],
                                                                      [.4, .4, .4, .1, 0, 0, 0]),  # the most unwilling
    (["7,20,,,,1", "7,20,,2021-01-01,,.5"], [0, 1, 0, 0, 0, 0, 0]), ([",,B,2021-01-01,,.5", ",,,,,.1"],
                                                                     [.1, .1, .5, .5, .1, .1, .5])])
def test_of_one_kind_the_rule_with_a_time_goes_first(by, lines, expected):
    assert said(by(lines)) == expected


def test_a_veto_of_december_is_a_veto_and_training_interactions_know_their_times(data, by):
    config = by([",,,2020-12-01,2021-01-01,1"], "user_id,item_id,genre,since,until,unwillingness", "--veto")
    dropped = load_dataset(config).dropped
    assert sorted(dropped.rows[dropped.why == -1].tolist()) == np.flatnonzero(DECEMBER).tolist()
    config = by([",,,2020-12-01,2021-01-01,.5", ",,,,2020-12-01,.25"])
    dataset = load_dataset(config)
    assert load_stated(dataset, config)[0].tolist() == [.25, .5, .5]
    assert load_stated(dataset.part(np.array([False, True, True])), config)[0].tolist() == [.5, .5]


@pytest.mark.parametrize("line, named", [
    ("7,,,1,2021-01-01,2020-12-01", "since is not before until"), ("7,,,1,2020-12-01,2020-12-01", "since is not before"),
    ("7,,,1,December,", "since is no time"), ("7,,,1,,2020-13-01", "until is no time"),
    ("7,,,1,,20201301", "until is no time"), ("7,,,1,5,", "since is no time"), ("7,,,1,,1e300", "until is no time"),
    ("7,,,1,inf,", "since is no time"), ("7,,,1,2020-12-01", "fewer fields"),
    ("7,,,1,2019-01-01,2020-01-01\n7,,,.5,2019-01-01,2020-01-01", "repeats the rule"),
    ("7,60,,1,2020-12-01,", "no such pair"), ("7,10,,1,2020-12-01,", "no such pair in that time")])
def test_what_is_no_time_or_meets_nothing_is_named_by_line(by, line, named):
    number = 3 if "repeats" in named else 2
    config = by(line.split("\n"), "user_id,item_id,genre,unwillingness,since,until", "--veto")
    with refused("rules.csv", f"line {number}", named):
        check_rules(config)


def test_a_number_of_another_unit_is_no_time(data, by):
    _, times = data
    number = SECONDS[1] * (1 if isinstance(times[SECONDS[1]], int) and times[SECONDS[1]] > 1e11 else 1000)
    with refused("line 2", "since is no time"):
        said(by([f"7,,,{number},,1"]))


def test_numbers_that_are_no_times_are_named_by_number(write_ratings, settings, tmp_path):
    write_ratings([(7, 10, 1), (7, 20, 2), (7, 30, 3), (7, 40, 4), (7, 50, 5)])
    rules = tmp_path / "rules.csv"
    config = settings("--willingness_file", rules, "--veto")
    rules.write_text("user_id,since,unwillingness\n7,,0\n7,2020-01-01,1\n")
    with refused("rules.csv: line 3", "since", "ratings.csv"):
        load_dataset(config)
    rules.write_text("user_id,since,until,unwillingness\n7,2,4,1\n")
    assert load_dataset(config).dropped.rows.tolist() == [1, 2]
    whole = read_interactions(settings())
    whole.time = None
    timed = Rules(np.array([[0], [-2], [-2]]), None, np.array([[5.], [np.inf]]), np.ones(1), [2], pd.DataFrame())
    with refused("tiny", "timestamp"):
        timed.match(whole)


def test_requests_keep_their_times_whatever_the_unit(data, settings, tmp_path, monkeypatch):
    folder, _ = data
    (tmp_path / "request.csv").write_text("user_id,genre,since,until\n7,,2020-12-01,2021-01-01\n9,b,2020-12-01,\n")
    config, whole = settings("--withdraw", tmp_path / "request.csv"), read_interactions(settings())
    meant, rules = read_request(config, whole, [])
    assert rules == [[7, None, None, DEC, NEW], [9, None, "b", DEC, None]]
    assert sorted(whole.rows[meant].tolist()) == [1, 5, 6]
    line, done = with_request({"time": "", "models": [], "file_sha256": "", "rules": json.loads(json.dumps(rules)),
                               "interactions": [], "forbidden": [], "before": {}, "after": {}}, [])
    assert taken_back(whole, settings(), done).tolist() == [0, 1, 0, 0, 0, 1, 1]
    with refused("request.csv: line 2", "user 7, since 2020-12-01, until 2021-01-01", "is withdrawn already"):
        read_request(config, whole, done)  # the same month; a longer time is more
    (tmp_path / "request.csv").write_text("user_id,since\n7,2020-12-01\n")
    assert whole.rows[read_request(config, whole, done)[0]].tolist() == [2, 3]
    (tmp_path / "request.csv").write_text("user_id,since,until\n7,2020-12-15,2020-12-20\n")
    with refused("has nothing of that"):
        read_request(config, whole, done)
    # the masked rows of dates by hand may look coarser than the source
    (folder / "withdrawn.jsonl").write_text(line + "\n")
    table = pd.read_csv(folder / "ratings.csv", dtype=str)
    if "-" in table.timestamp[0]:
        table.loc[0, "timestamp"] += ".25"
        table.to_csv(folder / "ratings.csv", index=False)
    twin = folder.with_name("masked_tiny")
    twin.mkdir()
    for name, rows in (("ratings.csv", [0, 4]), ("held_out.csv", [2, 3])):
        table.iloc[rows].to_csv(twin / name, index=False)
    (twin / "dataset.json").write_text(json.dumps({"masked_from": "tiny", "files_sha256": {}, **head_of(done)}))
    monkeypatch.setattr("src.sources.interactions.check_tables", lambda folder: None)
    for part, expected in zip(read_masked(settings(), True), ([0, 0], [0, 0])):
        assert taken_back(part, settings(), done).tolist() == expected
    table.iloc[[1, 2]].to_csv(twin / "held_out.csv", index=False)
    assert taken_back(read_masked(settings(), True)[1], settings(), done).tolist() == [1, 0]
