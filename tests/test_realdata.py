"""Facts about the real MovieLens files, and the quality that the models reach on them."""
import json

import numpy as np
import pandas as pd
import pytest

from src.candidates import evaluation_candidates
from src.common.variant import asked
from src.dataset import load_dataset
from src.evaluation.evaluate import evaluate
from src.game.preprocess import preprocess
from src.movielens import prepare
from src.training.train import train

pytestmark = pytest.mark.realdata


def test_ml_1m_counts_and_the_literatures_negatives(real_data, settings):
    config = settings("--dataset", "ml-1m", "--archive", real_data / "ml-1m.zip",
                      "--eval_negatives", real_data / "ml-1m.test.negative",
                      "--eval_item_list", real_data / "ml-1m.item_list.txt")
    prepare(config)
    d = load_dataset(config)
    assert (d.num_users, d.num_items, d.num_interactions) == (6040, 3706, 988_129)
    counts = np.bincount(d.user)
    assert (counts.max() + 2, (counts + 2 <= 20).sum()) == (2314, 86)
    assert evaluation_candidates(d, "test", config).shape == (6040, 100)


def test_ml_1m_users_with_at_most_20_ratings(real_data, settings):
    config = settings("--archive", real_data / "ml-1m.zip", "--max_ratings", 20)
    prepare(config)
    d = load_dataset(config)
    assert (d.num_users, d.num_items) == (86, 820)


def test_zip_and_recbole_files_of_ml_100k_agree(real_data, settings, tmp_path):
    for name, file in (("a", "ml-100k.zip"), ("b", "ml-100k.inter")):
        prepare(settings("--dataset", name, "--archive", real_data / file))
    a, b = (pd.read_csv(tmp_path / "data" / name / "ratings.csv") for name in "ab")
    order = ["user_id", "item_id"]
    assert len(a) == 100_000 and a.sort_values(order, ignore_index=True).equals(b.sort_values(order, ignore_index=True))
    titles = pd.read_csv(tmp_path / "data" / "a" / "movies.csv").title
    assert len(titles) == 1682 and titles[0] == "Toy Story (1995)"


@pytest.mark.slow
def test_ml_100k_end_to_end_quality(cpu, real_data, settings, tmp_path):
    config = settings("--dataset", "ml-100k", "--archive", real_data / "ml-100k.zip")
    prepare(config)
    train(asked(config))
    preprocess(config)
    train(asked(config.replace(masked=True)))
    evaluate(asked(config))
    evaluate(asked(config.replace(masked=True)))
    plain, masked = (json.loads((tmp_path / "output" / f"eval_{m}.json").read_text()) for m in ("ncf", "ifrqe"))
    assert plain["hr@10"] > 0.62 and plain["ndcg@10"] > 0.355
    assert masked["wv"] <= 0.6 * plain["wv"]
    assert masked["reward"] > plain["reward"]
