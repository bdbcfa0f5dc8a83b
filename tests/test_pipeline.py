"""The scripts, run as a person runs them, on a small simulation."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import mindspore
import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = ["--sim_users", "60", "--sim_items", "120", "--sim_ratings", "1500"]
SIZE = [*DATA, "--train_epochs", "2", "--num_eval_neg", "30"]
RESULTS = ("train_ncf.json", "preprocess.json", "train_ifrqe.json", "eval_ncf.json", "eval_ifrqe.json")
SITE = ".venv/lib/python3.11/site-packages"
TIMINGS = ("seconds", "samples_per_second", "ms_per_step", "peak_rss_mb")


def script(name, *arguments, cwd="/", **environment):
    """Runs a script with this interpreter; returns the finished process."""
    return subprocess.run(["bash", str(ROOT / "scripts" / name), *map(str, arguments)], capture_output=True, text=True,
                          cwd=cwd, env={**os.environ, "PYTHON": sys.executable, **environment}, timeout=900,
                          preexec_fn=one_core)


def one_core():
    """One core for what follows: with several, MindSpore shares out kernels by time, which may move last bits."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)
        os.sched_setaffinity(0, {cores[worker % len(cores)]})


def folders(path):
    return ["--data_path", path / "data", "--output_path", path / "output", "--checkpoint_path", path / "checkpoint"]


def results(path):
    """The JSON records of a run, without what measures time and memory."""
    return {name: {k: v for k, v in json.loads((path / "output" / name).read_text()).items() if k not in TIMINGS}
            for name in RESULTS}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run_all.sh, and its output."""
    path = tmp_path_factory.mktemp("run")
    process = script("run_all.sh", "simulation", *SIZE, *folders(path))
    assert process.returncode == 0, process.stderr
    return path, process.stdout


def test_run_all_ends_with_the_comparison_table(finished):
    path, output = finished
    table = output[output.rindex("test items, plain against masked"):]
    for word in ("NCF", "IFRQE", "hr@10", "ndcg@10", "wv", "reward"):
        assert word in table
    logs = {"eval.log", "run_train.log", "run_preprocess.log", "run_eval.log"}
    assert {*RESULTS, "disclosure.csv", *logs} <= {p.name for p in (path / "output").iterdir()}
    checkpoints = {p.name for p in (path / "checkpoint").iterdir()}
    assert checkpoints == {"NCF.ckpt", "NCF.last.ckpt", "IFRQE.ckpt", "IFRQE.last.ckpt"}
    decisions = pd.read_csv(path / "output" / "disclosure.csv")
    file = pd.read_csv(path / "data" / "simulation" / "unwillingness.csv")
    both = decisions.merge(file, on=["user_id", "item_id"])
    assert len(both) == len(decisions) and (both.unwillingness_x == both.unwillingness_y).all()


@pytest.mark.slow
def test_the_same_command_again_skips_every_stage(finished):
    path, _ = finished
    times = {p: p.stat().st_mtime_ns for p in path.rglob("*.*") if p.suffix in (".json", ".csv", ".ckpt")}
    process = script("run_all.sh", "simulation", *SIZE, *folders(path))
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("done before") == 7 and "test items, plain against masked" in process.stdout
    assert times == {p: p.stat().st_mtime_ns for p in times}


@pytest.mark.slow
def test_the_separate_scripts_give_the_same_results(finished, tmp_path):
    path, _ = finished
    output = ["--output_path", tmp_path / "output"]
    place = [tmp_path / "data", tmp_path / "checkpoint" / "NCF.ckpt", 0]
    for name, arguments in (("run_download_dataset.sh", place[:1]), ("run_preprocess.sh", place),
                            ("run_train_cpu.sh", place), ("run_eval_cpu.sh", place)):
        options = DATA if "download" in name else SIZE
        process = script(name, *arguments, *output, *options, DATASET="simulation")
        assert process.returncode == 0, process.stderr
    assert "test items, plain against masked" in process.stdout
    assert results(tmp_path) == results(path)
    for name in ("output/disclosure.csv", "checkpoint/IFRQE.ckpt", "data/masked_simulation/ratings.csv"):
        assert (tmp_path / name).read_bytes() == (path / name).read_bytes()


def test_a_failing_stage_stops_the_script_with_its_exit_code(tmp_path):
    process = script("run_all.sh", "mine", tmp_path / "nowhere.csv", *folders(tmp_path))
    assert process.returncode == 2
    assert process.stderr.splitlines() == [f"error: --archive {tmp_path}/nowhere.csv: no such file; "
                                           "give the path of a .zip, .inter, .csv or .parquet file"]
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("name, arguments, words", [
    ("run_all.sh", ["a", "b", "c"], "unexpected argument c"),
    ("run_preprocess.sh", ["a", "b", "0", "d"], "unexpected argument d"),
    ("run_preprocess.sh", ["--no_such_flag", "1"], "--no_such_flag: unknown option"),
    ("run_all.sh", ["simulation", "--masked"], "the scripts handle both models"),
    ("run_eval_cpu.sh", ["data", "checkpoint/other.ckpt"], "a folder with NCF.ckpt and IFRQE.ckpt is needed"),
])
def test_wrong_arguments_are_named(name, arguments, words, stub):
    process = script(name, *arguments, PYTHON=sys.executable if "option" in words else stub)
    assert process.returncode == 2 and words in process.stderr and len(process.stderr.splitlines()) == 1


def test_relative_paths_mean_the_callers_folder_whatever_else_is_there(tmp_path):
    (tmp_path / "mine.csv").write_text("user_id,item_id\n" + "".join(f"1,{k}\n" for k in range(9)))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "__init__.py").write_text("raise SystemExit('the wrong src')")
    process = script("run_download_dataset.sh", "data", "--archive", "mine.csv", "--dataset", "mine",
                     "--output_path", "output", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "data" / "mine" / "ratings.csv").exists() and (tmp_path / "output").is_dir()


@pytest.fixture
def stub(tmp_path):
    """A program that stands for Python: a line for each call with its arguments and the folder that it was called in."""
    path = tmp_path / "a stub"
    path.write_text(f'#!/bin/sh\ncase "$*" in *"src.config given"*) exec {sys.executable} "$@";; esac\n'
                    'if [ "$1" = -c ]; then shift 2; fi\n'
                    'printf "%s\\t" "$@"; pwd; env | grep "^PYTHON" >&2; true\n')
    path.chmod(0o755)
    return path


def calls(process):
    """The calls of the stub: its arguments but --flags_of, the folder last."""
    return [re.sub(r"--flags_of\t[\w,]*\t", "", line).split("\t") for line in process.stdout.splitlines()]


def test_relative_paths_stay_the_callers_in_all_forms(tmp_path, stub):
    flags = ["--strategy", "mine.py", "--solver=deep/mine.py", "--tradeoff_strategies=none,mine.py", "--config_path",
             "c.yaml", "--output_path=a b", "--archive", "/x/y.zip", "--willingness_file=r$.csv", "--decisions_path=",
             "--seed", "1"]
    process = script("run_preprocess.sh", "some data", "models/NCF.ckpt", *flags, cwd=tmp_path, PYTHON=stub)
    assert calls(process) == [[f"{ROOT}/preprocess.py", "--data_path", "some data", "--checkpoint_path", "models", *flags,
                               str(tmp_path)]]


@pytest.mark.parametrize("name, programs", [
    ("run_download_dataset.sh", ["src.movielens"]), ("run_preprocess.sh", ["preprocess.py"]),
    ("run_train_gpu.sh", ["train.py --device_target GPU", "train.py --device_target GPU --masked"]),
    ("run_eval_cpu.sh", ["eval.py --device_target CPU", "eval.py --device_target CPU --masked"]),
    ("run_tradeoff.sh", ["src.movielens --dataset simulation", "studies.tradeoff --dataset simulation"]),
    ("run_paper.sh", [f"{module} --dataset simulation --data_path ./data/paper --sim_users 1000 --sim_items 1000 "
                      "--sim_ratings 6148" for module in ("src.movielens", "studies.paper")]),
    ("run_all.sh", ["src.movielens --dataset simulation", "train.py --dataset simulation",
                    "preprocess.py --dataset simulation", "train.py --dataset simulation --masked",
                    "eval.py --dataset simulation", "eval.py --dataset simulation --masked"])])
def test_scripts_without_arguments_call_their_programs(tmp_path, stub, name, programs):
    process = script(name, cwd=tmp_path, PYTHON=stub)
    found = calls(process)
    assert process.returncode == 0 and {call[-1] for call in found} == {str(tmp_path)}
    said = [" ".join(call[:-1]).replace(f"{ROOT}/", "").replace(f"{ROOT} ", "") for call in found]
    assert [line for line in said if "src.config" not in line] == programs


def test_a_yaml_file_of_ones_own_says_what_a_script_would(tmp_path, stub):
    (tmp_path / "own.yaml").write_text("train_epochs: 3\n")
    (tmp_path / "all.yaml").write_text("dataset: mine\nmax_ratings: 20\n")
    for name, file, said in (("run_all.sh", "own.yaml", ["--dataset", "simulation"]), ("run_all.sh", "all.yaml", []),
                             ("run_paper.sh", "all.yaml", [])):
        process = script(name, "--config_path", file, cwd=tmp_path, PYTHON=stub)
        assert calls(process)[0][-len(said) - 3:-1] == [*said, "--config_path", file]
    process = script("run_all.sh", cwd=tmp_path, PYTHON=stub)
    assert process.stdout.count("--flags_of\trun_download_dataset,run_train,run_preprocess,run_eval\t") == 6
    assert script("run_all.sh", "--config_path", "no.yaml", cwd=tmp_path, PYTHON=stub).stderr.count("\n") == 1


def test_the_papers_table_takes_an_archive_by_path_and_names_the_dataset_by_it(tmp_path, stub):
    for file, name in (("my log.inter", "my_log"), ("a$b.csv", "a_b"), ("in/x.y.csv", "x.y")):
        process = script("run_paper.sh", file, "--seeds", "1", cwd=tmp_path, PYTHON=stub)
        wanted = ["--archive", file, "--dataset", name, "--max_ratings", "10", "--seeds", "1", str(tmp_path)]
        assert [call[-len(wanted):] for call in calls(process)] == [wanted] * 2
    process = script("run_paper.sh", "--help", PYTHON=stub)  # what stands above it
    assert process.stdout.startswith("The paper's own table") and "docs/options.md" in process.stdout.splitlines()[-1]


def test_scripts_run_from_anywhere_and_in_any_environment(tmp_path, stub):
    link = tmp_path / "a link"
    link.symlink_to(ROOT / "scripts" / "run_preprocess.sh")
    (tmp_path / "scripts").mkdir()
    environment = {**os.environ, "CDPATH": f"{tmp_path}:/", "PYTHONSAFEPATH": "1", "PYTHONHOME": "/nowhere",
                   "PYTHONWARNINGS": "error"}
    (tmp_path / "venv").mkdir()
    for python in (f"venv/../{stub.name}", f"./{stub.name}", str(stub)):
        process = subprocess.run(["bash", str(link)], capture_output=True, text=True, cwd=tmp_path,
                                 env={**environment, "PYTHON": python})
        assert process.returncode == 0, process.stderr
        assert calls(process) == [[f"{ROOT}/preprocess.py", str(tmp_path)]] and "PYTHON=" in process.stderr
        assert not any(name in process.stderr for name in ("PYTHONSAFEPATH", "PYTHONHOME", "PYTHONWARNINGS"))


@pytest.mark.parametrize("python", ["/nowhere/python", "venv/bin/python", "/etc/passwd"])
def test_an_interpreter_that_is_none_is_named(python):
    process = script("run_all.sh", PYTHON=python)
    assert process.returncode == 2 and len(process.stderr.splitlines()) == 1
    assert f"PYTHON={python}: not found" in process.stderr


def setup_folder(tmp_path, pip):
    """A project of its own, on whose PATH stands a Python whose venv has a pip that runs `pip`."""
    root, tools = tmp_path / "pro ject$", tmp_path / "tools"
    (root / "scripts").mkdir(parents=True)
    tools.mkdir()
    for file in ("scripts/setup_env.sh", "requirements.txt", "requirements-ms2.0.txt", "requirements-dev.txt"):
        (root / file).write_bytes((ROOT / file).read_bytes())
    python = tools / "python3.11"
    python.write_text('#!/bin/sh\ncase "$*" in\n*"-m pip install"*) ' + pip + f';;\n*"-m venv"*) mkdir -p .venv/bin {SITE}; '
                      'cp "$0" .venv/bin/python;;\n*) exit 0;; esac\n')
    python.chmod(0o755)
    return root, {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}


def test_setup_is_not_led_astray_and_done_once(tmp_path):
    root, environment = setup_folder(tmp_path, 'env | grep "^PIP_"; echo "$@"')
    environment = {**environment, "PIP_USER": "1", "PIP_TARGET": "/t", "PIP_PREFIX": "/p", "PIP_INDEX_URL": "https://x",
                   "CDPATH": "/", "PIP_REQUIRE_VIRTUALENV": "1"}
    setup = [["bash", str(root / "scripts" / "setup_env.sh"), *flags] for flags in ([], ["--dev"])]
    for command, said in ((setup[1], True), (setup[1], False), (setup[0], False)):
        process = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/")
        assert process.returncode == 0, process.stderr
        assert ("PIP_INDEX_URL=https://x" in process.stdout) == said == ("--no-user" in process.stdout)
        assert not any(word in process.stdout for word in ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE"))
        (library,) = (root / SITE / "ifrqe.pth").read_text().splitlines()
        assert (root / SITE / library / "ifrqe").resolve() == root / "src"
        shutil.rmtree(root / ".venv" / "library"), (root / SITE / "ifrqe.pth").unlink()  # as an earlier version left it
    (root / "requirements.txt").write_text("other==1\n")
    assert "--no-user" in subprocess.run(setup[0], capture_output=True, text=True, env=environment).stdout


def test_setup_that_fails_is_named_and_tried_again(tmp_path):
    root, environment = setup_folder(tmp_path, "exit 1")
    tools = tmp_path / "bin"  # without a Python
    tools.mkdir()
    for tool in ("bash", "dirname", "readlink", "cat"):
        (tools / tool).symlink_to(shutil.which(tool))
    failed = "pip could not install requirements.txt"
    for more, said in (({"PATH": str(tools)}, "CPython 3.10 to 3.12"), ({}, failed), ({}, failed),
                       ({"MINDSPORE": "1.9"}, "MINDSPORE=1.9: there are pinned")):
        process = subprocess.run(["bash", str(root / "scripts" / "setup_env.sh")], capture_output=True, text=True,
                                 env={**environment, **more})
        assert process.returncode == 2 and said in process.stderr


def train_command(path, target, *arguments):
    """Command of the train stage on the dataset of a finished run, with results in another folder."""
    return [sys.executable, "train.py", "--dataset", "simulation", "--data_path", path / "data", "--num_eval_neg", "30",
            "--output_path", target / "o", "--checkpoint_path", target / "c", *arguments]


def start_and_read_until(words, command):
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=one_core)
    while words not in process.stdout.readline():
        assert process.poll() is None
    return process


def test_an_interrupted_training_says_how_to_go_on(finished, tmp_path):
    process = start_and_read_until("epoch   3", train_command(finished[0], tmp_path, "--train_epochs", "100000"))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "add --resume" in errors and "Traceback" not in errors
    assert {p.name for p in (tmp_path / "c").iterdir()} <= {"NCF.last.ckpt"}


@pytest.mark.slow
def test_a_killed_training_resumes_bit_for_bit(finished, tmp_path):
    """kill -9, then a run to the end, against a run that nobody disturbed."""
    epochs = ["--train_epochs", "40"]
    undisturbed, killed = tmp_path / "a", tmp_path / "b"
    subprocess.run(train_command(finished[0], undisturbed, *epochs), cwd=ROOT, check=True, capture_output=True,
                   preexec_fn=one_core)
    process = start_and_read_until("epoch  20", train_command(finished[0], killed, *epochs, "--resume"))
    process.kill()
    process.communicate(timeout=60)
    assert not (killed / "c" / "NCF.ckpt").exists()
    process = subprocess.run(train_command(finished[0], killed, *epochs, "--resume"), cwd=ROOT, check=True,
                             capture_output=True, text=True, preexec_fn=one_core)
    assert "going on after epoch" in process.stdout and "epoch  19/40" not in process.stdout
    for name in ("c/NCF.ckpt", "c/NCF.last.ckpt"):
        a, b = (mindspore.load_checkpoint(str(folder / name)) for folder in (undisturbed, killed))
        assert set(a) == set(b)
        for key in set(a) - {"info"}:
            assert np.array_equal(a[key].asnumpy(), b[key].asnumpy()), key
    records = [json.loads((folder / "o" / "train_ncf.json").read_text()) for folder in (undisturbed, killed)]
    assert records[0]["history"] == records[1]["history"] and len(records[0]["history"]) == 40


@pytest.mark.slow
def test_benchmark_measures_step_graph_and_ranks(finished, tmp_path):
    path, _ = finished
    process = script("run_benchmark.sh", path / "data", "--output_path", tmp_path, "--num_eval_neg", 30,
                     DATASET="simulation")
    assert process.returncode == 0, process.stderr
    found = json.loads((tmp_path / "benchmark.json").read_text())["ms_per_step"]
    for recipe in ("paper", "fast"):
        assert list(found[recipe]) == ["step", "graph", "2 ranks"] and min(found[recipe].values()) > 0
    assert "\ngraph " in process.stdout
