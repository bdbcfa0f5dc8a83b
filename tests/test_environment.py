"""Programs in environments that others have: streams that are closed or not UTF-8, variables, disks that are full."""
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RECOMMEND = ["eval.py", "--recommend", "1", "--top_k", "3"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Flags of a small dataset with odd titles, on which a model is trained."""
    path = tmp_path_factory.mktemp("environment")
    folder = path / "data" / "odd"
    folder.mkdir(parents=True)
    rows = "".join(f"{u},{(7 * u + k) % 40},{k}\n" for u in range(30) for k in range(8))
    (folder / "ratings.csv").write_text("user_id,item_id,timestamp\n" + rows)
    titles = "".join(f"{i},Caf\u00e9 \u2603 \u202e\U0001f600 \x9b31m {i},Drama\n" for i in range(40))
    (folder / "movies.csv").write_text("item_id,title,genres\n" + titles, encoding="utf-8")
    flags = ["--dataset", "odd", *(f"--{name}_path={path / name}" for name in ("data", "output", "checkpoint")),
             "--device_target", "CPU", "--train_epochs", "1", "--num_eval_neg", "10"]
    done = run(["train.py", "--top_k", "5"], flags)
    assert done.returncode == 0, done.stderr
    return flags


def run(command, flags, environment=(), cwd=ROOT, **options):
    return subprocess.run([sys.executable, ROOT / command[0], *command[1:], *flags], capture_output=True, cwd=cwd,
                          env={**os.environ, **dict(environment)}, timeout=120, **options)


def test_json_is_json_and_titles_steer_nothing_on_any_console(trained):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run(RECOMMEND, [*trained, "--format", "json"], plain)
    assert done.returncode == 0 and b"Error" not in done.stderr
    assert "Caf\u00e9 \u2603" in json.loads(done.stdout.decode("ascii"))["users"][0]["items"][0]["title"]
    done = run(RECOMMEND, trained, {"PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    shown = done.stdout.decode()
    assert "Caf" in shown and not set("\x1b\x9b\u202e\r") & set(shown)


CLOSED = """
import os, sys
for number in range(3):
    os.close(number)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_streams_may_be_closed_and_file_names_no_text(trained, tmp_path):
    name = os.fsdecode(os.fsencode(str(tmp_path)) + b"/r\xe8gles.csv")
    Path(name).write_text("user_id,unwillingness\n1,0.3\n")
    flags = [*trained, "--output_path", str(tmp_path / "o"), "--willingness_file", name, "--top_k", "5"]
    done = subprocess.run([sys.executable, "-c", CLOSED, "eval.py", *flags], cwd=ROOT, capture_output=True, timeout=120)
    log = (tmp_path / "o" / "run_eval.log").read_text()
    assert done.returncode == 0 and done.stderr + done.stdout == b"" and "hr@5" in log and "Traceback" not in log
    assert (tmp_path / "o" / "report.html").exists()


def test_a_full_disk_is_one_line_and_variables_of_the_caller_do_no_harm(trained, tmp_path):
    flags = [*trained, "--output_path", str(tmp_path / "o"), "--checkpoint_path", str(tmp_path / "c")]

    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # stands for the disk
    done = run(["train.py"], flags, preexec_fn=small)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and f"{tmp_path / 'c'}" in lines[0]
    environment = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "COLUMNS": "x", "PYTHONSAFEPATH": "1",
                   "TMPDIR": "/nowhere", "HOME": "/nowhere"}
    done = run(["train.py"], flags, environment, cwd="/")
    assert done.returncode == 0 and done.stderr == b""
    assert (tmp_path / "o" / "train_ncf.png").stat().st_size > 5000
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {
        "NCF.ckpt", "NCF.last.ckpt", "run_train.log", "settings_train_ncf.yaml", "train_ncf.csv", "train_ncf.json",
        "train_ncf.png"}


@pytest.mark.parametrize("program, option, code", [("train.py", "--help", 0), ("eval.py", "--bad_option", 2)])
def test_help_and_bad_options_import_nothing_slow(program, option, code):
    done = subprocess.run([sys.executable, "-X", "importtime", ROOT / program, option], capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time")]
    imported = {line.split("|")[-1].strip().split(".")[0] for line in lines}
    assert done.returncode == code and "src" in imported
    assert not imported & {"mindspore", "pandas", "matplotlib", "sklearn", "scipy"}


@pytest.mark.parametrize("command", [["eval.py"], ["-m", "src.movielens"]])
def test_an_interpreter_that_lacks_modules_is_named(command):
    done = subprocess.run([sys.executable, "-S", *command], capture_output=True, text=True, cwd=ROOT,
                          env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"})
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert f"error: {sys.executable}: No module named " in done.stderr and "run bash scripts/setup_env.sh" in done.stderr
