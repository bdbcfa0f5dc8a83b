"""Refit of user rows: the optimum of its objective, from any part of the interactions."""
import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize

from src.common.errors import InputError
from src.dataset import Ids, load_dataset
from src.influence.chunks import Chunks
from src.influence.refit import Prior, prior_of, refit, refitted
from src.ncf import NCF
from src.network import build

from ..reference import logits
from ..small import SMALL


@pytest.fixture
def network(settings, ratings, cpu, request):
    """Settings, dataset and a network whose weights are large enough for its predictions to differ.

    Without a hidden layer, so that the objective is convex and has one optimum; a parameter gives other layers.
    """
    config = settings(*SMALL, "--embedding_std", 0.7, "--layers", getattr(request, "param", "6"))
    dataset = load_dataset(config)
    return config, dataset, build(dataset, config)


def objective(values, chunk, k, prior):
    """What the row of user k of a chunk minimises, written out."""
    items = chunk.items[k][chunk.inside[k]]

    def value(row):
        z = logits(values, row, items.ravel()).reshape(items.shape)
        away = row - prior.mean
        return np.logaddexp(0, -z[:, 0]).sum() + np.logaddexp(0, z[:, 1:]).sum() + 0.5 * away @ prior.precision @ away
    return value


def compared(network, steps):
    """Of each user the row, the best that BFGS finds from there and from the prior's mean, and the objective at both."""
    config, dataset, net = network
    values = {name: value.astype(np.float64) for name, value in net.values().items()}
    prior = prior_of(NCF.user_rows(values))
    rows = refit(net, dataset, prior, config, steps=steps)
    chunks = Chunks(dataset, config, purpose="refit negatives")
    for number in range(len(chunks)):
        chunk = chunks[number]
        for k, user in enumerate(chunk.users):
            value = objective(values, chunk, k, prior)
            best = min((minimize(value, x, method="BFGS", options={"gtol": 1e-9}).x for x in (rows[user], prior.mean)),
                       key=value)
            assert value(rows[user]) < value(prior.mean) - 1e-3
            yield rows[user], best, value(rows[user]), value(best)


def test_refit_is_the_optimum(network):
    for row, best, _, _ in compared(network, 6):
        np.testing.assert_allclose(row, best, atol=1e-4)


@pytest.mark.parametrize("network", ["6,4", "6,5,3"], indirect=True)
def test_refit_is_as_low_as_brute_force_where_relus_have_kinks(network):
    for _, _, found, lowest in compared(network, 60):
        assert found <= lowest * (1 + 1e-4)


def test_refit_of_a_part_knows_nothing_of_the_rest(network):
    config, dataset, net = network
    prior = prior_of(NCF.user_rows(net.values()))
    kept = np.arange(dataset.num_interactions) % 3 == 0
    kept[dataset.user == 4] = False
    rows = refit(net, dataset.part(kept), prior, config)
    np.testing.assert_allclose(rows[4], prior.mean, rtol=1e-6)
    rest = np.flatnonzero(~kept)
    dataset.item[rest] = dataset.item[rest[::-1]]
    np.testing.assert_array_equal(refit(net, dataset.part(kept), prior, config), rows)


def test_refit_does_not_depend_on_chunks_or_the_rows_there(network):
    config, dataset, net = network
    prior = prior_of(NCF.user_rows(net.values()))
    rows = refit(net, dataset, prior, config)
    net.set_values(NCF.with_user_rows(net.values(), np.zeros_like(rows)))
    np.testing.assert_allclose(refit(net, dataset, prior, config.replace(chunk_size=30)), rows, atol=1e-4)


def test_prior_is_mean_and_full_covariance_of_those_who_were_trained():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(5000, 3)) @ rng.normal(size=(3, 3)) + [1, 2, 3]
    prior = prior_of(mixed)
    np.testing.assert_allclose(prior.mean, mixed.mean(0))
    covariance = np.cov(mixed, rowvar=False)
    np.testing.assert_allclose(np.linalg.inv(prior.precision), covariance, atol=2e-3 * np.trace(covariance))
    assert np.isfinite(prior_of(mixed[:1]).precision).all()  # one user alone


def test_refitted_parameters_keep_what_is_shared(network):
    config, dataset, net = network
    values = net.values()
    trained = np.arange(dataset.num_users) < 8
    new = refitted(net, values, dataset, trained, config)
    for name, value in values.items():
        assert np.array_equal(value, new[name]) == (name not in ("user_gmf", "user_mlp"))
    # rows of users who were not trained on count for nothing
    rows = NCF.user_rows(values)
    rows[8:] = 9
    again = refitted(net, NCF.with_user_rows(values, rows), dataset, trained, config)
    np.testing.assert_array_equal(NCF.user_rows(again), NCF.user_rows(new))


def test_a_user_with_every_item_is_named(settings, write_ratings, cpu):
    write_ratings([(1, i, i) for i in range(6)] + [(2, i, i) for i in range(4)], items=range(6))
    config = settings(*SMALL)
    dataset = load_dataset(config.replace(holdout=2))
    whole = dataclasses.replace(dataset, ids=Ids(dataset.ids.users, dataset.ids.items[:4]))
    with pytest.raises(InputError, match="user 1 has interacted with all 4 items"):
        refit(build(dataset, config), whole, Prior(np.zeros(6), np.eye(6)), config)
