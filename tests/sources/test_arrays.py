"""Arrays of a dataset: what is read from them is what the tables say, in every rank."""
import json

import numpy as np
import pandas as pd
import pytest

from src.common.together import Together
from src.consent.unwillingness import load_stated
from src.dataset import load_dataset
from src.game.preprocess import write_masked_dataset
from src.movielens import prepare
from src.sources.interactions import read_interactions
from tests.ranks import as_ranks
from tests.small import check_arrays, refused


def made(settings, tmp_path, times=lambda k: 1_600_000_000 + k, ids="u{}", *options):
    """Settings of a dataset of 9 users with 4 to 12 of 15 items each, as the data stage makes it of a CSV."""
    rng = np.random.default_rng(3)
    rows = [(ids.format(u), int(i), times(int(rng.integers(40)))) for u in range(9) for i in rng.permutation(15)[:4 + u]]
    table = pd.DataFrame([rows[k] for k in rng.permutation(len(rows))], columns=["user_id", "item_id", "timestamp"])
    table.to_csv(tmp_path / "own.csv", index=False)
    config = settings("--dataset", "own", "--archive", tmp_path / "own.csv", "--min_ratings", 1, *options)
    prepare(config)
    return config


@pytest.mark.parametrize("times, kind, ids", [
    (lambda k: 1_600_000_000 + k, np.int32, "u{}"), (lambda k: 1_600_000_000_000 + k, np.int64, "{}"),
    (lambda k: 1_600_000_000 + k / 8, np.float64, "1{}")], ids=["seconds", "milliseconds", "fractions"])
def test_a_dataset_and_its_twin_are_the_same_from_arrays_and_from_tables(settings, tmp_path, times, kind, ids):
    config = made(settings, tmp_path, times, ids)
    dataset = load_dataset(config)
    assert dataset.time.dtype == kind and dataset.rows.dtype == np.int32
    whole = check_arrays(config)
    disclosed = np.random.default_rng(1).random(dataset.num_interactions) < 0.6
    disclosed[dataset.user == 4] = False
    with Together(config) as files:
        write_masked_dataset(config, dataset, disclosed, files, {})
    twin = check_arrays(config, masked=True)
    assert twin["item"] == dataset.item[disclosed].tolist() and twin["test"] == whole["test"]
    # of a source that was made anew it is its table that counts
    record = json.loads((tmp_path / "data" / "own" / "dataset.json").read_text())
    prepare(config.replace(overwrite=True, max_ratings=11, given=config.given))
    assert json.loads((tmp_path / "data" / "own" / "dataset.json").read_text()) != record
    with refused("lacks user_id", ids.format(8)):
        load_dataset(config.replace(max_ratings=11), masked=True)


def test_each_rank_has_the_rows_and_the_word_of_its_own_users(settings, tmp_path):
    config = made(settings, tmp_path)
    rules = tmp_path / "rules.csv"
    rules.write_text("user_id,item_id,unwillingness\nu1,,0.25\nu8,,1\n,3,1\nu5,,0.5\n")
    for options in ({}, {"willingness_file": str(rules), "unwillingness": "uniform"},
                    {"willingness_file": str(rules), "veto": True, "unwillingness": "uniform"}):
        asked = config.replace(**options)

        def own(asked=asked):
            dataset = load_dataset(asked)
            value, line = load_stated(dataset, asked)
            rows = dataset.dropped.rows.tolist() if dataset.dropped else []
            return (dict(zip(dataset.rows.tolist(), zip(value, line))), set(rows), dataset.rows_sha256(),
                    dataset.consent.as_json(), dataset.user_ids.tolist())
        (value, gone, *same, users), ranks = own(), as_ranks(3, own)
        assert sorted(user for *_, own in ranks for user in own) == users and all(len(rank[-1]) < 5 for rank in ranks)
        assert {row: said for one, *_ in ranks for row, said in one.items()} == value
        assert set.union(*(rank[1] for rank in ranks)) == gone and all(list(rank[2:4]) == same for rank in ranks)
    rules.write_text(rules.read_text() + "nobody,,0.1\n")
    with refused("rules.csv: line 6", "no user 'nobody'"):
        as_ranks(2, lambda: load_dataset(config.replace(willingness_file=str(rules), veto=True)))


def test_data_by_hand_do_not_go_with_ranks(settings, write_ratings):
    write_ratings([(u, i, i) for u in range(4) for i in range(5)])
    with refused("--ranks 2", "ratings.csv", "--archive"):
        as_ranks(2, lambda: read_interactions(settings()))
