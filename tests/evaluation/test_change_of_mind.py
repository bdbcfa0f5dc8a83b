"""Random sequences of requests, updates, masks and trainings, against an account of them that is kept by hand.

After each step every file, record and receipt says what the account does; at the end a mask is the one that a run makes that
knows only what is taken back by then. A kind of step more is one more entry of STEPS, and what it does to the account.
"""
import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import src.common.variant
import src.evaluation.withdraw
import src.game.preprocess
import src.training.train
from src.common.errors import InputError
from src.common.files import digest
from src.common.variant import Variant, asked
from src.config import shipped
from src.consent.withdrawn import read_requests, taken_back, with_request, withdrawn_path
from src.dataset import load_dataset
from src.evaluation.receipt import Receipts, check
from src.evaluation.request import allow
from src.evaluation.withdraw import withdraw
from src.game.decisions import dataset_of, read_decisions
from src.game.preprocess import preprocess
from src.game.update import update
from src.movielens import prepare
from src.network import build
from src.sources.interactions import read_interactions
from src.training.checkpoint import ANCHOR, BEST, TRAINED_ROWS, load_sets, save_checkpoint, trained_part
from src.training.train import train
from tests.small import SMALL, check_arrays, refused

USERS, ITEMS, EACH, START, DAY = 9, 16, 8, 1_600_000_000, 86400
GENRES = {item: {"a", "b", "c"} - {"abc"[item % 3]} if item % 4 else {"c"} for item in range(ITEMS)}
HEADER = ["user_id", "item_id", "genre", "since", "until"]
RULES = [(1, "", "a", "", "", 1), (2, "", "", START + 60 * DAY, "", 1), ("", "", "b", "", START + 9 * DAY, .9)]
MOST = 12  # interactions of a user, updates included


def meets(rule, row):
    """Whether a line, by the columns of HEADER, is about an interaction."""
    user, item, genre, since, until = rule
    return (user in ("", row.user_id) and item in ("", row.item_id) and (genre == "" or genre in GENRES[row.item_id])
            and (since == "" or since <= row.timestamp) and (until == "" or row.timestamp < until))


class World:
    """A run in a folder, and the account of it; of data by hand, or with `archive` as the data stage makes them.

    rows: of ratings.csv; vetoed: their places that are forbidden; requests: pairs of whether it allows and its lines.
    made: by "mask" or a model's `masked` what it has: number of requests by then, places that train, and held-out ones.
    open: places that the mask was made of, or an update has added to them; trained: by `masked` those that a training saw.
    """

    def __init__(self, config, rng):
        self.config, self.rng, self.requests, self.made, self.trained = config, rng, [], {}, {}
        self.folder = Path(config.data_path).parent
        rows = [(u, int(i), START + DAY * int(rng.integers(120))) for u in range(1, USERS + 1)
                for i in rng.permutation(ITEMS)[:EACH]]
        folder = self.folder / "data" / "tiny"
        folder.mkdir(parents=True)
        self.rows = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).sample(frac=1, random_state=int(
            rng.integers(99))).reset_index(drop=True)
        table, movies = self.rows.assign(rating=3), folder / "movies.csv"
        if config.archive:
            order = ["user_id", "item_id", "rating", "timestamp"]  # the archive may be just what the data stage writes
            table[order[::1 - 2 * int(rng.integers(2))]].to_csv(config.archive, index=False)
            movies = Path(config.archive).with_suffix(".items.csv")
        pd.DataFrame({"item_id": list(GENRES), "title": "", "genres": ["|".join(sorted(GENRES[i])) for i in GENRES]}).to_csv(
            movies, index=False)
        if config.unwillingness == "file":
            table[["user_id", "item_id"]].assign(unwillingness=rng.random(len(table)).round(2)).to_csv(
                folder / "unwillingness.csv", index=False)
        pd.DataFrame(RULES, columns=[*HEADER, "unwillingness"]).to_csv(self.folder / "rules.csv", index=False)
        prepare(config) if config.archive else table.to_csv(folder / "ratings.csv", index=False)
        # of two rules for one interaction that of a user decides; 1 is a veto under --veto
        self.vetoed = {k for k, row in self.each() if config.veto and self.ruled(row) == 1}

    def ruled(self, row):
        """What a rule says of an interaction, or None."""
        met = [rule[5] for rule in RULES if self.config.willingness_file and meets(rule[:5], row)]
        return met[0] if met else None

    def each(self):
        return [(k, row) for k, row in enumerate(self.rows.itertuples(index=False))]

    def taken(self, number):
        """By place the number of the request that takes it back after so many of them."""
        state = dict.fromkeys(range(len(self.rows)), 0)
        for n, (allows, lines) in enumerate(self.requests[:number], 1):
            for k, row in self.each():
                if any(meets(line, row) for line in lines):
                    state[k] = 0 if allows else state[k] or n
        return state

    def since(self, number):
        """By place the number of the first request after so many that takes it back."""
        found = {}
        for n, (allows, lines) in list(enumerate(self.requests, 1))[number:]:
            for k, row in self.each():
                if not allows and any(meets(line, row) for line in lines):
                    found.setdefault(k, n)
        return found

    def split(self):
        """Places that train now, and those held out, by user."""
        taken, trains, held = self.taken(len(self.requests)), set(), {}
        for user, mine in self.rows.groupby("user_id"):
            free = [k for k in mine.sort_values("timestamp", kind="stable").index if not taken[k] and k not in self.vetoed]
            if len(free) >= self.config.holdout:
                last = len(free) - self.config.holdout
                trains, held[user] = trains | set(free[:last]), free[last:]
        return trains, held

    def left(self, key):
        """What is left of what a mask or a model had: places that train, those held out, and the number of requests."""
        number, trains, held = self.made[key]
        gone = self.since(number)
        return trains - set(gone), {u: places for u, places in held.items() if not set(places) & set(gone)}, number

    def lines(self, allows):
        """Random lines that each change something, and are not all said by a line before; perhaps none."""
        state, found, met = self.taken(len(self.requests)), [], set()
        for _ in range(int(self.rng.integers(1, 4))):
            row, kind = self.rows.iloc[int(self.rng.integers(len(self.rows)))], self.rng.choice(["user", "item", "genre"])
            since, until = sorted(START + DAY * self.rng.integers(-10, 130, 2)) if self.rng.random() < .4 else (0, 0)
            timed = [int(since), int(until)] if since < until else ["", ""]
            if self.rng.random() < .3:
                timed[int(self.rng.integers(2))] = ""
            genre = str(self.rng.choice(sorted(GENRES[row.item_id]))) if kind == "genre" else ""
            line = (int(row.user_id), int(row.item_id) if kind == "item" else "", genre, *timed)
            places = {k for k, row in self.each() if meets(line, row)}
            if any((state[k] > 0) == allows for k in places) and places - met:
                found.append(line)
                met |= places
        return found

    def write(self, lines, name="request.csv"):
        pd.DataFrame(lines, columns=HEADER).to_csv(self.folder / name, index=False)
        return str(self.folder / name)

    def request(self, allows, lines):
        path = self.write(lines)
        if allows:
            before = self.files()
            allow(self.config.replace(allow=path))
            changed = {name for name, value in self.files().items() if before.get(name) != value}
            made = {"data/tiny/dataset.json"} if self.config.archive else set()  # data by hand have none
            assert changed == {"data/tiny/withdrawn.jsonl", *made}
        else:
            if not self.usable:
                before = self.files()
                with refused("NCF.ckpt"):
                    withdraw(asked(self.config.replace(withdraw=path)))
                assert self.files() == before
                learn(self)
            masked = len(self.usable) == 1 and True in self.usable or len(self.usable) == 2 and self.rng.random() < .5
            withdraw(asked(self.config.replace(withdraw=path, masked=bool(masked))))
            told = json.loads((self.folder / "output" / "withdraw.json").read_text())
            named = {Path(entry["path"]).name for entry in told["not_reached"]}
            assert {name for masked, name in MODELS.items() if masked not in self.usable} == named & set(MODELS.values())
        self.requests.append((allows, lines))

    @property
    def usable(self):
        """Which models there are of the data and of the mask of now."""
        return {masked for masked in (False, True) if self.made.get(masked) is not None}

    def files(self):
        return {str(path.relative_to(self.folder)): digest(path) for name in ("data", "output", "checkpoint")
                for path in (self.folder / name).rglob("*") if path.is_file()}

    def check(self):
        """All that the files say is what the account says."""
        whole, state = read_interactions(self.config), self.taken(len(self.requests))
        found = taken_back(whole, self.config, read_requests(self.config))
        assert dict(zip(whole.rows.tolist(), found.tolist())) == state
        ratings = pd.read_csv(self.folder / "data" / "tiny" / "ratings.csv")
        pd.testing.assert_frame_equal(ratings[list(self.rows)], self.rows)
        now = load_dataset(self.config)
        trains, held = self.split()
        assert set(now.rows.tolist()) == trains and sorted(map(sorted, held.values())) == sorted(
            sorted(rows) for rows in now.held_out[now.scored].tolist() if self.config.holdout) or not self.config.holdout
        for masked in (False, True):
            check_arrays(self.config, masked)
            self.check_model(masked)
        self.check_mask()

    def check_model(self, masked):
        variant = Variant(self.config.replace(masked=masked), masked)
        if masked not in self.usable:
            return  # of an earlier mask, or of data without what an update has added
        trains, held, _ = self.left(masked)
        dataset = load_dataset(variant.config, masked=True) if masked else dataset_of(variant)
        assert self.places(dataset) == (trains, {k for places in held.values() for k in places})
        _, _, info = load_sets(variant.checkpoint, dataset, variant)
        known = trained_part(info, dataset.rows)
        assert self.places(dataset.part(known))[0] == trains & self.trained[masked]
        assert not masked or known.sum() == info.get(TRAINED_ROWS, known.sum())  # a mask lists what may train alone

    def places(self, dataset):
        """Places of what trains and what is held out."""
        place = {(row.user_id, row.item_id): k for k, row in self.each()}
        return tuple({place[dataset.user_ids[u], dataset.item_ids[i]] for u, i in zip(*pairs)} for pairs in (
            (dataset.user, dataset.item), dataset.held_pairs if dataset.held_pairs else ((), ())))

    def check_mask(self):
        trains, held, number = self.left("mask")
        masked = Variant(self.config.replace(masked=True), True)
        assert self.places(load_dataset(masked.config, masked=True)) == (trains, {k for one in held.values() for k in one})
        dataset, taken, since = dataset_of(masked), self.taken(number), self.since(number)
        decisions = read_decisions(self.config, dataset, masked=True, needed=True)
        assert set(dataset.rows[decisions.disclosed].tolist()) == trains
        said = {} if dataset.dropped is None else dict(zip(dataset.dropped.rows.tolist(), decisions.barred))
        for k, row in self.each():  # what took no part for another reason goes by that
            out = k in self.vetoed or row.user_id not in self.made["mask"][2]
            taker, reason = taken[k] or (0 if out else since.get(k, 0)), said.get(k, "")
            assert reason == f"withdrawn {taker}" if taker else "withdrawn" not in reason
        self.check_record(dataset, decisions, number)
        self.check_receipt(int(self.rng.integers(dataset.num_users)), said, trains)

    def check_record(self, dataset, decisions, number):
        """preprocess.json is about the decisions of now; what else it counts is of the mask and its updates."""
        record, b, users = decisions.record, decisions.unwillingness, self.rows.user_id.nunique()
        assert set(dataset.rows.tolist()) == self.open - set(self.since(number))
        assert dataset.num_users == users == record["num_users"] and len(b) == record["num_interactions"]
        assert record["wv"] == pytest.approx(b[decisions.disclosed].sum() / users)
        assert record["total_wv"] == pytest.approx(b.sum() / users)
        assert record["disclosed_share"] == pytest.approx(decisions.disclosed.mean() if len(b) else 0)
        taken = self.taken(number)
        assert record["vetoed"] == sum(not taken[k] for k in self.vetoed)

    def decisions(self):
        """By place of what may be used whether it is disclosed, and its unwillingness; and the record."""
        dataset = dataset_of(Variant(self.config.replace(masked=True), True))
        found = read_decisions(self.config, dataset, masked=True, needed=True)
        return dict(zip(dataset.rows.tolist(), zip(found.disclosed.tolist(), found.unwillingness.tolist()))), found.record

    def check_update(self, was, new):
        """What was decided stays, what is new is decided by the threshold within the budget; the new that is disclosed."""
        (earlier, record), (now, told) = was, self.decisions()
        assert {k: now.get(k) for k in earlier} == earlier and set(now) - set(earlier) == new & self.open
        shown = {k for k in new & set(now) if now[k][0]}
        low = {k for k in new & set(now) if now[k][1] <= record["unwillingness_threshold"]}
        spent, total = sum(b for disclosed, b in earlier.values() if disclosed), sum(b for _, b in now.values())
        left = np.inf if record["strategy"] == "none" else max(0, record["wv_budget"] * total - spent) + 1e-9
        assert shown <= low and sum(now[k][1] for k in shown) <= left
        assert shown == low or sum(now[k][1] for k in low) > left
        assert told["spent_wv"] * told["num_users"] == pytest.approx(
            record["spent_wv"] * record["num_users"] + sum(now[k][1] for k in shown))
        return shown

    def check_receipt(self, user, said, trains):
        receipts = Receipts(self.config)
        receipt, name = receipts.of(user), sorted(self.rows.user_id.unique().tolist())[user]
        assert not [fault for _, fault in check(receipt, self.config) if fault]
        place = {row.item_id: k for k, row in self.each() if row.user_id == name}
        for row in receipt["interactions"]:
            k = place[row["item_id"]]
            assert row["state"] == ("withdrawn" if "withdrawn" in said.get(k, "") else "vetoed" if "veto" in said.get(k, "")
                                    else "disclosed" if k in trains else "withheld")
        mine = [(n, allows) for n, (allows, lines) in enumerate(self.requests, 1) if any(line[0] == name for line in lines)]
        assert [(one["request"], one.get("allows", False)) for one in receipt["withdrawals"]] == mine
        if mine and mine[-1][0] == len(self.requests):  # a receipt of before the last request
            earlier = {**receipt, "withdrawals": receipt["withdrawals"][:-1]}
            assert [name for name, fault in check(earlier, self.config) if fault] == ["withdrawals: as the files say"]


def ask(allows):
    def step(world):
        if lines := world.lines(allows):
            world.request(allows, lines)
        row = world.rows.iloc[int(world.rng.integers(len(world.rows)))]
        taken = world.taken(len(world.requests))
        if (taken[int(row.name)] > 0) != allows:  # a line that changes nothing
            before, path = world.files(), world.write([(int(row.user_id), int(row.item_id), "", "", "")])
            with refused("request.csv: line 2", f"user {row.user_id}"):
                allow(world.config.replace(allow=path)) if allows else withdraw(asked(world.config.replace(withdraw=path)))
            assert world.files() == before
    return step


MODELS = {False: "NCF.ckpt", True: "IFRQE.ckpt"}


def mask(world):
    """A mask of now; what it discloses is looked up, of what is held out the account is kept."""
    before = world.files()
    preprocess(world.config)
    held = world.split()[1]
    folder = world.folder / "data" / "masked_tiny"
    table = pd.read_csv(folder / "ratings.csv").merge(world.rows.reset_index(), on=["user_id", "item_id"])
    trains = set(table["index"])
    assert trains <= world.split()[0]
    if world.files() != before:
        world.made["mask"], world.open = (len(world.requests), trains, held), world.split()[0]
        shown = "data/masked_tiny/ratings.csv"
        same = world.made.get(True) is not None and world.files()[shown] == before[shown]
        world.made[True] = world.made["mask"] if same else None  # until it is trained on the mask
    assert world.made["mask"][0] == len(world.requests) and world.open == world.split()[0]


def learn(world):
    """Both models are trained; nothing is done again where nothing has changed."""
    before = world.files()
    train(asked(world.config))
    train(asked(world.config.replace(masked=True)))
    world.made[False] = len(world.requests), *world.split()
    if world.files()["checkpoint/IFRQE.ckpt"] != before.get("checkpoint/IFRQE.ckpt"):
        world.trained[True] = world.left("mask")[0]
    world.trained[False], world.made[True] = world.split()[0], world.made["mask"]
    before = world.files()
    train(asked(world.config))
    assert world.files() == before


def arrive(world, more=()):
    """New interactions of known and of new users, with what was withdrawn, vetoed or there among them."""
    rng, known, config = world.rng, world.rows, world.config
    there = known[["user_id", "item_id"]].sample(2, random_state=int(rng.integers(99)))
    pairs = {*more, *map(tuple, there.to_numpy().tolist())}
    for user in rng.integers(1, USERS + 4, int(rng.integers(1, 6))).tolist():
        free = sorted(set(GENRES) & set(known.item_id) - set(known.item_id[known.user_id == user]))
        if len(free) > len(GENRES) - MOST:
            pairs.add((user, int(rng.choice(free))))
    table = pd.DataFrame([(*sorted(pairs)[k], START + DAY * int(rng.integers(150))) for k in rng.permutation(len(pairs))],
                         columns=list(known)).assign(rating=3)
    if rng.random() < .3:  # without times they come after all that is there
        table["timestamp"] = known.timestamp.max() + 1 + np.arange(len(table))
    said = config.unwillingness in ("auto", "file") and not (config.willingness_file and config.unwillingness == "auto")
    b = rng.choice([0, .2, .5, .9, 1], len(table))
    path = world.folder / "update.csv"
    late = table.timestamp.min() > known.timestamp.max()
    table.drop(columns="timestamp" if late else []).assign(**{"unwillingness": b} if said else {}).to_csv(path, index=False)
    give = config.replace(update=str(path))
    if True not in world.usable:  # nobody could decide by a model of another mask
        before = world.files()
        with refused("IFRQE.ckpt"):
            update(give)
        assert world.files() == before
        learn(world)
    before, was, (number, trains, held) = world.files(), world.decisions(), world.made["mask"]
    whole = world.left(False)[0] == world.open - set(world.since(number)) if False in world.usable else False
    update(give)
    fresh = table.merge(known[["user_id", "item_id"]], how="left", indicator=True)._merge.to_numpy() == "left_only"
    if not fresh.any():
        assert world.files() == before
        return
    world.rows = pd.concat([known, table.loc[fresh, list(known)]], ignore_index=True)
    new = set(range(len(known), len(world.rows)))
    for k, (row, own) in enumerate(zip(world.rows[len(known):].itertuples(index=False), b[fresh]), len(known)):
        rule = world.ruled(row)
        if config.veto and (rule if rule is not None else own if said else 0) == 1:
            world.vetoed.add(k)
    gone, taken = world.since(number), world.taken(number)
    world.open |= {k for k in new - world.vetoed if not taken[k] and k not in gone}
    shown = world.check_update(was, new)
    world.made["mask"] = number, trains | shown, {**held, **{user: [] for user in world.rows.user_id.unique()}}
    world.made[True], world.made[False] = world.made["mask"], None
    if whole:
        world.made[False] = number, set(world.open), world.made["mask"][2]
    now = world.files()
    update(give)
    assert world.files() == now


STEPS = {"withdraw": ask(False), "allow": ask(True), "mask": mask, "learn": learn, "update": arrive}


def untrained(dataset, variant, info):
    """In place of a training: a checkpoint with the parameters that a network begins with."""
    net = build(dataset, variant.config)
    sets = dict.fromkeys((BEST, ANCHOR.format(1)), net.values())
    save_checkpoint(variant.checkpoint, sets, {
        **net.shape, "catalogue_sha256": dataset.catalogue_sha256(), **info, "epoch": 1, "anchor_epochs": [1]})
    return {"model": variant.model}


SEEDS = [*range(2), *(pytest.param(k, marks=pytest.mark.slow) for k in range(2, 40))]


@pytest.fixture
def quick(cpu, monkeypatch):
    """Nothing is trained, drawn or measured: what is tested is what the files say."""
    monkeypatch.setattr(src.training.train, "_train", untrained)
    monkeypatch.setattr(src.game.preprocess, "drawn", lambda *_: None)
    monkeypatch.setattr(src.evaluation.withdraw, "Withdrawal", lambda *_: lambda sets, withdrawn: sets)
    monkeypatch.setattr(src.evaluation.withdraw, "membership_auc", lambda *_: 0.5)
    monkeypatch.setattr(src.common.variant, "shipped", functools.lru_cache(maxsize=None)(shipped))


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_they_change_their_mind_about_all_agrees_with_their_last_word(quick, settings, tmp_path, seed):
    config = settings(*SMALL, "--strategy", ("threshold", "none", "random")[seed % 3], "--unwillingness", "uniform",
                      "--willingness_file", tmp_path / "rules.csv", "--seed", seed, f"--veto={seed % 2 == 0}",
                      "--holdout", 0 if seed % 4 == 3 else 2, "--personal", "False")
    _live(config, seed, {"withdraw": .4, "allow": .35, "mask": .15, "learn": .1})


@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(k, marks=pytest.mark.slow) for k in range(2, 24))])
def test_and_so_it_does_with_updates_in_between(quick, settings, tmp_path, seed):
    stated = [["--unwillingness", "auto"], ["--unwillingness", "uniform", "--willingness_file", tmp_path / "rules.csv"],
              ["--unwillingness", "file", "--willingness_file", tmp_path / "rules.csv"],
              ["--willingness_file", tmp_path / "rules.csv"]][seed % 4]
    config = settings(*SMALL, *stated, "--strategy", ("threshold", "none")[seed % 5 == 4], "--seed", seed,
                      "--archive", tmp_path / "shop.csv", "--min_ratings", 1, f"--veto={seed % 3 != 2}", "--holdout", 0,
                      "--personal", "False")
    _live(config, seed, {"update": .3, "withdraw": .3, "allow": .2, "mask": .12, "learn": .08}, 8 if seed > 2 else 4)


def test_an_update_meets_a_plain_model_of_later_consents(quick, settings, tmp_path):
    """It has allowed again what the mask has not, but nothing of it is there any more."""
    config = settings(*SMALL, "--strategy", "threshold", "--archive", tmp_path / "shop.csv", "--min_ratings", 1,
                      "--holdout", 0, "--personal", "False")
    world = World(config, np.random.default_rng(0))
    for step in (mask, learn):
        step(world)
    mine = world.rows.item_id[world.rows.user_id == 3].tolist()
    of_genre = [item for item in mine if "a" in GENRES[item]]
    world.request(False, [(3, "", "", "", "")])
    world.request(True, [(3, "", "a", "", "")])
    learn(world)
    world.check()
    world.request(False, [(3, item, "", "", "") for item in of_genre])
    arrive(world, [(3, next(item for item in GENRES if "a" in GENRES[item] and item not in mine))])
    assert False in world.usable
    world.check()


def _live(config, seed, shares, steps=8):
    """Random steps in such shares; at the end the mask is that of a run that knows their last word alone."""
    rng = np.random.default_rng(seed)
    world = World(config, rng)
    for step in (mask, learn):
        step(world)
    world.check()
    for name in rng.choice(list(shares), steps, p=list(shares.values())):
        try:
            STEPS[name](world)
        except InputError as e:
            pytest.fail(f"{name} after {world.requests}: {e}")
        world.check()
    mask(world)
    world.check()
    other = _afresh(config, [[int(row.user_id), int(row.item_id)] for k, row in world.each()
                             if world.taken(len(world.requests))[k]])
    for name in ("ratings.csv", *(["held_out.csv"] if config.holdout else [])):
        one, two = (Path(of.data_path) / "masked_tiny" / name for of in (config, other))
        assert one.read_bytes() == two.read_bytes()
    one, two = (pd.read_csv(Path(of.output_path) / "disclosure.csv").replace(r"withdrawn \d+", "withdrawn", regex=True)
                for of in (config, other))
    pd.testing.assert_frame_equal(one, two)
    one, two = (json.loads((Path(of.output_path) / "preprocess.json").read_text()) for of in (config, other))
    counted = ("strategy", "unwillingness", "wv", "total_wv", "spent_wv", "num_users", "num_interactions", "vetoed",
               "withdrawn")
    assert {key: one[key] for key in counted} == {key: two[key] for key in counted}


def _afresh(config, pairs):
    """Settings of a run in another folder, of data that never had an update, with these pairs withdrawn before its mask."""
    folder = Path(config.data_path).parent / "other"
    other = config.replace(**{f"{name}_path": str(folder / name) for name in ("data", "output", "checkpoint")})
    own, made = (Path(of.data_path) / "tiny" for of in (config, other))
    shutil.copytree(own, made)
    line, _ = with_request({"time": "", "models": [], "file_sha256": "", "rules": [], "interactions": pairs, "forbidden": [],
                            "before": {}, "after": {}}, [])
    withdrawn_path(other).write_text(line + "\n")
    if config.archive:
        for name in ("dataset.json", "ratings.csv", "movies.csv"):
            (made / name).unlink()
        shutil.copy(own / "ratings.csv", config.archive)
        prepare(other)
    preprocess(other)
    return other
