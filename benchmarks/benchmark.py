"""Speed of the training step on this machine, and of the same in PyTorch and JAX, where these are installed.

Started by scripts/run_benchmark.sh. The variables TORCH_PYTHON and JAX_PYTHON name their interpreters, else it is this one.
"""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

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

RUNS = 5  # of each side, in turn
ANSWER, SUMS = "benchmark_ranks.json", 50  # under output_path: what two ranks have measured; AllReduces in a run
OTHERS = {"torch": "PyTorch", "jax": "JAX"}


class Steps:
    """Times training steps on samples drawn beforehand."""

    def __init__(self, dataset, config, device):
        self.trainer = Trainer(build(dataset, config), dataset, config, device)
        self.per_call = self.trainer.per_call
        users, items = self.trainer.samples(0)
        groups = self.per_call * self.trainer.groups
        self.users, self.items = users[:groups], items[:groups]
        self.ms_per_step()  # compiles

    def ms_per_step(self):
        start = time.perf_counter()
        self.trainer.run_steps(self.users, self.items, self.per_call, self.per_call, 0)
        return 1e3 * (time.perf_counter() - start) / self.per_call


class OtherSteps:
    """The same elsewhere, by a script in a process of its own that waits while this one computes.

    `version` is that of what computes there, empty where it is missing.
    """

    def __init__(self, name, dataset, config, steps):
        sizes = (dataset.num_users, dataset.num_items, steps.trainer.groups, config.num_neg, config.num_factors,
                 steps.per_call, *config.layers)
        # the environment as it was at the start: MindSpore has set OMP_NUM_THREADS to 1 since, behind Python's back
        self.process = subprocess.Popen([os.environ.get(f"{name.upper()}_PYTHON", sys.executable),
                                         Path(__file__).with_name(f"benchmark_{name}.py"),
                                         "lazy" if config.lazy_adam else "dense", *map(str, sizes)],
                                        env=dict(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.version = self.process.stdout.readline().strip()

    def ms_per_step(self):
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def compare(dataset, config, device):
    """Median ms per step of RUNS runs of each side in turn.

    Returns:
        ours: float.
        others: dict of name in OTHERS to (version, float), of those that are installed.
    """
    steps = Steps(dataset, config, device)
    sides = {name: OtherSteps(name, dataset, config, steps) for name in OTHERS}
    there = {name: side for name, side in sides.items() if side.version}
    spent = [[side.ms_per_step() for side in (steps, *there.values())] for _ in range(RUNS)]
    for side in sides.values():
        side.process.communicate()
    ours, *others = (float(ms) for ms in np.median(spent, 0))
    return ours, {name: (side.version, ms) for (name, side), ms in zip(there.items(), others)}


def in_two_ranks(config):
    """Of two ranks on this machine: ms per step, bytes that each tells the other in one, ms of an AllReduce of as many."""
    config = config.replace(ranks=2)
    start(config, f"{__package__}.benchmark", "", json.dumps(config.as_dict()))
    answer = Path(config.output_path) / ANSWER
    found = read_json(answer, "run the benchmark anew")
    answer.unlink()
    return found["ms"], found["bytes"], found["all_reduce"]


class Sums(nn.Cell):
    """As many sums over the ranks as are asked for, in one graph call."""

    def __init__(self):
        super().__init__()
        self.sum = ops.AllReduce()

    def construct(self, x, k, number):
        while k < number:
            x = self.sum(x)
            k += 1
        return x


def steps_in_rank(config):
    """What each rank does of `in_two_ranks`."""
    steps, sums = Steps(load_dataset(config), config, set_device(config)), Sums()
    sent, spent = steps.trainer.bytes_sent, []
    numbers = Tensor(np.zeros(sent // 4, np.float32))
    for _ in range(1 + RUNS):
        begin = time.perf_counter()
        sums(numbers, Tensor(0, ms.int32), Tensor(SUMS, ms.int32)).asnumpy()
        spent.append(1e3 * (time.perf_counter() - begin) / SUMS)
    found = {"ms": float(np.median([steps.ms_per_step() for _ in range(RUNS)])), "bytes": sent,
             "all_reduce": float(np.median(spent[1:]))}  # the first compiles
    write_json(Path(config.output_path) / ANSWER, found)


def of_recipe(recipe, dataset, config, device, show):
    """Measures and shows the training step of a recipe, here and elsewhere."""
    options = load_config(["--recipe", recipe])
    chosen = config.replace(**{key: getattr(options, key) for key in ("batch_size", "learning_rate", "lazy_adam",
                                                                      "weight_decay", "num_neg")}, min_steps=0)
    ours, others = compare(dataset, chosen, device)
    show(f"{recipe}: ms per step, batch {chosen.batch_size:,}", f"{recipe}_ms_per_step", ours, f"{ours:.3f}")
    for name, (version, theirs) in others.items():
        show(f"{recipe}: the same in {OTHERS[name]} {version}", f"{recipe}_{name}_ms_per_step", theirs,
             f"{theirs:.3f}, ratio {ours / theirs:.2f}")
    if device == "CPU":  # else each rank would need an accelerator of its own
        steps = Steps(dataset, chosen.replace(compiled=False), device)
        graph = float(np.median([steps.ms_per_step() for _ in range(RUNS)]))
        show(f"{recipe}: the same by the graph", f"{recipe}_graph_ms_per_step", graph, f"{graph:.3f}")
        each, sent, alone = in_two_ranks(chosen)
        show(f"{recipe}: the same in 2 ranks", f"{recipe}_ranks_ms_per_step", each,
             f"{each:.3f}, each telling the other {sent:,} bytes")
        show(f"{recipe}: an AllReduce of as many bytes", f"{recipe}_all_reduce_ms", alone, f"{alone:.3f}")


def benchmark(config):
    """Measures and prints; writes benchmark.json under output_path."""
    if config.model != "ncf":
        raise InputError(f"--model {config.model}: the benchmark is one of NCF; leave it out")
    device = set_device(config)
    dataset = load_dataset(config)
    number = dataset.num_interactions
    report = {"hardware": hardware(), "device": device, "dataset": dataset.name, "num_interactions": number}
    print(f"{report['hardware']}\n{dataset.name}: {number:,} training interactions, on {device}\n", flush=True)

    def show(name, key, value, text):
        report[key] = value
        print(f"{name:<64} {text}", flush=True)
    for recipe in ("paper", "fast"):
        of_recipe(recipe, dataset, config, device, show)
    write_json(Path(config.output_path) / "benchmark.json", report)


if __name__ == "__main__":
    if FOLDER in os.environ:
        serve(steps_in_rank, "run_benchmark", Config(json.loads(sys.argv[1])))
    main(benchmark, "run_benchmark", __doc__)
