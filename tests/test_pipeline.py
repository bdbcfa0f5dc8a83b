"""The scripts, run as a person runs them, on a small simulation."""
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
SIZE = ["--sim_users", "60", "--sim_items", "120", "--sim_ratings", "1500", "--train_epochs", "2", "--num_eval_neg", "30"]
RESULTS = ("train_ncf.json", "preprocess.json", "train_ifrqe.json", "eval_ncf.json", "eval_ifrqe.json")
TIMINGS = ("seconds", "samples_per_second", "ms_per_step", "peak_rss_mb")


def script(name, *arguments, cwd="/", **environment):
    """Runs a script with this interpreter; returns the finished process."""
    return subprocess.run(["bash", str(ROOT / "scripts" / name), *map(str, arguments)], capture_output=True, text=True,
                          cwd=cwd, env={**os.environ, "PYTHON": sys.executable, **environment}, timeout=280)


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
    assert set(RESULTS) | {"disclosure.csv", "eval.log"} <= {p.name for p in (path / "output").iterdir()}
    assert {p.name for p in (path / "checkpoint").iterdir()} == {"NCF.ckpt", "IFRQE.ckpt"}
    assert {"run_train.log", "run_preprocess.log", "run_eval.log"} <= {p.name for p in (path / "output").iterdir()}


def test_simulated_unwillingness_is_used(finished):
    path, _ = finished
    decisions = pd.read_csv(path / "output" / "disclosure.csv")
    file = pd.read_csv(path / "data" / "simulation" / "unwillingness.csv")
    both = decisions.merge(file, on=["user_id", "item_id"])
    assert len(both) == len(decisions) and (both.unwillingness_x == both.unwillingness_y).all()


def test_the_same_command_again_skips_every_stage(finished):
    path, _ = finished
    times = {p: p.stat().st_mtime_ns for p in path.rglob("*.*") if p.suffix in (".json", ".csv", ".ckpt")}
    process = script("run_all.sh", "simulation", *SIZE, *folders(path))
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("done before") == 5 and "test items, plain against masked" in process.stdout
    assert times == {p: p.stat().st_mtime_ns for p in times}


def test_the_separate_scripts_give_the_same_results(finished, tmp_path):
    path, _ = finished
    data = ["--output_path", tmp_path / "output", *SIZE]
    place = [tmp_path / "data", tmp_path / "checkpoint" / "NCF.ckpt", 0]
    for name, arguments in (("run_download_dataset.sh", place[:1]), ("run_preprocess.sh", place),
                            ("run_train_cpu.sh", place), ("run_eval_cpu.sh", place)):
        process = script(name, *arguments, *data, DATASET="simulation")
        assert process.returncode == 0, process.stderr
    assert "test items, plain against masked" in process.stdout
    assert results(tmp_path) == results(path)
    for name in ("output/disclosure.csv", "checkpoint/IFRQE.ckpt", "data/masked_simulation/ratings.csv"):
        assert (tmp_path / name).read_bytes() == (path / name).read_bytes()


def test_a_failing_stage_stops_the_script_with_its_exit_code(tmp_path):
    process = script("run_all.sh", "mine", tmp_path / "nowhere.csv", *folders(tmp_path))
    assert process.returncode == 2
    assert process.stderr.splitlines() == [f"error: --archive {tmp_path}/nowhere.csv: no such file; "
                                           "give the path of a .zip, .inter or .csv file"]
    assert not (tmp_path / "checkpoint").exists()


def test_the_gpu_script_names_the_cpu_script_where_there_is_no_gpu(finished):
    import mindspore
    if mindspore.hal.is_available("GPU"):
        pytest.skip("there is a GPU")
    path, _ = finished
    process = script("run_train_gpu.sh", path / "data", path / "checkpoint", "--output_path", path / "output", *SIZE[6:],
                     "--train_epochs", 3, DATASET="simulation")
    assert process.returncode == 2
    assert process.stderr.startswith("error: --device_target GPU") and "_cpu.sh" in process.stderr


@pytest.mark.parametrize("name, arguments, words", [
    ("run_all.sh", ["a", "b", "c"], "unexpected argument c"),
    ("run_preprocess.sh", ["a", "b", "0", "d"], "unexpected argument d"),
    ("run_preprocess.sh", ["--no_such_flag", "1"], "unknown option --no_such_flag"),
    ("run_train_cpu.sh", ["--no_such_flag", "1"], "unknown option --no_such_flag"),
    ("run_all.sh", ["simulation", "--masked"], "the scripts handle both models"),
    ("run_eval_cpu.sh", ["data", "checkpoint/other.ckpt"], "a folder with NCF.ckpt and IFRQE.ckpt is needed"),
])
def test_wrong_arguments_are_named(name, arguments, words):
    process = script(name, *arguments)
    assert process.returncode == 2 and words in process.stderr and len(process.stderr.splitlines()) == 1


def test_relative_paths_mean_the_callers_folder(tmp_path):
    (tmp_path / "mine.csv").write_text("user_id,item_id\n" + "".join(f"1,{k}\n" for k in range(9)))
    process = script("run_download_dataset.sh", "data", "--archive", "mine.csv", "--dataset", "mine",
                     "--output_path", "output", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "data" / "mine" / "ratings.csv").exists() and (tmp_path / "output").is_dir()


def test_an_interrupted_stage_says_how_to_go_on(finished, tmp_path):
    path, _ = finished
    command = [sys.executable, "train.py", "--dataset", "simulation", "--data_path", path / "data", "--output_path",
               tmp_path / "o", "--checkpoint_path", tmp_path / "c", "--num_eval_neg", "30", "--train_epochs", "100000"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "epoch   3" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on from there" in errors and "Traceback" not in errors
    assert not list((tmp_path / "c").iterdir())


def test_an_interpreter_without_mindspore_is_named():
    process = script("run_all.sh", PYTHON="/bin/false")
    assert process.returncode == 2 and "PYTHON=/bin/false: cannot import mindspore" in process.stderr


def test_setup_without_a_suitable_python_names_what_it_looked_for(tmp_path):
    (tmp_path / "scripts").mkdir()
    for file in ("scripts/setup_env.sh", "requirements.txt"):
        (tmp_path / file).write_bytes((ROOT / file).read_bytes())
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname", "cat", "cmp"):
        (tools / tool).symlink_to(subprocess.check_output(["which", tool], text=True).strip())
    process = subprocess.run(["bash", str(tmp_path / "scripts" / "setup_env.sh")], capture_output=True, text=True,
                             env={"PATH": str(tools)})
    assert process.returncode == 2
    assert "python3.11 python3.12 python3.10" in process.stderr and "CPython 3.10 to 3.12" in process.stderr
