"""The data stage: filters, duplicates, what is kept and what is made anew."""
import json

import numpy as np
import pandas as pd
import pytest

from src.common.files import digest
from src.common.variant import check_tables, dataset_files
from src.constants import ARRAYS
from src.dataset import load_dataset
from src.movielens import prepare
from tests.small import refused
from tests.sources.samples import ROWS, comma, zip_of


@pytest.fixture
def archive(tmp_path):
    """Path of a small zip."""
    return zip_of(tmp_path / "x.zip", comma())


@pytest.fixture
def folder(tmp_path):
    """Where the dataset `tiny` comes to lie."""
    return tmp_path / "data" / "tiny"


def users(folder):
    return set(pd.read_csv(folder / "ratings.csv").user_id)


def state(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", ["x.items.csv", "list.csv", "list.item"])
def test_titles_and_genres_from_a_file_of_their_own(tmp_path, folder, settings, caplog, name):
    source, items, movies = tmp_path / "x.csv", tmp_path / name, folder / "movies.csv"
    source.write_text("user_id,item_id\n" + "".join(f"1,{i}\n" for i in (10, 20, 30)))
    sign = "\t" if name == "list.item" else ","
    given = [] if name == "x.items.csv" else ["--items", items]  # that beside it is found

    def put(rows):
        items.write_text("".join(sign.join(row) + "\n" for row in [("id", "title", "genres"), *rows]))
    if not given:
        prepare(settings("--archive", source))  # the list comes later, and is noticed
    put([("10", "Heat", "Crime|War")])
    for config in (settings("--archive", source, *given), settings(*given)):  # without the source it is kept
        with caplog.at_level("INFO", "ifrqe"):
            prepare(config)
        assert "10,Heat,Crime|War\n20,,\n" in movies.read_text()
    assert f"{name}: read for titles and genres" in caplog.text and "2 of 3 items are not in its list" in caplog.text
    put([("10", "Heat", "Crime"), ("20", "Jaws", "Horror")])
    if given:
        with refused("--items", "--archive"):
            prepare(settings(*given))
    prepare(settings("--archive", source, *given))
    put([("11", "Heat", "Crime")])
    with refused(name, "lists none of the items of x.csv"):
        prepare(settings("--archive", source, *given))
    assert "10,Heat,Crime\n20,Jaws,Horror\n" in movies.read_text()


def test_a_list_of_items_that_cannot_serve_is_named(write_ratings, tmp_path, folder, archive, settings):
    items = tmp_path / "own.csv"
    items.write_text("item_id,title\n10,Mine\n")
    prepare(settings("--archive", archive, "--items", items))  # it goes before that of an archive
    assert "10,Mine,\n20,,\n" in (folder / "movies.csv").read_text()
    (folder / "dataset.json").unlink()
    for flags, named in ((["--items", "nowhere.csv"], "nowhere.csv: no such file"), (["--items", items], "movies.csv"),
                         (["--items", items, "--dataset", "simulation"], "simulation")):
        with refused("--items", named):
            prepare(settings(*flags))


@pytest.mark.parametrize("flags", [["--willingness_file", "{}"], ["--unwillingness", "genres"]])
def test_rules_by_genre_without_genres_are_refused_before_anything_trains(tmp_path, settings, flags):
    source, rules = tmp_path / "x.csv", tmp_path / "rules.csv"
    source.write_text("user_id,item_id\n" + "".join(f"1,{i}\n" for i in (10, 20, 30)))
    rules.write_text("genre,unwillingness\nHorror,1\n")
    given = ["--archive", source, *[flag.format(rules) for flag in flags]]
    for _ in range(2):  # when it is made, and when it is there
        with refused("movies.csv", "lists no genres", "--items"):
            prepare(settings(*given))
    (tmp_path / "x.items.csv").write_text("item_id,genres\n10,Horror\n")
    prepare(settings(*given))


def test_filters_keep_users_by_number_of_ratings(folder, archive, settings):
    prepare(settings("--archive", archive, "--max_ratings", 3))
    assert users(folder) == {1}
    assert pd.read_csv(folder / "movies.csv").item_id.tolist() == [10, 20, 30]  # the catalogue is what occurs
    prepare(settings("--archive", archive, "--min_ratings", 4))
    assert users(folder) == {2}
    with refused("--min_ratings 5", "3 to 4"):
        prepare(settings("--archive", archive, "--min_ratings", 5))
    with refused("other filters", "--archive"):  # another filter needs the source
        prepare(settings("--max_ratings", 3))
    assert users(folder) == {2}  # nothing lost


def test_duplicates_are_an_error_unless_a_rule_is_chosen(tmp_path, folder, settings):
    path = tmp_path / "x.csv"
    path.write_text("user_id,item_id,rating,timestamp\n1,1,5,30\n1,1,2,10\n1,2,3,20\n1,3,3,40\n")
    with refused("x.csv", "user 1, item 1", "--duplicates"):
        prepare(settings("--archive", path))
    assert not (folder / "ratings.csv").exists()
    for rule, rating in (("last", 5), ("first", 2)):
        prepare(settings("--archive", path, "--duplicates", rule))
        ratings = pd.read_csv(folder / "ratings.csv")
        assert ratings[ratings.item_id == 1].rating.tolist() == [rating]
    path.write_text("item_id,user_id\n3,1\n1,1\n2,1\n")  # without rating and timestamp
    prepare(settings("--archive", path))
    assert pd.read_csv(folder / "ratings.csv").values.tolist() == [[1, 3, 1, 0], [1, 1, 1, 1], [1, 2, 1, 2]]


def test_what_cannot_be_prepared_is_named(tmp_path, settings):
    for flags, named in ((["--archive", tmp_path / "nowhere.zip"], "no such file"), (["--archive", tmp_path], "is a folder"),
                         ([], "--archive"), (["--dataset", "masked_tiny"], "preprocess.py"),
                         (["--dataset", "simulation", "--archive", "x.zip"], "generated")):
        with refused(*map(str, flags[-1:]), named):
            prepare(settings(*flags))


def test_a_dataset_that_is_there_is_kept_and_made_anew_when_asked(folder, archive, settings):
    prepare(settings("--archive", archive))
    record = json.loads((folder / "dataset.json").read_text())
    before = state(folder)
    assert record["files_sha256"] == {name: digest(folder / name) for name in (
        "ratings.csv", "movies.csv", *ARRAYS)}
    prepare(settings("--archive", archive))
    prepare(settings())  # the source is not needed any more
    assert state(folder) == before
    prepare(settings("--archive", archive, "--overwrite"))
    assert state(folder)["ratings.csv"][1] != before["ratings.csv"][1]
    del record["files_sha256"]  # of an earlier version, and incomplete
    (folder / "dataset.json").write_text(json.dumps(record))
    (folder / "movies.csv").unlink()
    prepare(settings("--archive", archive))
    assert (folder / "movies.csv").exists() and "files_sha256" in json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text("{")
    with refused("dataset.json", "--overwrite"):
        prepare(settings("--archive", archive))
    prepare(settings("--archive", archive, "--overwrite"))
    assert json.loads((folder / "dataset.json").read_text())["num_ratings"] == len(ROWS)


def test_numbers_beside_the_table_say_what_it_says(tmp_path, folder, settings):
    path = tmp_path / "x.csv"
    path.write_text("user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in [
        ("b", 7, 30), ("10", 9, 5.5), ("b", 9, 10), ("10", 7, 5), ("b", 10, 10), ("10", 10, 1), ("z", 1, 1)]))
    prepare(settings("--archive", path))
    assert (folder / "users.csv").read_text() == "user_id,interactions\n10,3\nb,3\n"
    pairs, times = np.load(folder / "interactions.npy"), np.load(folder / "times.npy")
    assert pairs.dtype == np.int32 and pairs.tolist() == [[2, 0, 1, 1, 2, 0], [5, 3, 1, 2, 4, 0]]
    assert times.dtype == np.float64 and times.tolist() == [1, 5, 5.5, 10, 10, 30]


@pytest.mark.parametrize("name, damage", [
    ("users.csv", lambda path: path.unlink()), ("times.npy", lambda path: path.write_bytes(path.read_bytes()[:-8])),
    ("ratings.csv", lambda path: path.write_text(path.read_text().replace("2,10,1,9", "2,10,1,5"))),
    ("ratings.csv", lambda path: path.write_bytes(path.read_bytes()[:-9])),
    ("ratings.csv", lambda path: path.write_bytes(path.read_bytes()[:20] + bytes(16) + path.read_bytes()[36:])),
    ("movies.csv", lambda path: path.write_text(path.read_text() + "50,,\n")), ("movies.csv", lambda path: path.unlink())])
def test_a_table_that_is_not_what_its_record_says_is_refused_with_the_ways_out(folder, archive, settings, name, damage):
    config = settings("--archive", archive)
    prepare(config)
    path = folder / name
    whole = path.read_bytes()
    damage(path)
    left = path.read_bytes() if path.exists() else None
    for use in (lambda: check_tables(folder), lambda: prepare(config), lambda: load_dataset(settings())):
        with refused(path, "put back a copy", f"remove {folder / 'dataset.json'}", "--overwrite"):
            use()
    assert (path.read_bytes() if path.exists() else None) == left
    (folder / "dataset.json").unlink()
    if left is not None:
        prepare(settings())
        assert path.read_bytes() == left
    prepare(settings("--archive", archive, "--overwrite"))
    assert path.read_bytes() == whole
    check_tables(folder)


@pytest.mark.parametrize("linked", [False, True])
def test_remaking_a_dataset_keeps_what_others_put_beside_it(tmp_path, folder, archive, settings, linked):
    disk = tmp_path / "disk" / "there" if linked else folder
    disk.mkdir(parents=True)
    if linked:
        folder.parent.mkdir()
        folder.symlink_to(disk)
    prepare(settings("--archive", archive))
    (folder / "unwillingness.csv").write_text("mine")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("mine")
    (folder / "away").symlink_to(tmp_path / "nowhere")
    for flags in (["--overwrite"], ["--max_ratings", 3]):
        prepare(settings("--archive", archive, *flags))
    assert (disk / "unwillingness.csv").read_text() == (disk / "notes" / "a.txt").read_text() == "mine"
    assert (disk / "away").is_symlink() and folder.is_symlink() == linked and users(disk) == {1}
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_another_source_than_the_dataset_was_made_from_is_refused_on_the_command_line(tmp_path, settings):
    archive, again = tmp_path / "x.csv", tmp_path / "again.csv"
    archive.write_text("user_id,item_id\n" + "".join(f"1,{i}\n" for i in range(4)))
    prepare(settings("--archive", archive))
    again.write_bytes(archive.read_bytes())
    load_dataset(settings("--archive", again))  # the same by what it holds
    again.write_text(archive.read_text() + "1,9\n")
    for use in (load_dataset, dataset_files):  # which a stage asks for before it sees whether it was done
        with refused(f"--archive {again}", "tiny"):
            use(settings("--archive", again))
    (tmp_path / "own.yaml").write_text(f"archive: {again}\n")  # the export of tomorrow, in a file that all programs share
    assert load_dataset(settings("--config_path", tmp_path / "own.yaml")).num_items == 4


@pytest.mark.parametrize("flags, odd", [([], 1), (["--min_ratings", 5], 2), (["--max_ratings", 4], 2)])
def test_data_by_hand_are_left_alone_and_what_no_filter_saw_is_said(write_ratings, settings, caplog, flags, odd):
    folder = write_ratings([(1, i, i) for i in range(2)] + [(2, i, i) for i in range(5)] + [(3, i, i) for i in range(4)])
    before = state(folder)
    prepare(settings(*flags))
    load_dataset(settings(*flags))
    assert state(folder) == before
    assert f"ratings.csv: data by hand are not filtered: {odd} of 3 users take part" in caplog.text


def test_an_unwillingness_that_was_changed_by_hand_is_not_replaced(tmp_path, settings, caplog):
    size = ["--dataset", "simulation", "--sim_users", 20, "--sim_items", 40, "--sim_ratings", 200]
    prepare(settings(*size))
    path = tmp_path / "data" / "simulation" / "unwillingness.csv"
    table, movies = pd.read_csv(path), pd.read_csv(path.with_name("movies.csv"))
    assert len(table) == 200 and movies.title.str.contains("No.").all() and movies.genres.notna().all()
    table.assign(unwillingness=1.0).to_csv(path, index=False)
    before = state(path.parent)
    for more in (("--overwrite",), ("--overwrite",), ("--seed", 3)):  # programs say so if it does not fit
        caplog.clear()
        prepare(settings(*size, *more))
        assert path.read_bytes() == before["unwillingness.csv"][0] and f"{path}: was changed" in caplog.text
    path.unlink()
    prepare(settings(*size, "--seed", 2))  # another seed: made anew
    assert not (pd.read_csv(path).unwillingness == 1).all()
    assert path.with_name("ratings.csv").read_bytes() != before["ratings.csv"][0]
