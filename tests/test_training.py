import json
import logging

import numpy as np
import pytest
from mindspore import Tensor
from mindspore import dtype as mstype

from src.callbacks import BestEpoch
from src.dataset import evaluation_candidates, load_dataset, ratings_path
from src.errors import InputError
from src.metrics import cross_entropy, ndcg
from src.ncf import TABLES, build, load_checkpoint, score
from src.training import Trainer, TrainSteps, learning_rates, train
from tests import reference

SMALL = ["--layers", "6,4", "--num_factors", 3, "--num_neg", 2, "--num_eval_neg", 5, "--top_k", 3]


@pytest.fixture
def ratings(write_ratings):
    rng = np.random.default_rng(0)
    write_ratings([(u, i, t) for u in range(12) for t, i in enumerate(rng.permutation(20)[:8])], items=range(20))


def numpy_steps(values, users, items, rates, betas, epsilon):
    """Adam on the dense weights, lazy Adam on the rows of the batch, gradients by finite differences (float64)."""
    values = {name: value.astype(float) for name, value in values.items()}
    m, v = ({name: np.zeros_like(value) for name, value in values.items()} for _ in range(2))
    for t, (user, item, rate) in enumerate(zip(users, items, rates), 1):
        item = item.reshape(len(user), -1)
        labels = np.zeros(item.shape[1], int)
        labels[0] = 1

        def loss():
            return np.mean([reference.cross_entropy(reference.logits(values, reference.user_row(values, u), i), labels)  # noqa: B023
                            for u, i in zip(user, item)])  # noqa: B023

        grads = {}
        for name, value in values.items():
            grads[name] = np.zeros_like(value)
            for at in np.ndindex(value.shape):
                kept, step = value[at], 1e-5
                value[at] = kept + step
                above = loss()
                value[at] = kept - step
                grads[name][at] = (above - loss()) / (2 * step)
                value[at] = kept
        rate = rate * np.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
        for name, grad in grads.items():
            rows = slice(None) if name not in TABLES else np.unique(user if name.startswith("user") else item)
            m[name][rows] = betas[0] * m[name][rows] + (1 - betas[0]) * grad[rows]
            v[name][rows] = betas[1] * v[name][rows] + (1 - betas[1]) * grad[rows] ** 2
            values[name][rows] -= rate * m[name][rows] / (np.sqrt(v[name][rows]) + epsilon)
    return values


@pytest.mark.parametrize("fused", [True, False])
def test_steps_equal_adam_by_hand(cpu, ratings, settings, fused):
    config = settings(*SMALL)
    net = build(load_dataset(config), config)
    rng = np.random.default_rng(1)
    net.set_values({name: rng.normal(0, 0.5, value.shape).astype(np.float32) for name, value in net.values().items()})
    before = net.values()
    users = np.array([[0, 3], [3, 3], [5, 0]], np.int32)  # a row twice in one batch, rows that come back
    items = np.array([[1, 2, 3, 1, 1, 4], [7, 2, 0, 1, 8, 8], [1, 9, 3, 4, 2, 6]], np.int32)
    rates = np.array([0.1, 0.2, 0.05], np.float32)
    betas = (0.8, 0.95)
    expected = numpy_steps(before, users, items, rates, betas, 1e-6)
    powers = [np.power(b, np.arange(1, 4)).astype(np.float32) for b in betas]
    cell = TrainSteps(net, 2, betas, 1e-6, fused)
    total = cell(*map(Tensor, (users, items, rates, *powers)), Tensor(3, mstype.int32), Tensor(0, mstype.int32),
                 Tensor(0, mstype.float32))
    assert float(total.asnumpy()) > 0
    for name, value in net.values().items():
        assert np.abs(value - before[name]).max() > 0.01
        assert value == pytest.approx(expected[name], rel=2e-3, abs=2e-4), name
    untouched = np.setdiff1d(np.arange(12), users)
    assert np.array_equal(net.values()["user_gmf"][untouched], before["user_gmf"][untouched])


def test_an_epoch_in_several_calls_is_the_same(cpu, ratings, settings, monkeypatch):
    results = []
    for per_call in (1000, 3):
        monkeypatch.setattr("src.training.STEPS_PER_CALL", per_call)
        config = settings(*SMALL, "--batch_size", 12)
        net = build(load_dataset(config), config)
        trainer = Trainer(net, load_dataset(config), config, "CPU")
        results.append(([trainer.epoch(n) for n in range(2)], net.values()))
    assert results[0][0] == pytest.approx(results[1][0])
    assert all(np.array_equal(results[0][1][name], results[1][1][name]) for name in results[0][1])


def test_batch_larger_than_the_data(cpu, ratings, settings):
    config = settings(*SMALL, "--batch_size", 100_000)
    dataset = load_dataset(config)
    trainer = Trainer(build(dataset, config), dataset, config, "CPU")
    assert (trainer.groups, trainer.steps) == (dataset.num_interactions, 1)
    assert np.isfinite(trainer.epoch(0))


def test_learning_rate_rises_then_falls():
    rates = learning_rates(0.1, steps_per_epoch=10, epochs=4, warmup_epochs=1)
    assert len(rates) == 40 and rates.argmax() == 9 and rates.max() == pytest.approx(0.1)
    assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[9:][1:]) < 0).all()
    assert 0 < rates[-1] < 0.01
    assert learning_rates(0.1, 5, 2, 0)[0] == pytest.approx(0.1)


def test_each_epoch_has_fresh_negatives_in_a_fresh_order(cpu, ratings, settings, monkeypatch):
    config = settings(*SMALL, "--batch_size", 12)
    dataset = load_dataset(config)
    trainer = Trainer(build(dataset, config), dataset, config, "CPU")
    seen = []
    monkeypatch.setattr(trainer, "_call", lambda items, order, *_: seen.append((items, order)) or 0.0)
    for number in (0, 1, 1):
        trainer.epoch(number)
    (items, order), (other_items, other_order), (same_items, same_order) = seen
    assert not np.array_equal(items, other_items) and not np.array_equal(order, other_order)
    assert np.array_equal(other_items, same_items) and np.array_equal(other_order, same_order)
    assert not np.array_equal(order, np.arange(len(order)))
    assert np.array_equal(np.unique(order), np.arange(dataset.num_interactions))


def test_best_epoch_keeps_the_first_of_equals():
    class Net:
        def values(self):
            return self.state
    net = Net()
    for lower, best in ((False, 2), (True, 1)):
        callback = BestEpoch("x", lower)
        for epoch, x in enumerate((1, 5, 5, 1), 1):
            net.state = epoch
            callback.on_epoch_end(net, {"epoch": epoch, "x": x})
        assert callback.values == callback.record["epoch"] == best


def test_training_learns_and_records(cpu, ratings, settings, tmp_path, caplog):
    config = settings(*SMALL, "--train_epochs", 12, "--learning_rate", 0.05, "--batch_size", 12)
    with caplog.at_level(logging.INFO, logger="ifrqe"):
        train(config)
        assert sum("ETA" in m for m in caplog.messages) == 12
        caplog.clear()
        train(config)
        assert "done before" in caplog.text and "ETA" not in caplog.text
    record = json.loads((tmp_path / "output" / "train_ncf.json").read_text())
    losses = [h["loss"] for h in record["history"]]
    assert losses[-1] < 0.8 * losses[0]
    by_ndcg = [h["ndcg@3"] for h in record["history"]]
    assert record["best_epoch"] == 1 + int(np.argmax(by_ndcg)) and record["ndcg@3"] == max(by_ndcg)
    assert record["anchor_epoch"] == 1 + int(np.argmin([h["pos_loss"] for h in record["history"]]))
    assert (record["epochs"], record["num_users"], record["num_interactions"]) == (12, 12, 72)
    assert (tmp_path / "checkpoint" / "NCF.ckpt").exists()
    # the checkpoint holds the best and the anchor epoch, by the VALIDATION items
    dataset = load_dataset(config)
    for anchor in (False, True):
        net, info = load_checkpoint(tmp_path / "checkpoint" / "NCF.ckpt", dataset, config, ratings_path(config), anchor)
        scores = score(net, evaluation_candidates(dataset, "validation", config), 1000)
        kept = record["history"][info["anchor_epoch" if anchor else "epoch"] - 1]
        assert ndcg(scores, 3) == pytest.approx(kept["ndcg@3"])
        assert cross_entropy(scores)[:, 0].mean() == pytest.approx(kept["pos_loss"], rel=1e-5)


def test_diverging_training_is_named_and_leaves_nothing(cpu, ratings, settings, tmp_path):
    with pytest.raises((InputError, FloatingPointError), match="finite.*lower"):
        train(settings(*SMALL, "--learning_rate", 1e30, "--warmup_epochs", 0))
    assert not list((tmp_path / "checkpoint").iterdir()) and not (tmp_path / "output").exists()


def test_nothing_to_train_on_is_named(cpu, write_ratings, settings):
    write_ratings([(1, 1, 1), (1, 2, 2)], items=range(20))
    with pytest.raises(InputError, match="holds no training interaction"):
        train(settings(*SMALL))
