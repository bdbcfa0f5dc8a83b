"""Seconds and memory of each stage on ever larger data, each in a process of its own. Started by scripts/run_scaling.sh.

Data are the simulation with --dataset simulation, else of the shape of Yambda, see large.py. They stay under output_path.
"""
import os
import subprocess
import sys
import time
from pathlib import Path

from src.common.errors import InputError
from src.common.files import write_json
from src.common.machine import hardware, max_rss_mb
from src.common.stage import main
from src.constants import SIMULATION

from .large import INTERACTIONS, ITEMS, USERS

ROOT = Path(__file__).resolve().parents[1]
TRAIN, EVALUATE = ROOT / "train.py", ROOT / "eval.py"
STAGES = {"data": ("-m", "src.movielens"), "train": (TRAIN,), "mask": (ROOT / "preprocess.py",),
          "retrain": (TRAIN, "--masked"), "evaluate": (EVALUATE,), "evaluate-masked": (EVALUATE, "--masked")}
OWN = {"scaling_sizes": ("floats (0, inf)", [1, 5, 20], "millions of interactions"),
       "scaling_stages": ("str", ",".join(STAGES), "stages, separated by commas; each needs what those before it leave")}
TAKEN = "run_download_dataset,run_train,run_preprocess,run_eval,run_scaling"  # the programs that all get the command line


def measured(command, log):
    """Seconds of a Python program of this checkout, and the MB that it has had, or one process that it has started.

    What it says goes to the file `log`, which InputError names if it fails.
    """
    words = [sys.executable, *(f"{word:.0f}" if isinstance(word, float) else str(word) for word in command)]
    with open(log, "w") as file:
        start = time.perf_counter()
        process = subprocess.Popen(words, stdout=file, stderr=file, env={**os.environ, "PYTHONPATH": str(ROOT)})
        _, process.returncode, usage = os.wait4(process.pid, 0)
    if process.returncode:
        raise InputError(f"{log}: says why {' '.join(words[1:3])} failed; lower --scaling_sizes if it was killed")
    return time.perf_counter() - start, max_rss_mb(usage)


def source_of(config, millions, folder):
    """The options that name the data of a size, whose users and items grow with it; the file is made if there is none."""
    number, path = 1e6 * millions, folder / "source.parquet"
    if config.dataset == SIMULATION:
        return "--sim_users", number * .0069, "--sim_items", 6.04 * number ** .5, "--sim_ratings", number
    if not path.exists():
        users, items = USERS * number / INTERACTIONS, ITEMS * (number / INTERACTIONS) ** .5
        measured(("-m", "benchmarks.large", path, users, items, number), folder / "source.log")
    return "--archive", path, "--duplicates", "last"


def scaling(config):
    """Measures and prints; writes scaling.json under output_path. Raises InputError if a stage fails."""
    stages, rows = config.own["scaling_stages"].split(","), []
    if odd := [stage for stage in stages if stage not in STAGES]:
        raise InputError(f"--scaling_stages {odd[0]}: is no stage; name some of {','.join(STAGES)}")
    print(f"{'millions':>8}  {'stage':<15} {'seconds':>8} {'us each':>8} {'peak MB':>8}", flush=True)
    for millions in config.own["scaling_sizes"]:
        folder = Path(config.output_path).resolve() / "scaling" / f"{millions:g}"
        folder.mkdir(parents=True, exist_ok=True)
        places = (f"--{name}_path={folder / name}" for name in ("data", "output", "checkpoint"))
        flags = (*sys.argv[1:], "--overwrite", "--flags_of", TAKEN, *places, *source_of(config, millions, folder))
        for stage in stages:
            seconds, peak = measured((*STAGES[stage], *flags), folder / f"{stage}.log")
            rows.append({"millions": millions, "stage": stage, "seconds": seconds, "peak_mb": peak})
            print(f"{millions:>8g}  {stage:<15} {seconds:>8.1f} {seconds / millions:>8.2f} {peak:>8.0f}", flush=True)
    write_json(Path(config.output_path) / "scaling.json", {"hardware": hardware(), "command": sys.argv[1:], "sizes": rows})


if __name__ == "__main__":
    main(scaling, "run_scaling", __doc__, own=OWN)
