"""Influence on other users against brute force: NumPy loss, finite differences in the item's row, dense solve."""
import numpy as np
import pytest

from src.dataset import load_dataset
from src.others import _by_item, influence_on_others
from tests import reference
from tests.test_ncf import randomised


@pytest.mark.parametrize("withheld", [[], [0, 4, 9]])
def test_equals_brute_force(cpu, small, settings, withheld):
    config = settings("--num_factors", 3, "--layers", "6,4", "--num_neg", 3, "--damping", 0.5)
    dataset = load_dataset(config)
    _, values = randomised(4, 9, 3, [6, 4], seed=1)
    disclosed = np.ones(dataset.num_interactions, bool)
    disclosed[withheld] = False
    targets = dataset.validation[:, None]
    found = influence_on_others([values], dataset, config, targets, disclosed)[:, 0]
    double = {name: value.astype(float) for name, value in values.items()}
    users, numbers, first = _by_item(dataset, config)
    occurring = False
    for k, (user, item) in enumerate(zip(dataset.user, dataset.item)):
        audience = np.flatnonzero(dataset.validation == item)

        def loss(who, labels, row):
            changed = {**double, "item_gmf": double["item_gmf"].copy(), "item_mlp": double["item_mlp"].copy()}
            changed["item_gmf"][item], changed["item_mlp"][item] = row[:3], row[3:]
            return reference.losses(changed, who, np.full(len(who), item), labels).sum()

        row = np.concatenate([double["item_gmf"][item], double["item_mlp"][item]])
        place = slice(first[item], first[item + 1])
        labels, kept = (numbers[place] % 4 == 0).astype(int), disclosed[numbers[place] // 4]
        whole = reference.hessian(lambda r: loss(users[place], labels, r), row)
        hessian = reference.hessian(lambda r: loss(users[place][kept], labels[kept], r), row)
        hessian += 0.5 * np.diag(whole).mean() * np.eye(len(row))
        wanted = reference.gradient(lambda r: loss(audience, np.ones(len(audience), int), r), row)
        own = reference.gradient(lambda r: loss([user], [1], r), row)
        assert found[k] == pytest.approx(wanted @ np.linalg.solve(hessian, own), rel=2e-3, abs=1e-6)
        occurring |= len(audience) > 0 and abs(found[k]) > 1e-3
    assert occurring


def test_an_item_that_nobody_waits_for_helps_nobody(cpu, small, settings):
    config = settings("--num_factors", 3, "--layers", "6,4")
    dataset = load_dataset(config)
    _, values = randomised(4, 9, 3, [6, 4], seed=2)
    found = influence_on_others([values], dataset, config, dataset.validation[:, None])[:, 0]
    waited_for = np.isin(dataset.item, dataset.validation)
    assert (found[waited_for] != 0).any() and (found[~waited_for] == 0).all()
