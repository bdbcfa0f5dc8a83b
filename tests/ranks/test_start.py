"""Real ranks, under MindSpore's launcher."""
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from src.training.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--dataset", "simulation", "--sim_users", 60, "--sim_items", 120, "--sim_ratings", 1500, "--num_eval_neg", 30]

pytestmark = pytest.mark.slow


def line(folder, program, *options):
    own = [f"--{what}_path={folder / what}" for what in ("data", "output", "checkpoint")]
    start = ["-m", "src.movielens", *SMALL[:8]] if program == "data" else [ROOT / f"{program}.py", *SMALL, "--ranks", 2]
    return [sys.executable, *map(str, [*start, *own, *options])]


def processes(folder):
    found = subprocess.run(["ps", "axo", "args"], capture_output=True, text=True).stdout.splitlines()
    return [one for one in found if str(folder) in one and "ps axo" not in one]


@pytest.fixture
def simulated(tmp_path):
    subprocess.run(line(tmp_path, "data"), cwd=ROOT, check=True, capture_output=True)
    return tmp_path


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_ends_or_hangs_ends_all_and_resume_goes_on(simulated, tmp_path, sign):
    whole = tmp_path / "whole"
    subprocess.run(line(simulated, "train", "--train_epochs", 40, f"--output_path={whole}", f"--checkpoint_path={whole}"),
                   check=True, capture_output=True)
    run = subprocess.Popen(line(simulated, "train", "--train_epochs", 40), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True)
    kept, log = tmp_path / "checkpoint" / "NCF.last.ckpt", tmp_path / "output" / "ranks" / "rank_1.log"
    while not kept.exists():
        assert run.poll() is None
        time.sleep(0.05)
    process = int(re.search(r"DISTRIBUTED\((\d+)", log.read_text(errors="replace"))[1])
    begin = time.monotonic()
    os.kill(process, sign)
    _, error = run.communicate(timeout=60)
    assert time.monotonic() - begin < 60 and run.returncode == 2
    assert re.fullmatch(rf"error: rank 1 of 2 \(process {process}\) has died; .*--resume.*\n", error)
    assert not processes(tmp_path) and not log.parent.exists()
    done = subprocess.run(line(simulated, "train", "--train_epochs", 40, "--resume"), check=True, capture_output=True)
    assert b"going on after epoch" in done.stdout
    one, other = (read_checkpoint(folder / "NCF.ckpt", "")[0] for folder in (tmp_path / "checkpoint", whole))
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name])


def test_what_ends_the_program_ends_its_ranks(simulated, tmp_path):
    run = subprocess.Popen(line(simulated, "train", "--train_epochs", 400), stdout=subprocess.PIPE, text=True)
    assert run.stdout.readline()
    run.kill()
    run.wait()
    for _ in range(100):
        if not processes(tmp_path):
            break
        time.sleep(0.1)
    assert not processes(tmp_path)


def test_a_port_that_is_taken_ends_all(simulated):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        begin = time.monotonic()
        done = subprocess.run(line(simulated, "train", "--master_port", port), capture_output=True, text=True)
    assert done.returncode == 2 and f"cannot reach the others by 127.0.0.1:{port}" in done.stderr
    assert done.stderr.count("\n") == 1 and time.monotonic() - begin < 75


def test_bad_input_is_one_line(simulated):
    done = subprocess.run(line(simulated, "eval"), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "NCF.ckpt: no such checkpoint" in done.stderr
