"""Tables that other programs wrote, through the data stage and as a dataset put there by hand: the same answers."""
import io
import json
import logging
import re
import zipfile

import numpy as np
import pandas as pd
import pytest

from src.common.errors import InputError
from src.common.tables import copy_rows, read_rows, read_stream
from src.dataset import load_dataset
from src.movielens import prepare
from src.sources.catalogue import find_users, load_catalogue
from src.sources.interactions import timestamp_seconds

ROWS = [("u1", "a", 5, 1_000_000_030), ("u1", "b", 4, 1_000_000_010), ("u1", "c", 3, 1_000_000_020),
        ("u2", "c", 1, 1_000_000_060), ("u2", "a", 2, 1_000_000_070), ("u2", "b", 3, 1_000_000_050)]


def text_of(rows=ROWS, header="user_id,item_id,rating,timestamp", separator=","):
    return header + "\n" + "".join(separator.join(map(str, row)) + "\n" for row in rows)


@pytest.fixture(params=["csv", "zip", "hand"])
def put(request, tmp_path, settings):
    """put(ratings, movies, *flags): the dataset `tiny` from these texts (or bytes), by one of the ways in; its settings."""
    def make(ratings, movies=None, *flags, encoding="utf-8"):
        files = {"ratings.csv": ratings, "movies.csv": movies}
        files = {name: content if isinstance(content, bytes) else content.encode(encoding)
                 for name, content in files.items() if content is not None}
        if request.param == "hand":
            folder = tmp_path / "data" / "tiny"
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (folder / name).write_bytes(content)
            return settings(*flags)
        if request.param == "csv":
            if movies is not None:
                pytest.skip("a CSV has no list of items")
            source = tmp_path / "source.csv"
            source.write_bytes(files["ratings.csv"])
        else:
            source = tmp_path / "source.zip"
            with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(f"deep/{name}", content)
        config = settings("--archive", source, "--overwrite", *flags)
        prepare(config)
        return config
    return make


def order(dataset):
    """For each user, by id, their items in order of time."""
    items = [[str(dataset.item_ids[i]) for i in dataset.item[dataset.user == u]] for u in range(dataset.num_users)]
    return {str(name): [*row, str(dataset.item_ids[dataset.validation[u]]), str(dataset.item_ids[dataset.test[u]])]
            for u, (name, row) in enumerate(zip(dataset.user_ids, items))}


EXPECTED = {"u1": ["b", "c", "a"], "u2": ["b", "c", "a"]}


@pytest.mark.parametrize("header", [
    "user_id,item_id,rating,timestamp", "User_ID,ITEM_ID,Rating,Timestamp", "userId, movieId, rating, timestamp",
    '"user_id","item_id","rating","timestamp"', " user id ,item-id,Score,Time", "reviewerID,asin,overall,unixReviewTime",
    "'user_id','item_id','rating','timestamp'", "\ufeffuser_id,item_id,rating,timestamp", "user,product_id,stars,date",
    "user_id:token,item_id:token,rating:float,timestamp:float",
])
def test_columns_are_known_by_the_names_that_people_give_them(put, header):
    assert order(load_dataset(put(text_of(header=header)))) == EXPECTED


def test_columns_may_stand_in_any_order_and_others_are_named(put, caplog):
    rows = [(t, r, "x", i, u, "y") for u, i, r, t in ROWS]
    with caplog.at_level(logging.INFO, "ifrqe"):
        config = put(text_of(rows, header="timestamp,rating,Comment,item_id,user_id,city"))
    assert order(load_dataset(config)) == EXPECTED
    assert "not used: the columns Comment, city" in caplog.text or not config.archive


@pytest.mark.parametrize("header, words", [
    ("user_id,item_id,item_id,timestamp", r"has the column item_id twice \(item_id, item_id\)"),
    ("user_id,userId,item_id,timestamp", r"has the column user_id twice \(user_id, userId\)"),
    ("user_id,item_id,Timestamp,timestamp", r"has the column timestamp twice \(Timestamp, timestamp\)"),
    ("user_id,title,rating,timestamp", "has no column item_id"),
    ("user_id;item_id;rating;timestamp", "separated by semicolons"),
    ("user_id\titem_id\trating\ttimestamp", "separated by tabs"),
])
def test_columns_that_leave_a_doubt_are_named(put, header, words):
    with pytest.raises(InputError, match=words):
        load_dataset(put(text_of(header=header)))


def test_a_file_that_is_read_in_many_blocks_is_read_whole():
    content = b"user_id,item_id,rating\n" + b"".join(b"%d,%d,0.5\n" % (k, k % 7) for k in range(300_000))
    table = read_stream(io.BufferedReader(io.BytesIO(content)), len(content), "x", ["user_id", "item_id"])
    assert table.user_id.astype(int).tolist() == list(range(300_000)) and table.attrs["header"]["item_id"] == "item_id"
    with pytest.raises(InputError, match="x: line 300002 has a NUL byte"):
        broken = content + b"1,2,\0\n"
        read_stream(io.BufferedReader(io.BytesIO(broken)), len(broken), "x", ["user_id", "item_id"])


# ---------------------------------------------------------------------------------------------------------------------
# Ids


@pytest.mark.parametrize("names", [
    ["7", "007", "0"], ["1", "1.0", "1.00"], ["NA", "None", "null"], ["nan", "N/A", """ "a" """.strip().replace('"', "'")],
    ["76561197960265729", "76561197960265730", "9223372036854775807"], ["12345678901234567890", "12345678901234567891", "5"],
    ["1e5", "100000", "1E5"], ["True", "False", "true"], ["-1", "1", "0"], ["caf\u00e9", "cafe", "CAF\u00c9"],
    ["\u0663", "3", "\uff13"], ["a b", "a  b", "ab"], ["-0", "0", "+0"], ["0x10", "16", "1_6"], ["inf", "-inf", "1e400"],
])
def test_ids_stay_apart_and_as_they_are(put, names):
    rows = [(u, i, 1, k) for u in names for k, i in enumerate(names)]
    config = put(text_of(rows))
    dataset = load_dataset(config)
    assert sorted(map(str, dataset.user_ids)) == sorted(map(str, dataset.item_ids)) == sorted(names)
    assert order(dataset) == {u: names for u in names}
    for k, name in enumerate(dataset.user_ids):
        assert find_users(dataset, f" {name} ", "recommend").tolist() == [k]


def test_whole_numbers_are_numbers(put):
    dataset = load_dataset(put(text_of([(u, i, 1, k) for u in (10, 9) for k, i in enumerate((30, 4, 100))])))
    assert dataset.user_ids.tolist() == [9, 10] and dataset.item_ids.tolist() == [4, 30, 100]


def test_blanks_around_an_id_and_its_unicode_form_do_not_count(put, caplog):
    rows = [(" u1", "e\u0301", 1, 1), ("u1\u00a0", " b", 1, 2), ("u1", "c ", 1, 3), ("u2", "\u00e9", 1, 1),
            ("u2 ", "b", 1, 2), ("\u200bu2", "c", 1, 3)]
    assert order(load_dataset(put(text_of(rows)))) == {"u1": ["\u00e9", "b", "c"], "u2": ["\u00e9", "b", "c"]}
    assert "written in more than one way" in caplog.text


@pytest.mark.parametrize("name, words", [
    ("7.65612E+16", "row 2 has '7.65612E.16' as user_id: a spreadsheet wrote it in scientific notation"),
    ("1,2E+10", "row 2 has '1,2E.10' as user_id: a spreadsheet"),
    ('"a\rb"', r"row 2 has 'a\\rb' as user_id, with a control"), ('"a\nb"', r"row 2 has 'a\\nb' as user_id, with a control"),
    ("a\x1b[2Jb", r"row 2 has 'a\\x1b\[2Jb' as user_id, with a control"),
    ("a\u2028b", "row 2 .* as user_id, with a control"), ("a\x7f", "row 2 .* as user_id, with a control"),
    ("a\x85b", "row 2 .* as user_id, with a control"), ("  ", "row 2 has nothing as user_id"),
    ("\u00a0", "row 2 has nothing as user_id"), ("a\x00b", "line 3 has a NUL byte"),
])
def test_what_cannot_be_an_id_is_refused_by_row(put, name, words):
    name = f'"{name}"' if "," in name else name
    with pytest.raises(InputError, match=words) as error:
        load_dataset(put(text_of([ROWS[0], (name, *ROWS[1][1:]), *ROWS[2:]])))
    assert "\n" not in str(error.value)


def test_joined_files_are_named_by_the_row_of_the_second_header(put):
    with pytest.raises(InputError, match="row 7 is the header once more"):
        more = [("u3", *row[1:]) for row in ROWS[:3]]
        load_dataset(put(text_of() + text_of(more, header="userId,movieId,rating,timestamp")))


def test_few_ids_that_are_no_numbers_are_named(tmp_path, settings, caplog):
    path = tmp_path / "x.csv"
    path.write_text(text_of([(1, i, 1, i) for i in range(20)] + [(1, "total", 1, 30)]))
    prepare(settings("--archive", path))
    assert "item_ids are text, not numbers, since 1 of 21 are no whole numbers, e.g. 'total'" in caplog.text
    path.write_text(text_of([("1.0", i, 1, i) for i in range(5)]))
    prepare(settings("--archive", path, "--dataset", "decimal"))
    assert "user_ids such as 1.0 look like whole numbers" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be with mark", "utf-32"])
def test_encodings_with_a_mark_are_read(put, encoding):
    rows = [(u, i.replace("a", "\u00e4"), r, t) for u, i, r, t in ROWS]
    content = b"\xfe\xff" + text_of(rows).encode("utf-16-be") if "with" in encoding else text_of(rows).encode(encoding)
    assert order(load_dataset(put(content)))["u1"] == ["b", "c", "\u00e4"]


@pytest.mark.parametrize("encoding, words", [("utf-16-le", "NUL byte, so it is no UTF-8 text .UTF-16"),
                                             ("latin-1", "not UTF-8 text")])
def test_other_encodings_are_named(put, encoding, words):
    with pytest.raises(InputError, match=words):
        load_dataset(put(text_of([(u, i + "\u00e4", r, t) for u, i, r, t in ROWS]).encode(encoding)))


# ---------------------------------------------------------------------------------------------------------------------
# Times


@pytest.mark.parametrize("stamp, seconds", [
    (lambda t: t, 1.0), (lambda t: f"{t}.0", 1.0), (lambda t: t * 1000 + 7, 1e-3), (lambda t: t * 10 ** 6, 1e-6),
    (lambda t: t * 10 ** 9, 1e-9), (lambda t: t - 1_000_000_000, None), (lambda t: 20_010_000 + t % 1000, None),
    (lambda t: pd.Timestamp(t, unit="s").isoformat(), 1.0), (lambda t: f"{pd.Timestamp(t, unit='s')} ", 1.0),
    (lambda t: pd.Timestamp(t, unit="s").isoformat() + "Z", 1.0), (lambda t: f"2001-09-0{t % 100 // 10}", 1.0),
    (lambda t: f"{pd.Timestamp(t, unit='s')}.250", 1e-3), (lambda t: 20010901 + t % 100 // 10, 1.0),
    (lambda t: pd.Timestamp(t, unit="s").strftime("%Y%m%d%H%M%S"), 1.0), (lambda t: 200109090100 + t % 100 // 10, 1.0),
    (lambda t: f"{pd.Timestamp(t + 3600 * (t % 3), unit='s').isoformat()}+0{t % 3}:00", 1.0),  # clocks that differ
])
def test_times_are_understood(put, stamp, seconds):
    config = put(text_of([(u, i, r, stamp(t)) for u, i, r, t in ROWS]))
    assert order(load_dataset(config)) == EXPECTED
    assert timestamp_seconds(config) == seconds


@pytest.mark.parametrize("stamps, words", [
    (["2001-01-01", "noon", "2001-01-03"], "row 2 has 'noon' as timestamp, where others have ISO dates"),
    (["2001-01-01", "2001-02-30", "2001-01-03"], "row 2 has '2001-02-30' as timestamp"),
    (["1.2.2001", "2.2.2001", "3.2.2001"], "row 1 has '1.2.2001' as timestamp; give seconds since 1970 or ISO dates"),
    ([1_000_000_000, 1_000_000_001_000, 1_000_000_002], "row 2 has 1000000001000 as timestamp, which looks like millis"),
    ([1_000_000_000, "", 1_000_000_002], "row 2 has nothing as timestamp"),
    ([1_000_000_000, "nan", 1_000_000_002], "row 2 has 'nan' as timestamp"),
])
def test_times_that_are_none_are_named_by_row(put, stamps, words):
    with pytest.raises(InputError, match=words):
        load_dataset(put(text_of([("u", i, 1, t) for i, t in zip("abc", stamps)])))


@pytest.mark.parametrize("header, of, said", [  # of a row's place in time; rows are in no order
    ("date,time_ms", lambda k: (20220409 + k // 3, 1649460000000 + k * 10 ** 7), "time_ms is the timestamp, .* than date"),
    ("date,hourmin,seen", lambda k: ("2022-04-09", 100 * k, f"2022-04-09 0{k}:00"), "not used: the columns date, hourmin"),
    ("time,date", lambda k: (1400 - k, f"2022-04-{10 + k}"), "date is the timestamp, .* than time\n"),
    ("timestamp,date", lambda k: (1649460000 + k, "2022-04-09"), "not used: the column date"),
    ("timestamp,created_at", lambda k: (k, f"2022-04-{20 - k}"), "not used: the column created_at"),  # told by its name
    ("timestamp,seen_ms", lambda k: (1649460000 + k, 1649460009000 - k), "not used: the column seen_ms"),
    ("date,release_date", lambda k: (f"2022-04-{10 + k}", f"2019-01-01 0{k}:00"), "not used: the column release_date"),
])
def test_of_several_times_the_finest_counts(put, caplog, header, of, said):
    rows = [(u, i, *of(k)) for (u, i, _, _), k in zip([*ROWS[:3], ROWS[4], ROWS[3], ROWS[5]], [2, 0, 1, 4, 5, 3])]
    with caplog.at_level(logging.INFO, "ifrqe"):
        config = put(text_of(rows, header=f"user_id,item_id,{header}"))
        assert order(load_dataset(config)) == EXPECTED | {"u2": ["b", "a", "c"]}
    assert re.search(said, caplog.text) or not config.archive


@pytest.mark.parametrize("column, of", [
    ("watched_at", lambda k: f"2022-04-{10 + k}"), ("gesehen", lambda k: f"2022-04-10T0{k}:00:00Z"),
    ("event_time", lambda k: 1649460000 + k), ("wann", lambda k: 1649460000000 + k), ("day", lambda k: 20220409 + k),
    ("seen", lambda k: f"{10 + k}/04/2022 14:30"), ("seen", lambda k: f"Apr {10 + k}, 2022"),
    ("event_time", lambda k: "" if k == 2 else 1649460000 + k), ("midnight", lambda k: 86400 * (19000 + k // 5)),
])
def test_times_by_another_name_are_refused(tmp_path, settings, column, of):
    path = tmp_path / "x.csv"
    rows = [(u, i, f'"{of(k)}"' if "," in str(of(k)) else of(k)) for k, (u, i, _, _) in enumerate(ROWS)]
    path.write_text(text_of(rows, header=f"user_id,item_id,{column}"))
    with pytest.raises(InputError, match=f"x.csv: the column {column} holds times, .*; rename it to timestamp, or"):
        prepare(settings("--archive", path))


@pytest.mark.parametrize("column, of", [
    ("order_id", lambda k: 900_000_001 + k), ("session_id", lambda k: 1_500_000_000 + k), ("price", lambda k: 10 ** 9 + k),
    ("visits", lambda k: 123_456_789 * (k + 1)), ("plays", lambda k: k), ("year", lambda k: 1990 + k),
    ("fixed", lambda k: 1_600_000_000), ("born", lambda k: f"19{50 + k}-01-01"), ("version", lambda k: f"1.2.{k}"),
    ("review", lambda k: "in May 2004" if k else "fine"), ("seen", lambda k: k % 2 == 0), ("note", lambda k: ""),
    ("worth", lambda k: k / 2), ("length", lambda k: 4_000_000_000 + k),
])
def test_what_is_no_time_is_no_time(tmp_path, settings, caplog, column, of):
    path = tmp_path / "x.csv"
    path.write_text(text_of([(u, i, of(k)) for k, (u, i, _, _) in enumerate(ROWS)], header=f"user_id,item_id,{column}"))
    with caplog.at_level(logging.INFO, "ifrqe"):
        prepare(settings("--archive", path))
    assert f"not used: the column {column}" in caplog.text and "without times" in caplog.text


def test_whole_days_are_said(tmp_path, settings, caplog):
    path = tmp_path / "x.csv"
    path.write_text(text_of([(u, i, f"2022-04-{10 + k}") for k, (u, i, _, _) in enumerate(ROWS)], header="user,item,date"))
    with caplog.at_level(logging.INFO, "ifrqe"):
        prepare(settings("--archive", path))
    assert "times in seconds, whole days: of one day the order of the rows counts" in caplog.text


def test_without_times_the_order_of_the_rows_counts_and_is_said(tmp_path, settings, caplog):
    path = tmp_path / "x.csv"
    path.write_text("user_id,item_id\n1,3\n1,1\n1,2\n")
    config = settings("--archive", path)
    with caplog.at_level(logging.INFO, "ifrqe"):
        prepare(config)
    assert "without times: the order of the rows counts" in caplog.text and timestamp_seconds(config) is None
    assert order(load_dataset(config)) == {"1": ["3", "1", "2"]}
    assert json.loads((tmp_path / "data" / "tiny" / "dataset.json").read_text())["timestamp"] == "order"


def test_times_that_are_all_the_same_tell_nothing(put):
    config = put(text_of([(u, i, r, 1_000_000_000) for u, i, r, _ in ROWS]))
    assert order(load_dataset(config)) == {"u1": ["a", "b", "c"], "u2": ["c", "a", "b"]}
    assert timestamp_seconds(config) is None


def test_times_that_a_spreadsheet_rounded_are_named(put, caplog):
    load_dataset(put(text_of([(u, i, r, f"{1.00000e9 + 10000 * (t % 100):.5E}") for u, i, r, t in ROWS])))
    assert "as if a spreadsheet had rounded them" in caplog.text


# ---------------------------------------------------------------------------------------------------------------------
# Lists of items


@pytest.mark.parametrize("movies", [
    "item_id,title,genres\na,Heat,Crime|Drama\nb,NA,\nc,\"Jaws, 2\",Horror\n",
    "movieId,Title,Genres\na,Heat,Crime | Drama\nb,NA,\nc,\"Jaws, 2\",Horror|\n,,\n",
    "id,genre,movie title,year\na,Crime|  Drama,Heat,1\nb,,NA,2\nc,Horror,\"Jaws, 2\",3\na,Comedy,Heat again,4\n",
    "movie_id,genres,title\n a ,Crime|Drama,\"Heat\"\nb,,NA\nc ,Horror,\"Jaws,\r2\"\n,,no id\n",
])
def test_titles_and_genres_are_found(put, movies):
    config = put(text_of(), movies)
    dataset = load_dataset(config)
    assert load_catalogue(dataset, config).values.tolist() == [["Heat", "Crime|Drama"], ["NA", ""], ["Jaws, 2", "Horror"]]


@pytest.mark.parametrize("genres, found, said", [
    (["A|B", "C, D", "E"], ["A|B", "C, D", "E"], None), (["Sci Fi", "A B", ""], ["Sci Fi", "A B", ""], None),
    (["Doctors, Acupuncture", "Health & Medical", ","], ["Doctors|Acupuncture", "Health & Medical", ""], "parted by commas"),
    (["A; B, C", "D", "E;"], ["A|B, C", "D", "E"], "parted by semicolons"),
    (["Food &amp; Bars, C", "D", "E"], ["Food &amp; Bars|C", "D", "E"], "parted by commas"),
    (["['Doctors', 'Acu, x']", '[["A","B"]]', "[]"], ["Doctors|Acu, x", "A|B", ""], "in quoted lists"),
    (["['A' 'B C']", "[27, 9]", "[A B, C]"], ["A|B C", "27|9", "A B|C"], "in quoted lists"),
    (["'A', 'B, C'", '"D"', "'E'"], ["A|B, C", "D", "E"], "in quoted lists"),
    (["""["Children's", 'D\\'s']""", '["caf\\u00e9"]', "A, B"], ["Children's|D's", "caf\u00e9", "A|B"], "in quoted lists"),
    (["[{'id': 18, 'name': 'Drama'}, {'id': 8, 'name': 'War'}]", "", ""], ["Drama|War", "", ""], "in quoted lists"),
])
def test_genres_are_parted_by_what_parts_them_in_their_file(put, caplog, genres, found, said):
    movies = pd.DataFrame({"item_id": list("abc"), "genres": genres}).to_csv(index=False)
    with caplog.at_level(logging.INFO, "ifrqe"):
        config = put(text_of(), movies)
        assert load_catalogue(load_dataset(config), config).genres.tolist() == found
    assert f"genres are {said}" in caplog.text if said else "genres are" not in caplog.text


@pytest.mark.parametrize("movies, words", [
    ("number,title,genres\na,Heat,Drama\n", "has no column item_id, so its titles and genres are not used"),
    ("item_id,title,genres\n1,Heat,Drama\n", "3 of 3 items are not in its list of titles and genres, e.g. a .there: 1"),
    ("item_id,title,genres\na,Heat,\na,Heat 2,\nb,B,\nc,C,\n", "1 rows repeat an item, e.g. a; of each item the first"),
    ("item_id,title,genres\na,Heat,\n,B,\nc,C,\n", "1 rows with a title have no item_id and are left out, e.g. row 2"),
])
def test_titles_that_are_lost_are_named(tmp_path, settings, caplog, movies, words):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("ratings.csv", text_of())
        archive.writestr("movies.csv", movies)
    prepare(settings("--archive", tmp_path / "x.zip"))
    assert "x.zip" in caplog.text and re.search(words, caplog.text)


@pytest.mark.parametrize("text", [
    "u,i,t\n1,2,3\n4,5,6\n7,8,9\n", "u,i,t\n1,2,3\n4,5,6\n7,8,9", "u,i\n\u00e4 b,2\n4,\n7,8\n", "u,i\n1,2\n\n4,5\n7,8\n",
    'u,i\n"1,1",2\n4,"5"\n7,8\n', "u,i\n1, 2\n4,5\n7,8\n", "u,i\r\n1,2\r\n4,5\r\n7,8\r\n", "u,i,t\n1,2\n4,5,6\n7,8\n",
    "\ufeffu,i\n1,2\n4,5\n7,8\n", "u,u\n1,2\n4,5\n7,8\n", "u\n1\n4\n7\n", "u,\n1,2\n4,5\n7,8\n"])
@pytest.mark.parametrize("block", [5, 1 << 24])
def test_rows_are_copied_as_they_would_be_read_and_written(tmp_path, monkeypatch, text, block):
    monkeypatch.setattr("src.common.tables._BLOCK", block)
    source, target = tmp_path / "source.csv", tmp_path / "target.csv"
    source.write_bytes(text.encode())
    for rows in ([], [1], [0, 2], [0, 1, 2]):
        copy_rows(source, np.array(rows, int), target)
        assert target.read_text() == read_rows(source).iloc[rows].to_csv(index=False, lineterminator="\n")
