"""The recursion against the NumPy network: finite differences, dense solve."""
import numpy as np
import pytest

from src.dataset import load_dataset
from src.influence import lissa
from src.influence.chunks import Chunks
from src.influence.lissa import Lissa
from src.influence_function import influences
from tests import reference
from tests.test_ncf import randomised


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


@pytest.mark.parametrize("layers", [[4], [4, 3, 2]])
def test_lissa_equals_a_dense_solve(cpu, small, settings, monkeypatch, layers):
    copies = 4  # of the recursion, of a user each, at a time
    monkeypatch.setattr(lissa, "BATCH", 1000)
    monkeypatch.setattr(lissa, "DAMPING", 0.5)
    config = settings("--solver", "lissa", "--num_factors", 2, "--layers", ",".join(map(str, layers)),
                      "--num_neg", 2, "--lissa_depth", 200, "--chunk_size", 8000 * copies)
    dataset = load_dataset(config)
    net, values = randomised(4, 9, 2, layers, seed=1)
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
