"""Fixtures: settings in a temporary folder, tiny datasets with known content, and the real data where it exists."""
import fcntl
import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.common.variant import asked
from src.config import load_config

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def settings(tmp_path):
    """settings("--num_neg", 2, ...) -> Config on the CPU whose folders lie in the test's temporary folder."""
    def make(*arguments, own=None):
        folders = ["--data_path", tmp_path / "data", "--output_path", tmp_path / "output",
                   "--checkpoint_path", tmp_path / "checkpoint", "--dataset", "tiny", "--device_target", "CPU"]
        few = ["--min_steps", 0]  # 2 steps an epoch of tiny data do for a test
        return load_config([str(a) for a in (*folders, *few, *arguments)], own=own)
    return make


@pytest.fixture
def write_ratings(tmp_path):
    """write_ratings(rows, name) writes (user, item, timestamp) rows as dataset `name`, and `items` as its catalogue."""
    def write(rows, name="tiny", items=None):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
        table.insert(2, "rating", 3)
        table.to_csv(folder / "ratings.csv", index=False)
        if items is not None:
            pd.DataFrame({"item_id": items, "title": "", "genres": ""}).to_csv(folder / "movies.csv", index=False)
        return folder
    return write


@pytest.fixture
def ratings(write_ratings):
    """Folder of 12 users with 9 of 20 items each, in random order of rows and time."""
    rng = np.random.default_rng(0)
    rows = [(u, i, int(rng.integers(5))) for u in range(1, 13) for i in rng.permutation(20)[:9]]
    return write_ratings([rows[k] for k in rng.permutation(len(rows))], items=range(20))


@pytest.fixture
def small(write_ratings):
    """Users 1 to 4 with histories of 6, 3, 1 and 0 interactions among 9 items: negatives repeat."""
    histories = {1: [1, 2, 3, 4, 5, 6], 2: [7, 1, 5], 3: [2], 4: []}
    held_out = {1: [7, 8], 2: [2, 9], 3: [1, 3], 4: [5, 6]}
    write_ratings([(u, i, t) for u in histories for t, i in enumerate(histories[u] + held_out[u])], items=range(1, 10))


@pytest.fixture(scope="session")
def cpu():
    """MindSpore in graph mode on the CPU, in one thread: several share out kernels by time, which may move last bits."""
    import mindspore

    from src.device_adapter import set_device
    mindspore.set_context(runtime_num_threads=1)
    return set_device(load_config(["--device_target", "CPU"]))


@pytest.fixture
def real_data():
    """Folder of the real MovieLens files."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real MovieLens files are not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """Settings of a small simulation that went through all stages, evaluated, with its report; to be left as it is."""
    base = tmp_path_factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"  # one for all workers of a run
    config = load_config([
        *(f"--{name}_path={path / name}" for name in ("data", "output", "checkpoint")), "--device_target", "CPU",
        "--dataset", "simulation", "--sim_users", "60", "--sim_items", "120", "--sim_ratings", "1500",
        "--num_eval_neg", "30", "--train_epochs", "3", "--veto", "--report_users", "40",
        "--report_vetoed"])
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (path / "done").exists():
            _finish(config)
            (path / "done").touch()
    return config


@pytest.fixture
def copied(finished_run, tmp_path):
    """Settings of a finished run in a copy that a test may change."""
    return _copy(finished_run, tmp_path)


def _copy(config, tmp_path):
    folders = {f"{name}_path": str(tmp_path / name) for name in ("data", "output", "checkpoint")}
    for key, folder in folders.items():
        shutil.copytree(getattr(config, key), folder)
    return config.replace(**folders)


@pytest.fixture
def product(tmp_path_factory, tmp_path):
    """product("ifrqe", *options) -> settings of a small run with nothing held out, in a copy that a test may change.

    Both models are trained, and users have 1 to 20 interactions. What it copies is made once for the same options.
    """
    def make(strategy, *options):
        base = tmp_path_factory.getbasetemp()
        path = base / "products" / hashlib.sha256(repr((strategy, options)).encode()).hexdigest()[:16]
        archive, rules = base / "products" / "shop.csv", base / "products" / "rules.csv"
        path.mkdir(parents=True, exist_ok=True)
        config = load_config([
            *(f"--{name}_path={path / name}" for name in ("data", "output", "checkpoint")), "--device_target", "CPU",
            "--dataset", "shop", "--archive", str(archive), "--min_ratings", "1", "--holdout", "0", "--train_epochs", "3",
            "--num_eval_neg", "20", "--batch_size", "256", "--min_steps", "0", "--strategy", strategy,
            *(str(rules if option == "RULES" else option) for option in options)])
        if not (path / "done").exists():
            _shop(archive, rules)
            _finish_product(config)
            (path / "done").touch()
        return _copy(config, tmp_path)
    return make


def _shop(archive, rules):
    """Writes a CSV of 40 users, of whom user 20 alone has items 46 to 49, and rules on them."""
    rng = np.random.default_rng(0)
    rows = [(user, int(item), int(1.6e9 + rng.integers(1e6))) for user in range(1, 41)
            for item in (np.arange(39, 50) if user == 20 else rng.permutation(46)[:1 + user // 2])]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    table.sample(frac=1, random_state=1).to_csv(archive, index=False)
    stated = table[["user_id", "item_id"]].assign(unwillingness=[1, .6, .3] * (len(rows) // 3) + [0] * (len(rows) % 3))
    stated[::2].to_csv(rules, index=False)


def _finish_product(config):
    import src.movielens
    from src.game.preprocess import preprocess
    from src.training.train import train
    src.movielens.prepare(config)
    train(asked(config))
    preprocess(config)
    train(asked(config.replace(masked=True)))


def _finish(config):
    import src.movielens
    from eval import evaluate_and_report
    from src.game.preprocess import preprocess
    from src.training.train import train
    src.movielens.prepare(config)
    unwilling = Path(config.data_path) / "simulation" / "unwillingness.csv"  # some are forbidden, some cost nothing
    table = pd.read_csv(unwilling)
    table.loc[::11, "unwillingness"] = 1.0
    table.loc[::7, "unwillingness"] = 0.0
    table.to_csv(unwilling, index=False)
    train(asked(config))
    preprocess(config)
    train(asked(config.replace(masked=True)))
    evaluate_and_report(config)
    evaluate_and_report(config.replace(masked=True))
