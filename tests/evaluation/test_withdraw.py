"""Withdrawing: all of mine is all, in both models and every file of a run; and nothing is lost, whenever it is stopped."""
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import src.common.files
import src.common.together
from eval import evaluate_and_report
from src.common.errors import InputError
from src.common.together import Journal, finish, journal_of
from src.common.variant import Variant, asked
from src.config import Config
from src.consent.allowed import VETO, WAITS
from src.consent.withdrawn import read_requests
from src.constants import PENDING_FILE
from src.dataset import load_dataset
from src.evaluation.recommend import top_items
from src.evaluation.withdraw import withdraw
from src.game.decisions import dataset_of, decided_with, read_decisions
from src.game.preprocess import preprocess
from src.movielens import prepare
from src.network import build
from src.training.checkpoint import BEST, load_checkpoint, load_sets, read_checkpoint
from src.training.train import train
from tests.small import SMALL

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("data", "output", "checkpoint")


def within(config, folder):
    """The settings with the three folders in another."""
    return config.replace(**{f"{name}_path": str(folder / name) for name in FOLDERS})


@pytest.fixture
def run(finished_run, tmp_path):
    """Settings of the masked variant of a copy of the finished run."""
    for name in FOLDERS:
        shutil.copytree(getattr(finished_run, f"{name}_path"), tmp_path / name)
    return within(finished_run.replace(masked=True), tmp_path)


def asking(config, *lines, header="user_id,item_id"):
    """The settings with a request of these lines."""
    path = Path(config.output_path).parent / "request.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return config.replace(withdraw=str(path))


def state(folder):
    """Digest of every file in a folder but logs, the request and what is hidden, by name."""
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(Path(folder).rglob("*"))
            if p.is_file() and not p.name.startswith(".") and p.suffix not in (".lock", ".log") and p.name != "request.csv"}


def state_of(config):
    return state(Path(config.output_path).parent)


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def disclosed(config):
    return load_dataset(config, masked=True)


def pairs_of(table):
    return list(map(tuple, table[["user_id", "item_id"]].to_numpy().tolist()))


def masked_table(config, name="ratings.csv"):
    return pd.read_csv(Path(config.data_path) / "masked_simulation" / name)


def source_table(config, name="ratings.csv"):
    return pd.read_csv(Path(config.data_path) / "simulation" / name)


def disclosure(config):
    return pd.read_csv(Path(config.output_path) / "disclosure.csv")


def record_of(config, name="withdraw.json"):
    return json.loads((Path(config.output_path) / name).read_text())


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
        yield variant, dataset, load_sets(variant.checkpoint, dataset, variant)


def test_what_is_withdrawn_is_in_no_file_that_a_training_reads(cpu, run):
    before = {variant.model: found for variant, *found in models(run)}
    own = before["IFRQE"][0]
    user = own.user[5]
    pair = (int(own.user_ids[user]), int(own.item_ids[own.item[5]]))
    old, table, made = masked_table(run), disclosure(run), record_of(run, "preprocess.json")
    kept = {name: sha256(Path(run.data_path) / name) for name in (
        "simulation/ratings.csv", "masked_simulation/held_out.csv")}
    assert list(Path(run.checkpoint_path).glob("*.last.ckpt"))
    withdraw(asked(asking(run, f"{pair[0]},{pair[1]}")))

    assert [p for p in pairs_of(old) if p != pair] == pairs_of(masked_table(run)) and pair in pairs_of(old)
    assert {name: sha256(Path(run.data_path) / name) for name in kept} == kept
    after = disclosure(run)
    assert pairs_of(after) == pairs_of(table)  # it stays, as what is withheld
    mine = np.array([p == pair for p in pairs_of(table)])
    row = after[mine].iloc[0]
    assert (row.disclosed, row.unwillingness, row.reason) == (0, 1, "withdrawn 1")
    assert np.isnan(row.influence) and np.isnan(row.expected_influence) and table.disclosed[mine].all()
    pd.testing.assert_frame_equal(after[~mine], table[~mine], check_dtype=False)
    number, b, took_part = made["num_interactions"], table.unwillingness[mine].item(), ~table.influence.isna()
    said = record_of(run, "preprocess.json")
    assert number == took_part.sum() and said["num_interactions"] == number - 1
    for key in ("wv", "total_wv"):
        assert said[key] == pytest.approx(made[key] - b / 60)
    assert said["disclosed_share"] == pytest.approx(after.disclosed.sum() / (number - 1))
    assert said["disclosure_sha256"] == sha256(Path(run.output_path) / "disclosure.csv")
    assert {**said, **{key: made[key] for key in ("num_interactions", "wv", "total_wv", "disclosed_share",
                                                  "disclosure_sha256", "model_sha256")}} == made
    plain = read_checkpoint(Path(run.checkpoint_path) / "NCF.ckpt", "")[1]  # newcomers go by both
    assert said["model_sha256"] == plain["parameters_sha256"] != made["model_sha256"]
    assert not list(Path(run.checkpoint_path).glob("*.last.ckpt"))

    for variant, dataset, (found, now) in models(run):
        was, (sets, _) = before[variant.model]
        assert listed(dataset) == [p for p in listed(was) if p != pair] and held_out(dataset) == held_out(was)
        assert found.keys() == sets.keys() and now["withdrawn"] == {
            "requests": [1], "interactions": 1, "trained_on": was.num_interactions}
        net = build(dataset, run)
        history = np.unique(was.item[was.user == user])
        for name, values in found.items():
            rows, first = net.user_rows(values), net.user_rows(sets[name])
            assert (rows != first).any(1).nonzero()[0].tolist() == [user]
            moved = (net.item_rows(values) != net.item_rows(sets[name])).any(1).nonzero()[0]
            assert moved.tolist() == history.tolist()
            assert all((values[k] == sets[name][k]).all() for k in values if k.startswith("head."))
    evaluate_and_report(run)
    evaluate_and_report(run.replace(masked=False))
    assert record_of(run, "eval_ifrqe.json")["num_interactions"] == own.num_interactions - 1
    assert record_of(run, "eval_ncf.json")["num_interactions"] == number - 1


def test_the_records_say_what_was_done_and_what_still_knows(cpu, run):
    dataset, folder = disclosed(run), Path(run.output_path).parent
    left = [folder / name for name in ("output/seed_2/NCF.ckpt", "checkpoint/old.partial", "output/scores.npz",
                                       "output/receipt_7.html")]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_text("knows")
    before, pair = state_of(run), list(map(int, listed(dataset)[5]))
    withdraw(asked(asking(run, f"{pair[0]},{pair[1]}")))
    request, = read_requests(run)
    assert (request["models"], request["rules"]) == (["NCF", "IFRQE"], [[*pair, None]])
    assert (request["interactions"], request["forbidden"]) == ([pair], [])
    paths = {Path(name).name: name for name in ("data/masked_simulation/ratings.csv", "data/masked_simulation/held_out.csv",
                                                "output/disclosure.csv")}
    of_models = {variant.checkpoint.name: info["parameters_sha256"] for variant, _, (_, info) in models(run)}
    assert request["before"] == {name: before[path] for name, path in paths.items()}
    assert request["after"] == {**{name: state_of(run)[path] for name, path in paths.items()}, **of_models}
    assert all(info["withdrawals"]["head_sha256"] == request["sha256"] for _, _, (_, info) in models(run))
    head = {"withdrawals": {"requests": 1, "head_sha256": request["sha256"]}}
    for name in ("simulation", "masked_simulation"):
        made = json.loads((folder / "data" / name / "dataset.json").read_text())
        assert made["withdrawals"] == head["withdrawals"]
    assert made["files_sha256"]["ratings.csv"] == request["after"]["ratings.csv"]
    assert made["disclosure_sha256"] == request["after"]["disclosure.csv"]
    assert made["num_ratings"] == dataset.num_interactions - 1

    record = record_of(run)
    assert (record["interactions"], record["covered"], record["model"]) == (1, 1, "IFRQE")
    assert record["membership_auc"]["retrained"] is None and record["hr_gap"] is None
    assert record["drift"] == {"requests": 1, "interactions": 1, "share": 1 / dataset.num_interactions}
    written = {*paths.values(), "checkpoint/NCF.ckpt", "checkpoint/IFRQE.ckpt", "output/preprocess.json",
               "data/simulation/dataset.json", "data/masked_simulation/dataset.json"}
    assert set(record["rewritten"]) == {str(folder / path) for path in (*written, "data/simulation/withdrawn.jsonl")}
    removed = {name for name in before if name.endswith(".last.ckpt")}
    assert {str(Path(path).relative_to(folder)) for path in record["removed"]} == removed and len(removed) == 2
    why = {entry["path"]: entry["why"] for entry in record["not_reached"]}
    assert set(why) == {*map(str, left), str(folder / "output" / "report.html"),
                        *(str(folder / "data" / "simulation" / name) for name in ("ratings.csv", "unwillingness.csv"))}
    source = str(folder / "data" / "simulation" / "ratings.csv")
    assert "stays; what was taken back is left out when it is read" in why[source]
    assert "remove it, or make it anew" in why[str(left[0])]
    changed = {name for name, was in before.items() if state_of(run).get(name) != was}
    assert changed == {*written, *removed} - {"data/masked_simulation/held_out.csv"}
    assert set(state_of(run)) - set(before) == {"data/simulation/withdrawn.jsonl", "output/withdraw.json"}


def test_options_that_a_shared_file_has_by_now_hinder_no_request(cpu, run):
    """They are those of the next training; on the command line they are compared with those of the last."""
    row = disclosure(run).query("disclosed == 1").iloc[0]
    asked_today = asking(run, f"{row.user_id},{row.item_id}").replace(train_epochs=9, wv_budget=0.2)
    with pytest.raises(InputError, match="--wv_budget 0.2: but .* was made with wv_budget=0.6"):
        withdraw(asked(Config(asked_today.as_dict(), {"wv_budget", "line wv_budget"})))
    with pytest.raises(InputError, match="was trained with train_epochs=3, but train_epochs=9 is needed here"):
        withdraw(asked(Config(asked_today.as_dict(), {"train_epochs", "line train_epochs"})))
    assert not read_requests(run)
    withdraw(asked(Config(asked_today.as_dict(), {"train_epochs", "wv_budget", "recipe", "recipe train_epochs"})))
    assert len(read_requests(run)) == 1


def test_all_of_a_user_is_all(cpu, run, finished_run):
    before = {variant.model: found for variant, *found in models(finished_run)}
    user = before["IFRQE"][0].user[0]
    name = int(before["IFRQE"][0].user_ids[user])
    source = sha256(Path(run.data_path) / "simulation" / "ratings.csv")
    vetoes = (before["NCF"][0].dropped.user == user).sum()
    withdraw(asked(asking(run, str(name), header="user_id")))
    assert vetoes and sha256(Path(run.data_path) / "simulation" / "ratings.csv") == source
    mine = source_table(run).query("user_id == @name")
    request, = read_requests(run)
    assert request["rules"] == [[name, None, None]] and len(request["forbidden"]) == vetoes
    assert {item for _, item in request["interactions"] + request["forbidden"]} == set(mine.item_id)
    assert record_of(run)["covered"] == len(mine)
    for table in ("ratings.csv", "held_out.csv"):
        assert name not in masked_table(run, table).user_id.unique()
    listing = disclosure(run).query("user_id == @name")
    assert sorted(listing.item_id) == sorted(mine.item_id) and not listing.disclosed.any()
    assert set(listing.reason.str.split().str[0]) == {"withdrawn", "veto"} and listing.influence.isna().all()

    for variant, dataset, (found, _) in models(run):
        was, (sets, _) = before[variant.model]
        assert listed(dataset) == [p for p in listed(was) if p[0] != name]
        assert held_out(dataset) == {p for p in held_out(was) if p[0] != name}  # the split of the others stays
        trained = (np.bincount(was.user, minlength=was.num_users) > 0) & (np.arange(was.num_users) != user)  # others
        net = build(dataset, run)
        np.testing.assert_allclose(net.user_rows(found[BEST])[user], net.user_rows(sets[BEST])[trained].mean(0), rtol=1e-5,
                                   atol=1e-6)
    for masked in (True, False):
        evaluate_and_report(run.replace(masked=masked))
        model = "ifrqe" if masked else "ncf"
        result, users = record_of(run, f"eval_{model}.json"), pd.read_csv(Path(run.output_path) / f"eval_{model}_users.csv")
        assert (result["num_users"], result["num_scored"]) == (60, 59)
        assert sorted(users.user_id) == [k for k in range(1, 61) if k != name]
    assert "of whom 1 take no part" in (Path(run.output_path) / "report.html").read_text()


@pytest.mark.parametrize("role", ["test", "validation"])
def test_a_held_out_row_is_theirs_too(cpu, run, role):
    own, whole = disclosed(run), dataset_of(Variant(run))
    user = own.user[0]
    name = int(own.user_ids[user])
    item, other = (int(own.item_ids[getattr(own, key)[user]]) for key in (
        (role, "validation" if role == "test" else "test")))
    ratings, old = masked_table(run), {variant.model: found[0] for variant, _, found in models(run)}
    withdraw(asked(asking(run, f"{name},{item}")))
    request, = read_requests(run)
    assert request["interactions"] == [[name, item]] and request["forbidden"] == []
    assert record_of(run)["interactions"] == 0 and record_of(run)["membership_auc"]["withdrawn"] is None
    pd.testing.assert_frame_equal(masked_table(run), ratings)
    held = masked_table(run, "held_out.csv")
    assert name not in held.user_id.unique() and len(held) == 2 * 59
    assert [name, item, "withdrawn 1"] in disclosure(run)[["user_id", "item_id", "reason"]].values.tolist()
    assert (name, other) not in pairs_of(disclosure(run))
    for variant, dataset, (found, _) in models(run):  # what was trained stays as it is, and so does the split of the others
        before = own if variant.masked else whole
        assert listed(dataset) == listed(before)
        assert held_out(dataset) == {p for p in held_out(before) if p[0] != name} and len(dataset.scored) == 59
        assert all(np.array_equal(found[prefix][key], value) for prefix, values in old[variant.model].items()
                   for key, value in values.items())
        evaluate_and_report(run.replace(masked=variant.masked))
        result = record_of(run, f"eval_{variant.model.lower()}.json")
        assert (result["num_users"], result["num_scored"]) == (60, 59)
        users = np.array([user])
        net = load_checkpoint(variant.checkpoint, dataset, variant)[0]
        (offered, _), = top_items(net, users, dataset_of(variant), 120, 10_000)
        had = source_table(run).query("user_id == @name").item_id
        assert not set(dataset.item_ids[offered]) & set(had) and len(offered) == 120 - len(had)
    waiting = dataset_of(Variant(run)).dropped
    assert waiting.why[(waiting.user == user) & (waiting.why != VETO)].tolist() == \
        ([1, WAITS] if role == "validation" else [WAITS, 1])

    train(asked(run.replace(masked=False)))  # from the next training on they are split anew
    dataset = dataset_of(Variant(run))
    assert len(dataset.scored) == 60 and not (dataset.dropped.why == WAITS).any()
    last = int(dataset.item_ids[dataset.test[user]])
    assert last == other and (name, item) not in listed(dataset) and (name, item) not in held_out(dataset)


def test_one_genre_of_a_user(cpu, run):
    before, whole = disclosed(run), source_table(run)
    genres = source_table(run, "movies.csv").set_index("item_id")["genres"].str.split("|")
    name = int(before.user_ids[before.user[0]])
    genre = genres[before.item_ids[before.item[0]]][0]
    old = {table: pairs_of(masked_table(run, table)) for table in ("ratings.csv", "held_out.csv")}
    withdraw(asked(asking(run, f"{name},{genre.upper()}", header="user_id,genre")))
    of_genre = {pair for pair in pairs_of(whole) if pair[0] == name and genre in genres[pair[1]]}
    request, = read_requests(run)
    assert request["rules"] == [[name, None, genre.lower()]]
    assert {tuple(pair) for pair in request["interactions"] + request["forbidden"]} == of_genre
    assert [p for p in old["ratings.csv"] if p not in of_genre] == pairs_of(masked_table(run)) != old["ratings.csv"]
    aside = {p for p in old["held_out.csv"] if p[0] == name}  # both, if one of them is gone
    gone = aside if aside & of_genre else set()
    assert [p for p in old["held_out.csv"] if p not in gone] == pairs_of(masked_table(run, "held_out.csv"))
    for _, dataset, _ in models(run):
        assert not of_genre & {*listed(dataset), *held_out(dataset)}


def test_newer_ratings_bring_none_of_it_back(cpu, run):
    before = disclosed(run)
    genres = source_table(run, "movies.csv").set_index("item_id")["genres"].str.split("|")
    all_of, of_genre, of_item = (int(before.user_ids[u]) for u in np.unique(before.user)[:3])
    ratings = source_table(run)

    def new(user, chosen):
        had = set(ratings.item_id[ratings.user_id == user])
        return next(((user, k) for k in range(1, 121) if k not in had and chosen(k)), None)
    own = genres[ratings.item_id[ratings.user_id == of_genre]]
    genre = next(name for names in own for name in names if new(of_genre, lambda k, name=name: name in genres[k]))
    item = int(before.item_ids[before.item[before.user_ids[before.user] == of_item]][0])
    withdraw(asked(asking(run, f"{all_of},,", f"{of_genre},,{genre}", f"{of_item},{item},", header="user_id,item_id,genre")))
    barred = [new(all_of, lambda k: True), new(of_genre, lambda k: genre in genres[k])]
    free = [new(of_genre, lambda k: genre not in genres[k]), new(of_item, lambda k: True)]
    newer = pd.DataFrame(barred + free, columns=["user_id", "item_id"]).assign(
        rating=3, timestamp=ratings.timestamp.max() + np.arange(1, 5))
    path = Path(run.data_path) / "simulation" / "ratings.csv"
    pd.concat([ratings, newer]).to_csv(path, index=False)
    with pytest.raises(InputError, match="ratings.csv: is missing, or is not what dataset.json says"):
        load_dataset(run)
    path.with_name("dataset.json").unlink()
    config = run.replace(masked=False, veto=False, strategy="none", unwillingness="uniform", overwrite=True)
    dataset = load_dataset(config)
    gone = set(zip(dataset.user_ids[dataset.dropped.user].tolist(), dataset.item_ids[dataset.dropped.item].tolist()))
    assert (dataset.dropped.why == 1).all() and set(barred) <= gone and (of_item, item) in gone
    assert gone == {pair for pair in pairs_of(pd.concat([ratings, newer])) if pair[0] == all_of or pair == (of_item, item)
                    or pair[0] == of_genre and genre in genres[pair[1]]}
    assert set(free) <= {*listed(dataset), *held_out(dataset)}
    with pytest.raises(InputError, match="NCF.ckpt: was trained on another ratings.csv"):
        load_checkpoint(Variant(config).checkpoint, dataset, Variant(config))
    preprocess(config)
    assert not gone & {*pairs_of(masked_table(run)), *pairs_of(masked_table(run, "held_out.csv"))}
    assert set(free) <= {*pairs_of(masked_table(run)), *pairs_of(masked_table(run, "held_out.csv"))}


def test_it_does_not_come_back_with_the_source(cpu, run):
    pair = listed(disclosed(run))[2]
    withdraw(asked(asking(run, f"{pair[0]},{pair[1]}")))
    plain = run.replace(masked=False, veto=False)
    prepare(plain.replace(overwrite=True))
    assert pair in pairs_of(source_table(run))
    dataset = load_dataset(plain)
    assert pair not in listed(dataset) and pair not in held_out(dataset) and len(read_requests(plain)) == 1
    assert json.loads((Path(run.data_path) / "simulation" / "dataset.json").read_text())["withdrawals"]["requests"] == 1


def test_bad_requests_are_named_by_line_and_change_nothing(cpu, run):
    dataset = disclosed(run)
    (user, mine), (_, other) = listed(dataset)[:2]
    had = set(source_table(run).query("user_id == @user").item_id)
    never = min(set(range(1, 121)) - had)
    before = state_of(run)
    for lines, header, words in [
            ([f"{user},{mine}", "9999,1"], "user_id,item_id", "line 3: user 9999, .*no such user"),
            ([f"{user},{mine}", f"{user},77777"], "user_id,item_id", "line 3: user .*item 77777: there is no such item"),
            ([f"{user},{mine}", f"{user},{never}"], "user_id,item_id",
             f"line 3: .*item {never}: they have had nothing of that"),
            ([f"{user},{mine}", f"{user},{other}", f"{user},{mine}"], "user_id,item_id", "line 4: .* by an earlier line"),
            ([f"{user},", f"{user},{mine}"], "user_id,item_id", "line 3: .* by an earlier line"),
            ([f"{user},{mine}", f",{mine}"], "user_id,item_id", "line 3: no user_id"),
            ([f"{user}"], "user_id,item_id", "line 2 has fewer fields"),
            ([], "user_id,item_id", "names nothing"),
            ([f"{user},Nonsense"], "user_id,genre", "line 2: user .*genre Nonsense: there is no such genre"),
            ([f"{user},{mine},0.5"], "user_id,item_id,unwillingness", "line 2: nothing is withdrawn by half"),
            ([f"{mine}"], "item_id", "user_id")]:
        with pytest.raises(InputError, match=words):
            withdraw(asked(asking(run, *lines, header=header)))
        assert state_of(run) == before
    withdraw(asked(asking(run, f"{user},{mine}")))
    before = state_of(run)
    with pytest.raises(InputError, match="line 2: .* was withdrawn before"):
        withdraw(asked(asking(run, f"{user},{mine}")))
    everything = sorted({str(user) for user, _ in listed(dataset)})
    with pytest.raises(InputError, match="all that IFRQE was trained on"):
        withdraw(asked(asking(run, *everything, header="user_id")))
    assert state_of(run) == before
    withdraw(asked(asking(run, str(user), header="user_id")))  # the rest
    before = state_of(run)
    for lines, header in ((f"{user}", "user_id"), (f"{user},{other}", "user_id,item_id")):
        with pytest.raises(InputError, match="line 2: .* was withdrawn before"):
            withdraw(asked(asking(run, lines, header=header)))
    assert state_of(run) == before


def test_no_later_mask_discloses_it_nor_what_is_withheld_of_a_user_who_left(cpu, run):
    before, ratings = disclosed(run), pairs_of(source_table(run))
    pair, leaving = listed(before)[3], int(before.user_ids[before.user[-1]])
    withdraw(asked(asking(run, f"{pair[0]},{pair[1]}", f"{leaving},")))
    plain = run.replace(masked=False, veto=False, strategy="none", wv_budget=1.0)
    preprocess(plain)
    gone = {pair, *(p for p in ratings if p[0] == leaving)}
    kept = pairs_of(masked_table(run)) + pairs_of(masked_table(run, "held_out.csv"))
    assert sorted(kept) == sorted(p for p in ratings if p not in gone)  # all that is allowed
    dataset = load_dataset(plain)
    decisions = read_decisions(plain, dataset)
    assert len(dataset.dropped.user) == len(gone) and set(decisions.barred) == {"withdrawn 1"}
    assert decisions.disclosed.all() and len(decisions.disclosed) == dataset.num_interactions
    table = disclosure(run)
    taken_back = table[table.reason == "withdrawn 1"]
    assert set(pairs_of(taken_back)) == gone and not taken_back.disclosed.any()


def test_one_request_goes_through_both_models_whichever_is_named(cpu, run, finished_run, tmp_path):
    pair = listed(disclosed(run))[2]
    other = within(run.replace(masked=False), tmp_path / "other")
    for name in FOLDERS:
        shutil.copytree(getattr(finished_run, f"{name}_path"), tmp_path / "other" / name)
    for config in (run, other):
        withdraw(asked(asking(config, f"{pair[0]},{pair[1]}")))
    assert [record_of(config)["model"] for config in (run, other)] == ["IFRQE", "NCF"]
    for (_, _, (one, _)), (_, _, (two, _)) in zip(models(run), models(other)):
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[prefix][name], value) for prefix in one for name, value in two[prefix].items())
    for name in ("masked_simulation/ratings.csv", "masked_simulation/held_out.csv"):
        assert sha256(tmp_path / "data" / name) == sha256(tmp_path / "other" / "data" / name)
    assert sha256(Path(run.output_path) / "disclosure.csv") == sha256(Path(other.output_path) / "disclosure.csv")


def test_recommendations_never_offer_what_was_withdrawn(cpu, run):
    taken = [listed(disclosed(run))[k] for k in (0, 9, 40)]
    hidden = [p for p in pairs_of(disclosure(run).query("disclosed == 0 and unwillingness < 1")) if p[0] == taken[0][0]][:1]
    withdraw(asked(asking(run, *(f"{user},{item}" for user, item in taken + hidden))))
    for masked in (False, True):
        variant = Variant(run, masked)
        dataset = dataset_of(variant)
        users = np.unique([np.flatnonzero(dataset.user_ids == user)[0] for user, _ in taken])
        lists = top_items(load_checkpoint(variant.checkpoint, dataset, variant)[0], users, dataset, 120, 10_000)
        for user, (items, _) in zip(users, lists):
            had = set(source_table(run).query("user_id == @dataset.user_ids[@user]").item_id)
            assert {i for u, i in taken + hidden if u == dataset.user_ids[user]} <= had
            assert set(dataset.item_ids[items].tolist()) == set(range(1, 121)) - had


def test_a_plain_model_alone(cpu, run):
    for path in (Path(run.data_path) / "masked_simulation", Path(run.checkpoint_path) / "IFRQE.ckpt",
                 Path(run.checkpoint_path) / "IFRQE.last.ckpt", *(Path(run.output_path) / name for name in (
                     "disclosure.csv", "preprocess.json"))):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    plain, before = run.replace(masked=False), dataset_of(Variant(run))
    pair = listed(before)[0]
    config = asking(plain, f"{pair[0]},{pair[1]}")
    with pytest.raises(InputError, match="masked_simulation/ratings.csv: no such file"):
        withdraw(asked(config.replace(masked=True)))
    assert not read_requests(run)
    withdraw(asked(config))
    assert listed(dataset_of(Variant(run))) == listed(before)[1:] and read_requests(run)[0]["models"] == ["NCF"]
    load_sets(Variant(run).checkpoint, dataset_of(Variant(run)), Variant(run))


def test_a_model_of_another_mask_is_named(cpu, run):
    plain = run.replace(masked=False)
    preprocess(plain.replace(wv_budget=0.3))
    pair, old = listed(disclosed(run))[0], sha256(Path(run.checkpoint_path) / "IFRQE.ckpt")
    config = asking(plain, f"{pair[0]},{pair[1]}")
    before = state_of(run)
    with pytest.raises(InputError, match="IFRQE.ckpt: was trained on another ratings.csv"):
        withdraw(asked(config.replace(masked=True)))
    assert state_of(run) == before
    withdraw(asked(config))
    assert pair not in listed(disclosed(run)) and sha256(Path(run.checkpoint_path) / "IFRQE.ckpt") == old
    why = {entry["path"]: entry["why"] for entry in record_of(run)["not_reached"]}
    assert "was trained on another ratings.csv" in why[str(Path(run.checkpoint_path) / "IFRQE.ckpt")]
    assert read_requests(run)[0]["models"] == ["NCF"]
    load_sets(Variant(run).checkpoint, dataset_of(Variant(run)), Variant(run))


def test_models_that_know_everyone_in_each_row_are_named_and_refused(cpu, ratings, settings, tmp_path):
    config = settings(*SMALL[2:], "--model", "lightgcn", "--strategy", "threshold")
    train(asked(config))
    preprocess(config)
    train(asked(config.replace(masked=True)))
    dataset = load_dataset(config, masked=True)
    pair = listed(dataset)[4]
    before = {path.name: sha256(path) for path in (tmp_path / "checkpoint").iterdir()}
    withdraw(asked(asking(config.replace(masked=True), f"{pair[0]},{pair[1]}")))
    assert pair not in pairs_of(pd.read_csv(tmp_path / "data" / "masked_tiny" / "ratings.csv"))
    assert pair not in listed(dataset_of(Variant(config))) and pair not in listed(load_dataset(config, masked=True))
    record, (request,) = record_of(config), read_requests(config)
    why = {Path(entry["path"]).name: entry["why"] for entry in record["not_reached"]}
    for variant in (Variant(config), Variant(config, True)):
        name = variant.checkpoint.name
        assert sha256(variant.checkpoint) == before[name] and name not in request["after"]
        assert f"each of its rows is made of everyone's data, so that none can be taken out: train it anew with " \
            f"{variant.command} --overwrite" == why[name]
        with pytest.raises(InputError, match=f"{name}: was trained on .*train anew with {variant.command}"):
            load_checkpoint(variant.checkpoint, dataset_of(variant), variant)
    assert request["interactions"] == [list(pair)] and request["models"] == []  # it was taken from none
    for masked in (False, True):
        train(asked(config.replace(masked=masked)))
        variant = Variant(config, masked)
        load_checkpoint(variant.checkpoint, load_dataset(config, masked), variant)


def test_many_requests_in_a_row_and_the_advice_to_train_anew(cpu, run, caplog):
    caplog.set_level("INFO", "ifrqe")
    start = disclosed(run)
    for k in range(3):
        user, item = listed(disclosed(run))[7 * k]
        withdraw(asked(asking(run, f"{user},{item}")))
    record = record_of(run)
    assert record["drift"] == {"requests": 3, "interactions": 3, "share": 3 / start.num_interactions}
    assert not record["retrain_advised"] and "train it anew" not in caplog.text
    for _, _, (_, info) in models(run):
        assert (info["withdrawn"]["requests"], info["withdrawn"]["interactions"]) == ([1, 2, 3], 3)
    assert {"withdrawn 1", "withdrawn 2", "withdrawn 3"} < set(disclosure(run).reason)
    users = np.unique(disclosed(run).user)[:8]
    withdraw(asked(asking(run, *(str(start.user_ids[u]) for u in users), header="user_id")))
    assert record_of(run)["retrain_advised"]
    assert "train it anew: train.py --dataset simulation --masked --overwrite" in caplog.text


def test_a_changed_record_is_noticed(cpu, run):
    for k in range(2):
        user, item = listed(disclosed(run))[k]
        withdraw(asked(asking(run, f"{user},{item}")))
    path = Path(run.data_path) / "simulation" / "withdrawn.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"models": ["NCF", "IFRQE"]', '"models": ["NCF"]', 1))
    with pytest.raises(InputError, match="withdrawn.jsonl: line 2 was changed, or one before it"):
        read_requests(run)
    path.write_text(text.splitlines()[1] + "\n")
    with pytest.raises(InputError, match="line 1 was changed"):
        load_dataset(run)
    for left in (text.splitlines()[0] + "\n", ""):
        path.write_text(left)
        with pytest.raises(InputError, match="withdrawn.jsonl: holds [01] requests, which do not end as the 2 that"):
            load_dataset(run)
    path.unlink()
    with pytest.raises(InputError, match="withdrawn.jsonl: holds 0 requests, which do not end as the 2 that"):
        load_dataset(run)
    path.with_name("dataset.json").unlink()
    with pytest.raises(InputError, match="knows of 2 withdrawals, but withdrawn.jsonl lacks some"):
        disclosed(run)


def test_an_audit_trains_without_it_beside(cpu, run):
    dataset = disclosed(run)
    withdraw(asked(asking(run, str(dataset.user_ids[dataset.user[0]]), header="user_id").replace(audit=True)))
    record = record_of(run)
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
from pathlib import Path
from src.common.together import Journal, Together
with Together(Journal(Path("journal"), {"here": Path("."), "there": Path("sub")})) as files:
    for name in "abc":
        with files.write("there" if name == "b" else "here", name) as temporary:
            temporary.write_text("new " + name)
    files.remove("here", "gone.last.ckpt")
"""


def killed_at(step, what, folder):
    """Runs a program that kills itself at its n-th step on files; whether it came to its end."""
    process = subprocess.run([sys.executable, "-c", KILLED.format(root=str(ROOT), what=what), str(step)], cwd=folder,
                             capture_output=True, text=True, timeout=300)
    assert process.returncode in (0, -9), process.stderr
    return "done" in process.stdout


def test_killed_at_any_moment_all_files_are_the_old_ones_or_all_the_new(tmp_path):
    seen = set()
    old = {"a": "old a", "sub/b": "old b", "gone.last.ckpt": "old gone"}
    new = {"a": "new a", "sub/b": "new b", "c": "new c"}
    for step in range(40):
        folder = tmp_path / str(step)
        (folder / "sub").mkdir(parents=True)
        for name, text in old.items():
            (folder / name).write_text(text)
        done = killed_at(step, FILES, folder)
        journal = (folder / "journal").exists()
        finish(Journal(folder / "journal", {"here": folder, "there": folder / "sub"}))
        found = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file() and p.name[0] != "."}
        assert found in (new, old)
        assert found == new if done or journal else True
        seen.add((done, journal, found == new))
        if done:
            break
    assert done and {(False, False, False), (False, True, True)} <= seen


def test_a_withdrawal_that_stops_at_any_operation_on_files_has_happened_or_not(cpu, run, tmp_path, monkeypatch):
    """What lies there before each operation is what a kill at that moment leaves, in a copy that is then gone on with."""
    pair, kept = listed(disclosed(run))[5], tmp_path / "kept"
    config = asking(run, f"{pair[0]},{pair[1]}")
    old, taken = state_of(config), []

    def recorded(call):
        def recording(*arguments, **options):
            taken.append(kept / str(len(taken)))
            for name in FOLDERS:
                shutil.copytree(tmp_path / name, taken[-1] / name)
            return call(*arguments, **options)
        return recording
    with monkeypatch.context() as patched:
        for module, name in ((os, "replace"), (os, "unlink"), (src.common.files, "sync"), (src.common.together, "sync")):
            patched.setattr(module, name, recorded(getattr(module, name)))
        withdraw(asked(config))
    new = {name: value for name, value in state_of(config).items() if not name.startswith("kept")}
    journal, seen = PENDING_FILE.format("simulation"), set()
    for folder in taken:
        stopped, waiting = within(config, folder), (folder / "data" / journal).exists()
        assert finish(journal_of(stopped)) is waiting and not (folder / "data" / journal).exists()
        found = state(folder)
        assert found == (new if found.get("data/simulation/withdrawn.jsonl") else old)
        assert found == new if waiting else True
        seen.add((waiting, found == new))
    assert seen == {(False, False), (True, True), (False, True)} and len(taken) > 40
    for folder in (taken[0], taken[-1]):
        stopped = within(config, folder)
        assert sum(1 for _ in models(stopped)) == 2 and decided_with(stopped) is not None
        read_decisions(stopped, dataset_of(Variant(stopped, True)), masked=True)


@pytest.mark.slow
def test_a_withdrawal_that_is_killed_has_happened_or_not(cpu, run, tmp_path):
    pair = listed(disclosed(run))[5]
    config = asking(run, f"{pair[0]},{pair[1]}")
    arguments = [f"--{key}={getattr(config, key)}" for key in ("data_path", "output_path", "checkpoint_path", "withdraw")]
    what = ("from src.evaluation.withdraw import withdraw\nfrom src.common.stage import main\n"
            "main(lambda c: withdraw(asked(c)), 'run_train', '', "
            f"{[*arguments, '--dataset', 'simulation', '--masked', '--device_target', 'CPU']!r})")
    old, steps = disclosed(config), 0
    for step in range(0, 400, 17):
        killed_at(step, what, tmp_path)
        finish(journal_of(config))
        now = disclosed(config)
        for _ in models(config):
            pass
        read_decisions(config, dataset_of(Variant(config, True)), masked=True)
        happened = now.num_interactions < old.num_interactions
        assert len(read_requests(config)) == happened
        steps += 1
        if happened:
            break
    assert happened and steps > 2
