"""Two runs that share a folder."""
import contextlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from src.common import locks
from src.common.locks import locked
from src.options import PROGRAMS
from tests.small import refused

HOLD = """
import sys, time
from src.config import load_config
from src.common.locks import locked
from src.options import PROGRAMS
with locked(sys.argv[1], load_config(sys.argv[2:])):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def other(tmp_path, settings):
    """other(program, *flags): a run of that program in another process, which holds its locks until it is killed."""
    started = []

    def start(program, *flags):
        config = settings(*flags)
        arguments = [f"--{name}={getattr(config, name)}"
                     for name in ("data_path", "output_path", "checkpoint_path", "decisions_path", "dataset")]
        process = subprocess.Popen([sys.executable, "-c", HOLD, program, *arguments], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process
    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("first, second, shared, free", [
    ("run_train", "run_train", "checkpoint", False),
    ("run_train", "run_train", "data", True),  # both only read it
    ("run_preprocess", "run_preprocess", "data", False),  # both write the masked twin
    ("run_preprocess", "run_train", "data", True), ("run_preprocess", "run_train --masked", "data", False),
    ("run_download_dataset", "run_train", "data", True),  # it may have nothing to do
    ("run_eval", "run_train", "checkpoint", False), ("run_eval", "run_eval", "checkpoint", True),
    ("run_eval", "run_eval", "output", False), ("run_tradeoff", "run_preprocess", "output", False),
])
def test_of_two_runs_that_share_a_folder_the_second_is_refused(other, settings, tmp_path, first, second, shared, free):
    for folder in ("checkpoint", "data"):
        (tmp_path / folder).mkdir()
    process = other(first)
    mine = [f"--{name}_path={tmp_path / 'mine' / name}" for name in ("data", "output", "checkpoint") if name != shared]
    second, *flags = second.split()
    holder = f"host {platform.node()}, process {process.pid}, {first}"
    with contextlib.nullcontext() if free else refused(tmp_path / shared, holder):
        with locked(second, settings(*mine, *flags)):
            pass


def test_every_program_is_known():
    root = Path(locks.__file__).resolve().parents[2]
    programs = {name for pattern in ("*.py", "src/**/*.py", "studies/*.py", "benchmarks/*.py") for path in root.glob(pattern)
                for name in re.findall(r'\bmain\(.*"(run_\w+)", __doc__', path.read_text())}
    assert programs == set(PROGRAMS) and programs > set(locks.USES) - {"withdraw"}


def test_a_dataset_that_two_data_paths_link_to_is_one(other, settings, tmp_path):
    (tmp_path / "real" / "tiny").mkdir(parents=True)
    for name in ("data", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tiny").symlink_to(tmp_path / "real" / "tiny")
    other("run_train", "--output_path", tmp_path / "o", "--checkpoint_path", tmp_path / "c")
    config = settings("--data_path", tmp_path / "b")
    with locked("run_download_dataset", config), refused("/b/tiny"):
        locks.claim(config)
    config = config.replace(dataset="another", output_path=str(tmp_path / "mine"))  # in one folder with it
    with locked("run_download_dataset", config):
        locks.claim(config)


def test_decisions_elsewhere_are_not_rewritten_while_they_are_read(other, settings, tmp_path):
    (tmp_path / "decided").mkdir()
    other("run_eval", "--decisions_path", tmp_path / "decided")
    mine = [f"--{name}_path={tmp_path / 'mine' / name}" for name in ("data", "output", "checkpoint")]
    with refused(tmp_path / "decided", "run_eval"):
        with locked("run_train", settings(*mine, "--decisions_path", tmp_path / "decided", "--withdraw", "some.csv")):
            pytest.fail("both run")


def test_data_that_another_run_reads_are_not_made_anew(other, settings, tmp_path):
    (tmp_path / "data").mkdir()
    process = other("run_train")
    config = settings("--output_path", tmp_path / "mine")
    with locked("run_download_dataset", config):
        with refused("data/tiny"):
            locks.claim(config)
        process.kill()
        process.wait()
        locks.claim(config)


def test_the_lock_of_a_killed_run_is_free(other, settings, tmp_path):
    process = other("run_train")
    process.kill()
    process.wait()
    with locked("run_train", settings()):
        pass
    assert not list(tmp_path.rglob("*.lock"))


def test_one_folder_for_all_and_folders_of_seeds_are_locked_and_left_clean(settings, tmp_path):
    everything = [f"--{name}_path={tmp_path}" for name in ("data", "output", "checkpoint")]
    with locked("run_preprocess", settings(*everything)):
        assert len([p for p in tmp_path.iterdir() if p.name.endswith(".lock")]) == 3
    assert not list(tmp_path.iterdir())
    with locked("run_train", settings("--seeds", "1,2")), locked("run_eval", settings("--recommend", "1")):  # who only asks
        assert all((tmp_path / folder / ".lock").exists() for folder in ("output/seed_2", "checkpoint/seed_1"))


def test_a_file_system_without_locks_is_named_and_used(settings, caplog, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")
    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with locked("run_train", settings()):
        pass
    assert "has no locks (No locks available)" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_data_that_cannot_be_written_can_be_read(settings, tmp_path):
    (tmp_path / "data").mkdir(mode=0o555)
    with locked("run_train", settings()):
        pass
