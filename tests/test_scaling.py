import json

import numpy as np

from src.dataset import load_dataset
from src.movielens import prepare
from src.scaling import measure, simulated


def test_the_data_in_memory_are_those_of_the_data_stage(settings):
    config = settings("--dataset", "simulation", "--sim_users", 50, "--sim_items", 60, "--sim_ratings", 900, "--seed", 4)
    prepare(config)
    dataset = load_dataset(config)
    arrays = simulated(900, 50, 60, seed=4)
    for name in ("user", "item", "validation", "test"):
        assert np.array_equal(arrays[name], getattr(dataset, name))


def test_memory_counts_from_the_influences_on(cpu, settings, tmp_path, capsys):
    np.ones(300_000_000, np.int8).sum()  # 300 MB that are given back before
    np.savez(tmp_path / "data.npz", num_items=60, **simulated(900, 50, 60, seed=4))
    measure(tmp_path / "data.npz", settings())
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (row["num_users"], row["num_interactions"]) == (50, 800) and row["seconds"] > 0
    assert 0 <= row["extra_mb"] < 250
