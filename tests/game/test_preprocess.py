import json

import numpy as np
import pandas as pd
import pytest

from src.common.errors import InputError
from src.common.variant import Variant, asked
from src.dataset import load_dataset
from src.evaluation.compare import comparison_table
from src.evaluation.evaluate import evaluate
from src.game.preprocess import preprocess, write_masked_dataset
from src.influence.anchor import Anchor
from src.influence.expected import target_items
from src.influence_function import influences
from src.movielens import prepare
from src.training.checkpoint import load_anchors
from src.training.train import train
from tests import small

SMALL = [*small.SMALL, "--strategy", "ifrqe"]  # which trains the plain model too


def test_masked_dataset_keeps_held_out_rows_and_nothing_withheld(ratings, settings, tmp_path):
    dataset = load_dataset(settings())
    disclosed = np.random.default_rng(1).random(dataset.num_interactions) < 0.5
    disclosed[dataset.user == 3] = False  # a user who discloses nothing
    target = tmp_path / "data" / "masked_tiny"
    write_masked_dataset(settings(), dataset, disclosed, {})
    masked = load_dataset(settings(), masked=True)
    assert np.array_equal(masked.user_ids, dataset.user_ids) and np.array_equal(masked.item_ids, dataset.item_ids)
    assert np.array_equal(masked.validation, dataset.validation) and np.array_equal(masked.test, dataset.test)
    assert np.array_equal(masked.user, dataset.user[disclosed]) and np.array_equal(masked.item, dataset.item[disclosed])
    original, written = (pd.read_csv(f / "ratings.csv") for f in (ratings, target))
    assert len(written.merge(original, how="inner")) == len(written)  # no row, hence no negative, that was not there
    withheld = set(zip(dataset.user_ids[dataset.user[~disclosed]], dataset.item_ids[dataset.item[~disclosed]]))
    assert not withheld & set(zip(written.user_id, written.item_id))


def test_the_masked_dataset_of_one_put_there_by_hand_has_all_its_items(write_ratings, settings, tmp_path):
    # no movies.csv, names and ids as others write them; what is withheld are the only text id and the only rows of an item
    rows = [("7", "abc", 1), ("7", "2", 2), ("7", "3", 3), ("8", "2", 1), ("8", "9", 2), ("8", "3", 3), ("8", "2", 4)][:6]
    folder = write_ratings(rows)
    text = (folder / "ratings.csv").read_text().replace("user_id,item_id", "User ID, movieId")
    (folder / "ratings.csv").write_text(text, encoding="utf-8-sig")
    dataset = load_dataset(settings())
    assert dataset.item_ids.tolist() == ["2", "3", "9", "abc"]
    write_masked_dataset(settings(), dataset, np.zeros(2, bool), {})
    masked = load_dataset(settings(), masked=True)
    assert masked.item_ids.tolist() == dataset.item_ids.tolist() and masked.user_ids.tolist() == dataset.user_ids.tolist()
    assert np.array_equal(masked.test, dataset.test) and masked.num_interactions == 0


def test_a_masked_dataset_that_was_not_finished_is_not_used(ratings, settings, tmp_path, monkeypatch):
    dataset = load_dataset(settings())
    everything = np.ones(dataset.num_interactions, bool)
    write_masked_dataset(settings(), dataset, everything, {})
    monkeypatch.setattr("src.game.preprocess.copy_rows", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_masked_dataset(settings(), dataset, ~everything, {})
    with pytest.raises(InputError, match="masked_tiny: was being written when preprocess.py stopped; run preprocess.py"):
        load_dataset(settings(), masked=True)
    monkeypatch.undo()
    write_masked_dataset(settings(), dataset, ~everything, {})
    assert load_dataset(settings(), masked=True).num_interactions == 0


def test_a_dataset_of_the_users_own_is_not_replaced_by_a_mask(ratings, write_ratings, settings, tmp_path):
    dataset = load_dataset(settings())
    folder = write_ratings([(1, 2, 3)], name="masked_tiny")
    before = (folder / "ratings.csv").read_bytes()
    with pytest.raises(InputError, match="masked_tiny: was not written by preprocess.py, which would replace it; move it"):
        write_masked_dataset(settings(), dataset, np.ones(dataset.num_interactions, bool), {})
    assert (folder / "ratings.csv").read_bytes() == before and len(list(folder.iterdir())) == 1


def test_stages_end_to_end(cpu, ratings, settings, tmp_path):
    config = settings(*SMALL)
    output = tmp_path / "output"
    evaluate_before = settings(*SMALL)
    preprocess(config)  # trains the plain model itself
    assert (output / "train_ncf.json").exists()
    decisions = pd.read_csv(output / "disclosure.csv")
    assert list(decisions.columns) == ["user_id", "item_id", "influence", "unwillingness", "disclosed", "expected_influence"]
    dataset = load_dataset(config)
    assert len(decisions) == dataset.num_interactions and set(decisions.disclosed) <= {0, 1}
    record = json.loads((output / "preprocess.json").read_text())
    wv = (decisions.disclosed * decisions.unwillingness).sum() / 12
    assert record["wv"] == pytest.approx(wv) and record["total_wv"] == pytest.approx(decisions.unwillingness.sum() / 12)
    assert record["wv"] <= 0.6 * record["total_wv"]
    assert record["disclosed_share"] == pytest.approx(decisions.disclosed.mean())
    assert set(record["seconds"]) == {"influence", "game", "mask", "total"}
    assert {"solver", "anchors", "willingness_weight", "wv_budget", "peak_rss_mb"} <= set(record)

    train(asked(config.replace(masked=True)))
    evaluate(asked(evaluate_before))
    evaluate(asked(config.replace(masked=True)))
    plain, masked = (json.loads((output / f"eval_{m}.json").read_text()) for m in ("ncf", "ifrqe"))
    assert plain["wv"] == plain["total_wv"] == masked["total_wv"] == pytest.approx(record["total_wv"])
    assert masked["wv"] == pytest.approx(record["wv"])
    for result in (plain, masked):
        assert result["reward"] == pytest.approx(-result["loss"] - record["willingness_weight"] * result["wv"])
        assert {"model", "dataset", "seed", "num_users", "num_items", "num_interactions", "hr@3", "ndcg@3", "auc", "loss",
                "pos_loss"} <= set(result)
    assert (plain["num_interactions"], masked["num_interactions"]) == (len(decisions), decisions.disclosed.sum())
    assert len((output / "eval.log").read_text().splitlines()) == 2
    table = comparison_table(plain, masked)
    for word in ("NCF", "IFRQE", "hr@3", "reward", f"{plain['loss']:.4f}", f"{masked['loss']:.4f}"):
        assert word in table


def test_what_is_vetoed_is_in_no_file_that_a_trainer_reads(cpu, ratings, settings, tmp_path):
    (tmp_path / "rules.csv").write_text("user_id,item_id,unwillingness\n,,0.2\n,4,1\n2,,1\n")
    config = settings(*SMALL, "--willingness_file", tmp_path / "rules.csv", "--veto", "--wv_budget", 1,
                      "--learning_rate", 0.05)
    preprocess(config)
    dataset = load_dataset(config)
    vetoed = (dataset.user_ids[dataset.user] == 2) | (dataset.item_ids[dataset.item] == 4)
    decisions = pd.read_csv(tmp_path / "output" / "disclosure.csv")
    assert (decisions.influence[vetoed] > 0).any() and vetoed.sum() > 7  # helpful or not,
    assert (decisions.disclosed[vetoed] == 0).all() and decisions.disclosed[~vetoed].any()
    pairs = set(zip(decisions.user_id[vetoed], decisions.item_id[vetoed]))
    read = [path for path in (tmp_path / "data" / "masked_tiny").iterdir() if path.suffix == ".csv"]
    assert sorted(path.name for path in read) == ["movies.csv", "ratings.csv"]
    for path in read:
        table = pd.read_csv(path)
        assert "user_id" not in table or not pairs & set(zip(table.user_id, table.item_id))
    masked = load_dataset(config, masked=True)
    # to the trainer they are items that the user has not touched: they may be drawn as negatives
    assert not masked.history_pairs().contains(dataset.user[vetoed], dataset.item[vetoed]).any()
    train(asked(config.replace(masked=True)))  # user 2 has nothing left to train on, and is served all the same
    evaluate(asked(config.replace(masked=True)))
    assert json.loads((tmp_path / "output" / "preprocess.json").read_text())["vetoed"] == vetoed.sum()


def test_a_baseline_goes_through_all_stages_without_a_plain_model(cpu, ratings, settings, tmp_path):
    config = settings(*SMALL, "--strategy", "threshold", "--wv_budget", 0.4)
    preprocess(config)
    assert not (tmp_path / "checkpoint" / "NCF.ckpt").exists()
    decisions = pd.read_csv(tmp_path / "output" / "disclosure.csv")
    assert decisions.influence.isna().all()
    train(asked(config.replace(masked=True)))
    evaluate(asked(config.replace(masked=True)))
    masked = load_dataset(config, masked=True)
    result = json.loads((tmp_path / "output" / "eval_ifrqe.json").read_text())
    assert result["reward"] is None and result["num_interactions"] == decisions.disclosed.sum()
    assert result["wv"] <= 0.4 * result["total_wv"] and len(masked.user) == decisions.disclosed.sum()


def test_holding_out_one_item_leaves_no_influences(ratings, settings, tmp_path):
    with pytest.raises(InputError, match="--holdout 1: leaves no validation item"):
        preprocess(settings(*SMALL, "--holdout", 1))
    with pytest.raises(InputError, match="--holdout 1: the masked dataset was decided on the validation items"):
        settings("--holdout", 1, "--masked")


def test_influences_come_from_the_anchors_of_the_plain_model(cpu, ratings, settings, tmp_path):
    config = settings(*SMALL, "--train_epochs", 6, "--learning_rate", 0.05, "--batch_size", 12)
    preprocess(config)
    dataset = load_dataset(config)
    plain = tmp_path / "checkpoint" / "NCF.ckpt"
    anchors = list(load_anchors(plain, dataset, Variant(config))[0].values())
    written = pd.read_csv(tmp_path / "output" / "disclosure.csv").influence
    # all targets at once, as preprocess does: products of other shapes differ in their last bits from processor to processor
    each = influences(Anchor(anchors), dataset, config, targets=target_items(dataset, config.influence_lags))[0]
    assert written.to_numpy() == pytest.approx(each[:, 0], rel=1e-6)
    record = json.loads((tmp_path / "output" / "preprocess.json").read_text())
    assert record["parameter_sets"] == len(anchors) > 1
    # a model that is there already is not trained again, and one that was trained otherwise is refused
    before = plain.stat().st_mtime_ns
    preprocess(config.replace(overwrite=True, wv_budget=0.3))
    assert plain.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="checkpoint/NCF.ckpt: was trained with seed=1, but seed=2 is needed here"):
        preprocess(config.replace(overwrite=True, seed=2))
    with pytest.raises(InputError, match="NCF.ckpt: was trained with anchor_epochs=4, but anchor_epochs=2 is needed here"):
        preprocess(config.replace(overwrite=True, anchor_epochs=2))


def test_a_missing_unwillingness_file_is_named_before_anything_is_trained(ratings, settings, tmp_path):
    with pytest.raises(InputError, match="unwillingness.csv: no such file"):
        preprocess(settings(*SMALL, "--unwillingness", "file"))
    assert not (tmp_path / "checkpoint").exists()


def test_text_ids_go_through_all_stages(cpu, write_ratings, settings, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "x.csv"
    rows = [f"{u},{i}" for u in ("007", "7", "NA", "x") for i in rng.permutation([f"{k:03}" for k in range(20)])[:9]]
    path.write_text("user_id,item_id\n" + "\n".join(rows) + "\n")
    config = settings(*SMALL, "--archive", path, "--dataset", "text")
    prepare(config)
    dataset = load_dataset(config)
    assert dataset.user_ids.tolist() == ["007", "7", "NA", "x"]
    assert all(len(item) == 3 for item in dataset.item_ids)
    preprocess(config)
    train(asked(config.replace(masked=True)))
    evaluate(asked(config))
    evaluate(asked(config.replace(masked=True)))
    assert "007,0" in (tmp_path / "output" / "disclosure.csv").read_text()


def test_a_stage_is_done_again_when_what_it_depends_on_changes(cpu, ratings, settings, tmp_path):
    preprocess(settings(*SMALL))
    record = tmp_path / "output" / "preprocess.json"
    record_before, time_before = record.read_text(), record.stat().st_mtime_ns
    preprocess(settings(*SMALL))
    assert record.stat().st_mtime_ns == time_before
    preprocess(settings(*SMALL, "--wv_budget", 0.3))
    assert json.loads(record.read_text())["wv"] < json.loads(record_before)["wv"]
    (tmp_path / "data" / "masked_tiny" / "ratings.csv").unlink()
    preprocess(settings(*SMALL, "--wv_budget", 0.3))
    assert (tmp_path / "data" / "masked_tiny" / "ratings.csv").exists()


def test_the_checkpoint_of_another_dataset_is_refused(cpu, ratings, write_ratings, settings, tmp_path):
    train(asked(settings(*SMALL)))
    write_ratings([(u, i, i) for u in range(12) for i in range(9)], name="other", items=range(20))
    with pytest.raises(InputError, match="NCF.ckpt: was trained with dataset=tiny, but dataset=other"):
        preprocess(settings(*SMALL, "--dataset", "other"))
    assert not (tmp_path / "output" / "disclosure.csv").exists()


