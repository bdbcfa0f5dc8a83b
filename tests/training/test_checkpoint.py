import shutil

import numpy as np
import pytest

from src.common.files import digest
from src.common.variant import Variant, ratings_path
from src.dataset import load_dataset
from src.network import build
from src.training.checkpoint import ANCHOR, BEST, load_anchors, load_checkpoint, save_checkpoint
from tests.small import refused

SHAPE = ["--layers", "4,2", "--num_factors", 3]


@pytest.fixture
def saved(cpu, write_ratings, settings, tmp_path):
    """A checkpoint of a network for a dataset of 2 users and 4 items, with its settings and values."""
    write_ratings([(u, i, i) for u in (1, 2) for i in (1, 2, 3, 4)])
    config = settings(*SHAPE)
    dataset = load_dataset(config)
    net = build(dataset, config)
    best = net.values()
    anchor = {name: value + 1 for name, value in best.items()}
    path = tmp_path / "checkpoint" / "NCF.ckpt"
    save_checkpoint(path, {BEST: best, ANCHOR.format(1): best, ANCHOR.format(11): anchor},
                    {**net.shape, "dataset": "tiny", "holdout": 2, "epoch": 3, "anchor_epochs": [1, 11],
                     "ratings_sha256": digest(ratings_path(config)), "catalogue_sha256": dataset.catalogue_sha256()})
    return path, dataset, config, best


def test_checkpoint_gives_back_all_sets_of_parameters(saved):
    path, dataset, config, best = saved
    net, info = load_checkpoint(path, dataset, Variant(config))
    assert info["epoch"] == 3
    anchors, _ = load_anchors(path, dataset, Variant(config))
    assert list(anchors) == [1, 11]
    for values, shift in ((net.values(), 0), (anchors[1], 0), (anchors[11], 1)):
        assert all(np.array_equal(value, best[name] + shift) for name, value in values.items())
    assert [p.name for p in path.parent.iterdir()] == ["NCF.ckpt"]  # no temporary file is left


def test_unfit_checkpoints_are_named(saved, settings):
    path, dataset, config, best = saved
    shutil.copytree(ratings_path(config).parent, ratings_path(config).parent.with_name("other"))
    for changed, words in (([*SHAPE, "--num_factors", 5], "num_factors=3, but num_factors=5"),
                           ([*SHAPE, "--layers", "4"], "layers=[4, 2], but layers=[4]"),
                           ([*SHAPE, "--holdout", 1], "holdout=2, but holdout=1"),
                           ([*SHAPE, "--dataset", "other"], "dataset=tiny, but dataset=other")):
        with refused(path, words):
            load_checkpoint(path, dataset, Variant(settings(*changed)))
    with refused("none.ckpt", "train.py", "--checkpoint_path"):
        load_checkpoint(path.with_name("none.ckpt"), dataset, Variant(config))
    ratings, before = ratings_path(config), ratings_path(config).read_text()
    ratings.write_text(before + " ")
    with refused(path, "ratings.csv"):
        load_checkpoint(path, dataset, Variant(config))
    ratings.write_text(before)
    _, info = load_checkpoint(path, dataset, Variant(config))
    dataset.item_ids = dataset.item_ids[:3]
    with refused(path, "num_items=4, but num_items=3"):
        load_checkpoint(path, dataset, Variant(config))
    dataset.item_ids = np.array([1, 2, 3, 5])  # as many, but others
    with refused(path, "movies.csv"):
        load_checkpoint(path, dataset, Variant(config))
    content = path.read_bytes()
    for damaged in (content[:len(content) // 2], b"", b"no checkpoint at all"):
        path.write_bytes(damaged)
        with refused(path, "train anew"):
            load_checkpoint(path, dataset, Variant(config))
    del info["anchor_epochs"]  # of an early version
    save_checkpoint(path, {BEST: best}, info)
    with refused(path, "train anew"):
        load_anchors(path, dataset, Variant(config))
