"""Refits of users' rows: the optimum of their objective, from any selection of interactions."""
import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize

from src.dataset import load_dataset
from src.influence.chunks import Chunks
from src.influence.rows import ALL_WEIGHT, Rows, prior_of
from src.ncf import NCF
from src.network import build, score_all

from ..reference import logits
from ..small import SMALL, refused
from ..test_mf import logits as mf_logits


@pytest.fixture
def network(settings, ratings, cpu, request):
    """Settings, dataset of 12 users with 7 of 20 items each, and a network whose predictions differ.

    Without a hidden layer, so that the objective is convex and has one optimum; a parameter gives other layers, or `mf`.
    """
    layers = getattr(request, "param", "6")
    config = settings(*SMALL[2:], "--embedding_std", 0.7, *(["--layers", layers] if layers != "mf" else ["--model", "mf"]))
    dataset = load_dataset(config)
    return config, dataset, build(dataset, config)


def objective(values, chunk, k, prior):
    """What the row of user k of a chunk minimises, written out."""
    items = chunk.items[k][chunk.inside[k]]

    def value(row):
        z = (logits if "user_gmf" in values else mf_logits)(values, row, items.ravel()).reshape(items.shape)
        away = row - prior.mean
        return np.logaddexp(0, -z[:, 0]).sum() + np.logaddexp(0, z[:, 1:]).sum() + 0.5 * away @ prior.precision @ away
    return value


@pytest.mark.parametrize("network, steps", [("6", 6), ("mf", 6), ("6,5,3", 60)], indirect=["network"])
def test_refit_is_the_optimum(network, steps):
    """Where ReLUs have kinks it is as low as what BFGS finds, from there and from the prior's mean."""
    config, dataset, net = network
    values = {name: value.astype(np.float64) for name, value in net.values().items()}
    prior = prior_of(net.user_rows(values))
    rows = net.user_rows(Rows(net, dataset, config).refitted(dataset, steps=steps))
    chunks = Chunks(dataset, config, purpose="refit negatives")
    for number in range(len(chunks)):
        chunk = chunks[number]
        for k, user in enumerate(chunk.users):
            value = objective(values, chunk, k, prior)
            best = min((minimize(value, x, method="BFGS", options={"gtol": 1e-9}).x for x in (rows[user], prior.mean)),
                       key=value)
            assert value(rows[user]) < value(prior.mean) - 1e-3 and value(rows[user]) <= value(best) * (1 + 1e-4)
            if steps == 6:
                np.testing.assert_allclose(rows[user], best, atol=1e-4)


def test_refit_of_a_part_knows_nothing_of_the_rest(network):
    config, dataset, net = network
    kept = np.arange(dataset.num_interactions) % 3 == 0
    kept[dataset.user == 4] = False
    refits = Rows(net, dataset, config)
    new = refits.refitted(dataset.part(kept))
    for name, value in net.values().items():
        assert np.array_equal(value, new[name]) == (name not in ("user_gmf", "user_mlp"))  # what is shared stays
    rows = NCF.user_rows(new)
    np.testing.assert_allclose(rows[4], refits.prior.mean, rtol=1e-6)
    rest = np.flatnonzero(~kept)
    dataset.item[rest] = dataset.item[rest[::-1]]
    np.testing.assert_array_equal(NCF.user_rows(refits.refitted(dataset.part(kept))), rows)


def test_refit_does_not_depend_on_chunks_nor_on_rows_of_who_was_not_trained_on(network):
    config, dataset, net = network
    part, values = dataset.part(dataset.user < 8), net.values()
    rows = NCF.user_rows(Rows(net, part, config).refitted(dataset))
    changed = NCF.user_rows(values)
    changed[8:] = 9
    net.set_values(NCF.with_user_rows(values, changed))
    refits = Rows(net, part, config.replace(chunk_size=30))
    assert (refits.trained[8:] == refits.prior.mean).all()
    np.testing.assert_allclose(NCF.user_rows(refits.refitted(dataset)), rows, atol=1e-4)


def test_prior_is_mean_and_full_covariance_of_those_who_were_trained():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(5000, 3)) @ rng.normal(size=(3, 3)) + [1, 2, 3]
    prior = prior_of(mixed)
    np.testing.assert_allclose(prior.mean, mixed.mean(0))
    covariance = np.cov(mixed, rowvar=False)
    np.testing.assert_allclose(np.linalg.inv(prior.precision), covariance, atol=2e-3 * np.trace(covariance))
    assert np.isfinite(prior_of(mixed[:1]).precision).all()  # one user alone


def test_a_user_with_every_item_is_named(settings, write_ratings, cpu):
    write_ratings([(1, i, i) for i in range(6)] + [(2, i, i) for i in range(4)], items=range(6))
    config = settings(*SMALL)
    dataset = load_dataset(config.replace(holdout=2))
    whole = dataclasses.replace(dataset, item_ids=dataset.item_ids[:4])
    with refused("user 1", "4 items"):
        Rows(build(dataset, config), whole, config).refitted(whole)


@pytest.mark.parametrize("network", ["mf", "6,4"], indirect=True)
def test_with_nothing_withheld_the_logits_are_the_models(network):
    config, dataset, net = network
    users = np.arange(dataset.num_users)
    wanted = np.concatenate([scores for _, scores in score_all(net, users, dataset.num_items, 1000)])
    np.testing.assert_allclose(Rows(net, dataset, config).without(users, [users[:0]] * len(users)), wanted, atol=1e-5)


@pytest.mark.parametrize("network", ["mf", "6,4"], indirect=True)
def test_chunks_and_who_else_is_asked_about_make_no_difference(network):
    config, dataset, net = network
    sets = [(user, np.flatnonzero(dataset.user == user)[k:k + 2]) for user in (3, 3, 8, 0) for k in (0, 2)]
    users, withheld = np.array([user for user, _ in sets]), [positions for _, positions in sets]
    together = Rows(net, dataset, config).without(users, withheld)
    alone = Rows(net, dataset, config.replace(chunk_size=20))
    assert alone.together == 1
    np.testing.assert_allclose(np.concatenate([alone.without(users[k:k + 1], withheld[k:k + 1]) for k in range(len(sets))]),
                               together, atol=1e-4)


@pytest.mark.parametrize("network", ["mf"], indirect=True)
def test_a_row_of_a_selection_is_the_optimum_less_the_slope_of_what_was_trained_on(network):
    """All other items are negatives; of fewer interactions the slope counts in proportion, and of none not at all."""
    config, dataset, net = network
    history, user, values = np.flatnonzero(dataset.user == 5), np.array([5]), net.values()
    refits = Rows(net, dataset.part((dataset.user != 5) | np.isin(np.arange(dataset.num_interactions), history[:4])), config)
    trained, prior = refits.trained[5], refits.prior

    def value(row, positives):
        negatives = np.setdiff1d(np.arange(dataset.num_items), positives)
        away = row - prior.mean
        weight = config.num_neg * len(positives) / len(negatives)  # as many draws, each from all of these
        return np.logaddexp(0, -mf_logits(values, row, positives)).sum() + weight * np.logaddexp(
            0, mf_logits(values, row, negatives)).sum() + 0.5 * ALL_WEIGHT * away @ prior.precision @ away

    known = dataset.item[history[:4]]
    slope = np.array([(value(trained + h, known) - value(trained - h, known)) / 2e-5 for h in 1e-5 * np.eye(len(trained))])
    for number in range(8):
        positives = dataset.item[history[:number]]
        kept = np.isin(np.arange(dataset.num_items), positives)[None]
        rows, found = refits.selected(user, kept, steps=8)
        best = minimize(lambda row, p=positives: value(row, p) - min(1, len(p) / 4) * slope @ row, trained, method="BFGS",
                        options={"gtol": 1e-7}).x
        np.testing.assert_allclose(found[0], mf_logits(values, best, np.arange(dataset.num_items)), atol=2e-3)
        np.testing.assert_allclose(rows[0], {0: prior.mean, 4: trained}.get(number, best), atol=1e-3)
        again = refits.selected(user, kept, start=rows + 0.1, steps=8)[0]
        np.testing.assert_allclose(again, rows, atol=1e-3)


@pytest.mark.parametrize("network", ["mf", "6"], indirect=True)  # without a hidden layer, so that there are no kinks
def test_effects_tell_what_refits_come_to(network):
    config, dataset, net = network
    refits, users = Rows(net, dataset, config), np.array([4, 9])
    for user, (logit, effects) in zip(users, refits.effects(users)):
        history = dataset.history.of_users([user])
        base, *exact = refits.without(np.full(8, user), [history[:0], *history[:, None]])
        np.testing.assert_allclose(logit, base, atol=1e-5)
        assert np.corrcoef(effects.ravel(), (np.array(exact) - base).ravel())[0, 1] > 0.9
