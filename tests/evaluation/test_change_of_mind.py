"""Random sequences of requests, masks and trainings, against an account of them that is kept by hand.

After each step every file, record and receipt says what the account does; at the end a mask is the one that a run makes that
knows only what is taken back by then. A kind of step more is one more entry of STEPS, and what it does to the account.
"""
import functools
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
from src.network import build
from src.sources.interactions import read_interactions
from src.training.checkpoint import ANCHOR, BEST, load_sets, save_checkpoint
from src.training.train import train
from tests.small import SMALL, refused

USERS, ITEMS, EACH, START, DAY = 9, 16, 8, 1_600_000_000, 86400
GENRES = {item: {"a", "b", "c"} - {"abc"[item % 3]} if item % 4 else {"c"} for item in range(ITEMS)}
HEADER = ["user_id", "item_id", "genre", "since", "until"]


def meets(rule, row):
    """Whether a line, by the columns of HEADER, is about an interaction."""
    user, item, genre, since, until = rule
    return (user in ("", row.user_id) and item in ("", row.item_id) and (genre == "" or genre in GENRES[row.item_id])
            and (since == "" or since <= row.timestamp) and (until == "" or row.timestamp < until))


class World:
    """A run in a folder, and the account of it.

    rows: of ratings.csv; vetoed: their places that are forbidden; requests: pairs of whether it allows and its lines.
    made: by "mask" or a model's `masked` what it has: number of requests by then, places that train, and held-out ones.
    """

    def __init__(self, config, rng):
        self.config, self.rng, self.requests, self.made = config, rng, [], {}
        self.folder = Path(config.data_path).parent
        rows = [(u, int(i), START + DAY * int(rng.integers(120))) for u in range(1, USERS + 1)
                for i in rng.permutation(ITEMS)[:EACH]]
        folder = self.folder / "data" / "tiny"
        folder.mkdir(parents=True)
        self.rows = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).sample(frac=1, random_state=int(
            rng.integers(99))).reset_index(drop=True)
        self.rows.assign(rating=3).to_csv(folder / "ratings.csv", index=False)
        pd.DataFrame({"item_id": list(GENRES), "title": "", "genres": ["|".join(sorted(GENRES[i])) for i in GENRES]}).to_csv(
            folder / "movies.csv", index=False)
        rules = [(1, "", "a", "", "", 1), (2, "", "", START + 60 * DAY, "", 1), ("", "", "b", "", START + 9 * DAY, .9)]
        pd.DataFrame(rules, columns=[*HEADER, "unwillingness"]).to_csv(self.folder / "rules.csv", index=False)
        # of two rules for one interaction that of a user decides; 1 is a veto under --veto
        self.vetoed = {k for k, row in self.each() if config.veto and any(meets(rule[:5], row) for rule in rules[:2])}

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
            assert changed == {"data/tiny/withdrawn.jsonl"}  # data by hand have no dataset.json
        else:
            fresh = True in self.made and self.made[True][0] >= self.made["mask"][0]  # else it is of an earlier mask
            withdraw(asked(self.config.replace(withdraw=path, masked=bool(fresh and self.rng.random() < .5))))
        self.requests.append((allows, lines))

    def files(self):
        return {str(path.relative_to(self.folder)): digest(path) for name in ("data", "output", "checkpoint")
                for path in (self.folder / name).rglob("*") if path.is_file()}

    def check(self):
        """All that the files say is what the account says."""
        whole, state = read_interactions(self.config), self.taken(len(self.requests))
        found = taken_back(whole, self.config, read_requests(self.config))
        assert dict(zip(whole.rows.tolist(), found.tolist())) == state
        now = load_dataset(self.config)
        trains, held = self.split()
        assert set(now.rows.tolist()) == trains and sorted(map(sorted, held.values())) == sorted(
            sorted(rows) for rows in now.held_out[now.scored].tolist() if self.config.holdout) or not self.config.holdout
        for masked in (False, True):
            self.check_model(masked)
        self.check_mask()

    def check_model(self, masked):
        variant = Variant(self.config.replace(masked=masked), masked)
        if masked and (masked not in self.made or self.made[True][0] < self.made["mask"][0]):
            return  # of an earlier mask
        trains, held, _ = self.left(masked)
        dataset = load_dataset(variant.config, masked=True) if masked else dataset_of(variant)
        assert self.places(dataset) == (trains, {k for places in held.values() for k in places})
        load_sets(variant.checkpoint, dataset, variant)

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
        self.check_receipt(int(self.rng.integers(USERS)), said, trains)

    def check_receipt(self, user, said, trains):
        receipts = Receipts(self.config)
        receipt, name = receipts.of(user), user + 1
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


def mask(world):
    """A mask of now; what it discloses is looked up, of what is held out the account is kept."""
    preprocess(world.config)
    held = world.split()[1]
    folder = world.folder / "data" / "masked_tiny"
    table = pd.read_csv(folder / "ratings.csv").merge(world.rows.reset_index(), on=["user_id", "item_id"])
    trains = set(table["index"])
    assert trains <= world.split()[0]
    if "mask" not in world.made or world.made["mask"][1:] != (trains, held) or world.made["mask"][0] != len(world.requests):
        world.made["mask"] = len(world.requests), trains, held


def learn(world):
    """Both models are trained; nothing is done again where nothing has changed."""
    train(asked(world.config))
    train(asked(world.config.replace(masked=True)))
    world.made[False] = len(world.requests), *world.split()
    world.made[True] = world.made["mask"]
    before = world.files()
    train(asked(world.config))
    assert world.files() == before


STEPS = {"withdraw": ask(False), "allow": ask(True), "mask": mask, "learn": learn}


def untrained(dataset, variant, info):
    """In place of a training: a checkpoint with the parameters that a network begins with."""
    net = build(dataset, variant.config)
    sets = dict.fromkeys((BEST, ANCHOR.format(1)), net.values())
    save_checkpoint(variant.checkpoint, sets, {
        **net.shape, "catalogue_sha256": dataset.catalogue_sha256(), **info, "epoch": 1, "anchor_epochs": [1]})
    return {"model": variant.model}


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(k, marks=pytest.mark.slow) for k in range(4, 40))])
def test_whatever_they_change_their_mind_about_all_agrees_with_their_last_word(cpu, settings, tmp_path, monkeypatch, seed):
    monkeypatch.setattr(src.training.train, "_train", untrained)
    monkeypatch.setattr(src.game.preprocess, "drawn", lambda *_: None)
    monkeypatch.setattr(src.evaluation.withdraw, "Withdrawal", lambda *_: lambda sets, withdrawn: sets)
    monkeypatch.setattr(src.evaluation.withdraw, "membership_auc", lambda *_: 0.5)
    monkeypatch.setattr(src.common.variant, "shipped", functools.lru_cache(maxsize=None)(shipped))
    rng = np.random.default_rng(seed)
    config = settings(*SMALL, "--strategy", ("threshold", "none", "random")[seed % 3], "--unwillingness", "uniform",
                      "--willingness_file", tmp_path / "rules.csv", "--seed", seed, f"--veto={seed % 2 == 0}",
                      "--holdout", 0 if seed % 4 == 3 else 2, "--personal", "False")
    world = World(config, rng)
    for step in (mask, learn):
        step(world)
    world.check()
    for name in rng.choice(list(STEPS), 8, p=[.4, .35, .15, .1]):
        try:
            STEPS[name](world)
        except InputError as e:
            pytest.fail(f"{name} after {world.requests}: {e}")
        world.check()
    mask(world)
    world.check()
    # a run that knows no more than what is taken back by now
    other = config.replace(**{f"{name}_path": str(tmp_path / "other" / name) for name in ("data", "output", "checkpoint")})
    shutil.copytree(tmp_path / "data" / "tiny", tmp_path / "other" / "data" / "tiny")
    pairs = [[int(row.user_id), int(row.item_id)] for k, row in world.each() if world.taken(len(world.requests))[k]]
    line, _ = with_request({"time": "", "models": [], "file_sha256": "", "rules": [], "interactions": pairs, "forbidden": [],
                            "before": {}, "after": {}}, [])
    withdrawn_path(other).write_text(line + "\n")
    preprocess(other)
    for name in ("ratings.csv", *(["held_out.csv"] if config.holdout else [])):
        one, two = (Path(of.data_path) / "masked_tiny" / name for of in (config, other))
        assert one.read_bytes() == two.read_bytes()
    one, two = (pd.read_csv(Path(of.output_path) / "disclosure.csv").replace(r"withdrawn \d+", "withdrawn", regex=True)
                for of in (config, other))
    pd.testing.assert_frame_equal(one, two)
