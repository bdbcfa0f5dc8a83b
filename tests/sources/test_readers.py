"""Sources in all their layouts, and what is wrong with some."""
import json
import re
import zipfile

import pandas as pd
import pytest

from src.common.errors import InputError
from src.movielens import prepare
from src.sources.readers import read_source
from tests.small import refused
from tests.sources.samples import GENRES, ROWS, TITLES, comma, double_colon, lines, ml_100k, zip_of

ANY_CASE = {**{name.upper(): content for name, content in comma().items()},
            "__MACOSX/ML/RATINGS.CSV": "x", "./": "", "ratings.csv/": ""}  # folders are passed over


@pytest.mark.parametrize("members", [
    ml_100k(), ml_100k("utf-8"), ml_100k("utf-8-sig"), double_colon("latin-1"), double_colon("utf-8"), comma(), ANY_CASE])
def test_each_layout_gives_the_same_dataset(tmp_path, settings, members):
    prepare(settings("--archive", zip_of(tmp_path / "some.zip", members)))
    folder = tmp_path / "data" / "tiny"
    ratings = pd.read_csv(folder / "ratings.csv")
    assert list(ratings.columns) == ["user_id", "item_id", "rating", "timestamp"]
    assert [tuple(row) for row in ratings.to_numpy().tolist()] == ROWS
    movies = pd.read_csv(folder / "movies.csv")
    assert movies.set_index("item_id").title.to_dict() == TITLES
    assert movies.set_index("item_id").genres.to_dict() == GENRES
    record = json.loads((folder / "dataset.json").read_text())
    assert (record["num_users"], record["num_items"], record["num_ratings"]) == (2, 4, 7)


@pytest.mark.parametrize("columns, text, found", [
    ("movie_title:token_seq\trelease_year:token\tclass:token_seq", "Spy\t1995\tAction Crime", "Spy (1995),Action|Crime"),
    *((f"movie_title:token_seq\t{column}", f"Spy\t{text}", f"Spy,{genres}") for column, text, genres in [
        ("type:token_seq", "Drama Comedy", "Drama|Comedy"), ("genre:token_seq", "(no genres listed)", "(no genres listed)"),
        ("category_id:token", "28", "28"), ("categories:token", "Video Games", "Video Games"),
        ("category_id:token_seq", "28 007", "28|007"), ("brand:token", "X", ""),
        ("categories:token_seq", "Doctors, Health & Medical", "Doctors|Health & Medical"),
        ("categories:token_seq", "['Sci Fi', 'War']", "Sci Fi|War"), ("class:token_seq", "Sci Fi|War", "Sci Fi|War"),
        ("class:token_seq", '"[""A"", ""B C""]"', "A|B C")]),
    ("name:token_seq", '"""A"" and ""B"""', '"A" and "B",'), ("name:token_seq", '"B"', '"B",'),
    ("name:token_seq", 'C ""c""', 'C ""c"",'),
])
def test_lists_of_items_of_recbole(tmp_path, settings, columns, text, found):
    inter = tmp_path / "x.inter"
    rows = lines("\t", [(1, "10", 5, 1), (1, "007", 4, 2), (1, 3, 3, 3)])
    inter.write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + rows)
    (tmp_path / "x.item").write_text(f"item_id:token\t{columns}\n10\t{text}\n007\t{text}\n")
    prepare(settings("--archive", inter))
    movies = pd.read_csv(tmp_path / "data" / "tiny" / "movies.csv", dtype=str, keep_default_na=False)
    title, genres = found.rsplit(",", 1)
    assert movies.values.tolist() == [["007", title, genres], ["10", title, genres], ["3", "", ""]]


def test_recbole_genres_of_one_word_beside_others_with_commas(tmp_path, settings):
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\n1\t1\n1\t2\n1\t3\n")
    (tmp_path / "x.item").write_text("item_id:token\tcategories:token_seq\n1\tDoctors, Tea\n2\tHealth & Medical\n"
                                     "3\t(no genres listed)\n")
    prepare(settings("--archive", tmp_path / "x.inter"))
    movies = pd.read_csv(tmp_path / "data" / "tiny" / "movies.csv")
    assert movies.genres.tolist() == ["Doctors|Tea", "Health & Medical", "(no genres listed)"]


ITEM_FILE = "item_id:token\tname:token_seq\n10\t{}\n"


@pytest.mark.parametrize("inter, items, title, said", [
    ("shop-view.inter", ["shop.item"], "shop.item", "shop.item"),
    ("shop-view.inter", ["shop.item", "shop-view.item"], "shop-view.item", ""),
    ("a.b_c.inter", ["A.ITEM", "ab.item"], "A.ITEM", "a.item"),
    ("a-b-c.inter", ["a.item", "a-b.item"], "", "none is used: a-b.item, a.item; name one with --items"),
    ("shop.inter", ["shopping.item", "s.item"], "", "none is used: s.item, shopping.item; name one"),
    ("shop.inter", ["other.item"], "other.item", ""), ("shop.inter", [], "", ""),
])
@pytest.mark.parametrize("packed", [True, False])
def test_an_item_file_of_another_stem(tmp_path, settings, caplog, inter, items, title, said, packed):
    files = {inter: "user_id:token\titem_id:token\n1\t10\n1\t20\n1\t3\n", **{name: ITEM_FILE.format(name) for name in items}}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    if not packed and items == ["other.item"]:  # in a folder it may belong to another file
        title, said = "", "none is used: other.item; name one with --items"
    source = zip_of(tmp_path / "x.zip", files) if packed else tmp_path / inter
    with caplog.at_level("INFO", "ifrqe"):
        prepare(settings("--archive", source))
    movies = pd.read_csv(tmp_path / "data" / "tiny" / "movies.csv", keep_default_na=False)
    assert movies.title.tolist() == ["", title, ""] and re.search(said, caplog.text, re.I)


@pytest.mark.parametrize("content, named", [
    ("user_id,item_id\n", "holds no ratings"), ("who,what\n1,2\n", "no column user_id, item_id (columns: who, what)"),
    ("user_id,item_id,rating\n1,1,5\n1,2,good\n", "row 2 has 'good' as rating"),
    ("user_id,item_id,timestamp\n1,1,5\n1,,3\n", "row 2 has nothing as item_id"), ("", "is empty"),
    ("user_id,item_id,timestamp\n1,1,5\n1,2\n", "row 2 has nothing as timestamp"),
    ("user_id,item_id,timestamp\n1,1,5\n1,2,3,4,5\n", "columns"), ("user_id,item_id\n1,1,5\n1,2,6\n", "more fields"),
    ("user_id,item_id,timestamp\n1,1,5\n1,2,1e19\n", "row 2 has"), (b"user_id,item_id\n1,\xff\n", "UTF-8")])
def test_bad_csv_files_are_named(tmp_path, settings, content, named):
    path = tmp_path / "x.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with refused("x.csv", named) as error:
        prepare(settings("--archive", path))
    assert "cut short" not in str(error.value)  # it is whole, and fetching it anew is no remedy
    assert not (tmp_path / "data" / "tiny").exists()


@pytest.mark.parametrize("members, named", [
    *(({**comma(), name: "x"}, "points outside") for name in ("../ratings.csv", "/etc/ratings.csv", "C:\\ratings.csv")),
    ({"readme.txt": "hello"}, "u.data"), ({"ratings.dat": lines("::"), "movies.dat": "1::A::B\n2::A\n"}, "line 2"),
    ({**comma(), "other/ratings.csv": "x"}, "ratings.csv twice"), ({**ml_100k(), "ml-100k/u.item": "1,Heat\n"}, "line 1"),
    ({"x.test.inter": "", "x.train.inter": ""}, "x.test.inter and x.train.inter"),
    ({**comma(), "ml/u.data": lines("\t")}, "u.data and"), ({**comma(), "x/Movies.csv": ""}, "Movies.csv twice")])
def test_a_zip_that_leaves_a_doubt_is_refused(tmp_path, members, named):
    with refused("x.zip", named):
        read_source(zip_of(tmp_path / "x.zip", members))
    (tmp_path / "x.xlsx").write_text("x")
    with refused("x.xlsx", ".zip, .inter, .csv or .parquet"):
        read_source(tmp_path / "x.xlsx")


def test_an_empty_list_of_items_is_no_error(tmp_path, settings):
    empty = {"bars": {**ml_100k(), "ml-100k/u.item": ""}, "commas": {**comma(), "ml/movies.csv": "movieId,title\n"}}
    for name, members in empty.items():
        prepare(settings("--archive", zip_of(tmp_path / f"{name}.zip", members), "--dataset", name))
        movies = pd.read_csv(tmp_path / "data" / name / "movies.csv", keep_default_na=False)
        assert movies.title.tolist() == [""] * 4


def test_every_damage_of_a_zip_is_one_line(tmp_path):
    whole = tmp_path / "x.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in comma().items():
            archive.writestr(name, content)
    content = whole.read_bytes()
    found = 0
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (tmp_path / "damaged.zip").write_bytes(damaged)
        try:
            read_source(tmp_path / "damaged.zip")
        except InputError as e:
            found += 1
            assert "damaged.zip" in str(e) and "\n" not in str(e)
    (tmp_path / "damaged.zip").write_bytes(content[:len(content) // 2])
    with refused("damaged.zip"):
        read_source(tmp_path / "damaged.zip")
    assert found > len(content) / 6
