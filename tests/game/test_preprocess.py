import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from src.common.files import digest
from src.common.together import Together, finish
from src.common.variant import Variant, asked, check_tables
from src.consent.withdrawn import head_of, with_request
from src.dataset import load_dataset
from src.evaluation.evaluate import evaluate
from src.game.preprocess import preprocess, write_masked_dataset
from src.influence.expected import target_items
from src.influence_function import influences
from src.movielens import prepare
from src.training.checkpoint import load_anchors
from src.training.train import train
from tests import small
from tests.small import refused

SMALL = [*small.SMALL, "--strategy", "ifrqe"]  # which trains the plain model too


def write_mask(config, disclosed, dataset=None):
    """Writes the masked twin in which (n,) `disclosed` are."""
    dataset = dataset or load_dataset(config)
    with Together(config) as files:
        write_masked_dataset(config, dataset, disclosed, files, {})


def test_masked_dataset_keeps_held_out_rows_apart_and_nothing_withheld(ratings, settings, tmp_path):
    dataset = load_dataset(settings())
    disclosed = np.random.default_rng(1).random(dataset.num_interactions) < 0.5
    disclosed[dataset.user == 3] = False  # a user who discloses nothing
    target = tmp_path / "data" / "masked_tiny"
    target.mkdir()
    (target / "movies.csv").write_text("of an earlier version: the catalogue is that of the source")
    write_mask(settings(), disclosed)
    masked = load_dataset(settings(), masked=True)
    assert np.array_equal(masked.user_ids, dataset.user_ids) and np.array_equal(masked.item_ids, dataset.item_ids)
    assert np.array_equal(masked.validation, dataset.validation) and np.array_equal(masked.test, dataset.test)
    assert np.array_equal(masked.user, dataset.user[disclosed]) and np.array_equal(masked.item, dataset.item[disclosed])
    original = pd.read_csv(ratings / "ratings.csv")  # what may train, and what is held out, and not a row more
    for name, rows in (("ratings.csv", dataset.rows[disclosed]), ("held_out.csv", dataset.held_out.ravel())):
        pd.testing.assert_frame_equal(pd.read_csv(target / name), original.iloc[np.sort(rows)].reset_index(drop=True))
    record = json.loads((target / "dataset.json").read_text())
    assert record["files_sha256"] == {path.name: digest(path) for path in target.glob("*.csv")}
    assert set(record["files_sha256"]) == {"ratings.csv", "held_out.csv"}
    assert (record["masked_from"], record["num_ratings"]) == ("tiny", disclosed.sum())
    assert record["made_by"] == os.path.join("..", "output")


def test_the_masked_dataset_of_one_put_there_by_hand_has_all_its_items(write_ratings, settings, tmp_path):
    # no movies.csv, names and ids as others write them; what is withheld are the only text id and the only rows of an item
    rows = [("7", "abc", 1), ("7", "2", 2), ("7", "3", 3), ("8", "2", 1), ("8", "9", 2), ("8", "3", 3), ("8", "2", 4)][:6]
    folder = write_ratings(rows)
    text = (folder / "ratings.csv").read_text().replace("user_id,item_id", "User ID, movieId")
    (folder / "ratings.csv").write_text(text, encoding="utf-8-sig")
    dataset = load_dataset(settings())
    assert dataset.item_ids.tolist() == ["2", "3", "9", "abc"]
    write_mask(settings(), np.zeros(2, bool))
    masked = load_dataset(settings(), masked=True)
    assert masked.item_ids.tolist() == dataset.item_ids.tolist() and masked.user_ids.tolist() == dataset.user_ids.tolist()
    assert np.array_equal(masked.test, dataset.test) and masked.num_interactions == 0


@pytest.mark.parametrize("at", range(6))
def test_a_stop_while_a_mask_is_written_leaves_the_old_or_the_new_one(ratings, settings, tmp_path, monkeypatch, at):
    config, target = settings(), tmp_path / "data" / "masked_tiny"
    everything = np.ones(load_dataset(config).num_interactions, bool)
    write_mask(config, everything)
    replace, done = os.replace, []

    def stop(*paths):
        done.append(paths)
        if len(done) >= at:
            raise KeyboardInterrupt
        replace(*paths)
    with monkeypatch.context() as patch:
        patch.setattr("src.game.preprocess.copy_rows" if at == 0 else "os.replace", stop)
        with pytest.raises(KeyboardInterrupt):
            write_mask(config, ~everything)
    assert finish(Together(config)) == (at > 2)  # before, the record was written, and the journal was not
    check_tables(target)
    assert load_dataset(config, masked=True).num_interactions == (0 if at > 2 else len(everything))
    assert {path.name for path in target.iterdir()} == {"ratings.csv", "held_out.csv", "dataset.json"}
    assert {path.name for path in target.parent.iterdir()} == {"tiny", "masked_tiny"}


def test_what_another_has_put_there_is_replaced_only_when_asked(cpu, ratings, write_ratings, settings, tmp_path):
    config, target = settings("--strategy", "threshold"), write_ratings([(1, 2, 3)], name="masked_tiny")

    def unchanged(config, *named):
        before = {path.name: path.read_bytes() for path in target.iterdir()}
        with refused(*named):
            preprocess(config)
        assert {path.name: path.read_bytes() for path in target.iterdir()} == before
        assert not list((tmp_path / config.output_path).glob("disclosure*"))
    for overwrite in (False, True):  # a dataset of the user's own
        unchanged(config.replace(overwrite=overwrite), target)
    (target / "ratings.csv").unlink()
    (target / "notes.txt").write_text("mine")
    preprocess(config)
    before = (target / "ratings.csv").read_bytes()
    other = settings("--strategy", "threshold", "--wv_budget", 0.2, "--output_path", tmp_path / "other")
    unchanged(other, target, tmp_path / "output", "--data_path", "--overwrite")  # the mask of another run
    preprocess(config.replace(wv_budget=0.3))  # one's own is
    assert (target / "ratings.csv").read_bytes() != before
    preprocess(other.replace(overwrite=True))
    assert json.loads((target / "dataset.json").read_text())["made_by"] == os.path.join("..", "other")
    assert (target / "notes.txt").read_text() == "mine"


def test_a_masked_dataset_that_is_given_away_alone_can_be_trained_on(cpu, ratings, settings, tmp_path):
    line, done = with_request({"time": "", "models": [], "file_sha256": "", "rules": [[2, None, None]], "interactions": [],
                               "forbidden": [], "before": {}, "after": {}}, [])
    (ratings / "withdrawn.jsonl").write_text(line + "\n")
    (ratings / "dataset.json").write_text(json.dumps(head_of(done)))
    disclosed = np.resize([True, True, False], load_dataset(settings()).num_interactions)
    write_mask(settings(), disclosed)
    twin = load_dataset(settings(), masked=True)
    shutil.copytree(tmp_path / "data" / "masked_tiny", tmp_path / "away" / "masked_tiny")
    alone = load_dataset(settings("--data_path", tmp_path / "away", "--dataset", "masked_tiny"))
    assert len(alone.user_ids) == 11 and 2 not in alone.user_ids
    assert alone.user_ids[alone.user].tolist() == twin.user_ids[twin.user].tolist()
    assert alone.item_ids[alone.item].tolist() == twin.item_ids[twin.item].tolist()
    assert alone.item_ids[alone.test].tolist() == twin.item_ids[twin.test[twin.scored]].tolist()


def test_stages_end_to_end(cpu, ratings, write_ratings, settings, tmp_path):
    config, output = settings(*SMALL, "--train_epochs", 6, "--learning_rate", 0.05, "--batch_size", 12), tmp_path / "output"
    preprocess(config)  # trains the plain model itself
    plain = tmp_path / "checkpoint" / "NCF.ckpt"
    decisions = pd.read_csv(output / "disclosure.csv")
    assert list(decisions.columns) == ["user_id", "item_id", "influence", "unwillingness", "disclosed", "expected_influence",
                                       "reason"]
    assert len(decisions) == load_dataset(config).num_interactions and set(decisions.disclosed) <= {0, 1}
    record = json.loads((output / "preprocess.json").read_text())
    wv = (decisions.disclosed * decisions.unwillingness).sum() / 12
    assert record["wv"] == pytest.approx(wv) and record["total_wv"] == pytest.approx(decisions.unwillingness.sum() / 12)
    assert record["wv"] <= 0.6 * record["total_wv"] and record["spent_wv"] == record["total_wv"]
    assert record["disclosed_share"] == pytest.approx(decisions.disclosed.mean())
    assert set(record["seconds"]) == {"influence", "game", "mask", "total"}
    assert {"solver", "anchors", "willingness_weight", "wv_budget", "peak_rss_mb"} <= set(record)
    dataset = load_dataset(config)
    anchors = list(load_anchors(plain, dataset, Variant(config))[0].values())
    # all targets at once, as preprocess does: products of other shapes differ in their last bits from processor to processor
    each = influences(anchors, dataset, config, targets=target_items(dataset, config.influence_lags))[0]
    assert decisions.influence.to_numpy() == pytest.approx(each[:, 0], rel=1e-6)
    assert record["parameter_sets"] == len(anchors) > 1
    assert set(decisions.reason) == {f"price {record['willingness_weight']:.6g}"}
    assert record["consent"] == {"vetoed": None, "requests": 0} and record["veto"] is False and record["num_scored"] == 12
    assert (record["vetoed"], record["withdrawn"], record["too_few_rows"]) == (0, 0, 0)
    twin = json.loads((tmp_path / "data" / "masked_tiny" / "dataset.json").read_text())
    assert twin["disclosure_sha256"] == record["disclosure_sha256"] == digest(output / "disclosure.csv")
    train(asked(config.replace(masked=True)))
    evaluate(asked(config))
    evaluate(asked(config.replace(masked=True)))
    whole, masked = (json.loads((output / f"eval_{m}.json").read_text()) for m in ("ncf", "ifrqe"))
    assert whole["wv"] == whole["total_wv"] == masked["total_wv"] == pytest.approx(record["total_wv"])
    assert masked["wv"] == pytest.approx(record["wv"])
    for result in (whole, masked):
        assert result["reward"] == pytest.approx(-result["loss"] - record["willingness_weight"] * result["wv"])
    assert (whole["num_interactions"], masked["num_interactions"]) == (len(decisions), decisions.disclosed.sum())
    assert len((output / "eval.log").read_text().splitlines()) == 2
    # a model that is there already is not trained again, and one that was trained otherwise is refused
    before = plain.stat().st_mtime_ns
    preprocess(config.replace(overwrite=True, wv_budget=0.3))
    assert plain.stat().st_mtime_ns == before
    write_ratings([(u, i, i) for u in range(12) for i in range(9)], name="other", items=range(20))
    for option, value, was in (("seed", 2, 1), ("anchor_epochs", 2, 4), ("dataset", "other", "tiny")):
        with refused(plain, f"{option}={value}", f"{option}={was}"):
            preprocess(config.replace(overwrite=True, **{option: value}))


def test_what_is_refused_before_anything_is_trained(ratings, settings, tmp_path):
    with refused("--holdout 1"):
        preprocess(settings(*SMALL, "--holdout", 1))
    with refused("--holdout 1"):
        settings("--holdout", 1, "--masked")
    with refused("unwillingness.csv", "--unwillingness"):
        preprocess(settings(*SMALL, "--unwillingness", "file"))
    assert not (tmp_path / "checkpoint").exists()


def test_a_baseline_with_text_ids_goes_through_all_stages_without_a_plain_model_and_again_when_something_changes(
        cpu, settings, tmp_path):
    rng, path, output = np.random.default_rng(0), tmp_path / "x.csv", tmp_path / "output"
    rows = [f"{u},{i}" for u in ("007", "7", "NA", "x") for i in rng.permutation([f"{k:03}" for k in range(20)])[:9]]
    path.write_text("user_id,item_id\n" + "\n".join(rows) + "\n")
    config = settings(*SMALL, "--archive", path, "--dataset", "text", "--strategy", "threshold", "--wv_budget", 0.4)
    prepare(config)
    dataset = load_dataset(config)
    assert dataset.user_ids.tolist() == ["007", "7", "NA", "x"] and all(len(item) == 3 for item in dataset.item_ids)
    preprocess(config)
    train(asked(config.replace(masked=True)))
    evaluate(asked(config.replace(masked=True)))
    decisions = pd.read_csv(output / "disclosure.csv", dtype=str, keep_default_na=False)
    assert set(decisions.user_id) == {"007", "7", "NA", "x"} and set(decisions.influence) == {""}
    assert not (tmp_path / "checkpoint" / "NCF.ckpt").exists()
    result, record = json.loads((output / "eval_ifrqe.json").read_text()), output / "preprocess.json"
    disclosed = (decisions.disclosed == "1").sum()
    assert result["reward"] is None and result["num_interactions"] == disclosed and result["wv"] <= 0.4 * result["total_wv"]
    before, time_before = json.loads(record.read_text()), record.stat().st_mtime_ns
    preprocess(config)
    assert record.stat().st_mtime_ns == time_before
    preprocess(config.replace(wv_budget=0.3))
    assert json.loads(record.read_text())["wv"] < before["wv"]
    masked = tmp_path / "data" / "masked_text" / "ratings.csv"
    masked.unlink()
    preprocess(config.replace(wv_budget=0.3))
    assert masked.exists()
