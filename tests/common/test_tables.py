"""Tables that other programs wrote, through the data stage and as a dataset put there by hand: the same answers."""
import io
import json
import logging
import zipfile

import pandas as pd
import pytest

from src.common import tables
from src.common.tables import read_stream
from src.common.times import ORDER, UNITS
from src.dataset import load_dataset
from src.movielens import prepare
from src.sources import checks
from src.sources.catalogue import find_users, load_catalogue
from src.sources.interactions import time_unit
from tests.small import refused

ROWS = [("u1", "a", 5, 1_000_000_030), ("u1", "b", 4, 1_000_000_010), ("u1", "c", 3, 1_000_000_020),
        ("u2", "c", 1, 1_000_000_060), ("u2", "a", 2, 1_000_000_070), ("u2", "b", 3, 1_000_000_050)]
EXPECTED = {"u1": ["b", "c", "a"], "u2": ["b", "c", "a"]}


def text_of(rows=ROWS, header="user_id,item_id,rating,timestamp"):
    return header + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)


@pytest.fixture(params=["zip", "hand"])
def put(request, tmp_path, settings, caplog, monkeypatch):
    """put(ratings, movies): the dataset `tiny` from these texts (or bytes), by one of the ways in; its settings.

    The data stage reads two rows at a time, and sorts three.
    """
    caplog.set_level(logging.INFO, "ifrqe")
    monkeypatch.setattr(tables._parse, "__defaults__", (2,))
    monkeypatch.setattr(checks, "_BUCKET", 3)

    def make(ratings, movies=None):
        files = {name: content if isinstance(content, bytes) else content.encode() for name, content in
                 (("ratings.csv", ratings), ("movies.csv", movies)) if content is not None}
        if request.param == "hand":
            folder = tmp_path / "data" / "tiny"
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (folder / name).write_bytes(content)
            return settings()
        with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"deep/{name}", content)
        config = settings("--archive", tmp_path / "source.zip", "--overwrite")
        prepare(config)
        return config
    return make


@pytest.fixture
def prepared(tmp_path, settings, caplog):
    """prepared(text): the settings of a dataset made from this text as a CSV."""
    caplog.set_level(logging.INFO, "ifrqe")

    def make(text):
        (tmp_path / "x.csv").write_text(text)
        config = settings("--archive", tmp_path / "x.csv", "--overwrite")
        prepare(config)
        return config
    return make


def order(dataset):
    """For each user, by id, their items in order of time."""
    items = [[str(dataset.item_ids[i]) for i in dataset.item[dataset.history.of(u)]] for u in range(dataset.num_users)]
    return {str(name): [*row, str(dataset.item_ids[dataset.validation[u]]), str(dataset.item_ids[dataset.test[u]])]
            for u, (name, row) in enumerate(zip(dataset.user_ids, items))}


@pytest.mark.parametrize("header", [
    "User_ID,ITEM_ID,Rating,Timestamp", "userId, movieId, rating, timestamp", '"user_id","item_id","rating","timestamp"',
    " user id ,item-id,Score,Time", "'user_id','item_id','rating','timestamp'", "\ufeffuser_id,item_id,rating,timestamp",
    "reviewerID,asin,overall,unixReviewTime", "user_id:token,item_id:token,rating:float,timestamp:float"])
def test_columns_are_known_by_the_names_that_people_give_them(put, header):
    assert order(load_dataset(put(text_of(header=header)))) == EXPECTED


@pytest.mark.parametrize("header, named", [
    ("user_id,item_id,item_id,timestamp", "item_id twice (item_id, item_id)"),
    ("user_id,userId,item_id,timestamp", "user_id twice (user_id, userId)"),
    ("user_id,item_id,Timestamp,timestamp", "timestamp twice"), ("user_id,title,rating,timestamp", "no column item_id"),
    ("user_id;item_id;rating;timestamp", "semicolons"), ("user_id\titem_id\trating\ttimestamp", "tabs")])
def test_columns_that_leave_a_doubt_are_named(put, header, named):
    with refused("ratings.csv", named):
        load_dataset(put(text_of(header=header)))


def test_a_file_that_is_read_in_many_blocks_is_read_whole():
    content = b"user_id,item_id,rating\n" + b"".join(b"%d,%d,0.5\n" % (k, k % 7) for k in range(300_000))
    table = read_stream(io.BufferedReader(io.BytesIO(content)), len(content), "x", ["user_id", "item_id"])
    assert table.user_id.astype(int).tolist() == list(range(300_000)) and table.attrs["header"]["item_id"] == "item_id"


@pytest.mark.parametrize("names", [
    ["7", "007", "0"], ["1", "1.0", "1.00"], ["NA", "None", "null"], ["nan", "N/A", "' a '"], ["a b", "a  b", "ab"],
    ["76561197960265729", "76561197960265730", "9223372036854775807"], ["12345678901234567890", "12345678901234567891", "5"],
    ["1e5", "100000", "1E5"], ["True", "False", "true"], ["-1", "1", "0"], ["caf\u00e9", "cafe", "CAF\u00c9"],
    ["\u0663", "3", "\uff13"], ["-0", "0", "+0"], ["0x10", "16", "1_6"], ["inf", "-inf", "1e400"]])
def test_ids_stay_apart_and_as_they_are(put, names):
    dataset = load_dataset(put(text_of([(u, i, 1, k) for u in names for k, i in enumerate(names)])))
    assert sorted(map(str, dataset.user_ids)) == sorted(map(str, dataset.item_ids)) == sorted(names)
    assert order(dataset) == {u: names for u in names}
    for k, name in enumerate(dataset.user_ids):
        assert find_users(dataset, f" {name} ", "recommend").tolist() == [k]


def test_whole_numbers_are_numbers_and_blanks_and_unicode_forms_do_not_count(put, caplog):
    dataset = load_dataset(put(text_of([(u, i, 1, k) for u in (10, 9) for k, i in enumerate((30, 4, 100))])))
    assert dataset.user_ids.tolist() == [9, 10] and dataset.item_ids.tolist() == [4, 30, 100]
    rows = [(" u1", "e\u0301", 1, 1), ("u1\u00a0", " b", 1, 2), ("u1", "c ", 1, 3), ("u2", "\u00e9", 1, 1),
            ("u2 ", "b", 1, 2), ("\u200bu2", "c", 1, 3)]
    assert order(load_dataset(put(text_of(rows)))) == {"u1": ["\u00e9", "b", "c"], "u2": ["\u00e9", "b", "c"]}
    assert "written in more than one way" in caplog.text


@pytest.mark.parametrize("name, named", [
    ("7.65612E+16", "a spreadsheet"), ('"1,2E+10"', "a spreadsheet"), ('"a\rb"', "'a\\rb'"), ('"a\nb"', "'a\\nb'"),
    ("a\x1b[2Jb", "a\\x1b[2Jb"), ("a\u2028b", "control"), ("a\x7f", "control"), ("a\x85b", "control"), ("  ", "nothing"),
    ("\u00a0", "nothing"), ("a\x00b", "line 3 has a NUL")])
def test_what_cannot_be_an_id_is_refused_by_row(put, name, named):
    with refused(named, "line 3" if "NUL" in named else "row 2 has"):
        load_dataset(put(text_of([ROWS[0], (name, *ROWS[1][1:]), *ROWS[2:]])))


def test_joined_files_are_named_by_the_row_of_the_second_header(put):
    with refused("ratings.csv", "row 7 is the header once more"):
        load_dataset(put(text_of() + text_of([("u3", *row[1:]) for row in ROWS[:3]], "userId,movieId,rating,timestamp")))


@pytest.mark.parametrize("text, said", [
    (text_of([(1, i, 1, i) for i in range(20)] + [(1, "total", 1, 30)]), "item_ids are text, not numbers, since 1 of 21"),
    (text_of([(u, i, r, f"{1.00000e9 + 10000 * (t % 100):.5E}") for u, i, r, t in ROWS]), "a spreadsheet had rounded them"),
    (text_of([(u, i, f"2022-04-{10 + k}") for k, (u, i, _, _) in enumerate(ROWS)], "user,item,date"), "seconds, whole days"),
    (text_of([row[:2] for row in ROWS], "user,item"), "without times: the order of the rows counts")])
def test_what_a_reader_should_know_is_said(prepared, caplog, text, said):
    prepared(text)
    assert said in caplog.text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-16-le", "latin-1"])
def test_encodings_with_a_mark_are_read_and_others_named(put, encoding):
    content = text_of([(u, i.replace("a", "\u00e4"), r, t) for u, i, r, t in ROWS]).encode(encoding)
    if encoding in ("utf-16-le", "latin-1"):
        with refused("ratings.csv", "UTF-8 text"):
            load_dataset(put(content))
    else:
        content = b"\xfe\xff" * encoding.endswith("be") + content
        assert order(load_dataset(put(content)))["u1"] == ["b", "c", "\u00e4"]


@pytest.mark.parametrize("stamp, seconds", [
    (lambda t: t, 1.0), (lambda t: f"{t}.0", 1.0), (lambda t: t * 1000 + 7, 1e-3), (lambda t: t * 10 ** 6, 1e-6),
    (lambda t: t * 10 ** 9, 1e-9), (lambda t: t - 1_000_000_000, None), (lambda t: 20_010_000 + t % 1000, None),
    (lambda t: pd.Timestamp(t, unit="s").isoformat(), 1.0), (lambda t: f"{pd.Timestamp(t, unit='s')} ", 1.0),
    (lambda t: pd.Timestamp(t, unit="s").isoformat() + "Z", 1.0), (lambda t: f"2001-09-0{t % 100 // 10}", 1.0),
    (lambda t: f"{pd.Timestamp(t, unit='s')}.250", 1e-3), (lambda t: 20010901 + t % 100 // 10, 1.0),
    (lambda t: pd.Timestamp(t, unit="s").strftime("%Y%m%d%H%M%S"), 1.0), (lambda t: 200109090100 + t % 100 // 10, 1.0),
    (lambda t: f"{pd.Timestamp(t + 3600 * (t % 3), unit='s').isoformat()}+0{t % 3}:00", 1.0)])  # clocks that differ
def test_times_are_understood(put, stamp, seconds):
    config = put(text_of([(u, i, r, stamp(t)) for u, i, r, t in ROWS]))
    assert order(load_dataset(config)) == EXPECTED and UNITS.get(time_unit(config)) == seconds


@pytest.mark.parametrize("stamps, named", [
    ([5, 6, "2001-01-03"], "row 1 has '5'"), (["2001-01-01", "noon", "2001-01-03"], "row 2 has 'noon'"),
    (["2001-01-01", "2001-02-30", "2001-01-03"], "'2001-02-30'"),
    (["1.2.2001", "2.2.2001", "3.2.2001"], "row 1 has '1.2.2001'"), ([10 ** 9, "nan", 10 ** 9], "row 2 has 'nan'"),
    ([1_000_000_000, 1_000_000_001_000, 1_000_000_002], "row 2 has 1000000001000"), ([10 ** 9, "", 10 ** 9], "has nothing")])
def test_times_that_are_none_are_named_by_row(put, stamps, named):
    with refused(named, "timestamp"):
        load_dataset(put(text_of([("u", i, 1, t) for i, t in zip("abc", stamps)])))


@pytest.mark.parametrize("columns, of", [
    ("watched_at", lambda k: f"2022-04-{10 + k}"), ("gesehen", lambda k: f"2022-04-10T0{k}:00:00Z"),
    ("event_time", lambda k: "" if k == 2 else 1649460000 + k), ("wann", lambda k: 1649460000000 + k),
    ("day", lambda k: 20220409 + k), ("seen", lambda k: f"{10 + k}/04/2022 14:30"),
    ("seen", lambda k: f'"Apr {10 + k}, 2022"'), ("midnight", lambda k: 86400 * (19000 + k // 5)),
    ("time_ms,date", lambda k: f"{1649460000000 + k * 10 ** 7},{20220409 + k // 3}"),  # a day, and when on that day
    ("date,time", lambda k: f"2022-04-{10 + k},{1400 - k}")])  # what is called time is none
def test_times_by_another_name_are_refused(prepared, columns, of):
    with refused("x.csv", f"column {columns.split(',')[0]} holds times", "rename"):
        prepared(text_of([(u, i, of(k)) for k, (u, i, _, _) in enumerate(ROWS)], f"user_id,item_id,{columns}"))


@pytest.mark.parametrize("column, of", [
    ("order_id", lambda k: 900_000_001 + k), ("session_id", lambda k: 1_500_000_000 + k), ("price", lambda k: 10 ** 9 + k),
    ("visits", lambda k: 123_456_789 * (k + 1)), ("plays", lambda k: k), ("year", lambda k: 1990 + k),
    ("fixed", lambda k: 1_600_000_000), ("born", lambda k: f"19{50 + k}-01-01"), ("version", lambda k: f"1.2.{k}"),
    ("review", lambda k: "in May 2004" if k else "fine"), ("seen", lambda k: k % 2 == 0), ("note", lambda k: ""),
    ("worth", lambda k: k / 2), ("length", lambda k: 4_000_000_000 + k)])
def test_what_is_no_time_is_no_time(prepared, caplog, column, of):
    config = prepared(text_of([(u, i, of(k)) for k, (u, i, _, _) in enumerate(ROWS)], f"user_id,item_id,{column}"))
    assert f"not used: the column {column}" in caplog.text and "without times" in caplog.text
    assert order(load_dataset(config)) == {"u1": ["a", "b", "c"], "u2": ["c", "a", "b"]}


@pytest.mark.parametrize("more, of", [  # of a row's place in time; rows are in no order
    ("date", lambda k: (1649460000 + k, "2022-04-09")), ("created_at", lambda k: (k, f"2022-04-{20 - k}")),
    ("seen_ms", lambda k: (1649460000 + k, 1649460009000 - k))])
def test_what_is_called_timestamp_is_the_time(prepared, more, of):
    rows = [(u, i, *of(k)) for (u, i, _, _), k in zip(ROWS, [2, 0, 1, 4, 5, 3])]
    assert order(load_dataset(prepared(text_of(rows, f"user_id,item_id,timestamp,{more}")))) == EXPECTED


def test_times_that_are_all_the_same_tell_nothing(put):
    config = put(text_of([(u, i, r, 1_000_000_000) for u, i, r, _ in ROWS]))
    assert order(load_dataset(config)) == {"u1": ["a", "b", "c"], "u2": ["c", "a", "b"]}
    assert time_unit(config) == ORDER


@pytest.mark.parametrize("movies", [
    "item_id,title,genres\na,Heat,Crime|Drama\nb,NA,\nc,\"Jaws, 2\",Horror\n",
    "movieId,Title,Genres\na,Heat,Crime | Drama\nb,NA,\nc,\"Jaws, 2\",Horror|\n,,\n",
    "id,genre,movie title,year\na,Crime|  Drama,Heat,1\nb,,NA,2\nc,Horror,\"Jaws, 2\",3\na,Comedy,Heat again,4\n",
    "movie_id,genres,title\n a ,Crime|Drama,\"Heat\"\nb,,NA\nc ,Horror,\"Jaws,\r2\"\n,,no id\n"])
def test_titles_and_genres_are_found(put, movies):
    config = put(text_of(), movies)
    assert load_catalogue(load_dataset(config), config).values.tolist() == [
        ["Heat", "Crime|Drama"], ["NA", ""], ["Jaws, 2", "Horror"]]


@pytest.mark.parametrize("genres, found", [
    (["A|B", "C, D", "E"], ["A|B", "C, D", "E"]), (["Sci Fi", "A B", ""], ["Sci Fi", "A B", ""]),
    (["Doctors, Acupuncture", "Health & Medical", ","], ["Doctors|Acupuncture", "Health & Medical", ""]),
    (["A; B, C", "D", "E;"], ["A|B, C", "D", "E"]), (["Food &amp; Bars, C", "D", "E"], ["Food &amp; Bars|C", "D", "E"]),
    (["['Doctors', 'Acu, x']", '[["A","B"]]', "[]"], ["Doctors|Acu, x", "A|B", ""]),
    (["['A' 'B C']", "[27, 9]", "[A B, C]"], ["A|B C", "27|9", "A B|C"]),
    (["'A', 'B, C'", '"D"', "'E'"], ["A|B, C", "D", "E"]),
    (["""["Children's", 'D\\'s']""", '["caf\\u00e9"]', "A, B"], ["Children's|D's", "caf\u00e9", "A|B"]),
    (["[{'id': 18, 'name': 'Drama'}, {'id': 8, 'name': 'War'}]", "", ""], ["Drama|War", "", ""])])
def test_genres_are_parted_by_what_parts_them_in_their_file(put, caplog, genres, found):
    config = put(text_of(), pd.DataFrame({"item_id": list("abc"), "genres": genres}).to_csv(index=False))
    assert load_catalogue(load_dataset(config), config).genres.tolist() == found
    assert ("genres are" in caplog.text) == (genres != found and "|" not in genres[0])


@pytest.mark.parametrize("movies, said", [
    ("number,title,genres\na,Heat,Drama\n", "has no column item_id, so its titles and genres are not used"),
    ("item_id,title,genres\n1,Heat,Drama\n", "3 of 3 items are not in its list of titles and genres, e.g. a (there: 1"),
    ("item_id,title,genres\na,Heat,\na,Heat 2,\nb,B,\nc,C,\n", "1 rows repeat an item, e.g. a; of each item the first"),
    ("item_id,title,genres\na,Heat,\n,B,\nc,C,\n", "1 rows with a title have no item_id and are left out, e.g. row 2")])
def test_titles_that_are_lost_are_named(tmp_path, settings, caplog, movies, said):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("ratings.csv", text_of())
        archive.writestr("movies.csv", movies)
    prepare(settings("--archive", tmp_path / "x.zip"))
    assert "x.zip" in caplog.text and said in caplog.text


def test_what_this_program_wrote_is_read_as_it_stands(prepared, tmp_path):
    config = prepared(text_of([(u, i, 1, k) for u in ("007", "7", "NA") for k, i in enumerate(("3", "1", "2"))]))
    folder = tmp_path / "data" / "tiny"
    own = load_dataset(config)
    record = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({"text_ids": record["text_ids"]}))  # as if it came from elsewhere
    other = load_dataset(config.replace(archive=""))
    assert order(own) == order(other) and own.item_ids.tolist() == other.item_ids.tolist() == [1, 2, 3]
    assert own.rows.tolist() == other.rows.tolist()
