import json
import logging

import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

from src.candidates import evaluation_candidates
from src.common.variant import Variant, asked
from src.config import load_config
from src.dataset import load_dataset
from src.game.preprocess import preprocess
from src.metrics import cross_entropy, ndcg_of_ranks, ranks
from src.ncf import NCF
from src.network import build, score
from src.training import shared_steps
from src.training.checkpoint import load_anchors, load_checkpoint
from src.training.shared_steps import SharedSteps
from src.training.steps import TrainSteps
from src.training.train import Run, train
from src.training.trainer import Trainer, fitting_batch, learning_rates, train_on
from tests import reference
from tests.small import refused

SMALL = ["--layers", "6,4", "--num_factors", 3, "--num_neg", 2, "--num_eval_neg", 5, "--top_k", 3]


@pytest.fixture
def ratings(write_ratings):
    rng = np.random.default_rng(0)
    write_ratings([(u, i, t) for u in range(12) for t, i in enumerate(rng.permutation(20)[:8])], items=range(20))


@pytest.fixture
def trainer(cpu, ratings, settings):
    """trainer(*options) -> Trainer of a fresh network."""
    def make(*options):
        config = settings(*SMALL, *options)
        dataset = load_dataset(config)
        return Trainer(build(dataset, config), dataset, config, "CPU")
    return make


@pytest.fixture
def said(tmp_path):
    """said() -> what train_ncf.json says."""
    return lambda: json.loads((tmp_path / "output" / "train_ncf.json").read_text())


def numpy_steps(values, users, items, rates, betas, epsilon, lazy, decay):
    """Adam, on the tables with decay, or only for the rows of the batch if `lazy`; gradients by finite differences."""
    values = {name: value.astype(float) for name, value in values.items()}
    m, v = ({name: np.zeros_like(value) for name, value in values.items()} for _ in range(2))
    for t, (user, item, rate) in enumerate(zip(users, items, rates), 1):
        groups = item.reshape(len(user), -1)
        samples = np.repeat(user, groups.shape[1]), groups.ravel(), np.tile(np.eye(1, groups.shape[1])[0], len(user))
        mean = reference.gradient(lambda x: reference.losses(reference.unpack(x, values), *samples).mean(),  # noqa: B023
                                  reference.pack(values))
        rate = rate * np.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
        for name, grad in reference.unpack(mean, values).items():
            rows = slice(None)
            if lazy and name in NCF.TABLES:
                rows = np.unique(user if name.startswith("user") else item)
            m[name][rows] = betas[0] * m[name][rows] + (1 - betas[0]) * grad[rows]
            v[name][rows] = betas[1] * v[name][rows] + (1 - betas[1]) * grad[rows] ** 2
            step = m[name][rows] / (np.sqrt(v[name][rows]) + epsilon)
            values[name][rows] -= rate * (step + (decay * values[name][rows] if name in NCF.TABLES else 0))
    return values


@pytest.mark.parametrize("tables, decay", [("lazy", 0.0), ("lazy basic", 0.0), ("dense", 0.0), ("dense", 0.3)])
def test_steps_equal_adam_by_hand(cpu, ratings, settings, tables, decay):
    config = settings(*SMALL)
    net = build(load_dataset(config), config)
    rng = np.random.default_rng(1)
    net.set_values({name: rng.normal(0, 0.5, value.shape).astype(np.float32) for name, value in net.values().items()})
    before = net.values()
    users = np.array([[0, 3], [3, 3], [5, 0]], np.int32)  # a row twice in one batch, rows that come back
    items = np.array([[1, 2, 3, 1, 1, 4], [7, 2, 0, 1, 8, 8], [1, 9, 3, 4, 2, 6]], np.int32)
    rates = np.array([0.1, 0.2, 0.05], np.float32)
    betas = (0.8, 0.95)
    expected = numpy_steps(before, users, items, rates, betas, 1e-6, tables != "dense", decay)
    t = np.arange(1, 4)
    corrected = (rates * np.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)).astype(np.float32)
    config = config.replace(num_neg=2, beta1=betas[0], beta2=betas[1], epsilon=1e-6, weight_decay=decay)
    total = TrainSteps(net, 2, config, tables)(*map(Tensor, (users, items, corrected)), Tensor(3, mstype.int32),
                                               Tensor(0, mstype.int32), Tensor(np.zeros((2, 3), np.float32)))
    assert (total.asnumpy() > 0).all()
    for name, value in net.values().items():
        assert np.abs(value - before[name]).max() > 0.01
        # where a gradient is as small as epsilon, float32 leaves Adam's quotient g / (|g| + epsilon) a thousandth of a step
        assert value == pytest.approx(expected[name], rel=2e-3, abs=2e-3 * rates.max()), name
    untouched = np.setdiff1d(np.arange(12), users)
    if not decay:  # no moments, no movement
        assert np.array_equal(net.values()["user_gmf"][untouched], before["user_gmf"][untouched])


class Twice(nn.Cell):
    def construct(self, x):
        return ops.concat((x, x))


class Double(nn.Cell):
    def construct(self, x):
        return x + x


@pytest.mark.parametrize("model, update", [("mf", "dense"), ("mf", "lazy"), ("ncf", "lazy")])
def test_the_graph_of_two_ranks_moves_what_they_share_as_one_does_and_their_own_by_half(
        cpu, ratings, settings, monkeypatch, model, update):
    """Two ranks with the same two groups, whose third one fills up."""
    monkeypatch.setattr(shared_steps.ops, "AllGather", Twice)
    monkeypatch.setattr(shared_steps.ops, "AllReduce", Double)
    config, moments, losses = settings("--model", model, "--num_neg", 2, "--embedding_std", 0.3), [], []
    for kind, groups, weights in ((TrainSteps, 2, ()), (SharedSteps, 3, (Tensor([[1 / 12, 1 / 12, 0]], mstype.float32),))):
        users, items = np.array([[0, 3, 5]], np.int32), np.array([[1, 2, 3, 1, 1, 4, 7, 2, 0]], np.int32)
        cell = kind(build(load_dataset(config), config), groups, config, update)
        losses.append(cell(Tensor(users[:, :groups]), Tensor(items[:, :3 * groups]), Tensor([0.1], mstype.float32),
                           Tensor(1, mstype.int32), Tensor(0, mstype.int32),
                           Tensor(np.zeros((groups, 3), np.float32)), *weights).asnumpy().mean())
        moments.append([p.asnumpy() for p in (*cell.tables_m, *cell.weights_m, *cell.tables[cell.user_tables:])])
    assert losses[1] == pytest.approx(losses[0] / 2)
    for k, (one, shared) in enumerate(zip(*moments)):
        assert np.abs(one).max() > 0
        np.testing.assert_allclose(shared, one / 2 if k < cell.user_tables else one, rtol=1e-4, atol=1e-7)


def test_an_epoch_in_several_calls_is_the_same(trainer, monkeypatch):
    results = []
    for per_call in (1000, 3):
        monkeypatch.setattr("src.training.trainer.STEPS_PER_CALL", per_call)
        one = trainer("--batch_size", 12)
        results.append(([one.epoch(n) for n in range(2)], one.net.values()))
    assert results[0][0] == pytest.approx(results[1][0])
    assert all(np.array_equal(results[0][1][name], results[1][1][name]) for name in results[0][1])


@pytest.mark.parametrize("interactions, given, batch", [
    (994_169, [], 16384), (98_114, [], 4096), (58_000, [], 2048), (38_572, [], 1024), (300, [], 16), (1, [], 8),
    (58_000, ["--batch_size", 16384], 16384), (58_000, ["--batch_size", 16384, "--min_steps", 50], 4096)])
def test_a_recipe_s_batch_leaves_enough_steps_and_a_given_one_is_kept(interactions, given, batch):
    assert fitting_batch(load_config(["--recipe", "fast", *map(str, given)]), interactions) == batch


def test_the_batch_that_was_taken_is_said_and_recorded(trainer, settings, said, caplog):
    caplog.set_level("INFO", "ifrqe")
    for given, batch, words in ((["--min_steps", 100], 4, "batch_size 4 instead of 256, for --min_steps 100"),
                                (["--batch_size", 60], 60, "--batch_size 60: leaves 4 steps an epoch")):
        train(asked(settings(*SMALL, "--train_epochs", 1, *given)))
        assert said()["batch_size"] == batch and words in caplog.text
    one = trainer("--batch_size", 100_000)  # more than there is
    assert (one.groups, one.steps) == (72, 1) and np.isfinite(one.epoch(0))


def test_learning_rate_rises_then_falls():
    rates = learning_rates(0.1, steps_per_epoch=10, epochs=4, warmup_epochs=1)
    assert len(rates) == 40 and rates.argmax() == 9 and rates.max() == pytest.approx(0.1)
    assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[9:][1:]) < 0).all()
    assert 0 < rates[-1] < 0.01
    assert learning_rates(0.1, 5, 2, 0)[0] == pytest.approx(0.1)


def test_each_epoch_has_fresh_negatives_in_a_fresh_order(trainer, monkeypatch):
    one, seen = trainer("--batch_size", 12), []
    dataset = one.dataset
    monkeypatch.setattr(one, "run_steps", lambda users, items, *_: seen.append((users, items)) or 0.0)
    for number in (0, 1, 1):
        one.epoch(number)
    (users, items), (other_users, other_items), (same_users, same_items) = seen
    assert not np.array_equal(users, other_users) and not np.array_equal(items[:, 1:], other_items[:, 1:])
    assert np.array_equal(other_users, same_users) and np.array_equal(other_items, same_items)
    # every positive once, in another order than that of the history
    assert not np.array_equal(users, dataset.user)
    assert sorted(zip(users, items[:, 0])) == sorted(zip(dataset.user, dataset.item))
    assert not dataset.history_pairs().contains(users[:, None], items[:, 1:]).any()


def test_an_epoch_s_samples_are_drawn_in_parts(trainer, monkeypatch):
    def drawn(**constants):
        for name, value in constants.items():
            monkeypatch.setattr(f"src.training.trainer.{name}", value)
        one, seen = trainer("--batch_size", 12), []
        monkeypatch.setattr(one, "run_steps", lambda users, items, *at: seen.append((users, items, at)) or 0.0)
        assert [one.epoch(number) for number in range(2)] == [0, 0]
        return one, seen
    whole, (first, second) = drawn()
    one, seen = drawn(PART=24, STEPS_PER_CALL=3)
    assert len(whole.parts) == 1 and [len(part) for part in one.parts] == [6, 6, 6]
    dataset, half = one.dataset, len(seen) // 2
    for (users, items, _), calls in ((first, seen[:half]), (second, seen[half:])):
        assert np.array_equal(users, np.concatenate([call[0] for call in calls]))
        found = np.concatenate([call[1] for call in calls])
        assert np.array_equal(items[:, 0], found[:, 0]) and len({tuple(row) for row in found[:, 1:]}) > 20
        assert not dataset.history_pairs().contains(users[:, None], found[:, 1:]).any()
    assert [call[2] for call in seen] == [(3, 3, first) for first in range(0, 36, 3)]


def test_training_learns_and_records_until_it_gets_no_better(cpu, ratings, settings, tmp_path, said, caplog):
    config = settings(*SMALL, "--train_epochs", 40, "--learning_rate", 0.05, "--batch_size", 12, "--patience", 9)
    with caplog.at_level(logging.INFO, logger="ifrqe"):
        train(asked(config))
        assert "no better validation ndcg@3 for 9 epochs" in caplog.text
        caplog.clear()
        train(asked(config))
        assert "done before" in caplog.text and "ETA" not in caplog.text
    record = said()
    by_ndcg, by_loss, losses = ([h[key] for h in record["history"]] for key in ("ndcg@3", "pos_loss", "loss"))
    assert len((tmp_path / "output" / "train_ncf.csv").read_text().splitlines()) == 1 + record["epochs"] < 41
    assert losses[-1] < 0.8 * losses[0] and record["epochs"] == len(losses) == record["best_epoch"] + 9
    assert record["best_epoch"] == 1 + int(np.argmax(by_ndcg)) and record["ndcg@3"] == max(by_ndcg)
    assert record["anchor_epoch"] == 1 + int(np.argmin(by_loss))
    assert (record["num_users"], record["num_interactions"]) == (12, 72)
    # the checkpoint holds the best epoch and those up to the anchor, by the VALIDATION items
    dataset, path = load_dataset(config), tmp_path / "checkpoint" / "NCF.ckpt"
    net, info = load_checkpoint(path, dataset, Variant(config))
    kept_epochs = {info["epoch"]: net.values(), **load_anchors(path, dataset, Variant(config))[0]}
    assert info["anchor_epochs"][-1] == record["anchor_epoch"] and len(kept_epochs) > 2
    for epoch, values in kept_epochs.items():
        net.set_values(values)
        scores = score(net, evaluation_candidates(dataset, "validation", config), 1000)
        assert ndcg_of_ranks(ranks(scores), 3) == pytest.approx(by_ndcg[epoch - 1])
        assert cross_entropy(scores)[:, 0].mean() == pytest.approx(by_loss[epoch - 1], rel=1e-5)


def test_divergence_is_named_and_keeps_the_last_good_epoch(cpu, ratings, settings, tmp_path, monkeypatch):
    with pytest.raises(FloatingPointError, match="--learning_rate .* epoch 1, steps 1 to 4 of 4.*nothing was kept"):
        train(asked(settings(*SMALL, "--learning_rate", 1e30, "--warmup_epochs", 0, "--batch_size", 60)))
    assert not list((tmp_path / "checkpoint").iterdir()) and not (tmp_path / "output").exists()
    config = settings(*SMALL, "--train_epochs", 3, "--batch_size", 60)
    call = Trainer.run_steps
    monkeypatch.setattr(Trainer, "run_steps", lambda self, users, items, steps, per_call, first: np.nan if first >= 8 else
                        call(self, users, items, steps, per_call, first))
    with pytest.raises(FloatingPointError, match="epoch 3, steps 1 to 4 of 4.*epoch 2 is kept in .*NCF.last.ckpt"):
        train(asked(config))
    assert [p.name for p in (tmp_path / "checkpoint").iterdir()] == ["NCF.last.ckpt"]
    _, info = load_checkpoint(tmp_path / "checkpoint" / "NCF.last.ckpt", load_dataset(config), Variant(config))
    assert info["epoch"] <= 2 and len(info["history"]) == 2


def test_nothing_to_train_on_is_named(cpu, write_ratings, settings):
    write_ratings([(1, 1, 1), (1, 2, 2)], items=range(20))
    with refused("tiny"):
        train(asked(settings(*SMALL)))


def test_resumed_training_ends_like_the_uninterrupted(cpu, ratings, settings, tmp_path, monkeypatch, said, caplog):
    config = settings(*SMALL, "--train_epochs", 5, "--learning_rate", 0.05, "--batch_size", 12, "--average_epochs", 2)
    checkpoint = tmp_path / "checkpoint" / "NCF.ckpt"
    train(asked(config.replace(resume=True)))  # there is nothing to resume
    expected = said()["history"], checkpoint.read_bytes()
    assert len(expected[0]) == 5 and set(expected[0][0]) == {"epoch", "loss", "hr@3", "ndcg@3", "pos_loss"}
    for path in checkpoint.parent.iterdir():
        path.unlink()
    epoch = Trainer.epoch

    def stopped(self, number):
        if number == 3:
            raise KeyboardInterrupt
        return epoch(self, number)

    monkeypatch.setattr(Trainer, "epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(asked(config))
    assert [p.name for p in checkpoint.parent.iterdir()] == ["NCF.last.ckpt"]
    monkeypatch.setattr(Trainer, "epoch", epoch)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="ifrqe"):
        train(asked(config.replace(resume=True)))
    assert "going on after epoch 3" in caplog.text and "epoch   3/5" not in caplog.text and "epoch   4/5" in caplog.text
    assert (said()["history"], checkpoint.read_bytes()) == expected


def test_resume_refuses_another_training_and_leaves_it_there(cpu, ratings, write_ratings, settings, tmp_path):
    options = [*SMALL, "--train_epochs", 2]
    train(asked(settings(*options)))
    state = tmp_path / "checkpoint" / "NCF.last.ckpt"
    before = state.read_bytes()
    for key, was, now in (("learning_rate", 0.001, 0.5), ("train_epochs", 2, 3), ("seed", 1, 2), ("holdout", 2, 1)):
        with refused(state, f"{key}={was}", f"{key}={now}", "--resume"):
            train(asked(settings(*options, f"--{key}", now, "--resume")))
    write_ratings([(u, i, i) for u in range(12) for i in range(9)], items=range(20))
    with refused(state, "ratings.csv", "--resume"):
        train(asked(settings(*options, "--resume")))
    assert state.read_bytes() == before
    state.write_bytes(before[:100])
    with refused(state, "damaged"):
        train(asked(settings(*options, "--resume")))
    train(asked(settings(*options)))  # without --resume it is in nobody's way


def test_averaged_epochs(trainer):
    """The model of an epoch is the mean over the last ones, while the training itself goes on as without."""
    shown = {average: [epoch.values for epoch in train_on(trainer(
        "--train_epochs", 4, "--learning_rate", 0.05, "--average_epochs", average))] for average in (1, 3)}
    for name in NCF.TABLES:
        assert shown[3][0][name] == pytest.approx(shown[1][0][name])
        assert shown[3][3][name] == pytest.approx(np.mean([shown[1][k][name] for k in (1, 2, 3)], 0), rel=1e-5, abs=1e-7)
        assert not np.allclose(shown[3][3][name], shown[1][3][name])


def test_holding_out_one_item_trains_on_the_second_last_and_keeps_the_last_epoch(cpu, ratings, settings, tmp_path, said):
    config = settings(*SMALL, "--train_epochs", 3, "--holdout", 1)
    two, one = load_dataset(settings(*SMALL)), load_dataset(config)
    assert one.validation is None and one.num_interactions == two.num_interactions + 12
    assert np.array_equal(one.test, two.test) and one.held_out.shape == (12, 1)
    assert one.history_pairs().contains(np.arange(12), two.validation).all()
    train(asked(config))
    record = said()
    assert record["best_epoch"] == record["anchor_epoch"] == 3 and "ndcg@3" not in record
    assert set(record["history"][0]) == {"epoch", "loss"} and (tmp_path / "output" / "train_ncf.png").stat().st_size


def test_a_warm_start_goes_on_from_the_model_without_a_warm_up(cpu, ratings, settings, monkeypatch):
    config = settings(*SMALL, "--holdout", 0, "--strategy", "threshold", "--recipe", "fast")  # 10 epochs, 2 of them warm-up
    preprocess(config)
    variant, begun = Variant(config, True), []
    train(variant)
    known = load_checkpoint(variant.checkpoint, load_dataset(config), variant)[0].values()
    monkeypatch.setattr(Run, "announce", lambda run: begun.append((run.trainer, run.trainer.net.values())))
    warm = Variant(settings(*SMALL, "--holdout", 0, "--recipe", "fast", "--masked", "--warm_start"), True)
    train(warm)
    (trainer, values), = begun
    rates = trainer.rates
    assert all(np.array_equal(values[name], known[name]) for name in known)
    assert rates[0] == np.float32(config.learning_rate) and len(rates) == 2 * trainer.steps
    assert (np.diff(rates) < 0).all() and rates[-1] == pytest.approx(rates[0] / len(rates))
    assert len(trainer.recent) == 3 and all(np.array_equal(trainer.recent[0][name], known[name]) for name in known)
    assert load_checkpoint(warm.checkpoint, load_dataset(config), warm)[1]["epoch"] == 2  # with the options of both
    assert settings(*SMALL, "--holdout", 0, "--masked", "--warm_start", "--warmup_epochs", 4, "--train_epochs", 1).warm_start
