"""Speed of the training step on this machine, and of the same in PyTorch, where that is installed.

Started by scripts/run_benchmark.sh. The variable TORCH_PYTHON names PyTorch's interpreter, else it is this one.
"""
import json
import os
import subprocess
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


class TorchSteps:
    """As many of the same steps by benchmark_torch.py in a process that waits while this one computes.

    `version` is that of PyTorch, empty where it is missing.
    """

    def __init__(self, dataset, config, trainer):
        sizes = (dataset.num_users, dataset.num_items, trainer.groups, config.num_neg, config.num_factors,
                 trainer.per_call, *config.layers)
        # the environment as it was at the start: MindSpore has set OMP_NUM_THREADS to 1 since, behind Python's back
        self.process = subprocess.Popen([os.environ.get("TORCH_PYTHON", sys.executable),
                                         Path(__file__).with_name("benchmark_torch.py"),
                                         "lazy" if config.lazy_adam else "dense", *map(str, sizes)],
                                        env=dict(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.version = self.process.stdout.readline().strip()

    def ms_per_step(self):
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def steps_in_rank(config):
    """What each of two ranks does: the median ms of a step."""
    steps = Steps(load_dataset(config), config, set_device(config))
    write_json(Path(config.output_path) / ANSWER, {"2 ranks": float(np.median([steps.ms_per_step() for _ in range(RUNS)]))})


def of_recipe(dataset, config, device):
    """By name the ms of a step: as it trains, by the graph, in PyTorch, in two ranks."""
    sides = {"step": Steps(dataset, config, device)}
    if device == "CPU":
        sides["graph"] = Steps(dataset, config.replace(compiled=False), device)
    torch = TorchSteps(dataset, config, sides["step"].trainer)
    if torch.version:
        sides[f"PyTorch {torch.version}"] = torch
    spent = [[side.ms_per_step() for side in sides.values()] for _ in range(RUNS)]
    torch.process.communicate()
    found = dict(zip(sides, np.median(spent, 0).tolist()))
    if device == "CPU":  # else each rank would need an accelerator of its own
        config = config.replace(ranks=2)
        start(config, f"{__package__}.benchmark", "", json.dumps(config.as_dict()))
        answer = Path(config.output_path) / ANSWER
        found |= read_json(answer, "run the benchmark anew")
        answer.unlink()
    return found


def benchmark(config):
    """Measures and prints; writes benchmark.json under output_path."""
    if config.model != "ncf":
        raise InputError(f"--model {config.model}: the benchmark is one of NCF; leave it out")
    device, dataset = set_device(config), load_dataset(config)
    number = dataset.num_interactions
    report = {"hardware": hardware(), "device": device, "dataset": dataset.name, "num_interactions": number,
              "ms_per_step": {}}
    print(f"{report['hardware']}\n{dataset.name}: {number:,} training interactions, on {device}", flush=True)
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
