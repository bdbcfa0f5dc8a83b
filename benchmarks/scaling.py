"""Time and memory of the influences of ever larger simulated datasets, started by scripts/run_scaling.sh.

The network is untrained, since its values do not matter here, and influences are computed at one set of parameters. Each
size runs in a process of its own that holds no more than data and model; what it needs beyond these is reported.
"""
import contextlib
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from src.common.errors import InputError
from src.common.files import write_json
from src.common.machine import hardware, peak_rss_mb
from src.common.stage import main
from src.constants import ITEM, SIMULATION, TIMESTAMP, USER
from src.dataset import split_allowed
from src.device_adapter import set_device
from src.influence_function import influences
from src.network import build
from src.sources.interactions import ordered
from src.sources.simulation import simulate

SIZES = ((1_000_000, 6_900, 5_000), (5_000_000, 34_500, 12_000), (20_000_000, 138_000, 27_000))  # ratings, users, items


def simulated(ratings, users, items, seed):
    """Arrays of a simulated dataset of this size: positions of users and items, and times."""
    table, _, _ = simulate(users, items, ratings, seed)
    return {"user": table[USER].to_numpy(np.int32) - 1, "item": table[ITEM].to_numpy(np.int32) - 1,
            "time": table[TIMESTAMP].to_numpy()}


def reset_peak_rss():
    """On Linux lets peak_rss_mb count anew from what is in RAM now, where that is allowed."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def measure(config, path):
    """Seconds and memory of the influences of the dataset in a file of arrays, as a dict."""
    set_device(config)
    with np.load(path) as arrays:
        ids = np.arange(int(arrays["num_users"])), np.arange(int(arrays["num_items"]))
        whole = ordered(SIMULATION, ids, (arrays["user"], arrays["item"], arrays["time"]))
    dataset = split_allowed(whole, 2)
    values = build(dataset, config.replace(embedding_std=0.3)).values()
    reset_peak_rss()
    before = peak_rss_mb()
    start = time.perf_counter()
    influences([values], dataset, config)
    return {"num_interactions": dataset.num_interactions, "num_users": dataset.num_users, "num_items": dataset.num_items,
            "seconds": time.perf_counter() - start, "data_and_model_mb": before, "extra_mb": peak_rss_mb() - before}


def scaling(config):
    """Measures and prints; writes scaling.json under output_path."""
    rows = []
    print(f"{hardware()}\nsolver {config.solver}, chunk_size {config.chunk_size:,}\n\n"
          f"{'interactions':>12} {'users':>8} {'items':>7} {'seconds':>8} {'us each':>8} {'extra MB':>9}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        for ratings, users, items in SIZES:
            np.savez(path, num_users=users, num_items=items, **simulated(ratings, users, items, config.seed))
            try:
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
                    row = fresh.submit(measure, config, path).result()
            except BrokenProcessPool as e:
                raise InputError(f"--solver {config.solver}: the process for {ratings:,} ratings was killed, perhaps for "
                                 "want of memory; lower --chunk_size, or name another solver") from e
            rows.append(row)
            print(f"{row['num_interactions']:>12,} {row['num_users']:>8,} {row['num_items']:>7,} {row['seconds']:>8.1f} "
                  f"{1e6 * row['seconds'] / row['num_interactions']:>8.2f} {row['extra_mb']:>9.0f}", flush=True)
    write_json(Path(config.output_path) / "scaling.json", {
        "hardware": hardware(), "solver": config.solver, "chunk_size": config.chunk_size, "sizes": rows})


if __name__ == "__main__":
    main(scaling, "run_scaling", __doc__)
