import numpy as np
import pytest

from src.common.errors import InputError
from src.common.files import digest
from src.common.variant import Variant, asked, ratings_path
from src.dataset import load_dataset
from src.network import build
from src.training.checkpoint import ANCHOR, BEST, load_anchors, load_checkpoint, save_checkpoint
from src.training.train import train


@pytest.fixture
def saved(cpu, write_ratings, settings, tmp_path):
    """A checkpoint of a network for a dataset of 2 users and 4 items, with its settings and values."""
    write_ratings([(u, i, i) for u in (1, 2) for i in (1, 2, 3, 4)])
    config = settings("--layers", "4,2", "--num_factors", 3)
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
    path, dataset, config, _ = saved
    for changed, words in ((["--layers", "4,2", "--num_factors", 5], "num_factors=3, but num_factors=5"),
                           (["--layers", "4", "--num_factors", 3], r"layers=\[4, 2\], but layers=\[4\]"),
                           (["--layers", "4,2", "--num_factors", 3, "--holdout", 1], "holdout=2, but holdout=1"),
                           (["--layers", "4,2", "--dataset", "other"], "dataset=tiny, but dataset=other")):
        with pytest.raises(InputError, match=f"NCF.ckpt: was trained with {words}"):
            load_checkpoint(path, dataset, Variant(settings(*changed)))
    with pytest.raises(InputError, match="none.ckpt: no such checkpoint; make it with train.py"):
        load_checkpoint(path.with_name("none.ckpt"), dataset, Variant(config))
    ratings, before = ratings_path(config), ratings_path(config).read_text()
    ratings.write_text(before + " ")
    with pytest.raises(InputError, match="NCF.ckpt: was trained on another ratings.csv"):
        load_checkpoint(path, dataset, Variant(config))
    ratings.write_text(before)
    dataset.ids.items = dataset.item_ids[:3]
    with pytest.raises(InputError, match="num_items=4, but num_items=3"):
        load_checkpoint(path, dataset, Variant(config))


def test_a_checkpoint_without_anchor_epochs_is_named(saved):
    path, dataset, config, best = saved
    _, info = load_checkpoint(path, dataset, Variant(config))
    del info["anchor_epochs"]
    save_checkpoint(path, {BEST: best}, info)
    with pytest.raises(InputError, match="NCF.ckpt: was written by an earlier version.*train anew"):
        load_anchors(path, dataset, Variant(config))


def test_damaged_checkpoints_are_named(saved):
    path, dataset, config, _ = saved
    content = path.read_bytes()
    for damaged in (content[:len(content) // 2], b"", b"no checkpoint at all"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="NCF.ckpt: (is no checkpoint of this program, or is damaged|lacks parameters)"):
            load_checkpoint(path, dataset, Variant(config))


def test_a_model_of_other_items_of_the_same_number_is_refused(cpu, write_ratings, settings, tmp_path):
    rows = [(u, i, i) for u in (1, 2, 3) for i in range(5)]
    flags = ["--num_eval_neg", 2, "--top_k", 2, "--train_epochs", 2, "--num_neg", 1, "--batch_size", 4]
    write_ratings(rows, items=range(9))
    config = settings(*flags)
    train(asked(config))
    dataset = load_dataset(config)
    load_checkpoint(tmp_path / "checkpoint" / "NCF.ckpt", dataset, Variant(config))
    write_ratings(rows, items=[0, 1, 2, 3, 4, 5, 6, 7, 100])
    with pytest.raises(InputError, match="was trained with other items or users than movies.csv and ratings.csv have now"):
        load_checkpoint(tmp_path / "checkpoint" / "NCF.ckpt", load_dataset(config), Variant(config))
    with pytest.raises(InputError, match="NCF.last.ckpt: was trained with other items or users"):
        train(asked(settings(*flags, "--resume", "--overwrite")))
