"""LightGCN against powers of a dense adjacency in NumPy, and training on a graph without what is withheld."""
import numpy as np
import pytest
from mindspore import Tensor
from mindspore import dtype as mstype

from src.dataset import load_dataset, split_allowed
from src.lightgcn import LightGCN, Propagation
from src.network import build
from src.sources.interactions import ordered
from src.training.steps import TrainSteps
from src.training.trainer import Trainer, train_on
from tests.reference import cross_entropy, gradient


def propagated(dataset, tables, layers):
    """Final tables of users and items in float64: the mean of the powers of the normalised adjacency times E_0."""
    size = dataset.num_users + dataset.num_items
    adjacency = np.zeros((size, size))
    for user, item in zip(dataset.user, dataset.item):
        adjacency[user, dataset.num_users + item] = adjacency[dataset.num_users + item, user] = 1
    degree = np.maximum(adjacency.sum(0), 1)
    adjacency /= np.sqrt(np.outer(degree, degree))
    layer = total = np.concatenate(tables).astype(float)
    for _ in range(layers):
        layer = adjacency @ layer
        total = total + layer
    return np.split(total / (layers + 1), [dataset.num_users])


@pytest.fixture
def made(cpu, small, settings):
    """Settings, dataset (a user and two items without an edge), and a network whose predictions differ."""
    config = settings("--model", "lightgcn", "--num_factors", 3, "--num_neg", 2, "--batch_size", 12, "--embedding_std", 0.8,
                      "--lazy_adam", "False", "--learning_rate", 0.05, "--gcn_layers", 2, "--train_epochs", 3,
                      "--average_epochs", 2)
    dataset = load_dataset(config)
    return config, dataset, build(dataset, config)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("most_pairs", [0, 1 << 20], ids=["sparse", "dense"])
def test_propagation_is_the_mean_of_powers_of_the_adjacency(made, layers, most_pairs):
    _, dataset, net = made
    tables = [net.values()[name] for name in net.TABLES]
    cell = Propagation(dataset, layers, most_pairs)
    assert cell.dense == bool(most_pairs)
    for found, expected in zip(cell(*map(Tensor, tables)), propagated(dataset, tables, layers)):
        np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_step_goes_along_the_gradient_in_the_trained_tables(made):
    config, dataset, net = made
    users, items = np.array([[0, 1, 0]], np.int32), np.array([[1, 7, 2, 6, 0, 3, 2, 8, 8]], np.int32)
    before = net.values()
    tables = [before[name].astype(float) for name in net.TABLES]

    def loss(x):
        user, item = propagated(dataset, [x[:len(tables[0])], x[len(tables[0]):]], 2)
        logit = np.einsum("gf,gnf->gn", user[users[0]], item[items.reshape(3, 3)]) + before["head.bias"][0]
        return cross_entropy(logit, np.eye(1, 3)).mean()

    both = np.concatenate(tables)
    slope = gradient(lambda x: loss(x.reshape(both.shape)), both.ravel()).reshape(both.shape)
    gradients = np.split(slope, [len(tables[0])])
    # with beta1 = 0 and a large epsilon a step of Adam is one along the gradient: rate * g / (|g| + epsilon)
    config = config.replace(beta1=0.0, beta2=0.0, epsilon=100.0)
    cell = TrainSteps(net, 3, config, "dense", net.propagation(dataset))
    total = cell(Tensor(users), Tensor(items), Tensor(np.array([1000.0], np.float32)), Tensor(1, mstype.int32),
                 Tensor(0, mstype.int32), Tensor(np.zeros((3, 3), np.float32)))
    assert total.asnumpy().mean() == pytest.approx(loss(both), rel=1e-5)
    for name, expected in zip(net.TABLES, gradients):
        moved = (before[name] - net.values()[name]) / 10
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(moved, expected / (1 + np.abs(expected) / 100), rtol=2e-3, atol=2e-5)
    assert np.abs(gradients[0][2]).max() > 1e-3  # a user who is in no sample, but near those who are


def test_training_on_a_part_is_training_on_data_that_never_had_the_rest(made):
    config, dataset, _ = made
    kept = np.arange(dataset.num_interactions) % 3 > 0
    user, item = dataset.user[kept], dataset.item[kept]
    without = split_allowed(ordered("other", dataset.ids, (
        np.r_[user, np.arange(4), np.arange(4)], np.r_[item, dataset.validation, dataset.test],
        np.r_[np.arange(len(user)), [1000] * 4, [2000] * 4])), 2)
    assert np.array_equal(without.item, item) and np.array_equal(without.test, dataset.test)
    results = [[epoch.values for epoch in train_on(Trainer(build(source, config), part, config, "CPU"))][-1]
               for source, part in ((dataset, dataset.part(kept)), (without, without))]
    for found, expected in zip((results[0][name] for name in LightGCN.SCORED),  # also of the mean over epochs
                               propagated(without, [results[0][name] for name in LightGCN.TABLES], 2)):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert set(results[0]) == {*LightGCN.TABLES, *LightGCN.SCORED, "head.bias"}
    for name, value in results[0].items():
        assert np.array_equal(value, results[1][name])
    whole = list(train_on(Trainer(build(dataset, config), dataset, config, "CPU")))[-1].values
    assert not np.allclose(whole["item_final"], results[0]["item_final"], atol=1e-3)


def test_other_user_rows_are_what_logits_are_read_from(made):
    config, dataset, net = made
    rows = np.random.default_rng(0).normal(size=(4, 3))
    net.set_values(net.with_user_rows(net.values(), rows))
    values = net.values()
    assert np.allclose(net.user_rows(values), rows)
    logit = net(Tensor(np.array([2], np.int32)), Tensor(np.array([[5]], np.int32))).asnumpy()
    assert logit[0, 0] == pytest.approx(rows[2] @ values["item_final"][5] - np.log(2), rel=1e-4)
