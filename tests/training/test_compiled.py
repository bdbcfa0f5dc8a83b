import ctypes
import errno
import os
import threading
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest

from src.dataset import load_dataset
from src.ncf import NCF
from src.network import build
from src.training import compiled, trainer
from src.training.compiled import CompiledSteps
from src.training.steps import TrainSteps
from src.training.trainer import Trainer
from tests.ranks import in_threads

pytestmark = pytest.mark.skipif(compiled.program() is None, reason="there is no compiler")


@pytest.fixture
def ratings(write_ratings):
    rng = np.random.default_rng(0)
    write_ratings([(u, i, t) for u in range(70) for t, i in enumerate(rng.permutation(30)[:6])], items=range(30))


def state_after(config, steps=4):
    """Parameters and moments after some steps, and the sum of their losses."""
    dataset = load_dataset(config)
    one = Trainer(build(dataset, config), dataset, config, "CPU")
    users, items = one.samples(0)
    size = steps * one.groups
    loss = one.run_steps(np.resize(users, size), np.resize(items, (size, items.shape[1])), steps, steps, 0)
    assert (one.compiled is not None) == config.compiled
    moments = {prefix: {name: p.asnumpy() for name, p in of.items()} for prefix, of in one.moments().items()}
    return {"p.": one.net.values(), **moments}, loss


@pytest.mark.parametrize("flags", [
    ("--lazy_adam", True), ("--lazy_adam", False, "--weight_decay", 0.5, "--layers", "10,7,3", "--num_factors", 5),
    ("--lazy_adam", True, "--layers", "66,40", "--num_factors", 17), ("--lazy_adam", False, "--layers", "6")])
def test_it_does_what_the_graph_does(cpu, ratings, settings, flags):
    # rows of 0.3 make every gradient large enough that Adam's quotient of two small numbers does not blow up rounding
    config = settings(*flags, "--batch_size", 400, "--embedding_std", 0.3, "--learning_rate", 0.01)
    found, loss = state_after(config)
    wanted, wanted_loss = state_after(config.replace(compiled=False))
    assert loss == pytest.approx(wanted_loss, rel=1e-6)
    for kind, arrays in wanted.items():
        for name, array in arrays.items():
            largest = np.abs(array).max()
            assert largest > 0 and np.abs(found[kind][name] - array).max() <= 1e-5 * largest, (kind, name)


def test_results_do_not_depend_on_the_number_of_threads(cpu, ratings, settings, monkeypatch):
    monkeypatch.setattr(compiled, "FEW", 1)
    config = settings("--batch_size", 2000)
    found = []
    for cores in (1, 2, 3):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: range(cores))
        found.append(state_after(config))
    one, *others = found
    for state, loss in others:
        assert loss == one[1]
        assert all((array == one[0][kind][name]).all() for kind in state for name, array in state[kind].items())


@pytest.mark.parametrize("compiler, words", [
    ("no-such-compiler", "No such file or directory: 'no-such-compiler'"), ("true", "cannot open shared object file"),
    ("cc -no-such-option", "-no-such-option"), ("cc '", "No closing quotation"), ("sh -c 'sleep 5'", "timed out"),
    ("cc -pipe", None)])
def test_without_a_compiler_the_graph_trains_and_says_so(cpu, ratings, settings, monkeypatch, caplog, compiler, words):
    monkeypatch.setattr(trainer, "program", compiled.program.__wrapped__)  # made anew
    monkeypatch.setattr(compiled, "SECONDS", 0.1 if words == "timed out" else compiled.SECONDS)
    monkeypatch.setenv("CC", compiler)

    def cleaned(self, cleanup=TemporaryDirectory.cleanup):  # a folder that stays is no fault
        cleanup(self)
        if words is None:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), self.name)
    monkeypatch.setattr(TemporaryDirectory, "cleanup", cleaned)
    caplog.set_level("INFO", "ifrqe")
    dataset = load_dataset(config := settings())
    done = Trainer(build(dataset, config), dataset, config, "CPU").compiled is not None
    said = [record.getMessage() for record in caplog.records if "compiled" in record.getMessage()]
    assert done == (words is None) and len(said) == (not done)
    for line in said:
        assert line.startswith("no compiled training step (") and words in line and "\n" not in line


BEYOND = 1 + (1 << 24)  # the first whole number that no float32 holds


class Between:
    """As compiled.Exchanging, for ranks that are threads; in lazy steps the items' rows begin at BEYOND."""
    rank = threading.local()

    def __init__(self, folder, told, lazy):
        assert 4 * told == self.rank.steps.bytes_sent
        self.told = np.zeros(told, np.int32 if lazy else np.float32)

    def __call__(self, words, step, steps):
        words, lazy, size = words.asnumpy().copy(), self.told.dtype == np.int32, self.rank.steps.filled[0].size
        for address, width in self.rank.rows.items() if lazy else ():
            words[words == address] -= 4 * BEYOND * width
        for k in range(steps.asnumpy()[0]):
            self.call("tell", words, np.int32([k]), self.told)
            each, after = self.rank.exchange.each(self.told), np.zeros(1, np.int32)
            if lazy:
                assert self.told[size] == self.rank.distinct[k]
            self.call("take", words, np.int32([k]), each if lazy else each.sum(0), after)
            assert after[0] == k + 1
        return steps

    def call(self, name, *arrays):
        pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
        assert getattr(compiled.program(), name)(len(arrays), pointers) == 0


@pytest.mark.parametrize("flags", [("--lazy_adam", True), ("--lazy_adam", False, "--weight_decay", 0.5)])
def test_three_ranks_do_what_one_process_does(cpu, settings, monkeypatch, flags):
    """20 users each, items that occur twice, and steps of different numbers of groups: the third rank has none in two."""
    config, lazy, rng = settings(*flags, "--embedding_std", 0.3), flags[1], np.random.default_rng(0)
    own, n, rates = np.array([[6, 5, 6, 6], [4, 4, 0, 1], [0, 2, 2, 0]]), 1 + config.num_neg, np.full(4, 0.01, np.float32)
    users = np.repeat([0, 20, 40], 6) + rng.integers(0, 20, (4, 18))
    items = rng.integers(0, 30, (4, 18, n))
    start = NCF(60, 30, config).values()
    monkeypatch.setattr(compiled, "Exchanging", Between)

    def train(users, items, own, size, ranks=1, first=0):
        net = NCF(60 // ranks, 30, config)
        net.set_values({name: value[first:first + 60 // ranks] if name[:4] == "user" else value
                        for name, value in start.items()})
        moments = Trainer.moments(SimpleNamespace(net=net, cell=TrainSteps(net, size, config, "dense")))
        steps = Between.rank.steps = CompiledSteps(net, moments, config, size, ranks)
        Between.rank.rows = {p.asnumpy().ctypes.data: p.shape[1] for tables in steps.tables for p in tables[2:]}
        Between.rank.rows[steps.kept[8].ctypes.data] = 1
        Between.rank.distinct = [len(np.unique(step[:number])) for step, number in zip(items, own)]
        loss = steps(users - first, items + BEYOND * (ranks > 1 and lazy), own, everyone * n, rates)
        return loss, net.values()

    def in_rank(exchange):
        Between.rank.exchange, k = exchange, exchange.rank
        mine = slice(6 * k, 6 * k + 6)
        return train(users[:, mine], items[:, mine], own[k], 6, 3, 20 * k)
    everyone = own.sum(0)
    found = in_threads(3, in_rank)
    filling = np.concatenate([np.arange(6) >= one[:, None] for one in own], 1)
    order = np.argsort(filling, axis=1, kind="stable")  # it comes last
    users, items = np.take_along_axis(users, order, 1), np.take_along_axis(items, order[:, :, None], 1)
    loss, wanted = train(users, items, everyone, 18)
    assert sum(one for one, _ in found) == pytest.approx(loss, rel=1e-6)
    for name, value in wanted.items():
        values = [one[name] for _, one in found]
        if name[:4] == "user":
            values = [np.concatenate(values)]
        assert all(np.array_equal(one, values[0]) for one in values), name
        assert np.abs(value - start[name]).max() > 1e-3
        np.testing.assert_allclose(values[0], value, atol=1e-5, err_msg=name)
