import json
import logging

import numpy as np
import pandas as pd
import pytest

from src.candidates import evaluation_candidates
from src.common.files import digest
from src.common.variant import Variant, asked
from src.dataset import load_dataset
from src.evaluation.compare import not_comparable
from src.evaluation.evaluate import evaluate, ranks_among_untouched
from src.game.preprocess import preprocess
from src.metrics import all_metrics
from src.network import score, score_all
from src.training.checkpoint import load_checkpoint
from src.training.train import train
from tests import small
from tests.small import refused

SMALL = [*small.SMALL, "--strategy", "ifrqe"]  # which trains the plain model too


def test_evaluation_scores_the_test_item_among_candidates_of_the_original(cpu, ratings, settings, tmp_path):
    config = settings(*SMALL, "--wv_budget", 0.2)
    preprocess(config)
    train(asked(config.replace(masked=True)))
    dataset = load_dataset(config)
    candidates = evaluation_candidates(dataset, "test", config)
    assert not dataset.history_pairs().contains(np.arange(12)[:, None], candidates).any()  # withheld ones neither
    for name, masked in (("ncf", False), ("ifrqe", True)):
        evaluate(asked(config.replace(masked=masked)))
        net, _ = load_checkpoint(tmp_path / "checkpoint" / f"{name.upper()}.ckpt", dataset, Variant(config, masked))
        expected = all_metrics(score(net, candidates, 1000), 3)
        result = json.loads((tmp_path / "output" / f"eval_{name}.json").read_text())
        assert {key: result[key] for key in expected} == pytest.approx(expected, rel=1e-5)


def test_the_test_item_is_a_rival_of_the_validation_item(ratings, settings):
    """Who left it out when choosing by validation items would have looked at it."""
    dataset = load_dataset(settings())
    users = np.arange(12)
    scores = np.zeros((12, 20))
    scores[users, dataset.test] = 1
    for target, rank in ((dataset.validation, 1), (dataset.test, 0)):
        found = ranks_among_untouched(dataset, target, [(users, scores + 0.5 * (np.arange(20) == target[:, None]))])
        assert (found == rank).all()


def test_full_ranking_is_among_all_items_not_touched(cpu, ratings, settings, tmp_path):
    for flags in (["--eval_batch_size", 50], ["--eval_batch_size", 1, "--holdout", 1]):
        config = settings(*SMALL, "--eval_mode", "full", *flags)
        train(asked(config))
        evaluate(asked(config))
        dataset = load_dataset(config)
        net, _ = load_checkpoint(tmp_path / "checkpoint" / "NCF.ckpt", dataset, Variant(config))
        scores = score(net, np.tile(np.arange(20, dtype=np.int32), (12, 1)), 1000)
        found = ranks_among_untouched(dataset, dataset.test, score_all(net, dataset.scored, 20, config.eval_batch_size))
        for user in range(12):
            touched = set(dataset.item[dataset.user == user])
            if dataset.validation is not None:
                touched.add(dataset.validation[user])
            rivals = [item for item in range(20) if item not in touched and item != dataset.test[user]]
            assert len(rivals) == 11
            # one batch of all users and several of few are products of other shapes: float32 leaves scores a few last bits
            ahead = scores[user][rivals] - scores[user][dataset.test[user]]
            slack = 1e-5 * np.abs(scores[user]).max()
            assert (ahead > slack).sum() <= found[user] <= (ahead >= -slack).sum()
        result = json.loads((tmp_path / "output" / "eval_ncf.json").read_text())
        assert result["full_hr@3"] == pytest.approx(np.mean(found < 3)) and "hr@3" in result
        assert ("wv" in result) == (config.holdout == 2)


def test_what_does_not_belong_together_is_refused_or_not_compared(cpu, ratings, settings, tmp_path, caplog):
    config = settings(*SMALL)
    masked = asked(config.replace(masked=True))
    preprocess(config)
    train(masked)
    evaluate(asked(config))
    path = tmp_path / "output" / "eval_ncf.json"
    record = json.loads(path.read_text())
    for change in ({"total_wv": 1.5}, {"total_wv": None}, {"seed": None, "num_users": None}):
        path.write_text(json.dumps({key: value for key, value in {**record, **change}.items() if value is not None}))
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="ifrqe"):
            evaluate(masked)
        named = ", ".join(f"{key} {value} against {record[key]}" for key, value in change.items())
        assert f"of other data or settings ({named})" in caplog.text and "plain against masked" not in caplog.text

    path = tmp_path / "output" / "disclosure.csv"
    content, record = path.read_bytes(), path.with_name("preprocess.json")
    said, table = record.read_text(), pd.read_csv(path)
    for changed, recorded, variant, named in (
            (table.assign(disclosed=1 - table.disclosed), False, masked, "preprocess.json"),
            (table.assign(disclosed=1 - table.disclosed), True, masked, "masked_tiny"),
            (table.iloc[1:], True, asked(config), "interactions of tiny")):
        changed.to_csv(path, index=False)
        record.write_text(json.dumps({**json.loads(said), "disclosure_sha256": digest(path)}) if recorded else said)
        with refused(path, named):
            evaluate(variant)
    path.write_bytes(content)
    record.write_text(said)
    preprocess(settings(*SMALL, "--wv_budget", 0.2))
    with refused("IFRQE.ckpt", "train.py --dataset tiny --masked"):  # of another mask
        evaluate(masked)


def test_models_of_other_numbers_of_ranks_may_be_compared():
    one, two = ({"dataset": "x", "training": {"train_epochs": 2, **more}} for more in ({}, {"ranks": 2}))
    assert not_comparable(one, two) == ""
    assert not_comparable(one, {**two, "training": {"train_epochs": 3}}) == "train_epochs 2 against 3"


def test_plain_evaluation_before_the_mask(cpu, ratings, settings, tmp_path):
    config = settings(*SMALL)
    with refused("disclosure.csv", "preprocess.py"):
        evaluate(asked(config.replace(masked=True)))
    with refused("NCF.ckpt", "train.py"):
        evaluate(asked(config))
    train(asked(config))
    dataset, wv = load_dataset(config), []
    for value in (None, 0.25, 1.0):
        if value is not None:  # a file that comes, and changes, is noticed
            pd.DataFrame({"user_id": dataset.user_ids[dataset.user], "item_id": dataset.item_ids[dataset.item],
                          "unwillingness": value}).to_csv(ratings / "unwillingness.csv", index=False)
        evaluate(asked(config))
        result = json.loads((tmp_path / "output" / "eval_ncf.json").read_text())
        wv.append(result["wv"])
        assert result["wv"] == result["total_wv"] > 0
        assert result["willingness_weight"] is None and result["reward"] is None
    assert wv[2] == pytest.approx(4 * wv[1])
