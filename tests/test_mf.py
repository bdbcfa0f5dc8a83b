"""Matrix factorisation against what NumPy and SciPy say."""
import numpy as np
import pytest

from src.dataset import load_dataset
from src.influence.block import TINY
from src.influence_function import influences
from src.mf import MF
from src.stat_utils import sigmoid
from tests.test_influence_function import sampled


def randomised(config, num_users=4, num_items=9, seed=1):
    """An MF whose predictions differ, and its parameters."""
    net, rng = MF(num_users, num_items, config), np.random.default_rng(seed)
    values = {name: rng.normal(0, 0.6, value.shape).astype(np.float32) for name, value in net.values().items()}
    net.set_values(values)
    return net, values


def rows_of(values, kind):
    """(n, f + 1) float64: factors beside the bias."""
    return np.concatenate([values[f"{kind}_factors"], values[f"{kind}_bias"]], 1).astype(float)


def logits(values, user_row, items):
    """Of a user's row (f + 1,) and items (n,)."""
    q = rows_of(values, "item")[items]
    return q[:, :-1] @ user_row[:-1] + user_row[-1] + q[:, -1] + float(values["head.bias"][0])


def test_block_equals_a_logistic_regression_on_the_items(cpu, small, settings, damping=0.3):
    config = settings("--model", "mf", "--num_factors", 3, "--num_neg", 3, "--solver", "block", "--damping", damping)
    dataset = load_dataset(config)
    _, values = randomised(config)
    found, _ = influences([values], dataset, config)
    groups, features = sampled(dataset, config), rows_of(values, "item")
    features[:, -1] = 1  # the gradient of the logit in the user's bias
    for user in np.unique(dataset.user):
        items, row = groups[dataset.user == user], rows_of(values, "user")[user]
        x, p = features[items.ravel()], sigmoid(logits(values, row, items.ravel()))
        hessian = (x * (p * (1 - p))[:, None]).T @ x
        hessian += max(damping * np.diag(hessian).mean(), TINY) * np.eye(4)
        wanted = dataset.validation[[user]]
        gradient = (sigmoid(logits(values, row, wanted)) - 1) * features[wanted[0]]
        own = ((sigmoid(logits(values, row, items[:, 0])) - 1)[:, None] * features[items[:, 0]]) @ np.linalg.solve(
            hessian, gradient)
        np.testing.assert_allclose(found[dataset.user == user], own, rtol=1e-3, atol=1e-4 * np.abs(own).max())


def test_popularity_makes_no_items_alike(cpu, settings):
    net, values = randomised(settings("--model", "mf", "--num_factors", 3))
    before = net.item_embeddings(values)
    assert before.shape == (9, 3) and np.linalg.norm(before, axis=1) == pytest.approx(np.ones(9))
    values["item_bias"][:] = 7
    assert np.array_equal(before, net.item_embeddings(values))
