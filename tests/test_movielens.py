"""The data stage: filters, duplicates, what is kept and what is made anew."""
import json
from pathlib import Path

import pandas as pd
import pytest

from src.common.errors import InputError
from src.movielens import prepare
from tests.sources.samples import ROWS, comma, zip_of


def test_a_list_of_items_that_is_put_there_later_is_noticed(tmp_path, settings):
    inter = tmp_path / "x.inter"
    inter.write_text("user_id:token\titem_id:token\n" + "".join(f"1\t{i}\n" for i in (10, 20, 30)))
    prepare(settings("--archive", inter))
    (tmp_path / "x.item").write_text("item_id:token\tname:token_seq\n10\tHeat\n")
    prepare(settings("--archive", inter))
    assert "10,Heat" in (tmp_path / "data" / "tiny" / "movies.csv").read_text()


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
    ratings.write_text("mine")
    prepare(settings("--archive", archive))
    prepare(settings())  # the source is not needed any more
    assert ratings.read_text() == "mine"
    prepare(settings("--archive", archive, "--overwrite"))
    assert ratings.read_text() != "mine"


def test_remaking_a_dataset_keeps_what_others_put_beside_it(tmp_path, settings):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive))
    folder = tmp_path / "data" / "tiny"
    (folder / "unwillingness.csv").write_text("mine")
    prepare(settings("--archive", archive, "--max_ratings", 3))
    assert (folder / "unwillingness.csv").read_text() == "mine"
    assert set(pd.read_csv(folder / "ratings.csv").user_id) == {1}
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["tiny"]


def test_a_stop_while_a_dataset_is_replaced_loses_nothing(tmp_path, settings, monkeypatch):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive))
    folder = tmp_path / "data" / "tiny"
    (folder / "unwillingness.csv").write_text("mine")
    rename, renamed = Path.rename, []

    def stop_at_the_second(path, target):
        renamed.append(path)
        if len(renamed) == 2:
            raise KeyboardInterrupt
        return rename(path, target)
    monkeypatch.setattr(Path, "rename", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        prepare(settings("--archive", archive, "--max_ratings", 3))
    monkeypatch.undo()
    assert not folder.exists()
    prepare(settings("--archive", archive, "--max_ratings", 3))
    assert (folder / "unwillingness.csv").read_text() == "mine"
    assert set(pd.read_csv(folder / "ratings.csv").user_id) == {1}


def test_an_incomplete_dataset_is_made_anew(tmp_path, settings):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive))
    (tmp_path / "data" / "tiny" / "movies.csv").unlink()
    prepare(settings("--archive", archive))
    assert (tmp_path / "data" / "tiny" / "movies.csv").exists()


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


def test_a_dataset_put_there_by_hand_is_left_alone(write_ratings, settings):
    folder = write_ratings([(1, 2, 3)])
    before = (folder / "ratings.csv").read_text()
    prepare(settings())
    assert (folder / "ratings.csv").read_text() == before


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
