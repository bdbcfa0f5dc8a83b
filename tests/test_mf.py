"""Matrix factorisation against what NumPy and SciPy say."""
import numpy as np
import pytest
from mindspore import Tensor
from scipy.optimize import minimize

from src.dataset import load_dataset
from src.influence.block import TINY
from src.influence.chunks import Chunks
from src.influence.rows import Rows, prior_of
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


def test_logits_are_inner_products_and_biases(cpu, settings):
    net, values = randomised(settings("--model", "mf", "--num_factors", 3))
    users, items = np.array([3, 0], np.int32), np.array([[8, 0, 1], [2, 2, 5]], np.int32)
    expected = [logits(values, rows_of(values, "user")[u], i) for u, i in zip(users, items)]
    assert net(Tensor(users), Tensor(items)).asnumpy() == pytest.approx(np.array(expected), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("damping", [0.1, 1.0])
def test_block_equals_a_logistic_regression_on_the_items(cpu, small, settings, damping):
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


def test_refit_is_the_minimum(cpu, ratings, settings):
    config = settings("--model", "mf", "--num_factors", 3, "--num_neg", 2, "--embedding_std", 0.7)
    dataset = load_dataset(config)
    net, values = randomised(config, 12, 20)
    prior = prior_of(net.user_rows(values))
    rows = net.user_rows(Rows(net, dataset, config).refitted(dataset))
    chunk = Chunks(dataset, config, purpose="refit negatives")[0]
    for k, user in enumerate(chunk.users):
        items = chunk.items[k][chunk.inside[k]]

        def value(row, items=items):
            z = logits(values, row, items.ravel()).reshape(items.shape)
            away = row - prior.mean
            return np.logaddexp(0, -z[:, 0]).sum() + np.logaddexp(0, z[:, 1:]).sum() + 0.5 * away @ prior.precision @ away
        best = minimize(value, prior.mean, method="BFGS", options={"gtol": 1e-9}).x
        np.testing.assert_allclose(rows[user], best, atol=2e-4)
        assert np.abs(best - prior.mean).max() > 0.05


def test_popularity_makes_no_items_alike(cpu, settings):
    net, values = randomised(settings("--model", "mf", "--num_factors", 3))
    before = net.item_embeddings(values)
    assert before.shape == (9, 3) and np.linalg.norm(before, axis=1) == pytest.approx(np.ones(9))
    values["item_bias"][:] = 7
    assert np.array_equal(before, net.item_embeddings(values))
