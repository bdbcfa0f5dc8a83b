import ctypes
import errno
import os
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from src.dataset import load_dataset
from src.network import build
from src.training import compiled, trainer
from src.training.trainer import Trainer

pytestmark = pytest.mark.skipif(compiled.program() is None, reason="there is no compiler")


@pytest.fixture
def ratings(write_ratings):
    rng = np.random.default_rng(0)
    write_ratings([(u, i, t) for u in range(70) for t, i in enumerate(rng.permutation(30)[:6])], items=range(30))


def state_after(config, steps=4, **attributes):
    """Parameters and moments after some steps, and the sum of their losses."""
    dataset = load_dataset(config)
    one = Trainer(build(dataset, config), dataset, config, "CPU")
    for name, value in attributes.items():
        setattr(one.compiled, name, value)
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
    one, *others = (state_after(config, cores=cores) for cores in (1, 2, 3))
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


def test_a_lack_of_memory_is_said(cpu, ratings, settings, monkeypatch):
    sizes, none = (np.ones(2, np.int32) * 16).ctypes, ctypes.c_void_p()
    assert compiled.program()(0, 1, 1, 16, 0, sizes, sizes, ctypes.c_size_t(1 << 60), 0, 1, *[none] * 7) == -1
    monkeypatch.setattr(compiled, "program", lambda: lambda *_: -1.0)
    with pytest.raises(MemoryError):
        state_after(settings())
