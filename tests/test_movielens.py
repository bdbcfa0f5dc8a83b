"""The data stage: filters, duplicates, what is kept and what is made anew."""
import json
import os

import pandas as pd
import pytest

from src.common.errors import InputError
from src.common.files import digest
from src.common.together import finish, journal_of
from src.common.variant import check_tables, dataset_files
from src.dataset import load_dataset
from src.movielens import prepare
from tests.sources.samples import ROWS, comma, zip_of


def test_a_list_of_items_that_is_put_there_later_is_noticed(tmp_path, settings):
    inter = tmp_path / "x.inter"
    inter.write_text("user_id:token\titem_id:token\n" + "".join(f"1\t{i}\n" for i in (10, 20, 30)))
    prepare(settings("--archive", inter))
    (tmp_path / "x.item").write_text("item_id:token\tname:token_seq\n10\tHeat\n")
    prepare(settings("--archive", inter))
    assert "10,Heat" in (tmp_path / "data" / "tiny" / "movies.csv").read_text()


@pytest.mark.parametrize("name", ["x.items.csv", "list.csv", "list.item"])
def test_titles_and_genres_from_a_file_of_their_own(tmp_path, settings, caplog, name):
    source, items, movies = tmp_path / "x.csv", tmp_path / name, tmp_path / "data" / "tiny" / "movies.csv"
    source.write_text("user_id,item_id\n" + "".join(f"1,{i}\n" for i in (10, 20, 30)))
    sign = "\t" if name == "list.item" else ","
    given = [] if name == "x.items.csv" else ["--items", items]  # that beside it is found

    def put(rows):
        items.write_text("".join(sign.join(row) + "\n" for row in [("id", "title", "genres"), *rows]))
    put([("10", "Heat", "Crime|War")])
    for config in (settings("--archive", source, *given), settings(*given)):  # without the source it is kept
        with caplog.at_level("INFO", "ifrqe"):
            prepare(config)
        assert "10,Heat,Crime|War\n20,,\n" in movies.read_text()
    assert f"{name}: read for titles and genres" in caplog.text and "2 of 3 items are not in its list" in caplog.text
    put([("10", "Heat", "Crime"), ("20", "Jaws", "Horror")])
    if given:
        with pytest.raises(InputError, match="made with other filters .* or --items; give its file again with --archive"):
            prepare(settings(*given))
    prepare(settings("--archive", source, *given))
    assert "10,Heat,Crime\n20,Jaws,Horror\n" in movies.read_text()
    put([("11", "Heat", "Crime")])
    with pytest.raises(InputError, match=f"{name}: lists none of the items of x.csv, e.g. 10 .there: 11.; give the list"):
        prepare(settings("--archive", source, *given))
    assert "10,Heat,Crime\n20,Jaws,Horror\n" in movies.read_text()


def test_a_list_of_items_goes_before_that_of_an_archive(tmp_path, settings):
    (tmp_path / "own.csv").write_text("item_id,title\n10,Mine\n")
    prepare(settings("--archive", zip_of(tmp_path / "x.zip", comma()), "--items", tmp_path / "own.csv"))
    assert "10,Mine,\n20,,\n" in (tmp_path / "data" / "tiny" / "movies.csv").read_text()


@pytest.mark.parametrize("flags, words", [
    (["--items", "nowhere.csv"], "--items nowhere.csv: no such file; give a CSV with item_id,title,genres"),
    (["--items", "{items}"], "--items .*own.csv: .*tiny holds data by hand; put the list there as movies.csv"),
    (["--items", "{items}", "--dataset", "simulation"], "--items .*own.csv: the dataset simulation is generated"),
])
def test_a_list_of_items_that_cannot_serve_is_named(write_ratings, tmp_path, settings, flags, words):
    write_ratings([(1, 2, 3)])
    (tmp_path / "own.csv").write_text("item_id,title\n2,Mine\n")
    with pytest.raises(InputError, match=words):
        prepare(settings(*[flag.format(items=tmp_path / "own.csv") for flag in flags]))


@pytest.mark.parametrize("flags", [["--willingness_file", "{}"], ["--unwillingness", "genres"]])
def test_rules_by_genre_without_genres_are_refused_before_anything_trains(tmp_path, settings, flags):
    source, rules = tmp_path / "x.csv", tmp_path / "rules.csv"
    source.write_text("user_id,item_id\n" + "".join(f"1,{i}\n" for i in (10, 20, 30)))
    rules.write_text("genre,unwillingness\nHorror,1\n")
    given = ["--archive", source, *[flag.format(rules) for flag in flags]]
    for _ in range(2):  # when it is made, and when it is there
        with pytest.raises(InputError, match="movies.csv: lists no genres; make the dataset anew with .* --items"):
            prepare(settings(*given))
    (tmp_path / "x.items.csv").write_text("item_id,genres\n10,Horror\n")
    prepare(settings(*given))


def test_csv_without_rating_and_timestamp_keeps_the_order_of_its_rows(tmp_path, settings):
    path = tmp_path / "x.csv"
    path.write_text("item_id,user_id\n3,1\n1,1\n2,1\n")
    prepare(settings("--archive", path))
    assert pd.read_csv(tmp_path / "data" / "tiny" / "ratings.csv").values.tolist() == [
        [1, 3, 1, 0], [1, 1, 1, 1], [1, 2, 1, 2]]


def test_filters_keep_users_by_number_of_ratings(tmp_path, settings):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive, "--max_ratings", 3))
    folder = tmp_path / "data" / "tiny"
    assert set(pd.read_csv(folder / "ratings.csv").user_id) == {1}
    assert pd.read_csv(folder / "movies.csv").item_id.tolist() == [10, 20, 30]  # the catalogue is what occurs
    prepare(settings("--archive", archive, "--min_ratings", 4))
    assert set(pd.read_csv(folder / "ratings.csv").user_id) == {2}
    with pytest.raises(InputError, match="--min_ratings 5.*they have 3 to 4"):
        prepare(settings("--archive", archive, "--min_ratings", 5))
    assert set(pd.read_csv(folder / "ratings.csv").user_id) == {2}  # nothing lost


def test_duplicates_are_an_error_unless_a_rule_is_chosen(tmp_path, settings):
    path = tmp_path / "x.csv"
    path.write_text("user_id,item_id,rating,timestamp\n1,1,5,30\n1,1,2,10\n1,2,3,20\n1,3,3,40\n")
    with pytest.raises(InputError, match="x.csv: 1 user-item pairs occur more than once, e.g. user 1, item 1"):
        prepare(settings("--archive", path))
    assert not (tmp_path / "data" / "tiny" / "ratings.csv").exists()
    for rule, rating in (("last", 5), ("first", 2)):
        prepare(settings("--archive", path, "--duplicates", rule))
        ratings = pd.read_csv(tmp_path / "data" / "tiny" / "ratings.csv")
        assert ratings[ratings.item_id == 1].rating.tolist() == [rating]


def test_what_cannot_be_prepared_is_named(tmp_path, settings):
    with pytest.raises(InputError, match="--archive .*nowhere.zip: no such file"):
        prepare(settings("--archive", tmp_path / "nowhere.zip"))
    with pytest.raises(InputError, match="--archive .*: is a folder; give the path of a .zip"):
        prepare(settings("--archive", tmp_path))
    with pytest.raises(InputError, match="--dataset tiny: neither in .* nor one that can be downloaded"):
        prepare(settings())
    with pytest.raises(InputError, match="masked datasets are written by preprocess.py"):
        prepare(settings("--dataset", "masked_tiny"))
    with pytest.raises(InputError, match="the dataset simulation is generated"):
        prepare(settings("--dataset", "simulation", "--archive", "x.zip"))


def test_a_dataset_that_is_there_is_kept_and_made_anew_when_asked(tmp_path, settings):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive))
    ratings = tmp_path / "data" / "tiny" / "ratings.csv"
    record = json.loads(ratings.with_name("dataset.json").read_text())
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in ratings.parent.iterdir()}
    assert record["files_sha256"] == {name: digest(ratings.with_name(name)) for name in ("ratings.csv", "movies.csv")}
    prepare(settings("--archive", archive))
    prepare(settings())  # the source is not needed any more
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in ratings.parent.iterdir()} == before
    prepare(settings("--archive", archive, "--overwrite"))
    assert ratings.stat().st_mtime_ns != before["ratings.csv"][1]


@pytest.mark.parametrize("name, damage", [
    ("ratings.csv", lambda path: path.write_text(path.read_text().replace("2,10,1,9", "2,10,1,5"))),
    ("ratings.csv", lambda path: path.write_bytes(path.read_bytes()[:-9])),
    ("movies.csv", lambda path: path.write_text(path.read_text() + "50,,\n")), ("movies.csv", lambda path: path.unlink())])
def test_a_table_that_is_not_what_its_record_says_is_refused_with_the_ways_out(tmp_path, settings, name, damage):
    archive = zip_of(tmp_path / "x.zip", comma())
    config = settings("--archive", archive)
    prepare(config)
    path = tmp_path / "data" / "tiny" / name
    whole = path.read_bytes()
    damage(path)
    left = path.read_bytes() if path.exists() else None
    assert left != whole
    for use in (lambda: check_tables(path.parent), lambda: prepare(config), lambda: prepare(settings()),
                lambda: load_dataset(settings())):
        with pytest.raises(InputError, match=f"{name}: is missing, or is not what dataset.json says.*put back a copy; or "
                                             "remove .*dataset.json to take the data as they are; or make .*--overwrite"):
            use()
    assert (path.read_bytes() if path.exists() else None) == left
    path.with_name("dataset.json").unlink()
    check_tables(path.parent)
    if left is not None:
        prepare(settings())
        assert path.read_bytes() == left
    prepare(settings("--archive", archive, "--overwrite"))
    assert path.read_bytes() == whole
    check_tables(path.parent)


def test_remaking_a_dataset_keeps_what_others_put_beside_it(tmp_path, settings):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive))
    folder = tmp_path / "data" / "tiny"
    (folder / "unwillingness.csv").write_text("mine")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("mine")
    (folder / "away").symlink_to(tmp_path / "nowhere")
    inode = folder.stat().st_ino
    prepare(settings("--archive", archive, "--max_ratings", 3))
    assert (folder / "unwillingness.csv").read_text() == (folder / "notes" / "a.txt").read_text() == "mine"
    assert (folder / "away").is_symlink() and folder.stat().st_ino == inode
    assert set(pd.read_csv(folder / "ratings.csv").user_id) == {1}
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["tiny"]


@pytest.mark.parametrize("at", range(1, 6))
def test_a_stop_while_a_dataset_is_replaced_loses_nothing(tmp_path, settings, monkeypatch, at):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive))
    folder, config = tmp_path / "data" / "tiny", settings("--archive", archive, "--max_ratings", 3)
    (folder / "unwillingness.csv").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    replace, replaced = os.replace, []

    def stop(source, target):
        replaced.append(target)
        if len(replaced) >= at:
            raise KeyboardInterrupt
        replace(source, target)
    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(config)
    monkeypatch.undo()
    journal = journal_of(config)
    if at <= 2:  # the record is being written, then the journal
        assert not journal.path.exists() and {path.name: path.read_bytes() for path in folder.iterdir()} == before
    else:
        assert finish(journal)
        assert set(pd.read_csv(folder / "ratings.csv").user_id) == {1} and len(pd.read_csv(folder / "movies.csv")) == 3
        made = (folder / "dataset.json").read_bytes()
        prepare(config)
        assert (folder / "dataset.json").read_bytes() == made
    check_tables(folder)
    assert (folder / "unwillingness.csv").read_text() == "mine"
    assert {path.name for path in folder.iterdir()} == set(before) and [p.name for p in folder.parent.iterdir()] == ["tiny"]


def test_an_incomplete_dataset_of_an_earlier_version_is_made_anew(tmp_path, settings):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive))
    folder = tmp_path / "data" / "tiny"
    record = json.loads((folder / "dataset.json").read_text())
    del record["files_sha256"]
    (folder / "dataset.json").write_text(json.dumps(record))
    (folder / "movies.csv").unlink()
    prepare(settings("--archive", archive))
    assert (folder / "movies.csv").exists() and "files_sha256" in json.loads((folder / "dataset.json").read_text())


def test_overwrite_mends_a_damaged_record(tmp_path, settings):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive))
    record = tmp_path / "data" / "tiny" / "dataset.json"
    record.write_text("{")
    with pytest.raises(InputError, match="dataset.json: not valid JSON .*--overwrite"):
        prepare(settings("--archive", archive))
    prepare(settings("--archive", archive, "--overwrite"))
    assert json.loads(record.read_text())["num_ratings"] == len(ROWS)


def test_another_filter_without_the_source_asks_for_it(tmp_path, settings):
    prepare(settings("--archive", zip_of(tmp_path / "x.zip", comma())))
    with pytest.raises(InputError, match="was made with other filters .*min_ratings=3.*give its file again"):
        prepare(settings("--max_ratings", 3))


def test_another_source_than_the_dataset_was_made_from_is_refused_on_the_command_line(tmp_path, settings):
    archive = tmp_path / "x.csv"
    archive.write_text("user_id,item_id\n" + "".join(f"1,{i}\n" for i in range(4)))
    prepare(settings("--archive", archive))
    again = tmp_path / "again.csv"
    again.write_bytes(archive.read_bytes())
    load_dataset(settings("--archive", again))  # the same by what it holds
    again.write_text(archive.read_text() + "1,9\n")
    with pytest.raises(InputError, match=f"--archive {again}: is not what .*tiny was made from; make that anew"):
        load_dataset(settings("--archive", again))
    with pytest.raises(InputError, match="is not what .*tiny was made from"):
        dataset_files(settings("--archive", again))  # which a stage asks for before it sees whether it was done
    (tmp_path / "own.yaml").write_text(f"archive: {again}\n")  # the export of tomorrow, in a file that all programs share
    assert load_dataset(settings("--config_path", tmp_path / "own.yaml")).num_items == 4


def test_a_dataset_put_there_by_hand_is_left_alone(write_ratings, settings):
    folder = write_ratings([(1, 2, 3)])
    before = (folder / "ratings.csv").read_text()
    prepare(settings())
    assert (folder / "ratings.csv").read_text() == before


@pytest.mark.parametrize("flags, odd", [([], 1), (["--min_ratings", 5], 2), (["--max_ratings", 4], 2)])
def test_data_by_hand_that_no_filter_saw_are_said(write_ratings, settings, caplog, flags, odd):
    write_ratings([(1, i, i) for i in range(2)] + [(2, i, i) for i in range(5)] + [(3, i, i) for i in range(4)])
    load_dataset(settings(*flags))
    assert f"ratings.csv: data by hand are not filtered: {odd} of 3 users take part" in caplog.text


def test_simulation_is_prepared_with_unwillingness(tmp_path, settings):
    size = ["--sim_users", 20, "--sim_items", 40, "--sim_ratings", 200]
    prepare(settings("--dataset", "simulation", *size))
    folder = tmp_path / "data" / "simulation"
    first = (folder / "ratings.csv").read_bytes()
    assert len(pd.read_csv(folder / "unwillingness.csv")) == 200
    movies = pd.read_csv(folder / "movies.csv")
    assert movies.title.str.contains("No.").all() and movies.genres.notna().all()
    prepare(settings("--dataset", "simulation", *size, "--seed", 2))  # another seed: made anew
    assert (folder / "ratings.csv").read_bytes() != first


def test_an_unwillingness_that_was_changed_by_hand_is_not_replaced(tmp_path, settings, caplog):
    size = ["--dataset", "simulation", "--sim_users", 20, "--sim_items", 40, "--sim_ratings", 200]
    prepare(settings(*size))
    folder = tmp_path / "data" / "simulation"
    table = pd.read_csv(folder / "unwillingness.csv")
    table.assign(unwillingness=1.0).to_csv(folder / "unwillingness.csv", index=False)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="unwillingness.csv: was changed since the simulation wrote it, .*move it"):
        prepare(settings(*size, "--seed", 2))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for _ in range(2):  # the same data again: it still fits
        prepare(settings(*size, "--overwrite"))
        assert (folder / "unwillingness.csv").read_bytes() == before["unwillingness.csv"] and "and is kept" in caplog.text
    (folder / "unwillingness.csv").unlink()
    prepare(settings(*size, "--seed", 2))
    assert not (pd.read_csv(folder / "unwillingness.csv").unwillingness == 1).all()


def test_a_folder_that_is_a_link_stays_one(tmp_path, settings):
    archive = zip_of(tmp_path / "x.zip", comma())
    disk = tmp_path / "disk" / "there"
    disk.mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tiny").symlink_to(disk)
    for flags in ([], ["--overwrite"], ["--max_ratings", 3]):
        prepare(settings("--archive", archive, *flags))
        assert (tmp_path / "data" / "tiny").is_symlink() and (disk / "ratings.csv").exists()
        assert [path.name for path in disk.parent.iterdir()] == ["there"]
    assert set(pd.read_csv(disk / "ratings.csv").user_id) == {1}
