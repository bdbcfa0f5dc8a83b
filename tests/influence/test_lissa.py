"""Hessian-vector products and the recursion against the NumPy network: finite differences, dense solve."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

from src.dataset import load_dataset
from src.influence import lissa
from src.influence.chunks import Chunks
from src.influence.lissa import Lissa, Recursion, dense_weights
from src.influence_function import influences
from src.ncf import NCF
from tests import reference
from tests.test_ncf import randomised


def as_arrays(vector, values):
    """A vector of all parameters as the solver's arrays."""
    values = {name: value.astype(np.float32) for name, value in reference.unpack(vector, values).items()}
    return [values[name] for name in NCF.TABLES] + dense_weights(values)


def products(vectors, values, users, items, labels):
    """(k, p) products of the Hessian of the samples' mean loss with (k, p) vectors, by the solver's graph."""
    n, k = len(as_arrays(vectors[0], values)), len(vectors)
    columns = [np.stack(a) for a in zip(*(as_arrays(v, values) for v in vectors))]
    h = [Tensor(np.swapaxes(c, 0, 1) if j < len(NCF.TABLES) else c) for j, c in enumerate(columns)]
    parameters = [Tensor(a[(users, users, items, items)[j]] if j < len(NCF.TABLES) else np.repeat(a[None], k, 0))
                  for j, a in enumerate(as_arrays(reference.pack(values), values))]
    weight = np.full((len(users), 1), 1 / len(users), np.float32)
    new, _, _ = Recursion(n)(Tensor(users), Tensor(items), Tensor(labels[:, None].astype(np.float32)), Tensor(weight),
                             Tensor(0, ms.float32), Tensor(-1, ms.float32), *parameters, *h, *[ops.zeros_like(x) for x in h])
    new = [x.asnumpy() for x in new]
    return [[np.swapaxes(x, 0, 1)[c] if j < len(NCF.TABLES) else x[c] for j, x in enumerate(new)] for c in range(k)]


@pytest.mark.parametrize("layers", [[4], [6, 4, 3]])
def test_hessian_vector_products(cpu, layers):
    rng = np.random.default_rng(3)
    _, values = randomised(3, 4, 2, layers, seed=1)
    values = {name: value.astype(float) for name, value in values.items()}
    users, items = rng.integers(0, 3, 12).astype(np.int32), rng.integers(0, 4, 12).astype(np.int32)
    labels = rng.integers(0, 2, 12)
    point = reference.pack(values)
    a, b = rng.normal(0, 1, (2, len(point)))

    def mean_loss(x):
        return reference.losses(reference.unpack(x, values), users, items, labels).mean()

    def gradient(vector):
        return reference.gradient(mean_loss, vector)

    step = 1e-4
    expected = as_arrays((gradient(point + step * a) - gradient(point - step * a)) / (2 * step), values)
    of_a, of_b, of_sum = products(np.array([a, b, 2 * a - b]), values, users, items, labels)
    scale = max(np.abs(x).max() for x in expected)
    for x, wanted in zip(of_a, expected):
        assert np.abs(x - wanted).max() < 2e-4 * scale
    for x, y, z in zip(of_a, of_b, of_sum):  # linear in the vector
        assert np.abs(2 * x - y - z).max() < 1e-4 * scale


def dense_solution(net_values, dataset, config, scale, items):
    """(n,) influences by a dense Hessian of all samples by finite differences, and a dense solve."""
    values = {name: value.astype(float) for name, value in net_values.items()}
    point = reference.pack(values)
    users = np.repeat(dataset.user, items.shape[1])
    labels = np.zeros(items.shape, int)
    labels[:, 0] = 1

    def mean_loss(x):
        return reference.losses(reference.unpack(x, values), users, items.ravel(), labels.ravel()).mean()

    hessian = reference.hessian(mean_loss, point) + lissa.DAMPING * scale * np.eye(len(point))
    assert np.linalg.eigvalsh(hessian)[0] > 0

    def gradient(user, item):
        return reference.gradient(lambda x: reference.losses(reference.unpack(x, values), [user], [item], [1])[0], point)

    directions = [np.linalg.solve(hessian, gradient(u, i)) for u, i in enumerate(dataset.validation)]
    return np.array([directions[u] @ gradient(u, i) for u, i in zip(dataset.user, dataset.item)]) / items.size


def test_lissa_equals_a_dense_solve(cpu, small, settings, monkeypatch):
    copies = 4  # of the recursion, of a user each, at a time
    monkeypatch.setattr(lissa, "BATCH", 1000)
    monkeypatch.setattr(lissa, "DAMPING", 0.5)
    config = settings("--solver", "lissa", "--num_factors", 2, "--layers", "4,2", "--num_neg", 2,
                      "--lissa_depth", 200, "--chunk_size", 8000 * copies)
    dataset = load_dataset(config)
    net, values = randomised(4, 9, 2, [4, 2], seed=1)
    chunks = Chunks(dataset, config)
    solver = Lissa(net, dataset, chunks, config, dataset.validation[:, None])
    assert solver.copies == copies
    solver.start()
    seen = {}
    draw = solver._draw
    solver._draw = lambda users, target: seen.setdefault(int(users[0]), draw(users, target))
    found = np.zeros(dataset.num_interactions)
    for k in range(len(chunks)):
        chunk = chunks[k]
        found[chunks.positions(k)] = solver(chunk)[chunk.inside][:, 0]
    # the samples of each call differ in their negatives: compare each user with the Hessian of their call
    order = np.concatenate([chunk for _, chunk in chunks.parts])
    for start in range(0, len(order), copies):
        users = order[start:start + copies]
        _, (_, items), _ = seen[int(users[0])]
        items = items.reshape(dataset.num_interactions, -1)
        assert np.array_equal(items[:, 0], dataset.item)
        expected = dense_solution(values, dataset, config, solver.scale, items)
        mine = np.isin(dataset.user, users)
        assert np.abs(found[mine] - expected[mine]).max() < 0.01 * np.abs(expected[mine]).max()
    report = solver.report()
    assert report["lissa_residual"] < 0.01 and report["lissa_scale"] == solver.scale


def test_growth_is_named(cpu, small, settings):
    config = settings("--solver", "lissa", "--num_factors", 2, "--layers", "4,2", "--lissa_scale", 0.01, "--lissa_depth", 30)
    dataset = load_dataset(config)
    _, values = randomised(4, 9, 2, [4, 2], seed=1)
    with pytest.raises(FloatingPointError, match="--lissa_scale 0.01"):
        influences([values], dataset, config)
