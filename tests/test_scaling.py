"""Scaling: the data in memory are those of the data stage, and memory counts anew."""
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scaling import measure, reset_peak_rss, simulated
from src.common.machine import peak_rss_mb
from src.dataset import load_dataset, split_allowed
from src.movielens import prepare
from src.sources.interactions import ordered


def test_the_data_in_memory_are_those_of_the_data_stage_and_what_is_measured(cpu, settings, tmp_path):
    config = settings("--dataset", "simulation", "--sim_users", 50, "--sim_items", 60, "--sim_ratings", 900, "--seed", 4)
    prepare(config)
    dataset = load_dataset(config)
    arrays = simulated(900, 50, 60, seed=4)
    in_memory = split_allowed(ordered("simulation", dataset.ids, [arrays[name] for name in ("user", "item", "time")]), 2)
    for name in ("user", "item", "validation", "test", "rows", "held_out"):
        assert np.array_equal(getattr(in_memory, name), getattr(dataset, name))
    np.savez(tmp_path / "data.npz", num_users=50, num_items=60, **arrays)
    row = measure(config, tmp_path / "data.npz")
    assert (row["num_users"], row["num_items"], row["num_interactions"]) == (50, 60, 800)
    assert row["seconds"] > 0 and row["extra_mb"] >= 0


def test_memory_counts_anew_after_a_reset():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("here the peak is that of the process's whole life")
    np.ones(300_000_000, np.int8).sum()
    peak = peak_rss_mb()
    reset_peak_rss()
    assert peak - peak_rss_mb() > 250


def test_a_kernel_that_counts_no_peaks_is_no_error(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    reset_peak_rss()
    assert peak_rss_mb() > 50  # what getrusage says
