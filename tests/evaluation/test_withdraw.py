import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eval import evaluate_and_report
from src.common.errors import InputError
from src.common.together import finish
from src.common.variant import Variant, asked
from src.constants import PENDING_FILE
from src.dataset import load_dataset
from src.evaluation.withdraw import withdraw
from src.game.decisions import read_decisions
from src.game.preprocess import preprocess
from src.movielens import prepare
from src.network import build
from src.sources.withdrawn import read_requests
from src.training.checkpoint import BEST, load_sets

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(finished_run, tmp_path):
    """Settings of the masked variant of a copy of the finished run."""
    for name in ("data", "output", "checkpoint"):
        shutil.copytree(getattr(finished_run, f"{name}_path"), tmp_path / name)
    return finished_run.replace(masked=True, **{f"{name}_path": str(tmp_path / name)
                                                for name in ("data", "output", "checkpoint")})


def asking(config, *lines, header="user_id,item_id"):
    """The settings with a request of these lines."""
    path = Path(config.output_path).parent / "request.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return config.replace(withdraw=str(path))


def state(config):
    """Digest of every file of a run but logs and the request, by name."""
    folder = Path(config.output_path).parent
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*"))
            if p.is_file() and p.suffix != ".lock" and p.name != "request.csv"}


def disclosed(config):
    return load_dataset(config, masked=True)


def pairs_of(table):
    return set(map(tuple, table[["user_id", "item_id"]].to_numpy().tolist()))


def test_what_is_withdrawn_is_in_no_file_that_a_training_reads(cpu, run):
    before, ratings = disclosed(run), Path(run.data_path) / "masked_simulation" / "ratings.csv"
    user, item = before.user[5], before.item[5]
    pair = (int(before.user_ids[user]), int(before.item_ids[item]))
    old, sets = pd.read_csv(ratings), load_sets(asked(run).checkpoint, before, asked(run))[0]
    withdraw(asked(asking(run, f"{pair[0]},{pair[1]}")))
    assert pairs_of(old) - pairs_of(pd.read_csv(ratings)) == {pair} and len(pd.read_csv(ratings)) == len(old) - 1
    table = pd.read_csv(Path(run.output_path) / "disclosure.csv")
    assert pair not in pairs_of(table) and len(table) == load_dataset(run).num_interactions - 1
    assert not list(Path(run.checkpoint_path).glob("IFRQE.last.ckpt"))
    after = disclosed(run)
    found, now = load_sets(asked(run).checkpoint, after, asked(run))
    assert found.keys() == sets.keys() and now["withdrawn"] == {
        "requests": [1], "interactions": 1, "trained_on": before.num_interactions}
    net = build(after, run)
    history = np.unique(before.item[before.user == user])
    for name, values in found.items():
        rows, was = net.user_rows(values), net.user_rows(sets[name])
        assert (rows != was).any(1).nonzero()[0].tolist() == [user]
        moved = (net.item_rows(values) != net.item_rows(sets[name])).any(1).nonzero()[0]
        assert moved.tolist() == history.tolist()
        assert all((values[k] == sets[name][k]).all() for k in values if k.startswith("head."))
    request, = read_requests(run)
    assert request["interactions"] == [list(pair)] and request["model"] == "IFRQE"
    assert request["after"]["ratings.csv"] == hashlib.sha256(ratings.read_bytes()).hexdigest()
    record = json.loads((Path(run.output_path) / "withdraw.json").read_text())
    assert record["interactions"] == 1 and record["membership_auc"]["retrained"] is None
    assert record["drift"] == {"requests": 1, "interactions": 1, "share": 1 / before.num_interactions}
    evaluate_and_report(run)
    evaluate_and_report(run.replace(masked=False))
    result = json.loads((Path(run.output_path) / "eval_ifrqe.json").read_text())
    assert result["num_interactions"] == after.num_interactions


def test_all_of_a_user_leaves_the_mean_of_all_rows(cpu, run, finished_run):
    before = disclosed(run)
    then = load_sets(Variant(finished_run, True).checkpoint, before, Variant(finished_run, True))[0][BEST]
    user = before.user[0]
    withdraw(asked(asking(run, str(before.user_ids[user]), header="user_id")))
    after = disclosed(run)
    assert (after.user != user).all() and after.num_interactions == before.num_interactions - (before.user == user).sum()
    values = load_sets(asked(run).checkpoint, after, asked(run))[0][BEST]
    rows = build(after, run).user_rows(values)
    old = build(after, run).user_rows(then)
    trained = np.bincount(before.user, minlength=before.num_users) > 0
    np.testing.assert_allclose(rows[user], old[trained].mean(0), rtol=1e-5, atol=1e-6)


def test_one_genre_of_a_user(cpu, run):
    before = disclosed(run)
    genres = pd.read_csv(Path(run.data_path) / "masked_simulation" / "movies.csv").set_index("item_id")["genres"]
    genre = genres[before.item_ids[before.item[0]]].split("|")[0]
    of_genre = genres[before.item_ids[before.item]].str.split("|").map(lambda names: genre in names).to_numpy()
    withdraw(asked(asking(run, f"{before.user_ids[before.user[0]]},{genre.upper()}", header="user_id,genre")))
    gone = of_genre & (before.user == before.user[0])
    assert pairs(before) - pairs(disclosed(run)) == {pair for pair, out in zip(listed(before), gone) if out}


def listed(dataset):
    return list(zip(dataset.user.tolist(), dataset.item.tolist()))


def pairs(dataset):
    return set(listed(dataset))


def test_bad_requests_are_named_by_line_and_change_nothing(cpu, run):
    dataset, whole = disclosed(run), load_dataset(run)
    user = dataset.user_ids[dataset.user[0]]
    mine, other = (dataset.item_ids[dataset.item[k]] for k in (0, 1))
    withheld = sorted(pairs(whole) - pairs(dataset))[0]
    hidden = f"{whole.user_ids[withheld[0]]},{whole.item_ids[withheld[1]]}"
    test = dataset.item_ids[dataset.test[dataset.user[0]]]
    before = state(run)
    for lines, header, words in [
            ([f"{user},{mine}", "9999,1"], "user_id,item_id", "line 3: there is no user 9999"),
            ([f"{user},{mine}", f"{user},77777"], "user_id,item_id", "line 3: user .*item 77777: there is no such item"),
            ([f"{user},{mine}", hidden], "user_id,item_id", "line 3: .* is not disclosed"),
            ([f"{user},{test}"], "user_id,item_id", "line 2: .* is held out to evaluate"),
            ([f"{user},{mine}", f"{user},{other}", f"{user},{mine}"], "user_id,item_id", "line 4: .* by an earlier line"),
            ([f"{user},", f"{user},{mine}"], "user_id,item_id", "line 3: .* by an earlier line"),
            ([f"{user},{mine}", f",{mine}"], "user_id,item_id", "line 3: no user_id"),
            ([f"{user}"], "user_id,item_id", "line 2 has fewer fields"),
            ([], "user_id,item_id", "names nothing"),
            ([f"{user},Nonsense"], "user_id,genre", "line 2: user .*genre Nonsense: nothing of that"),
            ([f"{user},{mine},0.5"], "user_id,item_id,unwillingness", "line 2: unwillingness 0.5, but nothing"),
            ([f"{mine}"], "item_id", "user_id")]:
        with pytest.raises(InputError, match=words):
            withdraw(asked(asking(run, *lines, header=header)))
        assert state(run) == before
    withdraw(asked(asking(run, f"{user},{mine}")))
    before = state(run)
    with pytest.raises(InputError, match="line 2: .* was withdrawn before, by request 1 of 20"):
        withdraw(asked(asking(run, f"{user},{mine}")))
    everything = sorted({str(dataset.user_ids[u]) for u in dataset.user})
    with pytest.raises(InputError, match="all that IFRQE was trained on"):
        withdraw(asked(asking(run, *everything, header="user_id")))
    assert state(run) == before


def test_no_later_mask_discloses_it_nor_what_is_withheld_of_a_user_who_left(cpu, run):
    before, whole = disclosed(run), load_dataset(run)
    user, item = before.user[3], before.item[3]
    leaving = next(u for u in np.unique(before.user)[::-1] if 0 < (before.user == u).sum() < (whole.user == u).sum())
    withdraw(asked(asking(run, f"{before.user_ids[user]},{before.item_ids[item]}", f"{before.user_ids[leaving]},")))
    request, = read_requests(run)
    assert len(request["interactions"]) == 1 + (before.user == leaving).sum()
    assert len(request["forbidden"]) == ((whole.user == leaving).sum() - (before.user == leaving).sum())
    plain = run.replace(masked=False, veto=False, strategy="none", wv_budget=1.0)
    preprocess(plain)
    gone = {(user, item), *((leaving, i) for i in whole.item[whole.user == leaving])}
    assert pairs(whole) - pairs(disclosed(plain)) == gone
    decisions = read_decisions(plain, load_dataset(plain))
    assert decisions.vetoed.sum() == len(gone) and not decisions.disclosed[decisions.vetoed].any()


def test_from_the_plain_model_after_the_masked_one_and_not_back_with_the_source(cpu, run):
    dataset = disclosed(run)
    user, item = dataset.user[2], dataset.item[2]
    config = asking(run, f"{dataset.user_ids[user]},{dataset.item_ids[item]}")
    plain = config.replace(masked=False)
    before = state(run)
    with pytest.raises(InputError, match="is disclosed in masked_simulation too"):
        withdraw(asked(plain))
    assert state(run) == before
    withdraw(asked(config))
    withdraw(asked(plain))
    assert (user, item) not in pairs(load_dataset(plain)) and [r["model"] for r in read_requests(run)] == ["IFRQE", "NCF"]
    load_sets(Variant(plain).checkpoint, load_dataset(plain), Variant(plain))
    assert read_decisions(plain, load_dataset(plain), masked=True).disclosed.sum() == disclosed(run).num_interactions
    evaluate_and_report(plain)
    evaluate_and_report(run)
    prepare(plain.replace(overwrite=True))
    assert (user, item) not in pairs(load_dataset(plain))


def test_many_requests_in_a_row_and_the_advice_to_train_anew(cpu, run, caplog):
    caplog.set_level("INFO", "ifrqe")
    start = disclosed(run)
    for k in range(3):
        dataset = disclosed(run)
        withdraw(asked(asking(run, f"{dataset.user_ids[dataset.user[7 * k]]},{dataset.item_ids[dataset.item[7 * k]]}")))
    record = json.loads((Path(run.output_path) / "withdraw.json").read_text())
    assert record["drift"] == {"requests": 3, "interactions": 3, "share": 3 / start.num_interactions}
    assert not record["retrain_advised"] and "train it anew" not in caplog.text
    users = np.unique(disclosed(run).user)[:8]
    withdraw(asked(asking(run, *(str(start.user_ids[u]) for u in users), header="user_id")))
    assert json.loads((Path(run.output_path) / "withdraw.json").read_text())["retrain_advised"]
    assert "train it anew: train.py --dataset simulation --masked --overwrite" in caplog.text


def test_a_changed_record_is_noticed(cpu, run):
    for k in range(2):
        dataset = disclosed(run)
        withdraw(asked(asking(run, f"{dataset.user_ids[dataset.user[k]]},{dataset.item_ids[dataset.item[k]]}")))
    path = Path(run.data_path) / "simulation" / "withdrawn.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"model": "IFRQE"', '"model": "NCF"', 1))
    with pytest.raises(InputError, match="withdrawn.jsonl: line 2 was changed, or one before it"):
        read_requests(run)
    path.write_text(text.splitlines()[1] + "\n")
    with pytest.raises(InputError, match="line 1 was changed"):
        read_decisions(run, load_dataset(run))


def test_an_audit_trains_without_it_beside(cpu, run):
    dataset = disclosed(run)
    withdraw(asked(asking(run, str(dataset.user_ids[dataset.user[0]]), header="user_id").replace(audit=True)))
    record = json.loads((Path(run.output_path) / "withdraw.json").read_text())
    assert record["retrain_seconds"] > 0 and record["hr_gap"] == record["hr"]["withdrawn"] - record["hr"]["retrained"]
    assert 0 <= record["membership_auc"]["retrained"] <= 1 and set(record["overlap"]) == {"original", "withdrawn", "seeds"}


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
import src.common.files, src.common.together
from src.config import load_config
from src.common.variant import asked
left = [int(sys.argv[1])]
def counted(call):
    def counting(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return counting
os.replace, os.unlink = counted(os.replace), counted(os.unlink)
src.common.together.sync = src.common.files.sync = counted(src.common.files.sync)
{what}
print("done")
"""

FILES = """
from src.common.together import Together
with Together("journal") as files:
    for name in "abc":
        with files.write(name) as temporary:
            temporary.write_text("new " + name)
    files.remove("gone")
"""


def killed_at(step, what, folder):
    """Runs a program that kills itself at its n-th step on files; whether it came to its end."""
    process = subprocess.run([sys.executable, "-c", KILLED.format(root=str(ROOT), what=what), str(step)], cwd=folder,
                             capture_output=True, text=True, timeout=300)
    assert process.returncode in (0, -9), process.stderr
    return "done" in process.stdout


def test_killed_at_any_moment_all_files_are_the_old_ones_or_all_the_new(tmp_path):
    seen = set()
    for step in range(40):
        folder = tmp_path / str(step)
        folder.mkdir()
        for name in ("a", "b", "gone"):
            (folder / name).write_text(f"old {name}")
        done = killed_at(step, FILES, folder)
        journal = (folder / "journal").exists()
        finish(folder / "journal")
        found = {p.name: p.read_text() for p in folder.iterdir() if not p.name.startswith(".")}
        new = {name: f"new {name}" for name in "abc"}
        assert found in (new, {name: f"old {name}" for name in ("a", "b", "gone")})
        assert found == new if done or journal else True
        seen.add((done, journal, found == new))
        if done:
            break
    assert done and {(False, False, False), (False, True, True)} <= seen


@pytest.mark.slow
def test_a_withdrawal_that_is_killed_has_happened_or_not(cpu, run, tmp_path):
    dataset = disclosed(run)
    config = asking(run, f"{dataset.user_ids[dataset.user[5]]},{dataset.item_ids[dataset.item[5]]}")
    arguments = [f"--{key}={getattr(config, key)}" for key in ("data_path", "output_path", "checkpoint_path", "withdraw")]
    what = ("from src.evaluation.withdraw import withdraw\nfrom src.common.stage import main\n"
            "main(lambda c: withdraw(asked(c)), 'run_train', '', "
            f"{[*arguments, '--dataset', 'simulation', '--masked', '--device_target', 'CPU']!r})")
    old, steps = disclosed(config), 0
    for step in range(0, 80, 4):
        killed_at(step, what, tmp_path)
        finish(Path(config.data_path) / "simulation" / PENDING_FILE)
        now = disclosed(config)
        load_sets(asked(config).checkpoint, now, asked(config))
        read_decisions(config, load_dataset(config), masked=True)
        happened = now.num_interactions < old.num_interactions
        assert len(read_requests(config)) == happened
        steps += 1
        if happened:
            break
    assert happened and steps > 2
