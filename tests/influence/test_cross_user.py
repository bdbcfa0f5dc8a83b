"""Influence on other users against brute force: NumPy loss, finite differences in the item's row, dense solve."""
import numpy as np
import pytest

from src.dataset import load_dataset
from src.influence.anchor import Anchor
from src.influence.cross_user import _by_item, _whole_items, influence_on_others
from tests import reference
from tests.test_ncf import randomised


def brute_force(values, dataset, config, disclosed, k):
    user, item = dataset.user[k], dataset.item[k]
    users, items, numbers = _by_item(dataset, config, np.unique(dataset.validation))
    mine = items == item
    users, labels, kept = users[mine], (numbers[mine] % 4 == 0).astype(int), disclosed[numbers[mine] // 4]
    if not mine.any():
        return 0.0  # nobody's validation item
    audience = np.flatnonzero(dataset.validation == item)

    def loss(who, labels):
        def of_row(row):
            changed = {**values, "item_gmf": values["item_gmf"].copy(), "item_mlp": values["item_mlp"].copy()}
            changed["item_gmf"][item], changed["item_mlp"][item] = row[:3], row[3:]
            return reference.losses(changed, who, np.full(len(who), item), labels).sum()
        return of_row

    row = np.concatenate([values["item_gmf"][item], values["item_mlp"][item]])
    hessian = reference.hessian(loss(users[kept], labels[kept]), row)
    hessian += config.damping * np.diag(reference.hessian(loss(users, labels), row)).mean() * np.eye(len(row))
    wanted = reference.gradient(loss(audience, np.ones(len(audience), int)), row)
    return wanted @ np.linalg.solve(hessian, reference.gradient(loss([user], [1]), row))


@pytest.mark.parametrize("withheld, size", [([], 1000), ([0, 4, 9], 7)])
def test_equals_brute_force(cpu, small, settings, withheld, size):
    config = settings("--num_factors", 3, "--layers", "6,4", "--num_neg", 3, "--damping", 0.5, "--chunk_size", size)
    dataset = load_dataset(config)
    _, values = randomised(4, 9, 3, [6, 4], seed=1)
    disclosed = np.ones(dataset.num_interactions, bool)
    disclosed[withheld] = False
    targets = dataset.validation[:, None]
    found = influence_on_others(Anchor([values], disclosed), dataset, config, targets)[:, 0]
    double = {name: value.astype(float) for name, value in values.items()}
    expected = [brute_force(double, dataset, config, disclosed, k) for k in range(dataset.num_interactions)]
    assert np.abs(expected).max() > 1e-3
    assert found == pytest.approx(expected, rel=2e-3, abs=1e-6)


def test_an_item_that_nobody_waits_for_helps_nobody(cpu, small, settings):
    config = settings("--num_factors", 3, "--layers", "6,4")
    dataset = load_dataset(config)
    _, values = randomised(4, 9, 3, [6, 4], seed=2)
    found = influence_on_others(Anchor([values]), dataset, config, dataset.validation[:, None])[:, 0]
    waited_for = np.isin(dataset.item, dataset.validation)
    assert (found[waited_for] != 0).any() and (found[~waited_for] == 0).all()


def test_no_item_is_parted():
    items = np.repeat([2, 3, 5, 9], [3, 1, 8, 2])
    for size, expected in ((1, [3, 4, 12, 14]), (4, [4, 12, 14]), (100, [14])):
        parts = list(_whole_items(items, size))
        assert [part.stop for part in parts] == expected and [part.start for part in parts] == [0, *expected[:-1]]
    assert list(_whole_items(items[:0], 5)) == []
