"""Unwillingness: the sources, rules of a file, and their errors."""
import contextlib
import functools
import logging

import numpy as np
import pandas as pd
import pytest

from src.common.tables import read_parts
from src.consent.receipts import FORMAT, sealed, text_of
from src.consent.unwillingness import check_rules, load_stated, stated
from src.dataset import load_dataset
from src.sources.interactions import read_interactions
from tests.small import refused


@pytest.fixture
def tiny(write_ratings, settings):
    """User 7 with history items 10, 20; user 9 with history item 30."""
    folder = write_ratings([(7, 10, 1), (7, 20, 2), (7, 30, 3), (7, 40, 4), (9, 30, 1), (9, 10, 2), (9, 40, 3)],
                           items=range(10, 70, 10))
    return folder, settings


def write_unwillingness(folder, rows):
    pd.DataFrame(rows, columns=["user_id", "item_id", "unwillingness"]).to_csv(folder / "unwillingness.csv", index=False)


def test_uniform_by_seed_constant_and_from_a_file_in_any_order(tiny):
    folder, settings = tiny
    dataset = load_dataset(settings())
    one, again, other = (load_stated(dataset, settings("--seed", s))[0] for s in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other) and one.min() >= 0 and one.max() <= 1
    constant = settings("--unwillingness", "constant", "--unwillingness_value", 0.25)
    assert load_stated(dataset, constant)[0].tolist() == [0.25] * 3
    with refused("unwillingness.csv", "no such file"):
        load_stated(dataset, settings("--unwillingness", "file"))[0]
    write_unwillingness(folder, [(9, 30, 0.1), (7, 20, 0.2), (7, 10, 0.3), (7, 40, 0.9)])
    assert load_stated(dataset, settings())[0].tolist() == [0.3, 0.2, 0.1]


@pytest.mark.parametrize("rows, named", [
    ([(9, 30, 0.1), (7, 20, 0.2)], "user 7, item 10"), ([(9, 30, 0.1), (7, 20, 1.2), (7, 10, 0.3)], "line 3: unwillingness"),
    ([(9, 30, 0.1), (7, 20, "much"), (7, 10, 0.3)], "line 3: unwillingness"),
    ([(9, 30, 0.1), (7, 20, 0.2), (7, 10, 0.3), (7, 10, 0.4)], "line 5: repeats")])
def test_bad_unwillingness_files_are_named(tiny, rows, named):
    folder, settings = tiny
    write_unwillingness(folder, rows)
    with refused("unwillingness.csv", named):
        load_stated(load_dataset(settings()), settings())[0]


@pytest.fixture
def movies(tiny):
    """The items 10 to 60 with genres; user 7's history is 10, 20 and user 9's 30."""
    folder, settings = tiny
    pd.DataFrame({"item_id": range(10, 70, 10), "title": "", "genres": ["Comedy|Drama", "Drama", "Horror", "", "War", "War"]}
                 ).to_csv(folder / "movies.csv", index=False)
    return folder, settings


def test_by_rating_the_worst_and_by_genre_the_rare_is_the_most_unwilling(movies, monkeypatch):
    folder, settings = movies
    table, config = pd.read_csv(folder / "ratings.csv"), settings("--unwillingness", "ratings")
    with refused("ratings.csv", "rating"):
        load_stated(load_dataset(config), config)[0]
    for ratings, expected in (([1, 5, 3, 3, 2, 3, 3], [1, 0, 0.75]),
                              ([True, False, True, True, False, True, True], [0, 1, 1])):
        table.assign(rating=ratings).to_csv(folder / "ratings.csv", index=False)
        assert load_stated(load_dataset(config), config)[0].tolist() == expected
    config = settings("--unwillingness", "genres")
    for rows in (1 << 20, 1):  # in one, and in parts
        monkeypatch.setattr("src.stat_utils.BLOCK", rows)
        # user 7: half of their history is comedy, all of it drama; user 9: all is horror
        assert load_stated(load_dataset(config), config)[0].tolist() == [1 - (0.5 + 1) / 2, 0, 0]
        assert rules(movies, "user_id,genre,unwillingness\n7,drama,0.5\n9,Horror,1\n").tolist() == [0.5, 0.5, 1]
    (folder / "movies.csv").write_text("item_id,title,genres\n" + "".join(f"{i},,\n" for i in range(10, 70, 10)))
    with refused("movies.csv", "lists no genres"):
        load_stated(load_dataset(config), config)[0]


def rules(movies, text, *flags):
    """Unwillingness of user 7's items 10 and 20 and user 9's item 30 by the rules in `text`."""
    folder, settings = movies
    (folder / "rules.csv").write_text(text)
    config = settings("--willingness_file", folder / "rules.csv", *flags)
    return load_stated(load_dataset(config), config)[0]


@pytest.mark.parametrize("text, expected", [
    ("user_id,item_id,unwillingness\n7,20,0.5\n", [0, 0.5, 0]),
    ("user_id,genre,unwillingness\n7,drama,0.5\n9,Drama,1\n", [0.5, 0.5, 0]),
    ("item_id,unwillingness\n20,0.5\n30,0.25\n", [0, 0.5, 0.25]),
    ("genre,unwillingness\nComedy,0.2\nDrama,0.7\n", [0.7, 0.7, 0]),  # of several genres the most unwilling
    ("user_id,unwillingness\n9,1\n", [0, 0, 1]),
    ("user_id,item_id,genre,unwillingness\n,,,0.1\n,,Drama,0.2\n,10,,0.3\n7,,,0.4\n7,,Comedy,0.05\n7,20,,0.6\n",
     [0.05, 0.6, 0.1]),  # the most specific wins, whatever it says
    ("user_id,item_id,genre,unwillingness\n7,,,0.4\n,20,,0.9\n", [0.4, 0.4, 0]),  # the user's own word goes first
    ("item_id,unwillingness\n10,1e-320\n20,1e-9\n", [0, 1e-9, 0]),  # next to nothing is none
    ('\ufeff "User ID" , MovieId,Genre,UNWILLINGNESS\n 7 , 20 ,,0.5\n9,,"  hORROR ",1\n', [0, 0.5, 1]),
])
def test_the_most_specific_rule_wins(movies, text, expected, monkeypatch):
    assert rules(movies, text).tolist() == expected
    with monkeypatch.context() as patched:  # line by line, as if each were a part of a large file
        patched.setattr("src.consent.rules.read_parts", functools.partial(read_parts, most=1))
        assert rules(movies, text).tolist() == expected
    found = rules(movies, text, "--unwillingness", "constant", "--unwillingness_value", 0.3)  # they go before another source
    assert all(b in (value, 0.3) for b, value in zip(found, expected))


def test_rules_that_meet_nothing_are_named_by_line(movies, caplog):
    with caplog.at_level(logging.INFO, "ifrqe"):
        found = rules(movies, "user_id,item_id,genre,unwillingness\n7,10,,0.5\n8,10,,1\n7,99,,1\n,,Western,1\n7,30,,1\n")
    assert found.tolist() == [0.5, 0, 0]
    assert "line 3, 4, 5, 6: meets no training interaction" in caplog.text  # 30 is held out
    assert "unwillingness of 1 of 3 training interactions; the rest: 0" in caplog.text
    caplog.clear()
    assert rules(movies, "item_id,unwillingness\n10,0.5\n\n\n99,1\n").tolist() == [0.5, 0, 0]
    assert "line 5: meets no training interaction" in caplog.text  # empty lines count


@pytest.mark.parametrize("line, words", [
    ("8,,,1", "no user '8'"), (" 70,,,1", "no user '70' (did you mean 7?)"), (",99,,1", "no item '99'"),
    (",100,,.2", "no item '100' (did you mean 10?)"), (",,Horor,1", "no genre 'Horor' (did you mean horror?)"),
    ("7,60,,1", "no such pair"), (",10,War,1", "no such pair"),
    ("9,,War,1", None), (",60,,1", None), (",,War,1", None),  # known, and may come yet
])
def test_under_a_veto_a_rule_that_reaches_nothing_is_an_error(movies, caplog, line, words):
    folder, settings = movies
    text = f"user_id,item_id,genre,unwillingness\n7,40,,1\n{line}\n"  # 40 is held out
    if words is None:
        assert rules(movies, text, "--veto").tolist() and "rules.csv: line 3: meets no interaction" in caplog.text
    else:
        with refused("rules.csv", "line 3: meets no interaction", words):
            rules(movies, text, "--veto")
    with refused("line 3") if words else contextlib.nullcontext():
        check_rules(settings("--willingness_file", folder / "rules.csv", "--veto"))  # before anything trains
    rules(movies, text)
    words = f": {words}" if words and "pair" not in words else " (held-out"  # which nobody names here
    assert f"line 2, 3: meets no training interaction{words}" in caplog.text


def test_what_was_withdrawn_is_reached_and_receipts_are_rules(movies, monkeypatch, tmp_path):
    folder, settings = movies
    line = '{"request": 1, "time": "", "models": [], "file_sha256": "", "rules": [], "interactions": [[7, 10]], ' \
           '"forbidden": [], "before": {}, "after": {}, "previous_sha256": ""}\n'
    (folder / "withdrawn.jsonl").write_text(line)
    assert len(rules(movies, "user_id,item_id,unwillingness\n7,10,1\n", "--veto")) == 2  # 20 left of 7, and 30 of 9
    path = tmp_path / "receipt_7.json"
    for item, unmet in (("10", False), ("60", True)):
        path.write_text(text_of(sealed({"format": FORMAT, "rules": [["7", item, 1]]})))
        with refused("receipt_7.json", "no such pair") if unmet else contextlib.nullcontext():
            load_dataset(settings("--willingness_file", path, "--veto"))


@pytest.mark.parametrize("text, named", [
    ("item_id,unwillingness\n10,0.5\n20,2\n30,x\n", "line 3, 4"), ("item_id,unwillingness\n10,\n", "line 2"),
    ("item_id\n10\n", "no column unwillingness"), ("colour,unwillingness\n10,1\n", "a column 'colour'"), ("", "is empty"),
    ("item_id,unwillingness\n10,True\n20,False\n", "line 2, 3: unwillingness True"),
    ("item_id,user_id,unwillingness,genre\n10,,1\n", "line 2 has fewer fields than the header"),
    ("item_id,unwillingness\n1.0E+01,1\n", "line 2 has '1.0E+01' as item_id: a spreadsheet"),
    ('item_id,unwillingness\n20,0.5\n"1\n0",1\n', "line 3 has"), ("item_id;unwillingness\n10;1\n", "semicolons"),
    ("item_id,Item ID,unwillingness\n10,20,1\n", "item_id twice (item_id, Item ID)"),
    ("item_id,unwillingness\n10,0.5\n20,1\n10,0.6\n", "line 4: repeats"), (None, "--willingness_file")])
@pytest.mark.parametrize("most", [1, 9])
def test_bad_rules_are_named_by_line(movies, text, named, most, monkeypatch):
    _, settings = movies
    if most == 1 and named not in ("line 3, 4", "line 2, 3: unwillingness True"):  # what each line shows by itself
        monkeypatch.setattr("src.consent.rules.read_parts", functools.partial(read_parts, most=most))
    with refused("rules.csv", named):
        load_stated(load_dataset(settings()), settings("--willingness_file", "rules.csv"))[0] if text is None else \
            rules(movies, text)


# ids that some reader takes for others: numbers above 2^53, padded, decimal, not there, in another Unicode form, with blanks
NAMES = ["76561197960265729", "76561197960265730", "007", "7", "1.0", "1", "NA", "None", "nan", "12345678901234567890",
         "12345678901234567891", "caf\u00e9", "True", "1e5", "a b"]


@pytest.mark.parametrize("users", [NAMES, NAMES[:2], ["1", "2", "10"]], ids=["text", "steam", "numbers"])
@pytest.mark.parametrize("blank", [False, True])
def test_a_rule_reaches_the_user_that_it_names_and_nobody_else(write_ratings, settings, tmp_path, users, blank):
    write_ratings([(user, item, item) for user in users for item in (1, 2, 3)])
    dataset = load_dataset(settings())
    assert [str(name) for name in dataset.user_ids] == sorted(users, key=int if "NA" not in users else str)
    for named in users:
        path = tmp_path / "rules.csv"
        path.write_text(f"user_id,genre,unwillingness\n {named} ,,1\n" + ",,0.25\n" * blank, encoding="utf-8")
        config = settings("--willingness_file", path)
        found = {str(dataset.user_ids[u]): b for u, b in zip(dataset.user, load_stated(dataset, config)[0])}
        assert found == {user: 1.0 if user == named else 0.25 * blank for user in users}


@pytest.mark.parametrize("named", ["NA", "None", "nan", "7.0", "07", "7e0", "9" * 20, "x"])
def test_what_is_no_id_of_the_dataset_meets_nothing(tiny, caplog, named):
    text = f"user_id,item_id,unwillingness\n,,0.5\n{named},10,1\n7,{named},1\n"
    assert rules(tiny, text).tolist() == [0.5] * 3
    assert "rules.csv: line 3, 4: meets no training interaction" in caplog.text


def test_genres_are_the_same_whatever_stands_around_them(movies):
    folder, settings = movies
    table = pd.DataFrame({"Movie_ID": [" 10", "20 ", "30", "40", "50", "60", "60"],
                          "genres": [" Comedy |Sci  Fi", "Drama|", "", "1", "2", "3", "4"]})
    table.to_csv(folder / "movies.csv", index=False)
    for genre, expected in (("comedy", [0.5, 0, 0]), ("SCI FI", [0.5, 0, 0]), ("Drama", [0, 0.5, 0]),
                            ("(no genres listed)", [0, 0, 0.5]), ("4", [0, 0, 0])):
        assert rules(movies, f"genre,unwillingness\n{genre},0.5\n").tolist() == expected


@pytest.mark.parametrize("veto", [True, False])
def test_only_unwillingness_1_is_a_veto_and_of_held_out_interactions_too(ratings, settings, veto):
    table = pd.read_csv(ratings / "ratings.csv")
    b = np.resize([0, 0.999, 1, 0.5, 1], len(table))
    write_unwillingness(ratings, list(zip(table.user_id, table.item_id, b)))
    dataset = load_dataset(settings(f"--veto={veto}"))
    assert (dataset.consent.vetoed is not None) == veto
    if not veto:
        assert dataset.dropped is None and load_stated(dataset, settings())[0].max() == 1
        return
    assert sorted(dataset.dropped.rows) == np.flatnonzero(b == 1).tolist() == np.flatnonzero(dataset.consent.vetoed).tolist()
    assert dataset.dropped.line.tolist() == [-(row + 2) for row in dataset.dropped.rows]
    value, line = load_stated(dataset, settings("--veto"))
    assert value.tolist() == b[dataset.rows].tolist() and line.tolist() == (-(dataset.rows + 2)).tolist()


def test_what_is_stated_of_interactions_by_themselves_names_its_line(tiny):
    folder, settings = tiny
    write_unwillingness(folder, [(9, 30, 0.1), (7, 20, 0.2), (7, 10, 0.3)])
    (folder / "rules.csv").write_text("item_id,unwillingness\n\n10,0.5\n40,1e-15\n")
    whole = read_interactions(settings())
    value, line = stated(whole, settings("--unwillingness", "file", "--willingness_file", folder / "rules.csv"), whole=True)
    assert line.tolist() == [3, -3, 0, 4, -2, 3, 4]
    assert value.tolist()[:2] == [0.5, 0.2] and np.isnan(value[2]) and value.tolist()[3:] == [0, 0.1, 0.5, 0]
    value, line = stated(whole, settings("--unwillingness", "uniform"), whole=True)
    assert np.isnan(value).all() and not line.any()


def test_under_a_veto_the_file_must_know_what_may_be_trained_on_alone(tiny):
    folder, settings = tiny
    write_unwillingness(folder, [(9, 30, 0.1), (7, 20, 1), (7, 10, 0.3)])
    config = settings("--veto")
    dataset = load_dataset(config)  # without 20, 10 is user 7's history; 30 and 40, which the file lacks, are held out
    assert dataset.item_ids[dataset.item].tolist() == [10, 30] and load_stated(dataset, config)[0].tolist() == [0.3, 0.1]
    write_unwillingness(folder, [(7, 20, 1), (7, 10, 0.3)])
    with refused("unwillingness.csv", "user 9, item 30"):
        load_stated(load_dataset(config), config)[0]
