"""The example of the README: the method as a library, in memory."""
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_walkthrough_runs_without_files(tmp_path):
    library = tmp_path / "library"
    library.mkdir()
    (library / "ifrqe").symlink_to(ROOT / "src")  # as `pip install -e .` gives it
    work = tmp_path / "work"
    work.mkdir()
    small = {"device_target": "CPU", "sim_users": 60, "sim_items": 120, "sim_ratings": 1500, "train_epochs": 6,
             "num_eval_neg": 30, "learning_rate": 0.01, "batch_size": 64}
    code = (f"import walkthrough\ndisclosed, results = walkthrough.main({[f'--{k}={v}' for k, v in small.items()]})\n"
            "assert 0 < disclosed.mean() < 1 and all(0 < found['auc'] < 1 for found in results.values())\n"
            "assert results['everything'] != results['masked']\n"
            "from ifrqe.device_adapter import fault\nassert fault('CPU', 0) is None\n"  # in a process of its own
            "import runpy, sys\nsys.argv[1:] = ['--dataset', 'ml-1m']\ntry:\n"
            "    runpy.run_path(walkthrough.__file__, run_name='__main__')\nexcept SystemExit as e:\n    assert e.code == 2")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=work, timeout=300,
                          env={**os.environ, "PYTHONPATH": f"{library}{os.pathsep}{ROOT / 'examples'}",
                               "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert "error: --dataset: is not read here; leave it out\n" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("disclosed: ") and [line.split()[0] for line in lines[1:]] == ["everything", "masked"]
    assert list(work.iterdir()) == []


def test_the_readme_shows_the_walkthrough_as_it_is():
    text = (ROOT / "examples" / "walkthrough.py").read_text()
    shown = (ROOT / "README.md").read_text().split("## Use as a library")[1].split("```python\n")[1].split("```")[0]
    parts = [part.strip("\n") for part in shown.split("...\n")]
    assert len(parts) > 1 and all(part in text for part in parts)
