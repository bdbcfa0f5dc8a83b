"""Speed of the training step on this machine: as it trains, by MindSpore's graph, and in two ranks.

Started by scripts/run_benchmark.sh.
"""
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from src.common.errors import InputError
from src.common.files import read_json, write_json
from src.common.machine import hardware
from src.common.stage import main
from src.config import Config, load_config
from src.dataset import load_dataset
from src.device_adapter import set_device
from src.network import build
from src.ranks.rank import FOLDER, serve
from src.ranks.start import start
from src.training.trainer import Trainer

RECIPES = "paper", "fast"
OPTIONS = "batch_size", "learning_rate", "lazy_adam", "weight_decay", "num_neg"  # of a recipe, which the step depends on
RUNS = 5  # of each side, in turn; their median counts
ANSWER = "benchmark_ranks.json"  # under output_path: what two ranks have measured


class Steps:
    """Times training steps on samples drawn beforehand."""

    def __init__(self, dataset, config, device):
        self.trainer = Trainer(build(dataset, config), dataset, config, device)
        groups = self.trainer.per_call * self.trainer.groups
        self.users, self.items = (drawn[:groups] for drawn in self.trainer.samples(0))
        self.ms_per_step()  # compiles

    def ms_per_step(self):
        start, number = time.perf_counter(), self.trainer.per_call
        self.trainer.run_steps(self.users, self.items, number, number, 0)
        return 1e3 * (time.perf_counter() - start) / number


def steps_in_rank(config):
    """What each of two ranks does: the median ms of a step."""
    steps = Steps(load_dataset(config), config, set_device(config))
    write_json(Path(config.output_path) / ANSWER, {"2 ranks": float(np.median([steps.ms_per_step() for _ in range(RUNS)]))})


def of_recipe(dataset, config, device):
    """By name the ms of a step: as it trains, by the graph, in two ranks."""
    sides = {"step": Steps(dataset, config, device)}
    if device == "CPU":
        sides["graph"] = Steps(dataset, config.replace(compiled=False), device)
    spent = [[side.ms_per_step() for side in sides.values()] for _ in range(RUNS)]
    found = dict(zip(sides, np.median(spent, 0).tolist()))
    if device == "CPU":  # else each rank would need an accelerator of its own
        config = config.replace(ranks=2)
        start(config, f"{__package__}.benchmark", "", json.dumps(config.as_dict()))
        found |= read_json(Path(config.output_path) / ANSWER, "run the benchmark anew")
    return found


def benchmark(config):
    """Measures and prints; writes benchmark.json under output_path."""
    if config.model != "ncf":
        raise InputError(f"--model {config.model}: the benchmark is one of NCF; leave it out")
    device, dataset = set_device(config), load_dataset(config)
    report = {"hardware": hardware(), "device": device, "dataset": dataset.name, "ms_per_step": {}}
    for recipe in RECIPES:
        options = load_config(["--recipe", recipe])
        chosen = config.replace(**{key: getattr(options, key) for key in OPTIONS}, min_steps=0)
        report["ms_per_step"][recipe] = found = of_recipe(dataset, chosen, device)
        print(f"\n{recipe}, batch {chosen.batch_size:,}: ms per step", flush=True)
        for name, spent in found.items():
            print(f"{name:<40} {spent:.3f}", flush=True)
    write_json(Path(config.output_path) / "benchmark.json", report)


if __name__ == "__main__":
    if FOLDER in os.environ:
        serve(steps_in_rank, "run_benchmark", Config(json.loads(sys.argv[1])))
    main(benchmark, "run_benchmark", __doc__)
