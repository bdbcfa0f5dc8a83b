"""Speed of the program on this machine; of the training step also that of PyTorch and JAX, where these are installed.

Started by scripts/run_benchmark.sh. The variables TORCH_PYTHON and JAX_PYTHON name their interpreters, else it is this one.
"""
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from src import metrics
from src.candidates import evaluation_candidates
from src.common.errors import InputError
from src.common.files import write_json
from src.common.machine import hardware, peak_rss_mb
from src.common.process import ROOT, ask, command
from src.common.ranks import in_ranks, rank_folder
from src.common.stage import main
from src.config import load_config
from src.dataset import load_dataset
from src.device_adapter import set_device
from src.influence.anchor import Anchor
from src.influence_function import influences
from src.network import build, score
from src.training.deal import deal, load_share
from src.training.train import Validation
from src.training.trainer import STEPS_PER_CALL, Trainer, train_on

RUNS = 5  # of each side, in turn
OTHERS = {"torch": "PyTorch", "jax": "JAX"}
TARGET = 0.6846  # HR@10 on ml-1m that MindSpore's model zoo publishes for its NCF on Ascend
FILE = "benchmark.json"


class Steps:
    """Times training steps on samples drawn beforehand."""

    def __init__(self, dataset, config, device):
        self.trainer = Trainer(build(dataset, config), dataset, config, device)
        self.per_call = min(STEPS_PER_CALL, self.trainer.steps)
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


def in_two_ranks(config, device):
    """Median ms per step of two ranks on this machine, and the bytes that each tells the other in a step."""
    config = config.replace(ranks=2)
    with rank_folder(config) as folder:
        deal(config, False, folder)
        return in_ranks(config, folder, f"{__package__}.benchmark", "steps_in_rank", device)


def steps_in_rank(config, folder, exchange, device):
    """What each rank does of `in_two_ranks`."""
    steps = Steps(load_share(config, False, folder, exchange), config, device)
    return float(np.median([steps.ms_per_step() for _ in range(RUNS)])), steps.trainer.cell.bytes_sent


def shares(dataset, config, device):
    """Seconds of an epoch with its evaluation, and of what in it is not a training step, each measured on its own."""
    net = build(dataset, config)
    trainer = Trainer(net, dataset, config.replace(train_epochs=3), device)
    validate, spent = Validation(dataset, config), []
    for number in range(3):  # the first compiles
        start = time.perf_counter()
        trainer.epoch(number)
        trained = time.perf_counter()
        validate(net.values())
        end = time.perf_counter()
        trainer.samples(number)
        spent.append((end - start, end - trained, time.perf_counter() - end))
    return [float(value) for value in np.mean(spent[1:], 0)]


def seconds_to_start(started):
    """Median seconds of three runs of a command."""
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(started, env=dict(os.environ), stdout=subprocess.DEVNULL, check=True)
        spent.append(time.perf_counter() - start)
    return float(np.median(spent))


def seconds_of_influences(dataset, config):
    """Seconds of the influences at one set of parameters, which are untrained: their values do not matter here."""
    anchor = Anchor([build(dataset, config.replace(embedding_std=0.3)).values()])
    start = time.perf_counter()
    influences(anchor, dataset, config)
    return time.perf_counter() - start


def time_to_target(config, start):
    """Seconds from `start` (of time.time()) until a training without the test items has TARGET on them; None if never.

    The test items decide when the clock stops, nothing else.
    """
    device = set_device(config)
    dataset = load_dataset(config)
    candidates = evaluation_candidates(dataset, "test", config)
    shown = build(dataset, config)
    for epoch in train_on(Trainer(build(dataset, config), dataset, config, device)):
        shown.set_values(epoch.values)
        rank = metrics.ranks(score(shown, candidates, config.eval_batch_size, dataset.scored))
        hit_ratio = metrics.hit_ratio_of_ranks(rank, config.top_k)
        seconds = time.time() - start
        print(f"epoch {epoch.number}  hr@{config.top_k} {hit_ratio:.4f}  {seconds:.1f} s", file=sys.stderr, flush=True)
        if hit_ratio >= TARGET:
            return seconds
    return None


def benchmark(config):
    """Measures and prints; writes benchmark.json under output_path."""
    if config.model != "ncf":
        raise InputError(f"--model {config.model}: the benchmark is one of NCF; leave it out")
    device = set_device(config)
    dataset = load_dataset(config)
    report = {"hardware": hardware(), "device": device, "dataset": dataset.name,
              "num_interactions": dataset.num_interactions}
    print(f"{report['hardware']}\n{dataset.name}: {dataset.num_interactions:,} training interactions, on {device}\n",
          flush=True)

    def show(name, key, value, text):
        report[key] = value
        print(f"{name:<64} {text}", flush=True)

    for recipe in ("paper", "fast"):
        options = load_config(["--recipe", recipe])
        chosen = config.replace(**{key: getattr(options, key) for key in ("batch_size", "learning_rate", "lazy_adam",
                                                                          "weight_decay", "num_neg")}, min_steps=0)
        ours, others = compare(dataset, chosen, device)
        show(f"{recipe}: ms per step, batch {chosen.batch_size:,}", f"{recipe}_ms_per_step", ours, f"{ours:.3f}")
        for name, (version, theirs) in others.items():
            report[name] = version
            show(f"{recipe}: the same in {OTHERS[name]} {version}", f"{recipe}_{name}_ms_per_step", theirs,
                 f"{theirs:.3f}, ratio {ours / theirs:.2f}")
        if device == "CPU":  # else each rank would need an accelerator of its own
            graph = chosen.replace(compiled=False)
            for size, name in ((1, ""), (2, ", half the batch")):
                steps = Steps(dataset, graph.replace(batch_size=chosen.batch_size // size), device)
                ms = float(np.median([steps.ms_per_step() for _ in range(RUNS)]))
                show(f"{recipe}: the same by the graph{name}", f"{recipe}_graph_{size}_ms_per_step", ms, f"{ms:.3f}")
            ms, sent = in_two_ranks(graph, device)
            show(f"{recipe}: the same in 2 ranks", f"{recipe}_ranks_ms_per_step", ms,
                 f"{ms:.3f}, each telling the other {sent:,} bytes")
        total, evaluation, sampling = shares(dataset, chosen, device)
        other = evaluation + sampling
        show(f"{recipe}: seconds per epoch, sampling and validation included", f"{recipe}_seconds_per_epoch", total,
             f"{total:.2f}, so {options.train_epochs} epochs in {total * options.train_epochs:.0f} s")
        show(f"{recipe}: validation and sampling, each on its own", f"{recipe}_other_seconds", other,
             f"{evaluation:.2f} s and {sampling:.2f} s, {100 * other / total:.0f}% of the epoch")
    starts = {"train.py --help": ("help", [sys.executable, ROOT / "train.py", "--help"]), "the imports of train.py": (
        "import", command("importlib", "import_module", "src.training.train"))}
    for name, (key, started) in starts.items():
        if key == "help" and not started[1].is_file():  # where the package is installed
            continue
        seconds = seconds_to_start(started)
        show(f"seconds of {name}", f"{key}_seconds", seconds, f"{seconds:.2f}")
    seconds = seconds_of_influences(dataset, config)
    show(f"seconds of influences ({config.solver}) at one set of parameters", "influence_seconds", seconds, f"{seconds:.1f}")
    if config.eval_negatives:
        fast = load_config([*sys.argv[1:], "--recipe", "fast", "--holdout", "1"])
        seconds = ask(f"{__package__}.benchmark", "time_to_target", fast, time.time())
        show(f"fast: seconds from process start to HR@{config.top_k} {TARGET}", "seconds_to_target", seconds,
             "not reached" if seconds is None else f"{seconds:.1f}")
    show("peak memory of this process, MB", "peak_rss_mb", peak_rss_mb(), f"{peak_rss_mb():.0f}")
    write_json(Path(config.output_path) / FILE, report)


if __name__ == "__main__":
    main(benchmark, "run_benchmark", __doc__)
