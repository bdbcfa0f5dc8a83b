import numpy as np
import pytest

from src.common.variant import asked
from src.dataset import load_dataset
from src.game.anchors import load_model, retrained
from src.network import build
from src.training.train import train
from tests.small import SMALL


@pytest.fixture
def trained(cpu, ratings, settings):
    config = settings(*SMALL, "--train_epochs", 6, "--learning_rate", 0.05, "--batch_size", 12,
                      "--anchor_warm_epochs", 0)
    train(asked(config))
    dataset = load_dataset(config)
    return config, dataset, load_model(dataset, config)


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_trained_on_everything_an_anchor_is_the_plain_model_again(trained):
    config, dataset, model = trained
    everything = np.ones(dataset.num_interactions, bool)
    # the options are those of the plain training, whatever is given now
    found = retrained(model, dataset, everything, config.replace(learning_rate=9.0, train_epochs=1), "CPU")
    plain = list(model[0].values())
    assert len(found) == len(plain) > 1 and all(same(a, b) for a, b in zip(found, plain))


def test_what_is_withheld_trains_nothing(trained):
    config, dataset, model = trained
    kept = dataset.user != 3
    first = retrained(model, dataset, kept, config, "CPU")[0]
    start = build(dataset, config).values()
    moved = (first["user_gmf"] != start["user_gmf"]).any(1)
    assert not moved[3] and moved[[0, 1, 2, 4]].all()


def test_a_warm_start_goes_on_from_the_plain_model(trained):
    config, dataset, model = trained
    kept = dataset.user != 3
    values = retrained(model, dataset, kept, config.replace(anchor_warm_epochs=2), "CPU")
    last = list(model[0].values())[-1]
    assert len(values) == 2 and not same(*values)
    assert np.array_equal(values[1]["user_gmf"][3], last["user_gmf"][3])  # as the plain model left it
    assert not np.array_equal(values[1]["user_gmf"][2], last["user_gmf"][2])
