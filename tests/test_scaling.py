import numpy as np

from src.dataset import load_dataset
from src.movielens import prepare
from src.scaling import simulated


def test_the_data_in_memory_are_those_of_the_data_stage(settings):
    config = settings("--dataset", "simulation", "--sim_users", 50, "--sim_items", 60, "--sim_ratings", 900, "--seed", 4)
    prepare(config)
    dataset = load_dataset(config)
    arrays = simulated(900, 50, 60, seed=4)
    for name in ("user", "item", "validation", "test"):
        assert np.array_equal(arrays[name], getattr(dataset, name))
