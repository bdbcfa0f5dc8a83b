"""Recommendations against a brute-force ranking, and what eval.py answers."""
import json

import numpy as np
import pandas as pd
import pytest

from eval import run as answer
from src.common.stage import main
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


def flags(config, *more):
    """Command line with the folders and the data of a finished run."""
    kept = ("data_path", "output_path", "checkpoint_path", "dataset", "num_eval_neg", "train_epochs", "device_target")
    return [str(a) for key in kept for a in (f"--{key}", getattr(config, key))] + [str(a) for a in more]


@pytest.fixture
def ask(finished_run, tmp_path, capsys):
    """ask(*flags) -> what eval.py prints, on a finished run; its log goes elsewhere."""
    def run(*more):
        main(answer, "run_eval", "", flags(finished_run, *more, "--output_path", tmp_path, "--decisions_path",
                                           finished_run.output_path))
        return capsys.readouterr().out
    return run


def test_recommendations_as_a_table_and_as_json(ask, finished_run):
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


def test_an_unknown_user_is_named(finished_run, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(answer, "run_eval", "", flags(finished_run, "--recommend", "9,99", "--output_path", tmp_path))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "--recommend 9,99" in error and "'99'" in error


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
