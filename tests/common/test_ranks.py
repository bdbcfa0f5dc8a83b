"""Several processes: the same results as one, and one line when a rank fails."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from src.common.files import read_json
from src.common.ranks import _Watch, in_ranks, rank_folder
from src.common.terminal import progress, tell_progress
from src.common.variant import Variant
from src.dataset import load_dataset
from src.evaluation.evaluate import evaluate
from src.game.preprocess import preprocess
from src.influence_function import expected_at
from src.network import build
from src.training.checkpoint import read_checkpoint
from src.training.deal import deal
from src.training.train import train
from src.training.trainer import Trainer
from tests.small import SMALL, refused

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def many(write_ratings):
    """24 users with 16 of 40 items each, so that each rank has as many interactions in every step."""
    rng = np.random.default_rng(0)
    write_ratings([(u, i, t) for u in range(24) for t, i in enumerate(rng.permutation(40)[:16])], items=range(40))


def test_ranks_train_and_compute_what_one_process_does(many, settings, cpu):
    config = settings(*SMALL, "--batch_size", 126, "--ranks", 2)  # 42 of 336 positives a step, 21 of each rank
    with rank_folder(config) as folder:
        deal(config, False, folder)
        found = in_ranks(config, folder, "tests.ranks", "trained_and_influences")
    dataset = load_dataset(config)
    for kind in ("lazy", "dense"):
        there = found[kind]
        assert there["steps"] == 8
        users, items = (np.concatenate([np.array(one).reshape(8, 21, *np.shape(one)[1:]) for one in there[key]], 1)
                        for key in ("users", "items"))
        assert len(np.unique(users)) == 24
        trainer = Trainer(build(dataset, config), dataset, config.replace(lazy_adam=kind == "lazy"), "CPU")
        loss = trainer.run_steps(users.ravel().astype(np.int32), items.reshape(-1, 3).astype(np.int32), 8, 8, 0)
        assert there["loss"] == pytest.approx(loss, rel=1e-5)
        values = trainer.net.values()
        start = build(dataset, config).values()
        for name, value in values.items():
            assert np.abs(value - start[name]).max() > 1e-4, name
            np.testing.assert_allclose(there["values"][name], value, atol=1e-5, err_msg=f"{kind} {name}")
    influence, expected, report = expected_at([values], dataset, config)
    assert report["expectation"].keys() == found["report"]["expectation"].keys() == {"1", "2", "3"}
    assert np.abs(influence).max() > 1e-4
    np.testing.assert_allclose(found["influence"], influence, atol=1e-5 * np.abs(influence).max())
    np.testing.assert_allclose(found["expected"], expected, atol=1e-4 * np.abs(expected).max())
    assert not folder.exists()


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_of_the_first_rank_is_shown_where_there_is_a_terminal(tmp_path, monkeypatch, capsys, terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    watch, told = _Watch(2, tmp_path, 1), []
    tell_progress(lambda *bar: told.append([None, bar]))
    try:
        with progress(10, "counting", "step") as bar:
            bar.last -= 1
            bar.update(np.int64(4))
        with progress(None, "more", "step") as bar:
            bar.last -= 1
            bar.update(1)
    finally:
        tell_progress(None)
    assert [one[1][-1] for one in told] == [4, None, 1, None]
    for line in json.loads(json.dumps(told)):
        watch._show(*line[1])
        assert (watch.bar is None) == (line[1][-1] is None)


@pytest.mark.parametrize("worker", [None, "\n", "Traceback\nImportError: libgomp.so.1\n"])
def test_why_no_rank_has_started_is_said(tmp_path, worker):
    (tmp_path / "launcher.log").write_text("...\nOSError: [Errno 11] Try again\n\n")
    if worker:
        (tmp_path / "worker_0.log").write_text(worker)
    words = "ImportError: libgomp.so.1" if worker and worker.strip() else r"OSError: \[Errno 11\] Try again"
    with pytest.raises(ChildProcessError, match=words):
        _Watch(2, tmp_path, 1).look(launcher_gone=True)


@pytest.mark.slow
def test_an_error_of_one_rank_is_that_of_all(many, settings, tmp_path):
    config = settings("--ranks", 2, "--output_path", tmp_path / "at 12:00:00")  # no part of a search path
    with rank_folder(config) as folder, refused("one: is wrong"):
        in_ranks(config, folder, "tests.ranks", "refuse_in_one")
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--strategy", "ifrqe", "--veto"),
                                     ("--strategy", "ask-first", "--willingness_weight", 0.001)])
def test_stages_in_ranks_write_what_one_process_writes(many, settings, tmp_path, cpu, options):
    (tmp_path / "rules.csv").write_text("user_id,item_id,unwillingness\n3,,1\n,7,1\n,8,0.9\n,,0.25\n")
    veto = "--veto" in options
    options = *SMALL, "--batch_size", 126, "--anchor_epochs", 1, *options
    options = *options, *(["--willingness_file", tmp_path / "rules.csv"] if veto else [])
    train(Variant(settings(*options)))
    files, output, masked = [], tmp_path / "output", tmp_path / "data" / "masked_tiny"
    for ranks in (1, 2):
        config = settings(*options, "--ranks", ranks, "--overwrite")
        preprocess(config)
        assert not (output / "ranks").exists() and not list(output.glob("rank_*")) and (output / "disclosure.png").exists()
        train(Variant(settings(*options, "--overwrite"), masked=True))
        evaluate(Variant(config, masked=True))
        files.append((pd.read_csv(output / "disclosure.csv"), pd.read_csv(output / "eval_ifrqe_users.csv"),
                      read_json(output / "preprocess.json", ""), read_json(output / "eval_ifrqe.json", ""),
                      [(masked / f"{name}.csv").read_text() for name in ("ratings", "held_out")]))
    one, two = files
    assert one[0].reason.str.startswith("veto").any() == veto == (one[2]["vetoed"] > 20)
    assert one[2]["num_scored"] == len(one[1]) == (23 if veto else 24)
    if not veto:  # the trainings of ask-first shuffle otherwise, so that masks differ
        assert one[0].disclosed.mean() == pytest.approx(two[0].disclosed.mean(), abs=0.1)
        assert (one[0].unwillingness == two[0].unwillingness).all()
        assert two[2]["wv"] == two[2]["spent_wv"] and two[2]["instalment_weights"] == [None] * 4 + [0.001]
        assert set(two[0].instalment) == set(range(6)) and two[0].expected_influence.std() > 0
        return
    assert one[4] == two[4]
    pd.testing.assert_frame_equal(one[0], two[0], rtol=1e-4, atol=1e-9)
    pd.testing.assert_frame_equal(one[1], two[1], rtol=1e-5)
    for k in (2, 3):
        assert one[k].keys() == two[k].keys()
        for key, value in one[k].items():
            if isinstance(value, float) and "seconds" not in key and key != "peak_rss_mb":
                assert two[k][key] == pytest.approx(value, rel=1e-5), key
    assert one[3]["candidates_sha256"] == two[3]["candidates_sha256"]


@pytest.mark.parametrize("option", [("--strategy", "ifrqe++"), ("--solver", "lissa")])
def test_what_does_not_go_with_ranks_is_refused(many, settings, cpu, option):
    with refused("--ranks 2", option[0]):
        preprocess(settings(*option, "--ranks", 2))


def arguments(config, *more):
    shown = [str(x) for x in (*SMALL, "--train_epochs", 40, *more)]
    for key in ("data_path", "output_path", "checkpoint_path", "dataset"):
        shown += [f"--{key}", str(getattr(config, key))]
    return [sys.executable, os.path.join(ROOT, "train.py"), *shown, "--device_target", "CPU", "--ranks", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("sign, said", [(signal.SIGKILL, "has died"), (signal.SIGSTOP, "no sign of life")])
def test_a_rank_that_ends_or_hangs_ends_all_and_resume_goes_on(many, settings, tmp_path, sign, said):
    config = settings()
    whole = config.replace(output_path=str(tmp_path / "whole"), checkpoint_path=str(tmp_path / "whole"))
    subprocess.run(arguments(whole), check=True, capture_output=True)
    run = subprocess.Popen(arguments(config), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    state, kept = tmp_path / "output/ranks/rank_1.json", tmp_path / "checkpoint/NCF.last.ckpt"
    while not kept.exists():
        assert run.poll() is None
        time.sleep(0.05)
    process = int(re.search(r'"process": (\d+)', state.read_text())[1])
    begin = time.monotonic()
    os.kill(process, sign)
    _, error = run.communicate(timeout=60)
    assert time.monotonic() - begin < 60 and run.returncode == 2
    assert re.fullmatch(rf"error: rank 1 of 2 \(process {process}\) has .*\n", error) and said in error
    assert not any(str(tmp_path) in line for line in subprocess.run(["ps", "axo", "args"], capture_output=True, text=True
                                                                    ).stdout.splitlines() if "common.ranks" in line)
    done = subprocess.run(arguments(config, "--resume"), check=True, capture_output=True, text=True)
    assert "going on after epoch" in done.stdout
    one, other = (read_checkpoint(folder / "NCF.ckpt", "")[0] for folder in (tmp_path / "checkpoint", tmp_path / "whole"))
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name])


@pytest.mark.slow
def test_a_port_that_is_taken_ends_all(many, settings, monkeypatch):
    config = settings("--ranks", 2)
    with socket.create_server(("127.0.0.1", 0)) as taken, rank_folder(config) as folder:
        port = taken.getsockname()[1]
        monkeypatch.setattr("src.common.ranks._free_port", lambda: port)
        begin = time.monotonic()
        with pytest.raises(ChildProcessError) as error:
            in_ranks(config, folder, "tests.ranks", "refuse_in_one")
    assert f"cannot reach the others at port {port}" in str(error.value)
    assert time.monotonic() - begin < 90  # a minute, and the start of the interpreters
