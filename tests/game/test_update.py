"""An update: all files are what the stages read, nothing that was decided or trained has moved, and nothing is ever lost."""
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eval import run as ask
from src.common.files import digest
from src.common.stage import main
from src.common.together import PENDING_FILE, Together, finish
from src.common.variant import Variant, asked, check_tables, dataset_folder
from src.config import load_config
from src.consent.allowed import VETO
from src.consent.arrivals import read_arrivals
from src.constants import ARRAYS, MASKED_MODEL
from src.dataset import load_dataset
from src.evaluation.withdraw import withdraw
from src.game.decisions import UPDATES, dataset_of, read_decisions
from src.game.preprocess import preprocess
from src.game.update import update
from src.movielens import prepare
from src.sources.interactions import read_interactions
from src.training.checkpoint import load_sets
from src.training.train import train
from tests.small import before_each_operation, flags, refused

COLUMNS = ("user_id", "item_id", "timestamp", "unwillingness")
T = 1_700_000_000  # after all that is there
ROWS = [(3, 49, T, .1), (901, 1, T + 1, .1), (901, 2, T + 2, .9), (901, 3, T + 3, 0), (901, 5, 5, .5), (902, 7, T, .95),
        (1, 46, T, .05), (40, 46, 7, .02), (40, 47, T, 1), (17, 49, T, .4)]
SOURCE, MASKED = "data/shop/ratings.csv", "data/masked_shop/ratings.csv"


class Shop:
    """A run in a folder that updates come to."""

    def __init__(self, config):
        self.config, self.folder = config, Path(config.data_path).parent

    def give(self, rows=ROWS, columns=COLUMNS, name="update.csv", **changes):
        """Updates by a file of these rows."""
        path = self.folder / name
        pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
        update(self.config.replace(update=str(path), **changes))

    def table(self, name):
        return pd.read_csv(self.folder / name, dtype={"user_id": str, "item_id": str})

    def record(self, name="output/preprocess.json"):
        return json.loads((self.folder / name).read_text())

    def state(self):
        """Digest of every file of the run but logs and hidden ones."""
        return {str(path.relative_to(self.folder)): digest(path) for part in ("data", "output", "checkpoint")
                for path in sorted((self.folder / part).rglob("*"))
                if path.is_file() and path.suffix not in (".log", ".lock") and not path.name.startswith(".")}

    def models(self):
        """Of both models by name: their parameters, info and Dataset."""
        found = {}
        for masked in (False, True):
            variant = Variant(self.config.replace(masked=masked), masked)
            dataset = load_dataset(variant.config, masked=True) if masked else dataset_of(variant)
            net, sets, info = load_sets(variant.checkpoint, dataset, variant)
            found[variant.model] = net, sets, info, dataset
        return found

    def decisions(self):
        dataset = dataset_of(Variant(self.config, True))
        return dataset, read_decisions(self.config, dataset, masked=True, needed=True)


def pairs(table):
    return list(zip(table.user_id, table.item_id))


def listed(dataset):
    """(user, item) of a Dataset by their ids as text."""
    return list(zip(dataset.user_ids[dataset.user].astype(str), dataset.item_ids[dataset.item].astype(str)))


def check(shop, before, rows):
    """All files after the update of some rows, given the tables, models and record of before."""
    tables, models, record, number = before
    fresh = pd.DataFrame(rows, columns=COLUMNS).astype({"user_id": str, "item_id": str})
    source, masked, decided = (shop.table(name) for name in (SOURCE, MASKED, "output/disclosure.csv"))
    pd.testing.assert_frame_equal(source[:len(tables[0])], tables[0], check_dtype=False)
    assert pairs(source[len(tables[0]):]) == pairs(fresh) and source.timestamp[len(tables[0]):].tolist() == [
        row[2] for row in rows]
    disclosed = set(pairs(decided[decided.disclosed == 1]))
    assert pairs(masked) == [pair for pair in pairs(source) if pair in disclosed]
    pd.testing.assert_frame_equal(masked[:len(tables[1])], tables[1], check_dtype=False)

    new = np.array([pair in set(pairs(fresh)) for pair in pairs(decided)])
    old = decided[~new].set_index(["user_id", "item_id"])
    pd.testing.assert_frame_equal(old, tables[2].set_index(["user_id", "item_id"]).loc[old.index], check_dtype=False)
    assert len(old) == len(tables[2]) and new.sum() == len(fresh)
    b = fresh.set_index(["user_id", "item_id"]).unwillingness
    forbidden = decided.reason.str.startswith("veto")
    assert decided.reason[new & ~forbidden].str.startswith(f"update {number}: ").all()
    assert (decided.unwillingness[new].to_numpy() == b[pairs(decided[new])].to_numpy()).all()
    assert not forbidden[new].any()

    said, open_ones, users = shop.record(), decided[~forbidden], decided.user_id.nunique()
    spent = open_ones.unwillingness[open_ones.disclosed == 1].sum()
    assert said["num_users"] == users and said["num_interactions"] == len(open_ones)
    assert said["wv"] == pytest.approx(spent / users) and said["total_wv"] == pytest.approx(
        open_ones.unwillingness.sum() / users)
    assert said["disclosed_share"] == pytest.approx(open_ones.disclosed.mean())
    assert said["vetoed"] == forbidden.sum() and said["willingness_weight"] == record["willingness_weight"]
    more = open_ones.unwillingness[new[~forbidden] & (open_ones.disclosed == 1)].sum()
    assert said["spent_wv"] * users == pytest.approx(record["spent_wv"] * record["num_users"] + more)
    if said["strategy"] != "none" and said["wv_budget"]:
        assert spent <= said["wv_budget"] * open_ones.unwillingness.sum() * (1 + 1e-9)
    told = said["updates"][-1]
    assert len(said["updates"]) == number and told["file_sha256"] == digest(shop.folder / "update.csv")
    assert (told["interactions"], told["users"]) == (len(fresh), fresh.user_id.nunique())
    assert told["disclosed"] == decided.disclosed[new].sum()

    dataset, decisions = shop.decisions()
    assert listed(dataset) == pairs(open_ones) and decisions.disclosed.tolist() == (open_ones.disclosed == 1).tolist()
    assert ([] if dataset.dropped is None else dataset.dropped.why.tolist()) == [VETO] * forbidden.sum()
    for masked in (False, True):
        check_tables(dataset_folder(shop.config, masked))
    now = load_dataset(shop.config)  # of now, by which the next mask goes
    assert set(listed(now)) == set(pairs(open_ones))
    after = shop.models()
    assert set(listed(after[MASKED_MODEL][3])) == disclosed
    assert set(listed(after[shop.config.plain_model][3])) == set(pairs(open_ones))
    for name, (net, sets, info, data) in after.items():
        _, were, was, then = models[name]
        known = len(tables[name == MASKED_MODEL]) if number == 1 else was["trained_rows"]
        assert info["trained_rows"] == known and told["models"][name] == info["parameters_sha256"]
        trained = {user for user, _ in listed(then.part(then.rows < known))}
        ids, earlier = data.user_ids.astype(str).tolist(), then.user_ids.astype(str).tolist()
        place, there = [ids.index(user) for user in trained], [earlier.index(user) for user in trained]
        others = np.setdiff1d(np.arange(len(ids)), place)
        for prefix, values in sets.items():
            for key, value in values.items():
                if key in net.of_users():
                    assert (value[place] == were[prefix][key][there]).all() and np.isfinite(value).all()
                else:
                    assert (value == were[prefix][key]).all()
            seen = np.unique([ids.index(user) for user, _ in listed(data) if ids.index(user) in set(others)])
            assert len(np.unique(net.user_rows(values)[seen.astype(int)], axis=0)) >= min(2, len(seen))


def before(shop, number=1):
    return [shop.table(name) for name in (SOURCE, MASKED, "output/disclosure.csv")], shop.models(), shop.record(), number


MORE = [(902, 8, T + 5, .3), (902, 9, T + 6, .2), (55, 1, T, .1), (901, 8, T + 9, .01), (2, 48, 12, .2)]


@pytest.mark.parametrize("strategy, options", [
    ("ask-first", []), ("threshold", []),
    *(pytest.param(strategy, options, marks=pytest.mark.slow) for strategy, options in (
        ("ifrqe", []), ("ifrqe++", []), ("none", []), ("ask-first", ["--model", "mf"]), ("ifrqe", ["--model", "lightgcn"]),
        ("ifrqe", ["--willingness_weight", .05]), ("ask-first", ["--wv_budget", .2])))])
def test_all_files_are_what_every_stage_reads(cpu, product, strategy, options):
    shop = Shop(product(strategy, *options))
    for number, rows in enumerate((ROWS, MORE), 1):
        was = before(shop, number)
        shop.give(rows)
        check(shop, was, rows)
        now = shop.state()
        shop.give(rows)  # once more, which changes nothing
        assert shop.state() == now


@pytest.mark.parametrize("strategy, options", [
    ("threshold", ["--willingness_file", "RULES"]), *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ("ifrqe", ["--veto", "--willingness_file", "RULES"]), ("ifrqe", [])))])
def test_where_the_file_does_not_say_how_unwilling_the_options_do(cpu, product, strategy, options):
    """And the next mask goes by the same: what was drawn is kept, and moves nobody's."""
    shop = Shop(product(strategy, *options))
    rows = [row[:3] for row in ROWS]
    decided, source = shop.table("output/disclosure.csv"), len(shop.table(SOURCE))
    shop.give(rows, COLUMNS[:3])
    now = shop.table("output/disclosure.csv").set_index(["user_id", "item_id"])
    decided = decided.set_index(["user_id", "item_id"])
    pd.testing.assert_frame_equal(now.loc[decided.index], decided, check_dtype=False)
    preprocess(shop.config)
    anew = shop.table("output/disclosure.csv").set_index(["user_id", "item_id"])
    assert len(anew) == source + len(ROWS) and not anew.reason.str.contains("update").any()
    pd.testing.assert_series_equal(anew.unwillingness, now.unwillingness, check_exact=True)
    assert UPDATES not in shop.record()


@pytest.mark.slow
def test_what_is_withdrawn_stays_so_when_it_comes_again(cpu, product, tmp_path):
    """Rules about a user or an item meet what arrives later; what an update has added can be taken back."""
    shop = Shop(product("ifrqe"))
    rules = tmp_path / "request.csv"

    def take(text):
        rules.write_text("user_id,item_id\n" + text)
        withdraw(asked(shop.config.replace(withdraw=str(rules))))
    take("3,\n40,\n")
    shop.give()
    now = shop.table("output/disclosure.csv").set_index("user_id")
    assert (now.loc[["3", "40"]].reason == "withdrawn 1").all() and not now.loc[["3", "40"]].disclosed.any()
    assert not shop.table(MASKED).user_id.isin(["3", "40"]).any()
    was = {name: found[1] for name, found in shop.models().items()}
    shown = shop.table(MASKED)
    mine = shown[shown.user_id == "901"].item_id.tolist()
    take(f"901,{mine[0]}\n17,49\n")
    left = shop.table(MASKED)
    assert pairs(left) == [pair for pair in pairs(shown) if pair not in (("901", mine[0]), ("17", "49"))]
    for name, (net, sets, _, dataset) in shop.models().items():
        stranger = dataset.user_ids.tolist().index(901)
        for prefix, values in sets.items():
            for key, value in values.items():  # what an update has added had trained nothing
                others = np.arange(len(value)) != (stranger if key in net.of_users() else -1)
                np.testing.assert_array_equal(value[others] if value.ndim else value, was[name][prefix][key][others])
            assert (net.user_rows(values)[stranger] != net.user_rows(was[name][prefix])[stranger]).any()
    shop.give(MORE)
    assert pairs(shop.table(MASKED))[:len(left)] == pairs(left)
    shop.give([(901, int(mine[0]), T, 0)])  # which the data have already
    assert shop.record()["updates"][-1]["interactions"] == len(MORE)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ifrqe", "ask-first"])
def test_all_questions_are_answered_after_updates(cpu, product, strategy, capsys):
    shop = Shop(product(strategy, "--report_users", 3))
    own = flags(shop.config, "--holdout", 0, "--report_users", 3)
    for rows, users in ((ROWS, ("3", "901", "902", "1")), (MORE, ("902", "55", "2"))):
        shop.give(rows)
        decided = shop.table("output/disclosure.csv")
        for user in users:
            for question in (["--recommend", user, "--masked"], ["--recommend", user], ["--explain_user", user],
                             ["--receipt", user]):
                main(ask, "run_eval", "", [*own, *question])
            said = capsys.readouterr().out
            assert f"user {user}" in said
            receipt = shop.folder / "output" / f"receipt_{user}.json"
            main(ask, "run_eval", "", [*own, "--verify_receipt", str(receipt)])
            told = json.loads(receipt.read_text())
            mine = decided[decided.user_id == user].set_index("item_id")
            assert {str(row["item_id"]): row["by"] for row in told["interactions"]} == mine.reason.to_dict()
            capsys.readouterr()
            main(ask, "run_eval", "", [*own, "--recommend", user, "--masked", "--format", "json"])
            answer = json.loads(capsys.readouterr().out)
            offered = [str(row["item_id"]) for row in answer["users"][0]["items"]]
            assert not set(offered) & set(mine.index) and len(offered) == 10
            main(ask, "run_eval", "", [*own, "--why", user, offered[0], "--masked"])
        main(ask, "run_eval", "", own)
        main(ask, "run_eval", "", [*own, "--masked"])
        assert (shop.folder / "output" / "report.html").is_file()
    with refused("receipt_901.json"):  # of before the second update
        ask(load_config([*own, "--verify_receipt", str(shop.folder / "output" / "receipt_901.json")]))


def test_the_next_run_is_of_everything(cpu, product, tmp_path):
    """The data stage keeps what updates have added, and takes no source that lacks it; then all is made anew."""
    shop = Shop(product("threshold"))
    shop.give()
    now = shop.state()
    prepare(shop.config)
    assert shop.state() == now
    archive = tmp_path / "new.csv"
    source = shop.table(SOURCE)
    for lacking in (source[:-1], source[:300]):
        lacking.to_csv(archive, index=False)
        with refused("data/shop", "item 49 of user ", "new.csv"):
            prepare(shop.config.replace(archive=str(archive)))
        assert shop.state() == now
    with refused("data/shop"):
        prepare(shop.config.replace(overwrite=True))
    train(asked(shop.config.replace(masked=True, warm_start=True)))
    info = shop.models()[MASKED_MODEL][2]
    assert "trained_rows" not in info and info["settings"]["train_epochs"] == 3
    preprocess(shop.config)
    train(asked(shop.config.replace(masked=True)))
    decided = shop.table("output/disclosure.csv")
    assert not decided.reason.str.contains("update").any() and len(decided) == len(source)
    folder = shop.folder / "data" / "shop"
    numbers = {name: (folder / name).read_bytes() for name in ARRAYS}
    source.to_csv(archive, index=False)
    prepare(shop.config.replace(archive=str(archive), dataset="again"))
    assert numbers == {name: (folder.with_name("again") / name).read_bytes() for name in ARRAYS}
    source.sample(frac=1, random_state=0).to_csv(archive, index=False)
    prepare(shop.config.replace(archive=str(archive)))
    assert sorted(pairs(shop.table(SOURCE))) == sorted(pairs(source))
    assert "updated" not in shop.record("data/shop/dataset.json")


def test_without_the_plain_model_and_without_any(cpu, product):
    shop = Shop(product("ask-first"))
    (shop.folder / "checkpoint" / "NCF.ckpt").unlink()
    shop.give()
    assert list(shop.record()["updates"][-1]["models"]) == [MASKED_MODEL]
    (shop.folder / "checkpoint" / "IFRQE.ckpt").unlink()
    now = shop.state()
    with refused("IFRQE.ckpt", "train.py"):
        shop.give(MORE)
    assert shop.state() == now
    train(asked(shop.config))
    train(asked(shop.config.replace(masked=True)))
    assert len(shop.models()) == 2


NEW = [(3, 49), (901, 1), ("a,b", 2)]


@pytest.mark.parametrize("header, lines, names", [
    ("user_id,item_id", ['3,49', '901,1', '901,2', '"x, ""y""",4', '  902 ,7'], ["901", "902", 'x, "y"']),
    ("item,user,date", ["49,3,2023-12-01", "1,901,2023-12-01 10:00:00", "2,901,2023-12-02T00:00:00Z"], ["901"]),
    ("user_id,item_id,timestamp", [f"3,49,{T}000", f"901,1,{T}001"], ["901"]),
    ("user_id,item_id,rating,timestamp", [f"3,49,4.5,{T}", f"007,1,2,{T}", f"7,48,3,{T}"], ["007"])])
def test_files_as_others_write_them(cpu, product, header, lines, names):
    shop = Shop(product("threshold"))
    path = shop.folder / "update.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    before = shop.table(SOURCE)
    update(shop.config.replace(update=str(path)))
    source = shop.table(SOURCE)
    assert len(source) == len(before) + len(lines) and set(source.user_id) - set(before.user_id) == set(names)
    added = source[len(before):]
    if "date" in header or lines[0].endswith("000000000"):
        assert added.timestamp.between(T - 1e7, T + 1e7).all()
    if "time" not in header and "date" not in header:
        assert (np.diff(added.timestamp) > 0).all() and added.timestamp.min() > before.timestamp.max()
    if "rating" in header:
        assert added.rating.tolist() == [4.5, 2, 3]
    dataset, _ = shop.decisions()
    assert sorted(listed(dataset)) == sorted(pairs(source)) and len(shop.models()) == 2
    now = shop.state()
    if "time" in header or "date" in header:
        update(shop.config.replace(update=str(path)))
        assert shop.state() == now
    preprocess(shop.config)
    assert sorted(pairs(shop.table("output/disclosure.csv"))) == sorted(pairs(source))


def test_what_is_no_update_is_one_line_and_changes_nothing(cpu, product, tmp_path, caplog):
    shop, three = Shop(product("threshold")), COLUMNS[:2] + COLUMNS[3:]
    caplog.set_level("INFO", "ifrqe")
    now = shop.state()
    for rows, columns, said in [
            ([(3, 1)], ("user_id", "what"), "item_id"), ([], COLUMNS, "holds no interactions"),
            ([(3, 49, .1), (3, 48, .1), (3, 49, .1)], three, "row 3: names its user and item once more"),
            ([(3, 49, .1), (3, 48, 1.5)], three, "row 2: unwillingness 1.5"),
            ([(3, 49, "")], three, "row 1: unwillingness"), ([("", 49, .1)], three, "row 1 has nothing as user_id"),
            ([(3, 49, "soon", .1)], COLUMNS, "'soon' as timestamp"),
            ([(77, item, T, .0) for item in range(50)], COLUMNS, "77")]:
        with refused("update.csv" if said != "77" else "user 77", said):
            shop.give(rows, columns)
        assert shop.state() == now
    for rows in ([(3, 999, T, .1)], [(int(user), int(item), T, .1) for user, item in pairs(shop.table(SOURCE))[:4]]):
        shop.give(rows)
        assert shop.state() == now and "nothing in it is new" in caplog.text
        caplog.clear()
    with refused("--update", "none.csv"):
        update(shop.config.replace(update=str(tmp_path / "none.csv")))
    with refused("--unwillingness constant"):
        shop.give(unwillingness="constant")
    with refused("preprocess.json"):
        shop.give(decisions_path=str(tmp_path / "nowhere"))
    record = shop.record()
    for change, said in ({"unwillingness_threshold": None}, "earlier version"), ({"solver": "lissa", **{
            key: 1 for key in ("willingness_weight", "expectation", "parameter_sets", "anchors", "prior", "rounds",
                               "game_rate")}}, "lissa"):
        (shop.folder / "output" / "preprocess.json").write_text(json.dumps(
            {key: value for key, value in {**record, **change}.items() if value is not None or key not in change}))
        with refused("preprocess.json", said):
            shop.give()
    (shop.folder / "output" / "preprocess.json").write_text(json.dumps(record))
    (shop.folder / "data" / "shop" / "dataset.json").unlink()
    with refused("data/shop", "by hand"):
        shop.give()


def test_unwillingness_by_the_whole_dataset_lets_nothing_be_added(tmp_path, settings, ratings):
    config = settings("--holdout", 0, "--update", tmp_path / "update.csv")
    for columns, more in (COLUMNS[:2], ()), ((*COLUMNS[:2], COLUMNS[3]), (.5,)):
        pd.DataFrame([(1, 19, *more)], columns=columns).to_csv(tmp_path / "update.csv", index=False)
        for source in ("ratings", "genres"):
            with refused(f"--unwillingness {source}"):
                read_arrivals("update", read_interactions(config), config.replace(unwillingness=source), {})


@pytest.mark.parametrize("strategy", ["random", "recent", "similarity"])
def test_what_leaves_nothing_to_decide_by(cpu, product, strategy):
    shop = Shop(product(strategy))
    now = shop.state()
    with refused("preprocess.json", "run preprocess.py with"):
        shop.give()
    assert shop.state() == now


def test_an_update_that_stops_at_any_operation_on_files_has_happened_or_not(cpu, product, tmp_path, monkeypatch):
    """What lies there before each operation is what a kill at that moment leaves, in a copy that is then gone on with."""
    shop = Shop(product("threshold"))
    old = shop.state()
    taken = before_each_operation(monkeypatch, tmp_path, shop.give)
    new, journal, seen = shop.state(), PENDING_FILE.format("shop"), set()
    for folder in taken:
        config = shop.config.replace(**{f"{name}_path": str(folder / name) for name in ("data", "output", "checkpoint")})
        stopped, waiting = Shop(config), (folder / "data" / journal).exists()
        assert finish(Together(config)) is waiting and not (folder / "data" / journal).exists()
        found = stopped.state()
        assert found in (old, new) and (found == new or not waiting)
        seen.add((waiting, found == new))
    assert seen == {(False, False), (True, True), (False, True)} and len(taken) > 30


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_writes_has_updated_or_not(cpu, product, tmp_path):
    """And the same update again completes it."""
    shop, rng, kept = Shop(product("threshold")), np.random.default_rng(0), tmp_path / "kept"
    was, old, path, parts = before(shop), shop.state(), tmp_path / "update.csv", ("data", "output", "checkpoint")
    pd.DataFrame(ROWS, columns=COLUMNS).to_csv(path, index=False)
    for part in parts:
        shutil.copytree(tmp_path / part, kept / part)
    journal = tmp_path / "data" / PENDING_FILE.format("shop")
    for most in (0, 3, 6, 99, 99):  # files that wait to be put in place
        process = subprocess.Popen([sys.executable, "preprocess.py", *flags(shop.config, "--holdout", 0, "--update", path)],
                                   cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while process.poll() is None and not journal.exists() and sum(
                    len(list((tmp_path / part).rglob(".*.tmp*"))) for part in parts) <= most:
                time.sleep(.001)
            time.sleep(rng.uniform(0, .01))
            assert not process.poll()
        finally:
            process.kill()
            process.wait()
        finish(Together(shop.config))
        assert shop.state() == old or check(shop, was, ROWS) is None
        shop.give()
        check(shop, was, ROWS)
        for part in parts:
            shutil.rmtree(tmp_path / part)
            shutil.copytree(kept / part, tmp_path / part)
