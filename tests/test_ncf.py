from types import SimpleNamespace

import numpy as np
import pytest

from src.ncf import NCF
from src.network import score, score_all
from tests import reference


def ncf(num_users, num_items, num_factors, layers, seed):
    return NCF(num_users, num_items, SimpleNamespace(num_factors=num_factors, layers=layers, seed=seed, embedding_std=0.01))


def randomised(num_users, num_items, num_factors, layers, seed=0):
    """An NCF with parameters far from their initial values, and these values."""
    net = ncf(num_users, num_items, num_factors, layers, seed)
    rng = np.random.default_rng(seed)
    values = {name: rng.normal(0, 0.6, value.shape).astype(np.float32) for name, value in net.values().items()}
    net.set_values(values)
    return net, values


@pytest.mark.parametrize("layers, batch_size", [([4], 1), ([8, 3], 6), ([64, 32, 16], 7), ([8, 6, 5, 4, 2], 1000)])
def test_scores_equal_those_of_the_reference_in_any_batch(cpu, layers, batch_size):
    net, values = randomised(5, 7, 3, layers)
    candidates = np.random.default_rng(1).integers(0, 7, (5, 3)).astype(np.int32)
    expected = [reference.logits(values, reference.user_row(values, u), c) for u, c in enumerate(candidates)]
    assert score(net, candidates, batch_size) == pytest.approx(np.array(expected), rel=1e-4, abs=1e-5)
    users, everything = zip(*score_all(net, np.array([4, 0, 2]), 7, batch_size))  # by NumPy
    found = np.take_along_axis(np.concatenate(everything), candidates[[4, 0, 2]], 1)
    assert np.concatenate(users).tolist() == [4, 0, 2]
    assert found == pytest.approx(np.array(expected)[[4, 0, 2]], rel=1e-4, abs=1e-5)


def test_the_default_network_has_the_papers_size(cpu):
    net = ncf(6040, 3706, 16, [64, 32, 16], seed=1)
    assert sum(value.size for value in net.values().values()) == 470_449
