"""Strategies and solvers from a file, as docs/CONTRIBUTING.md describes them."""
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import src
from src import network
from src.common.plugins import load
from src.dataset import Dataset
from src.game.preprocess import preprocess
from tests.small import SMALL, refused

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "CONTRIBUTING.md").read_text()
STRATEGY, SOLVER, _ = re.findall(r"```python\n(.*?)```", GUIDE, re.S)


@pytest.fixture
def own(tmp_path):
    """own(text) -> path of a file with it."""
    def write(text):
        path = tmp_path / "mine.py"
        path.write_text(text)
        return path
    return write


def test_the_strategy_of_the_guide_runs(cpu, ratings, settings, tmp_path, own):
    config = settings(*SMALL, "--strategy", own(STRATEGY), "--wv_budget", 0.4)
    preprocess(config)
    record = json.loads((tmp_path / "output" / "preprocess.json").read_text())
    table = pd.read_csv(tmp_path / "output" / "disclosure.csv")
    assert record["strategy"].endswith("mine.py") and 0 < record["wv"] <= 0.4 * record["total_wv"]
    count = table.groupby("item_id").user_id.transform("size")
    assert count[table.disclosed == 1].mean() > count[table.disclosed == 0].mean()  # popular items first

    own(STRATEGY.replace("-popularity", "popularity"))  # another file under the same name is another strategy
    preprocess(config)
    table = pd.read_csv(tmp_path / "output" / "disclosure.csv")
    assert count[table.disclosed == 1].mean() < count[table.disclosed == 0].mean()


def test_the_solver_of_the_guide_runs(cpu, ratings, settings, tmp_path, own):
    preprocess(settings(*SMALL, "--solver", own(SOLVER)))
    found = pd.read_csv(tmp_path / "output" / "disclosure.csv")["influence"]
    preprocess(settings(*SMALL, "--solver", "block", "--overwrite"))
    block = pd.read_csv(tmp_path / "output" / "disclosure.csv")["influence"]
    assert np.isfinite(found).all() and found.std() > 0 and not np.allclose(found, block)
    assert np.sign(found).corr(np.sign(block)) > 0.3  # gradients alone point the same way more often than not


def test_either_name_of_the_package_means_the_modules_that_run(own):
    found = load(own("import ifrqe.network\nimport src.network as one\nfrom ifrqe import network as other\n"
                     "from src.network import Network\nclass Mine(Network):\n    pass\n"
                     "def order():\n    from ifrqe.dataset import Dataset\n    import src\n    import json.decoder\n"
                     "    return ifrqe.network, one, other, Dataset, src, json"), "strategy", "order")
    assert found.order() == (network, network, network, Dataset, src, json)
    assert issubclass(found.Mine, network.Network) and "ifrqe" not in sys.modules


@pytest.mark.parametrize("text, words", [
    ("import no_such_module", "cannot be run (ModuleNotFoundError"), ("x = 1", "does not define order"),
    ("def order(*a): return [0, 0]", "must return different positions"),
    ("def order(*a): return [[0], [1, 2]]", "order() failed"),
    ("def order(*a): return [10 ** 9]", "must return different positions"),
])
def test_an_unfit_file_is_named(cpu, ratings, settings, own, text, words):
    with refused("mine.py", words):
        preprocess(settings(*SMALL, "--strategy", own(text)))
    with refused("--solver nowhere.py"):
        settings("--solver", "nowhere.py")


def test_a_solver_of_another_shape_is_named(cpu, ratings, settings, own):
    path = own(SOLVER.replace("residual * np.matmul(rows, self.gradient[chunk.users])", "residual[:, 0]"))
    with refused("mine.py", "array"):
        preprocess(settings(*SMALL, "--solver", path))
