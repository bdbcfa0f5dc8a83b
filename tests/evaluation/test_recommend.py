"""Recommendations against a brute-force ranking, and what eval.py answers."""
import json

import numpy as np
import pandas as pd
import pytest

from src.dataset import load_dataset
from src.evaluation.recommend import top_items
from src.sources.catalogue import find_users, load_catalogue
from tests.small import refused
from tests.test_ncf import randomised


def test_the_best_items_that_a_user_has_not_had(cpu, small, settings):
    dataset = load_dataset(settings())
    net, values = randomised(4, 9, 3, [6, 4], seed=2)
    found = top_items(net, np.array([3, 0, 1]), dataset, 4, 1000)
    for user, (items, scores) in zip((3, 0, 1), found):
        had = set(dataset.item[dataset.user == user]) | {dataset.test[user], dataset.validation[user]}
        logits = net(*(tensor(a) for a in (np.array([user]), np.arange(9)[None]))).asnumpy()[0]
        best = sorted(set(range(9)) - had, key=lambda i: -logits[i])[:4]
        assert items.tolist() == best
        assert scores == pytest.approx(1 / (1 + np.exp(-logits[best])), rel=1e-5)
    assert [len(items) for items, _ in found] == [4, 1, 4]  # user 0 has had eight of nine


def tensor(array):
    from mindspore import Tensor
    return Tensor(array.astype(np.int32))


def test_recommendations_as_a_table_and_as_json(ask, refuse, finished_run):
    masked = json.loads(ask("--recommend", "42,7", "--top_k", 40, "--masked", "--format", "json"))
    assert masked["model"] == "IFRQE" and [user["user_id"] for user in masked["users"]] == [42, 7]
    ratings = pd.read_csv(f"{finished_run.data_path}/simulation/ratings.csv")
    for user in masked["users"]:
        items, scores = ([row[key] for row in user["items"]] for key in ("item_id", "score"))
        assert not set(items) & set(ratings.item_id[ratings.user_id == user["user_id"]])
        assert scores == sorted(scores, reverse=True) and len(set(items)) == len(items) == 40  # more than num_eval_neg
    table = ask("--recommend", "42,7", "--top_k", 40, "--masked")
    assert "user 42: IFRQE recommends" in table and "user 7: IFRQE recommends" in table
    for user in masked["users"]:
        for row in user["items"]:
            assert f"{row['rank']:3d}  {row['score']:.4f}  {row['title']}  ({row['genres']})\n" in table
    plain = json.loads(ask("--recommend", "42", "--format", "json"))
    assert plain["model"] == "NCF" and len(plain["users"][0]["items"]) == 10
    assert plain["users"][0]["items"] != masked["users"][0]["items"][:10]
    assert "--recommend 9,99" in (error := refuse("--recommend", "9,99")) and "'99'" in error


def test_users_are_found_by_number_and_by_text(small, settings, write_ratings):
    dataset = load_dataset(settings())
    assert find_users(dataset, " 3,1, 3", "recommend").tolist() == [2, 0]
    with refused("--recommend", "tiny"):
        find_users(dataset, ",", "recommend")
    write_ratings([(u, i, i) for u in ("ann", "007", "Doe, J.") for i in range(4)], "words")
    dataset = load_dataset(settings("--dataset", "words"))
    for text, names in (("ann,007", ["ann", "007"]), ("Doe, J.", ["Doe, J."])):  # an id may hold a comma
        assert dataset.user_ids[find_users(dataset, text, "recommend")].tolist() == names


@pytest.mark.parametrize("table, titles, genres", [
    ("", ["item 3", "item 5", "item 8"], ["", "", ""]),
    ("8,Alien,Horror|Sci-Fi\n5,,\n3,Heat,\n", ["Heat", "item 5", "Alien"], ["", "", "Horror|Sci-Fi"]),
    ("3,None,NA\n5,Heat,\n5,Cold,\n8,Alien,\n", ["None", "Heat", "Alien"], ["NA", "", ""])])  # the first of repeated rows
def test_the_catalogue_has_a_line_for_every_item(settings, write_ratings, table, titles, genres):
    folder = write_ratings([(1, i, i) for i in (3, 5, 8)])
    if table:
        (folder / "movies.csv").write_text("item_id,title,genres\n" + table)
    catalogue = load_catalogue(load_dataset(settings()), settings())
    assert catalogue.title.tolist() == titles and catalogue.genres.tolist() == genres
