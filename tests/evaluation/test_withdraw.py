"""Withdrawing: all of mine is all, in both models and every file of a run; and nothing is lost, whenever it is stopped."""
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.common.files import digest
from src.common.stage import main
from src.common.together import PENDING_FILE, Together, finish
from src.common.variant import Variant, asked
from src.config import Config, load_config
from src.consent.allowed import VETO, WAITS
from src.consent.withdrawn import read_requests
from src.dataset import load_dataset
from src.evaluation.evaluate import evaluate
from src.evaluation.recommend import top_items
from src.evaluation.withdraw import withdraw
from src.game.decisions import dataset_of, decided_with, read_decisions
from src.game.preprocess import preprocess
from src.network import build
from src.report.page import write_report
from src.training.checkpoint import BEST, load_checkpoint, load_sets
from src.training.train import train
from tests.small import SMALL, before_each_operation, flags, refused
from train import run as run_train

FOLDERS = ("data", "output", "checkpoint")


def within(config, folder):
    """The settings with the three folders in another."""
    return config.replace(**{f"{name}_path": str(folder / name) for name in FOLDERS})


@pytest.fixture
def run(copied):
    """Settings of the masked variant of a finished run that may be changed."""
    return copied.replace(masked=True)


def asking(config, *lines, header="user_id,item_id"):
    """The settings with a request of these lines."""
    path = Path(config.output_path).parent / "request.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return config.replace(withdraw=str(path))


def state(folder):
    """Digest of every file in a folder but logs, the request and what is hidden, by name."""
    return {str(p.relative_to(folder)): digest(p) for p in sorted(Path(folder).rglob("*")) if p.is_file()
            and not p.name.startswith(".") and p.suffix not in (".lock", ".log") and p.name != "request.csv"}


def state_of(config):
    return state(Path(config.output_path).parent)


def disclosed(config):
    return load_dataset(config, masked=True)


def pairs_of(table):
    return list(map(tuple, table[["user_id", "item_id"]].to_numpy().tolist()))


def pairs(config, name):
    return pairs_of(table(config, name))


def table(config, name):
    """A table of a run, by its path in the folder of the run."""
    return pd.read_csv(Path(config.output_path).parent / name)


SOURCE, MASKED, HELD_OUT, DISCLOSURE, RULES = (
    "data/simulation/ratings.csv", "data/masked_simulation/ratings.csv", "data/masked_simulation/held_out.csv",
    "output/disclosure.csv", "data/simulation/unwillingness.csv")
NOW_DIFFERENT = ("num_interactions", "wv", "total_wv", "disclosed_share", "disclosure_sha256", "model_sha256")


def record_of(config, name="output/withdraw.json"):
    return json.loads((Path(config.output_path).parent / name).read_text())


def listed(dataset):
    """(user_id, item_id) of the training interactions, in their order."""
    return list(zip(dataset.user_ids[dataset.user].tolist(), dataset.item_ids[dataset.item].tolist()))


def held_out(dataset):
    """(user_id, item_id) of what is held out."""
    user, item = dataset.held_pairs
    return set(zip(dataset.user_ids[user].tolist(), dataset.item_ids[item].tolist()))


def models(config):
    """Both Variants, with the Dataset that each was trained on and its parameters."""
    for variant, dataset in ((Variant(config), dataset_of(Variant(config))), (Variant(config, True), disclosed(config))):
        yield variant, dataset, load_sets(variant.checkpoint, dataset, variant)[1:]


def take_back(config, *lines, header="user_id,item_id"):
    withdraw(asked(asking(config, *lines, header=header)))


def request_of(run, what):
    """A user who takes back a pair, a held-out one, a genre or all; the lines, and what they mean."""
    own, theirs = disclosed(run), table(run, SOURCE)
    user = own.user[5]
    name = int(own.user_ids[user])
    theirs = theirs[theirs.user_id == name]
    if what == "user":
        return user, [str(name)], "user_id", set(pairs_of(theirs))
    if what == "genre":
        genres = table(run, "data/simulation/movies.csv").set_index("item_id")["genres"].str.split("|")
        genre = genres[own.item_ids[own.item[5]]][0]
        of_genre = {pair for pair in pairs_of(theirs) if genre in genres[pair[1]]}
        return user, [f"{name},{genre.upper()}"], "user_id,genre", of_genre
    item = own.item[5] if what == "pair" else getattr(own, what)[user]
    return user, [f"{name},{own.item_ids[item]}"], "user_id,item_id", {(name, int(own.item_ids[item]))}


@pytest.mark.parametrize("what", [
    "validation", "user", *(pytest.param(what, marks=pytest.mark.slow) for what in ("pair", "test", "genre"))])
def test_what_is_taken_back_leaves_every_file_and_model(cpu, run, what):
    user, lines, header, gone = request_of(run, what)
    folder = Path(run.output_path).parent
    left = [folder / name for name in (
        "output/seed_2/NCF.ckpt", "checkpoint/old.partial", "output/receipt_7.html", "output/audit/models/none.npz")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("knows")
    before, was = state_of(run), {variant.model: found for variant, *found in models(run)}
    tables = {name: pairs(run, name) for name in (MASKED, HELD_OUT)}
    listing, made = table(run, DISCLOSURE), record_of(run, "output/preprocess.json")
    take_back(run, *lines, header=header)
    after = state_of(run)

    # the tables that a training reads, and the decisions
    lost = {pair[0] for pair in tables[HELD_OUT] if pair in gone}  # whoever loses one is not scored
    assert pairs(run, MASKED) == [pair for pair in tables[MASKED] if pair not in gone]
    assert pairs(run, HELD_OUT) == [pair for pair in tables[HELD_OUT] if pair[0] not in lost]
    now = table(run, DISCLOSURE)
    mine, theirs = (np.array([pair in gone for pair in pairs_of(of)]) for of in (listing, now))
    pd.testing.assert_frame_equal(now[~theirs].reset_index(drop=True), listing[~mine].reset_index(drop=True),
                                  check_dtype=False)
    assert set(pairs_of(now[theirs])) == gone and not now.disclosed[theirs].any() and now.influence[theirs].isna().all()
    assert set(now.reason[theirs].str.split(" ").str[0]) <= {"withdrawn", "veto"}
    assert (now.unwillingness[theirs] == 1).all() and "withdrawn 1" in set(now.reason[theirs])
    taken = listing[mine & listing.influence.notna()]
    said = record_of(run, "output/preprocess.json")
    assert said["num_interactions"] == made["num_interactions"] - len(taken)
    assert said["total_wv"] == pytest.approx(made["total_wv"] - taken.unwillingness.sum() / 60)
    assert said["wv"] == pytest.approx(made["wv"] - taken.unwillingness[taken.disclosed == 1].sum() / 60)
    assert said["disclosed_share"] == pytest.approx(now.disclosed.sum() / said["num_interactions"])
    assert {**said, **{key: made[key] for key in NOW_DIFFERENT}} == made

    # the models
    info = {}
    for variant, dataset, (found, info[variant.checkpoint.name]) in models(run):
        own, (sets, _) = was[variant.model]
        assert listed(dataset) == [pair for pair in listed(own) if pair not in gone]
        assert held_out(dataset) == {pair for pair in held_out(own) if pair[0] not in lost}
        history, net = np.unique(own.item[own.user == user]), build(dataset, run)
        trained = bool(gone & set(listed(own)))
        for prefix, values in found.items():
            moved = [(of(values) != of(sets[prefix])).any(1).nonzero()[0].tolist() for of in (net.user_rows, net.item_rows)]
            assert moved == ([[user], history.tolist()] if trained else [[], []])
            assert all((values[key] == sets[prefix][key]).all() for key in values if key.startswith("head."))
        if what == "user":  # what is known of nobody
            others = (np.bincount(own.user, minlength=60) > 0) & (np.arange(60) != user)
            np.testing.assert_allclose(net.user_rows(found[BEST])[user], net.user_rows(sets[BEST])[others].mean(0),
                                       rtol=1e-5, atol=1e-6)
        net.set_values(found[BEST])
        (offered, _), = top_items(net, np.array([user]), dataset_of(variant), 120, 10_000)
        had = {item for name, item in pairs(run, SOURCE) if name == own.user_ids[user]}
        assert sorted(dataset.item_ids[offered]) == sorted(set(range(1, 121)) - had)
        evaluate(asked(run.replace(masked=variant.masked)))
        result = record_of(run, f"output/eval_{variant.model.lower()}.json")
        assert (result["num_users"], result.get("num_scored", 60)) == (60, 60 - len(lost))
        assert result["num_interactions"] == (dataset.num_interactions if variant.masked else said["num_interactions"])

    if what == "user":
        write_report(asked(run))
        assert "of whom 1 take no part" in (folder / "output" / "report.html").read_text()

    # the records
    request, = read_requests(run)
    known = {*listed(was["NCF"][0]), *held_out(was["NCF"][0])}
    assert {tuple(pair) for pair in request["interactions"]} == gone & known
    assert {tuple(pair) for pair in request["forbidden"]} == gone - known and (what != "user" or gone - known)
    assert request["models"] == ["NCF", "IFRQE"] and len(request["rules"]) == 1
    digests = {name: value["parameters_sha256"] for name, value in info.items()}
    rewritten = {Path(name).name: name for name in (MASKED, HELD_OUT, DISCLOSURE, "data/masked_simulation/uses.npy")}
    assert request["before"] == {name: before[path] for name, path in rewritten.items()}
    assert request["after"] == {**{name: after[path] for name, path in rewritten.items()}, **digests}
    assert (said["disclosure_sha256"], said["model_sha256"]) == (after[DISCLOSURE], digests["NCF.ckpt"])
    head = {"requests": 1, "head_sha256": request["sha256"]}
    of_mask = record_of(run, "data/masked_simulation/dataset.json")
    assert of_mask["files_sha256"] == {name: after[rewritten[name]] for name in ("ratings.csv", "held_out.csv", "uses.npy")}
    assert of_mask["num_ratings"] == len(pairs(run, MASKED)) and of_mask["disclosure_sha256"] == after[DISCLOSURE]
    assert all(of["withdrawals"] == head for of in (*info.values(), of_mask, record_of(run, "data/simulation/dataset.json")))
    trained = len(gone & set(tables[MASKED]))
    assert info["IFRQE.ckpt"]["withdrawn"] == {"requests": [1], "interactions": trained, "trained_on": len(tables[MASKED])}
    record = record_of(run)
    assert (record["interactions"], record["covered"], record["model"]) == (trained, len(gone), "IFRQE")
    assert (record["membership_auc"]["withdrawn"] is not None) == (trained > 0)
    assert record["drift"] == {"requests": 1, "interactions": trained, "share": trained / len(tables[MASKED])}
    removed = {name for name in before if name.endswith(".last.ckpt")}
    assert len(removed) == 2 and set(record["removed"]) == {str(folder / name) for name in removed}
    written = {*rewritten.values(), "checkpoint/NCF.ckpt", "checkpoint/IFRQE.ckpt", "output/preprocess.json",
               "data/simulation/dataset.json", "data/masked_simulation/dataset.json", "data/simulation/withdrawn.jsonl"}
    assert set(record["rewritten"]) == {str(folder / name) for name in written}
    assert {name for name, value in before.items() if after.get(name, "") != value} <= written | removed
    assert set(after) - set(before) == {"data/simulation/withdrawn.jsonl", "output/withdraw.json"}
    assert {entry["path"] for entry in record["not_reached"]} == {
        *map(str, left), *(str(folder / name) for name in (SOURCE, RULES, "output/report.html"))}

    if what in ("test", "validation"):  # its fellow waits for the next training, before which they are split anew
        waiting = dataset_of(Variant(run)).dropped
        assert waiting.why[(waiting.user == user) & (waiting.why != VETO)].tolist() == \
            ([1, WAITS] if what == "validation" else [WAITS, 1])
        dataset = load_dataset(run.replace(masked=False))
        assert len(dataset.scored) == 60 and not (dataset.dropped.why == WAITS).any()
        assert not gone & {*listed(dataset), *held_out(dataset)}
        fellow = was["NCF"][0].validation if what == "test" else was["NCF"][0].test
        assert dataset.test[user] == fellow[user]


def test_options_that_a_shared_file_has_by_now_hinder_no_request(cpu, run):
    """They are those of the next training; on the command line they are compared with those of the last."""
    row = table(run, DISCLOSURE).query("disclosed == 1").iloc[0]
    asked_today = asking(run, f"{row.user_id},{row.item_id}").replace(train_epochs=9, wv_budget=0.2)
    for option in ("wv_budget", "train_epochs"):
        with refused(option):
            withdraw(asked(Config(asked_today.as_dict(), {option: "line"})))
    assert not read_requests(run)
    withdraw(asked(Config(asked_today.as_dict(), dict.fromkeys(("train_epochs", "wv_budget", "recipe"), "file"))))
    assert len(read_requests(run)) == 1


def test_the_program_allows_again_what_was_taken_back(cpu, run):
    """All else about requests in a row, and the masks that follow, is in test_change_of_mind.py."""
    line = ",".join(map(str, pair := listed(disclosed(run))[3]))
    take_back(run, line)
    request = asking(run, line).withdraw
    with refused("--allow", "--withdraw"):
        load_config(flags(run, "--allow", request, "--withdraw", request), program="run_train")
    main(run_train, "run_train", "", flags(run, "--allow", request, "--log_level", "quiet"))
    _, again = read_requests(run)
    assert again["allows"] and again["interactions"] == [list(pair)] and again["models"] == [] and not again["after"]
    assert record_of(run, "data/simulation/dataset.json")["withdrawals"] == {"requests": 2, "head_sha256": again["sha256"]}


def test_what_cannot_be_carried_out_changes_nothing(cpu, run):
    known, both = listed(disclosed(run)), "user_id,item_id"
    (user, _), first = known[0], ",".join(map(str, known[0]))
    everything, before = sorted({str(user) for user, _ in known}), state_of(run)
    for lines, header, named in (([first, "9999,1"], both, "line 3"), ([f"{user}"], both, "line 2"),
                                 (everything, "user_id", "IFRQE")):  # nothing would be left of that
        with refused("request.csv", named):
            take_back(run, *lines, header=header)
        assert state_of(run) == before


@pytest.mark.parametrize("mask", ["none", "another"])
def test_a_plain_model_without_its_masked_one(cpu, run, mask):
    """There is no mask, or one that the masked model was not trained on; a request about the plain model goes on."""
    plain, masked, output = run.replace(masked=False), Path(run.checkpoint_path) / "IFRQE.ckpt", Path(run.output_path)
    if mask == "none":
        shutil.rmtree(Path(run.data_path) / "masked_simulation")
        for path in (masked, masked.with_suffix(".last.ckpt"), output / "disclosure.csv", output / "preprocess.json"):
            path.unlink()
    else:
        preprocess(plain.replace(wv_budget=0.3))
    before, own = state_of(run), dataset_of(Variant(run))
    pair = (listed(disclosed(run)) if mask == "another" else listed(own))[0]
    config = asking(plain.replace(enable_modelarts=True, data_url="obs://in"), f"{pair[0]},{pair[1]}")
    with refused("masked_simulation/ratings.csv" if mask == "none" else "IFRQE.ckpt: was trained on another ratings.csv"):
        withdraw(asked(config.replace(masked=True)))
    assert state_of(run) == before
    withdraw(asked(config))
    request, = read_requests(run)
    dataset = dataset_of(Variant(run))
    assert listed(dataset) == [kept for kept in listed(own) if kept != pair] and request["models"] == ["NCF"]
    load_sets(Variant(run).checkpoint, dataset, Variant(run))
    why = {entry["path"]: entry["why"] for entry in record_of(run)["not_reached"]}
    assert "only read" in why["obs://in"]
    if mask == "another":  # which loses the pair as well; the model of before is named
        assert pair not in listed(disclosed(run)) and state_of(run)[(name := "checkpoint/IFRQE.ckpt")] == before[name]
        assert "was trained on another ratings.csv" in why[str(masked)]


def test_models_that_know_everyone_in_each_row_are_named_and_refused(cpu, ratings, settings, tmp_path):
    config = settings(*SMALL[2:], "--model", "lightgcn", "--strategy", "threshold")
    train(asked(config))
    preprocess(config)
    train(asked(config.replace(masked=True)))
    pair = listed(load_dataset(config, masked=True))[4]
    before = state(tmp_path / "checkpoint")
    take_back(config.replace(masked=True), f"{pair[0]},{pair[1]}")
    assert pair not in listed(dataset_of(Variant(config))) and pair not in listed(load_dataset(config, masked=True))
    request, = read_requests(config)
    why = {entry["path"]: entry["why"] for entry in record_of(config)["not_reached"]}
    assert request["interactions"] == [list(pair)] and request["models"] == []  # it was taken from none
    for variant in (Variant(config), Variant(config, True)):
        name = variant.checkpoint.name
        assert state(tmp_path / "checkpoint")[name] == before[name] and name not in request["after"]
        assert f"{variant.command} --overwrite" in why[str(variant.checkpoint)]
        with refused(name, variant.command):
            load_checkpoint(variant.checkpoint, dataset_of(variant), variant)


def test_many_requests_in_a_row_and_the_advice_to_train_anew(cpu, run, caplog):
    caplog.set_level("INFO", "ifrqe")
    start = disclosed(run)
    for k in range(2):
        user, item = listed(disclosed(run))[7 * k]
        take_back(run, f"{user},{item}")
    record = record_of(run)
    assert record["drift"] == {"requests": 2, "interactions": 2, "share": 2 / start.num_interactions}
    assert not record["retrain_advised"] and "train it anew" not in caplog.text
    for _, _, (_, info) in models(run):
        assert (info["withdrawn"]["requests"], info["withdrawn"]["interactions"]) == ([1, 2], 2)
    assert {"withdrawn 1", "withdrawn 2"} < set(table(run, DISCLOSURE).reason)
    take_back(run, *(str(start.user_ids[u]) for u in np.unique(start.user)[-8:]), header="user_id")
    assert record_of(run)["retrain_advised"]
    assert "train it anew: train.py --dataset simulation --masked --overwrite" in caplog.text

    path = Path(run.data_path) / "simulation" / "withdrawn.jsonl"
    path.with_name("dataset.json").unlink()
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    with refused("withdrawn.jsonl", "3 withdrawals"):  # which the masked data know of
        disclosed(run)


def test_a_withdrawal_that_stops_at_any_operation_on_files_has_happened_or_not(cpu, run, tmp_path, monkeypatch):
    """What lies there before each operation is what a kill at that moment leaves, in a copy that is then gone on with."""
    pair = listed(disclosed(run))[5]
    config = asking(run, f"{pair[0]},{pair[1]}")
    old = state_of(config)
    taken = before_each_operation(monkeypatch, tmp_path, lambda: withdraw(asked(config)))
    new = {name: value for name, value in state_of(config).items() if not name.startswith("kept")}
    journal, seen = PENDING_FILE.format("simulation"), set()
    for folder in taken:
        stopped, waiting = within(config, folder), (folder / "data" / journal).exists()
        assert finish(Together(stopped)) is waiting and not (folder / "data" / journal).exists()
        found = state(folder)
        assert found == (new if found.get("data/simulation/withdrawn.jsonl") else old)
        assert found == new if waiting else True
        seen.add((waiting, found == new))
    assert seen == {(False, False), (True, True), (False, True)} and len(taken) > 40
    for folder in (taken[0], taken[-1]):
        stopped = within(config, folder)
        assert sum(1 for _ in models(stopped)) == 2 and decided_with(stopped) is not None
        read_decisions(stopped, dataset_of(Variant(stopped, True)), masked=True)
