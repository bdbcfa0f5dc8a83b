"""Influences against brute force: loss in NumPy, gradients and Hessians by finite differences, dense solve."""
import numpy as np
import pytest

from src.dataset import load_dataset, training_groups
from src.influence_function import block_influences, influences
from src.stat_utils import generator
from tests import reference
from tests.test_ncf import randomised

# histories of 6, 3, 1 and 0 interactions among 9 items: negatives repeat
HISTORIES = {1: [1, 2, 3, 4, 5, 6], 2: [7, 1, 5], 3: [2], 4: []}
HELD_OUT = {1: [7, 8], 2: [2, 9], 3: [1, 3], 4: [5, 6]}


@pytest.fixture
def small(write_ratings):
    write_ratings([(u, i, t) for u in HISTORIES for t, i in enumerate(HISTORIES[u] + HELD_OUT[u])], items=range(1, 10))


def brute_force_user(values, row, validation, items, damping):
    """Influence of each positive (items[:, 0]) of a user alone, and mean effect of the negatives that go with one."""
    labels = np.zeros(items.shape, int)
    labels[:, 0] = 1

    def loss(items, labels):
        return lambda r: reference.cross_entropy(reference.logits(values, r, items.ravel()), labels.ravel()).sum()

    hessian = reference.hessian(loss(items, labels), row)
    hessian += damping * np.diag(hessian).mean() * np.eye(len(row))
    direction = np.linalg.solve(hessian, reference.gradient(loss(validation, np.ones(1, int)), row))
    own = [direction @ reference.gradient(loss(i[:1], k[:1]), row) for i, k in zip(items, labels)]
    negatives = [direction @ reference.gradient(loss(i[1:], k[1:]), row) for i, k in zip(items, labels)]
    return own, np.mean(negatives)


def brute_force(values, dataset, config):
    """(n,) influence of each positive alone, and (num_users,) mean effect of the negatives that go with a positive."""
    groups = training_groups(dataset, config.num_neg, generator(config.seed, "influence negatives"))
    own, shared = np.zeros(dataset.num_interactions), np.zeros(dataset.num_users)
    for user in np.unique(dataset.user):
        rows = dataset.user == user
        own[rows], shared[user] = brute_force_user(values, reference.user_row(values, user), dataset.validation[[user]],
                                                   groups[rows], config.damping)
    return own, shared


@pytest.mark.parametrize("layers", [[6], [6, 4], [8, 5, 3]])
@pytest.mark.parametrize("damping", [0.1, 1.0])
def test_block_equals_brute_force(cpu, small, settings, layers, damping):
    config = settings("--num_factors", 3, "--layers", ",".join(map(str, layers)), "--damping", damping, "--num_neg", 3)
    dataset = load_dataset(config)
    net, values = randomised(4, 9, 3, layers, seed=1)
    own, shared = brute_force({k: v.astype(float) for k, v in values.items()}, dataset, config)
    scale = np.abs(own).max()
    assert scale > 1e-3 and np.abs(shared).max() > 1e-3
    assert np.abs(block_influences(net, dataset, config) - own).max() < 1e-4 * scale
    whole = block_influences(net, dataset, config.replace(count_negatives=True))
    assert np.abs(whole - own - shared[dataset.user]).max() < 1e-4 * scale


def test_influences_do_not_depend_on_the_chunk(cpu, small, settings):
    dataset = load_dataset(settings())
    net, _ = randomised(4, 9, 3, [6, 4], seed=2)
    one, other = (block_influences(net, dataset, settings("--chunk_size", size)) for size in (1, 100_000))
    assert one == pytest.approx(other, rel=1e-5, abs=1e-9)


def test_sign_positive_means_that_disclosing_helps(cpu, write_ratings, settings):
    # GMF only, four items in the plane: the first is like the validation item, the second is its opposite
    write_ratings([(1, 1, 1), (1, 2, 2), (1, 3, 3), (1, 4, 4)], items=range(1, 9))
    dataset = load_dataset(settings())
    net, values = randomised(1, 8, 2, [4, 2])
    values = {name: np.zeros_like(value) for name, value in values.items()}
    values["head.gmf_weight"][:] = 1
    values["user_gmf"][:] = 0.1
    values["item_gmf"][:4] = [[1, 0.1], [-1, 0.1], [1, 0.1], [0, 1]]
    values["item_gmf"][4:] = 0.3
    net.set_values(values)
    like, opposite = block_influences(net, dataset, settings())
    assert like > 0 > opposite


def test_influence_predicts_the_change_when_an_interaction_is_withheld(cpu, write_ratings, settings):
    """Scale: on a convex problem trained to its optimum, I is the first-order change of the validation loss."""
    rng = np.random.default_rng(0)
    write_ratings([(1, i, i) for i in range(1, 43)], items=range(1, 61))
    config = settings("--damping", 0.5, "--num_neg", 4)
    dataset = load_dataset(config)
    net, values = randomised(1, 60, 3, [2])
    values = {name: np.zeros_like(value) for name, value in values.items()}
    values["head.gmf_weight"][:] = 1
    values["item_gmf"] = rng.normal(0, 1, (60, 3)).astype(np.float32)
    groups = training_groups(dataset, 4, generator(config.seed, "influence negatives"))
    items, labels = groups.ravel(), np.tile([1, 0, 0, 0, 0], len(groups))
    features = values["item_gmf"][items].astype(float)

    def optimum(weight, ridge, row=None):
        row = np.zeros(3) if row is None else row
        for _ in range(50):  # Newton on the logistic loss with a ridge towards where the row already was
            p = 1 / (1 + np.exp(-features @ row))
            h = (features * (weight * p * (1 - p))[:, None]).T @ features
            row = row - np.linalg.solve(h + ridge * np.eye(3), features.T @ (weight * (p - labels)) + ridge * (row - centre))
        return row, h

    centre = np.zeros(3)
    trained, h = optimum(np.ones(len(items)), 0.0)
    ridge = config.damping * np.diag(h).mean()
    centre = trained  # the damping is a ridge around the trained row
    values["user_gmf"][0] = trained
    net.set_values(values)
    predicted = block_influences(net, dataset, config)

    def validation_loss(row):
        return np.logaddexp(0, -values["item_gmf"][dataset.validation[0]] @ row)

    actual = []
    for k in range(len(groups)):
        weight = np.ones(len(items))
        weight[5 * k] = 0
        actual.append(validation_loss(optimum(weight, ridge, trained)[0]) - validation_loss(trained))
    assert np.corrcoef(predicted, actual)[0, 1] > 0.99
    assert np.polyfit(predicted, actual, 1)[0] == pytest.approx(1, abs=0.1)


def test_no_look_at_the_test_item(cpu, small, settings):
    dataset = load_dataset(settings())
    net, _ = randomised(4, 9, 3, [6, 4], seed=2)
    before = block_influences(net, dataset, settings())
    dataset.test = np.zeros_like(dataset.test)
    assert np.array_equal(before, block_influences(net, dataset, settings()))


def test_a_certain_user_gives_no_nan(cpu, small, settings):
    dataset = load_dataset(settings())
    net, values = randomised(4, 9, 3, [6, 4])
    values["head.out_bias"][:] = 200  # every probability is 1: the Hessian is zero
    net.set_values(values)
    assert np.isfinite(influences(net, dataset, settings())).all()


def test_what_is_not_finite_raises(cpu, small, settings):
    dataset = load_dataset(settings())
    net, values = randomised(4, 9, 3, [6, 4])
    values["user_gmf"][0] = np.nan
    net.set_values(values)
    with pytest.raises((FloatingPointError, np.linalg.LinAlgError)):
        influences(net, dataset, settings())
