"""The record of requests: what it takes back and allows, that no line of it is lost, and the requests that are added."""
import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from src.consent.allowed import VETO, WAITS, Consent
from src.consent.withdrawn import (
    check_head,
    head_of,
    read_request,
    read_requests,
    taken_back,
    taken_since,
    with_request,
)
from src.dataset import allowed_part, load_dataset
from src.sources.interactions import read_interactions
from tests.small import refused

ROWS = [(7, 10, 1), (7, 20, 2), (7, 30, 3), (7, 40, 4), (9, 10, 1), (9, 30, 2), (9, 40, 3), (9, 50, 4)]


@pytest.fixture
def tiny(write_ratings):
    """Users 7 and 9 with four of five items each: comedies 10 and 20, drama 30, war 40 and 50, which is drama, too."""
    folder = write_ratings(ROWS)
    pd.DataFrame({"item_id": range(10, 60, 10), "title": "", "genres": ["Comedy", "Comedy", "Drama", "War", "War|Drama"]}
                 ).to_csv(folder / "movies.csv", index=False)
    return folder


def asked(rules=(), interactions=(), forbidden=(), **said):
    return {"time": "2026-01-01", "models": ["NCF"], "file_sha256": "0", "rules": list(rules), "before": {}, "after": {},
            "interactions": list(interactions), "forbidden": list(forbidden), **said}


def record(folder, *requests, head=True):
    """Writes the record of these requests, and what dataset.json says of it; returns them as they are read."""
    text, done = "", []
    for request in requests:
        line, done = with_request(request, done)
        text += line + "\n"
    (folder / "withdrawn.jsonl").write_text(text)
    if head:
        (folder / "dataset.json").write_text(json.dumps(head_of(done)))
    return done


def test_requests_are_read_as_they_were_written(tiny, settings):
    assert read_requests(settings()) == [] and head_of([]) == {}
    done = record(tiny, asked([[7, None, "war"]], [[7, 40]]), asked(forbidden=[[9, 50]]))
    lines = (tiny / "withdrawn.jsonl").read_bytes().splitlines()
    assert read_requests(settings()) == done and [request["request"] for request in done] == [1, 2]
    assert done[1]["previous_sha256"] == done[0]["sha256"] == hashlib.sha256(lines[0]).hexdigest()
    assert head_of(done) == {"withdrawals": {"requests": 2, "head_sha256": hashlib.sha256(lines[1]).hexdigest()}}
    for known in (0, 1, 2):
        check_head(head_of(done[:known]), done, "NCF.ckpt")
    other = record(tiny, asked([[7, None, "drama"]]), head=False)
    for requests in ([], done[:1], [done[0], *other]):
        with refused("NCF.ckpt", "2 withdrawals", "withdrawn.jsonl"):
            check_head(head_of(done), requests, "NCF.ckpt")


@pytest.mark.parametrize("change, named", [
    (lambda lines: lines[:1], "holds 1 requests"), (lambda lines: [], "holds 0 requests"),
    (lambda lines: [lines[0], lines[1].replace("50", "10")], "holds 2 requests"),
    (lambda lines: [lines[0].replace("40", "30"), lines[1]], "line 2"), (lambda lines: lines[1:], "line 1"),
    (lambda lines: [lines[0], lines[1][:-9]], "line 2"), (lambda lines: ["[]"], "line 1"),
    (lambda lines: [lines[0], lines[1], "{}"], "line 3"), (None, "holds 0 requests")])
def test_a_line_that_was_changed_or_cut_is_refused(tiny, settings, change, named):
    record(tiny, asked([[7, None, "war"]], [[7, 40]]), asked(forbidden=[[9, 50]]))
    path = tiny / "withdrawn.jsonl"
    lines = path.read_text().splitlines()
    path.unlink()
    if change:
        path.write_text("".join(line + "\n" for line in change(lines)))
    for read in (read_requests, load_dataset):
        with refused(path, named, "put back a copy"):
            read(settings())


def test_requests_of_an_earlier_version_count(tiny, settings):
    line = json.dumps({"request": 1, "time": "", "model": "IFRQE", "file_sha256": "", "interactions": [[7, 20]],
                       "forbidden": [[9, 10]], "before": {}, "after": {}, "previous_sha256": ""})
    (tiny / "withdrawn.jsonl").write_text(line + "\n")
    request, = read_requests(settings())
    assert request["models"] == ["IFRQE"] and request["rules"] == []
    assert taken_back(read_interactions(settings()), settings(), [request]).tolist() == [0, 1, 0, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("requests, expected", [
    ([], [0] * 8),
    ([asked([[7, None, None]])], [1, 1, 1, 1, 0, 0, 0, 0]),  # all of theirs, held-out ones too
    ([asked([[9, None, "drama"]])], [0, 0, 0, 0, 0, 1, 0, 1]),
    ([asked([[7, 40, None]], [[7, 40]]), asked([[7, None, "war"], [9, None, "war"]])], [0, 0, 0, 1, 0, 0, 2, 2]),
    ([asked([[9, 40, "drama"]])], [0] * 8),  # both must be so
    ([asked([[8, None, None], [7, 99, None], [9, None, "western"]])], [0] * 8),  # no longer, or not yet, in the data
    ([asked(interactions=[[7, 10]], forbidden=[["9", "10"]]), asked([[7, None, None]])], [1, 2, 2, 2, 1, 0, 0, 0]),
])
def test_what_requests_take_back_goes_by_the_first_that_does(tiny, settings, requests, expected):
    done = record(tiny, *requests)
    whole = read_interactions(settings())
    found = taken_back(whole, settings(), done)
    assert found.tolist() == expected
    dataset = load_dataset(settings())
    if dataset.dropped is not None:
        why = dict(zip(dataset.dropped.rows.tolist(), dataset.dropped.why.tolist()))
        assert [why.get(row, 0) for row in range(8)] == [n if n else why.get(k, 0) for k, n in enumerate(expected)]
    assert dataset.consent.requests == len(done)


def again(rules=(), interactions=()):
    """A request that allows."""
    return asked(rules, interactions, models=[], allows=True)


ALL_7 = asked([[7, None, None]])


@pytest.mark.parametrize("requests, expected", [
    ([again([[7, None, None]])], [0] * 8), ([ALL_7, again([[7, None, None]])], [0] * 8),
    ([ALL_7, again([[7, 10, None], [7, None, "war"]])], [0, 1, 1, 0, 0, 0, 0, 0]),
    ([ALL_7, again([[9, None, None]])], [1, 1, 1, 1, 0, 0, 0, 0]),  # nobody allows what is another's
    ([ALL_7, again([[7, None, "comedy"]]), asked([[7, 10, None]]), ALL_7], [3, 4, 1, 1, 0, 0, 0, 0]),  # the first since
    ([again([[7, None, None]]), ALL_7, again(interactions=[[7, 40]]), ALL_7], [2, 2, 2, 4, 0, 0, 0, 0])])
def test_of_what_is_taken_back_and_allowed_the_last_word_counts(tiny, settings, requests, expected):
    done = record(tiny, *requests)
    assert read_requests(settings()) == done
    whole = read_interactions(settings())
    assert taken_back(whole, settings(), done).tolist() == expected
    assert load_dataset(settings()).consent.requests == len(done)
    for known in range(len(done)):  # what was made between two requests has lost all that any later one took back
        consent = Consent(requests=known)
        dataset, now = allowed_part(whole, settings(), done, consent), taken_back(whole, settings(), done[:known])
        since = taken_since(whole, settings(), done[known:])
        assert not ((now == 0) & (since == 0) & np.isin(whole.rows, [] if dataset.dropped is None else dataset.dropped.rows[
            dataset.dropped.why > 0])).any()
        used = {*dataset.rows.tolist(), *dataset.held_out.ravel().tolist()}
        assert not used & set(whole.rows[(now > 0) | (since > 0)].tolist())


def test_a_model_of_before_an_allowance_stays_without_and_one_of_after_has_it(tiny, settings):
    done = record(tiny, asked([[7, 40, None]]), again([[7, 40, None]]))
    whole = read_interactions(settings())
    now, between, before = (allowed_part(whole, settings(), done, consent) for consent in (
        None, Consent(requests=1), Consent(requests=0)))
    assert now.dropped is None and now.item_ids[now.test].tolist() == [40, 50]
    assert between.item_ids[between.test].tolist() == [30, 50] and between.dropped.why.tolist() == [1]
    assert before.dropped.why.tolist() == [WAITS, 1] and before.scored.tolist() == [1]
    vetoed = np.zeros(8, bool)
    vetoed[3] = True  # a veto stays one, whatever is allowed
    assert allowed_part(whole, settings(), done, Consent(vetoed, 2)).dropped.why.tolist() == [VETO]


def test_newer_ratings_are_taken_back_too(tiny, write_ratings, settings):
    done = record(tiny, asked([[7, None, None]], [[7, 10], [7, 20], [7, 30], [7, 40]]), asked([[9, None, "war"]], [[9, 50]]))
    write_ratings([*ROWS, (7, 50, 9), (9, 20, 9)])
    found = taken_back(read_interactions(settings()), settings(), done)
    assert found.tolist() == [1] * 5 + [0, 0, 2, 2, 0]  # user 7 with the new item 50; of user 9 comedy 20 stays
    dataset = load_dataset(settings())
    assert dataset.user.tolist() == [1] and dataset.scored.tolist() == [1]
    (tiny / "movies.csv").unlink()
    with refused("movies.csv", "no genres"):
        load_dataset(settings())


def test_of_a_trained_model_the_split_does_not_move(tiny, settings):
    done = record(tiny, asked([[7, 40, None]]), asked([[9, 40, None]]))
    whole = read_interactions(settings())
    before = allowed_part(whole, settings(), done, Consent(requests=1))  # trained between the two
    assert before.item_ids[before.test[0]] == 30 and before.scored.tolist() == [0]
    assert before.dropped.why.tolist() == [1, 2, WAITS]
    assert before.dropped.rows.tolist() == [3, 6, 7] and before.item_ids[before.item].tolist() == [10, 10, 30]
    now = load_dataset(settings())
    assert now.item_ids[now.test].tolist() == [30, 50] and now.dropped.why.tolist() == [1, 2]
    vetoed = np.zeros(8, bool)
    vetoed[[0, 3]] = True
    both = allowed_part(whole, settings(), done, Consent(vetoed, 2))
    assert both.dropped.rows.tolist() == [0, 3, 6]
    assert both.dropped.why.tolist() == [VETO, 1, 2]  # of what is forbidden and taken back, the request counts


def withdraw(tiny, settings, text, *requests, option="withdraw"):
    """Rows of ratings.csv that a request means, after others, and its rules."""
    done = record(tiny, *requests)
    (tiny / "request.csv").write_text(text)
    whole = read_interactions(settings())
    meant, rules = read_request(settings(f"--{option}", tiny / "request.csv"), whole, done, option == "allow")
    return whole.rows[meant].tolist(), rules


@pytest.mark.parametrize("text, requests, rows, rules", [
    ("user_id,item_id\n7,40\n9,10\n", [], [3, 4], [[7, 40, None], [9, 10, None]]),
    ("user_id\n9\n", [], [4, 5, 6, 7], [[9, None, None]]),
    ("user_id,genre\n9,wAr\n7,Comedy\n", [], [0, 1, 6, 7], [[9, None, "war"], [7, None, "comedy"]]),
    ("user_id,item_id,genre\n9,,Drama\n9,40,\n", [], [5, 6, 7], [[9, None, "drama"], [9, 40, None]]),
    ("user_id\n7\n", [asked([[7, 40, None]], [[7, 40]])], [0, 1, 2], [[7, None, None]]),
    # all that there is was taken back before, but not what newer ratings bring
    ("user_id,genre\n7,war\n", [asked([[7, 40, None]], [[7, 40]])], [], [[7, None, "war"]]),
])
def test_a_request_means_all_of_what_it_names(tiny, settings, text, requests, rows, rules):
    assert withdraw(tiny, settings, text, *requests) == (rows, rules)


def test_a_request_in_several_parts_of_parquet_is_one(tiny, settings, monkeypatch):
    monkeypatch.setattr("src.common.parquet._ROWS", 1)
    path, whole = tiny / "request.parquet", read_interactions(settings())
    pd.DataFrame({"user_id": ["7", "9"], "item_id": ["40", ""], "genre": ["", "War"]}).to_parquet(path)
    meant, rules = read_request(settings("--withdraw", path), whole, [])
    assert whole.rows[meant].tolist() == [3, 6, 7] and rules == [[7, 40, None], [9, None, "war"]]


@pytest.mark.parametrize("option, text, requests, rows", [
    ("allow", "user_id,item_id\n7,40\n7,10\n", [ALL_7], [0, 3]), ("allow", "user_id\n7\n", [ALL_7], [0, 1, 2, 3]),
    ("allow", "user_id\n7\n", [asked([[7, 40, None]])], [3]),
    ("allow", "user_id,genre\n7,War\n", [asked([[7, None, "war"]]), again([[7, 40, None]])], []),  # newer ones are not yet
    ("allow", "user_id\n7\n", [asked([[7, None, "war"]]), again([[7, 40, None]])], []),
    ("withdraw", "user_id,item_id\n7,40\n", [ALL_7, again([[7, 40, None]])], [3]),
    ("withdraw", "user_id\n7\n", [ALL_7, again([[7, None, None]])], [0, 1, 2, 3]),
    ("withdraw", "user_id,genre\n7,war\n", [ALL_7, again([[7, None, "war"]]), asked([[7, 40, None]])], []),
    ("withdraw", "user_id,genre\n7,war\n", [asked([[7, 40, None]])], [])])
def test_what_one_request_did_another_undoes(tiny, settings, option, text, requests, rows):
    assert withdraw(tiny, settings, text, *requests, option=option)[0] == rows


@pytest.mark.parametrize("option, text, requests", [
    ("allow", "user_id,item_id\n7,40\n", []), ("allow", "user_id\n7\n", []), ("allow", "user_id\n9\n", [ALL_7]),
    ("allow", "user_id\n7\n", [ALL_7, again([[7, None, None]])]),
    ("allow", "user_id,genre\n7,war\n", [asked([[7, None, "war"]]), again([[7, None, None]])]),  # covered by a wider one
    ("allow", "user_id,genre\n7,war\n", [asked([[7, None, "comedy"]])]),
    ("allow", "user_id,item_id\n7,40\n", [ALL_7, again([[7, None, "war"]])]),
    ("withdraw", "user_id,genre\n7,war\n", [ALL_7, again([[7, None, "comedy"]])]),
    ("withdraw", "user_id\n7\n", [again([[7, None, None]]), ALL_7])])
def test_a_line_that_changes_nothing_is_named(tiny, settings, option, text, requests):
    with refused("request.csv: line 2", f"user {text.split()[1][0]}"):
        withdraw(tiny, settings, text, *requests, option=option)


@pytest.mark.parametrize("text, named", [
    ("user_id,item_id\n7,40\n", "line 2: user 7, item 40"), ("user_id,genre\n9,WAR\n", "line 2: user 9, genre WAR"),
    ("user_id,item_id\n7,30\n7,30\n", "line 3: user 7, item 30: is withdrawn already"),
    ("user_id,item_id\n7,30\n8,30\n", "line 3: user 8"), ("user_id,item_id\n7,99\n", "line 2: user 7, item 99"),
    ("user_id,item_id\n7,50\n", "line 2: user 7, item 50"), ("user_id,genre\n7,western\n", "line 2: user 7, genre western"),
    ("user_id,item_id\n,30\n", "line 2: no user_id"), ("user_id,unwillingness\n7,0.5\n", "line 2"),
    ("user_id,item_id\n7\n", "line 2 has fewer fields"), ("user_id\n", "names nothing"),
    ("user_id,since\n7,2020-12-01\n", "since is no time")])
def test_a_line_that_takes_nothing_back_is_named(tiny, settings, text, named):
    with refused("request.csv", named):
        withdraw(tiny, settings, text, asked([[7, 40, None], [9, None, "war"]], [[7, 40]]))
