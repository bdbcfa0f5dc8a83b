"""Decisions for users who were in no training: the rule recomputed, what is left out and named, and agreement with a run."""
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from preprocess import run
from src.common.stage import main
from src.common.variant import Variant, asked
from src.consent.arrivals import read_arrivals
from src.dataset import load_dataset, split_allowed
from src.evaluation.explain import VETOED
from src.evaluation.newcomers import arriving_of
from src.game.arriving import decide, sets_to_decide_by
from src.game.preprocess import preprocess
from src.influence.rows import Rows
from src.influence_function import influences_of_pairs
from src.movielens import prepare
from src.network import build
from src.sources.catalogue import load_catalogue
from src.sources.interactions import ordered
from src.training.checkpoint import load_anchors, load_sets, read_checkpoint, save_checkpoint
from src.training.train import train
from tests.small import flags, refused

ONE = [(3, .1), (9, 1), (14, .5), (27, .9), (33, 0), (41, 1), (58, .3)]  # items and unwillingness, latest first
ROWS = [(901, item, 50 - t, b) for t, (item, b) in enumerate(ONE)] + [
    (77, item, t, .4) for t, item in enumerate([5, 14, 8, 60, 2])]


@pytest.fixture
def write(tmp_path):
    """write(rows, columns) -> path of a CSV of newcomers."""
    def to_file(rows=ROWS, columns=("user_id", "item_id", "timestamp", "unwillingness")):
        pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "new.csv", index=False)
        return tmp_path / "new.csv"
    return to_file


@pytest.fixture
def ask(finished_run, tmp_path, capsys):
    """ask(file, *flags) -> what preprocess.py --newcomers prints and says; takes the place of that of conftest.py."""
    def answer(file, *more):
        main(run, "run_preprocess", "", flags(finished_run, "--newcomers", file, "--output_path", tmp_path / "log",
                                              "--decisions_path", finished_run.output_path, *more))
        return capsys.readouterr()
    return answer


def listing(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def by_hand(config, items, first):
    """(5, 4) influences of each of a newcomer's items, in order of time, on the latest and on those before it.

    `first`: places of those that they have disclosed.
    """
    dataset = load_dataset(config)
    sets, info = load_anchors(Variant(config).checkpoint, dataset, Variant(config))
    net = build(dataset, config)
    own = np.zeros(len(first), int), items[first], np.arange(len(first))
    one = split_allowed(ordered("one", (np.array([901]), dataset.item_ids), own), 0)
    rows = Rows(net, dataset, config)
    parameters = [rows.at(values).refitted(one) for values in sets.values()]
    return influences_of_pairs(parameters, one, (np.zeros(5, np.int32), items.astype(np.int32)), items[None, ::-1][:, :4],
                               config, build(one, config))


def test_the_rule_recomputed(finished_run, write, ask):
    """Of a single newcomer: first what they mind least, then influences of what is left, the regression, the price."""
    mine = [row for row in ROWS if row[0] == 901]
    found = json.loads(ask(write(mine), "--format", "json").out)
    assert found["model"] == "NCF" and [user["user_id"] for user in found["users"]] == [901]
    user = found["users"][0]
    rows = pd.DataFrame(user["interactions"]).set_index("item_id")
    assert sorted(rows.index) == [3, 9, 14, 27, 33, 41, 58]
    vetoed = rows.loc[[41, 9]]  # the run honours vetoes
    assert rows.index[-2:].tolist() == [41, 9] and (vetoed.by == "veto").all() and (vetoed.unwillingness == 1).all()
    assert not vetoed.disclosed.any() and (vetoed.reason == VETOED).all() and vetoed.influence.isna().all()

    record = json.loads((Path(finished_run.output_path) / "preprocess.json").read_text())
    dataset, threshold = load_dataset(finished_run), record["unwillingness_threshold"]
    items, b = np.array([58, 33, 27, 14, 3]), np.array([.3, 0, .9, .5, .1])  # in order of time: 3 is the latest
    known = np.array([int(np.flatnonzero(dataset.item_ids == item)[0]) for item in items])
    least = b <= threshold
    assert 0 < least.sum() < 5
    influence = by_hand(finished_run, known, np.flatnonzero(least[:4]))  # the yardstick is not among what it is known by
    share, number = record["shrinkage"], len(record["expectation"])
    for k, item in enumerate(items):
        own = np.roll(influence[k], -1) if k == 4 else influence[k]  # the latest by those before it
        fitted = record["expectation"][str(min(max(4 - k, 1), number) if k < 4 else number)]
        expected = fitted["intercept"] + np.multiply(fitted["slopes"], fitted["scale"]) @ own[:len(fitted["slopes"])]
        assert rows.influence[item] == pytest.approx(own[0], rel=1e-3, abs=1e-7)
        assert rows.expected_influence[item] == pytest.approx(
            (1 - share) * expected + share * max(record["expected_mean"], 0), rel=1e-3, abs=1e-7)
        assert rows.by[item].startswith("unwillingness up to" if least[k] else "price")

    critical = -2 * np.log(0.9 / 0.1) / (record["game_rate"] * (record["rounds"] + 1))
    level = (rows.expected_influence[items].to_numpy() - critical) / np.maximum(b, 1e-9)
    left, chosen = record["num_users"] * (record["wv_budget"] * record["total_wv"] - record["wv"]), []
    left += record["wv_budget"] * b.sum()
    for k in sorted(range(5), key=lambda k: (not least[k], b[k] if least[k] else -level[k])):
        left -= b[k]
        if (least[k] or level[k] > record["willingness_weight"]) and left >= 0:
            chosen.append(items[k])
    assert sorted(chosen) == sorted(rows.index[rows.disclosed]) and 27 not in chosen  # beyond the budget, at any price
    assert user["disclosed"] == rows.disclosed.sum()
    assert user["violated_share"] == pytest.approx(b[rows.disclosed[items].to_numpy()].sum() / b.sum())


def test_the_masked_model_and_the_table_and_nothing_is_written(finished_run, write, ask, tmp_path):
    folders = [Path(getattr(finished_run, f"{name}_path")) for name in ("data", "output", "checkpoint")]
    before = [listing(folder) for folder in folders]
    found = json.loads(ask(write(), "--masked", "--format", "json", "--top_k", 5).out)
    assert found["model"] == "IFRQE" and [user["user_id"] for user in found["users"]] == [901, 77]
    table = ask(write(), "--masked").out
    for user in found["users"]:
        assert f"user {user['user_id']}: {user['disclosed']} of {len(user['interactions'])} interactions disclosed" in table
        assert all(row["title"] in table and row["reason"] in table for row in user["interactions"])
        had = {row["item_id"] for row in user["interactions"]}
        for rows in user["recommended"].values():
            assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5] and not had & {row["item_id"] for row in rows}
    assert table.index("recommended from all that they know themselves") < table.index("recommended from what they disclose")
    assert "nan" not in table.lower().replace("finan", "")
    assert [listing(folder) for folder in folders] == before
    log, = listing(tmp_path / "log").values()  # the log of every program, with its settings, and nothing about anybody
    assert b"901" not in log and log.count(b"\n") == 2


def test_price_model_and_masked_data_are_of_one_run(finished_run, write, refuse, tmp_path):
    """A model that was trained anew, otherwise, or on another mask, is none to decide newcomers by."""
    folder = tmp_path / "other"
    shutil.copytree(finished_run.checkpoint_path, folder)
    where = ("--checkpoint_path", folder, "--decisions_path", finished_run.output_path)
    for name, masked, change, said in (
            ("NCF", [], lambda info: info, "it was trained anew since"),
            ("IFRQE", ["--masked"], lambda info: {**info, "settings": {**info["settings"], "num_neg": 9}},
             "num_neg=9 against 4"),
            ("IFRQE", ["--masked"], lambda info: {**info, "ratings_sha256": "0"}, "was trained on another ratings.csv")):
        values, info = read_checkpoint(Path(finished_run.checkpoint_path) / f"{name}.ckpt", "")
        sets = {"": {key: value * (1 if masked else 1.01) for key, value in values.items()}}
        save_checkpoint(folder / f"{name}.ckpt", sets, change(info))
        assert said in refuse(write(), *where, *masked)


def test_what_is_left_out_is_named_and_few_go_by_unwillingness_alone(finished_run, write, ask):
    rows = [*ROWS, *[(77, f"x{k}", 9, .5) for k in range(7)], (5555, 1, 1, 0), (5555, 2, 1, .999), (6666, 2, 1, 1),
            (6666, 3, 1, 0)]
    said = ask(write(rows), "--format", "json")
    line, = (line for line in said.err.splitlines() if "left out" in line)
    assert "7 rows" in line and "x0, x1, x2, x3, x4 and 2 more" in line
    users = {user["user_id"]: user for user in json.loads(said.out)["users"]}
    assert list(users) == [901, 77, 5555, 6666]
    few = {row["item_id"]: row for row in users[5555]["interactions"]}
    assert few[1]["disclosed"] and not few[2]["disclosed"]
    assert all("by their unwillingness alone" in row["reason"] and row["influence"] is None for row in few.values())
    assert users[6666]["disclosed"] == 1


def read(dataset, config, path, veto=True, **changes):
    config = config.replace(newcomers=str(path), veto=veto, **changes)
    return read_arrivals("newcomers", dataset, config, {})


def test_bad_files_are_one_line(finished_run, write):
    dataset, three = load_dataset(finished_run), ("user_id", "item_id", "unwillingness")
    for rows, columns, named in [  # what is no update either is in game/test_update.py
            ([(901, 1, .1), (901, 2, "")], three, "row 2: unwillingness ;"),
            ([(901, 1, .1), (5, 2, .1)], three, "row 2: names a user"),  # whom the dataset has
            ([(901, k) for k in range(5)], ("user_id", "item_id"), "--unwillingness file")]:
        path = write(rows, columns)
        with refused(path, named):
            read(dataset, finished_run, path, unwillingness="file")
    for rows in ([(901, 9999, .1)], [(901, 1, 1)]):  # all unknown, or vetoed
        with refused("--newcomers"):
            arriving_of(read(dataset, finished_run, write(rows, three)), True)


def test_no_file_no_text_no_model_no_price(finished_run, write, refuse, tmp_path):
    path, bare = write(), tmp_path / "raw.csv"
    bare.write_bytes(b"user_id,item_id\n\xff\xfe\xfa,3\n")
    for arguments, said in (((tmp_path / "none.csv",), f"error: --newcomers {tmp_path}/none.csv: no such file"),
                            ((tmp_path,), f"--newcomers {tmp_path}: is a folder"), ((bare,), "raw.csv: is not UTF-8 text"),
                            ((path, "--checkpoint_path", tmp_path / "nowhere"), "no such checkpoint; make it with train.py"),
                            ((path, "--decisions_path", tmp_path / "nowhere"), "preprocess.json: no decisions on"),
                            ((path, "--solver", "block"), "--solver block: but"),
                            ((path, "--train_epochs", 7), "train_epochs=7")):
        assert said in refuse(*arguments)
    record = json.loads((Path(finished_run.output_path) / "preprocess.json").read_text())
    shutil.copy(Path(finished_run.output_path) / "disclosure.csv", tmp_path)
    for change, said in (
            ({"unwillingness_threshold": None, "strategy": "random"}, "strategy random has left nothing to decide more by"),
            ({"dataset": "other"}, "no decisions on simulation"), ({"solver": "lissa"}, "--solver lissa"),
            ({"model_sha256": "0" * 64}, "was decided with another model than "),
            ({"expectation": None}, "an earlier version")):
        (tmp_path / "preprocess.json").write_text(json.dumps(
            {key: value for key, value in {**record, **change}.items() if value is not None or key not in change}))
        error = refuse(path, "--decisions_path", tmp_path)
        assert f"{tmp_path}/preprocess.json" in error and said in error


RULES = "user_id,item_id,genre,unwillingness\n,14,,1\n901,14,,.2\n,,{genre},.6\n1,,,1\n{more}"


def test_options_and_rules_that_name_no_user_hold_for_newcomers(finished_run, write, tmp_path, caplog):
    path, dataset = write([row[:3] for row in ROWS], ("user_id", "item_id", "timestamp")), load_dataset(finished_run)
    genres = load_catalogue(dataset, finished_run).set_index(dataset.item_ids).genres
    genre = genres[5].split("|")[0]
    rules, config = tmp_path / "rules.csv", finished_run.replace(newcomers=str(path), unwillingness="constant")

    def found_by(more="", veto=True, file=rules, **changes):
        rules.write_text(RULES.format(genre=genre, more=more))
        found = read(dataset, config, path, veto, willingness_file=str(file), **changes)
        whole = found.whole
        items = list(zip(whole.user_ids[whole.user].tolist(), whole.item_ids[whole.item].tolist()))
        dropped = arriving_of(found, veto).dataset.dropped
        gone = () if dropped is None else zip(whole.user_ids[dropped.user].tolist(), whole.item_ids[dropped.item].tolist())
        return dict(zip(items, found.unwillingness[whole.rows].tolist())), set(gone)

    assert set(found_by(file="", unwillingness_value=0.25)[0].values()) == {0.25}
    for source, base in (("constant", .5), ("auto", 0)):  # beside rules auto is 0
        found, vetoed = found_by(unwillingness=source)
        assert len(found) == len(ROWS) and "meets" not in caplog.text
        for (user, item), value in found.items():
            by_item = {14: .2 if user == 901 else 1}.get(item)
            assert value == (by_item or (.6 if genre in genres[item].split("|") else base))
        assert vetoed == {(77, 14)} and not found_by(veto=False)[1]
    uniform = [found_by(unwillingness="uniform", seed=seed)[0] for seed in (1, 1, 2)]
    assert uniform[0] == uniform[1] != uniform[2] and all(found[77, 14] == 1 for found in uniform)
    for more, words in ((",,Horor,1\n", "Horor"), (",9999,,1\n", "9999")):
        with refused("rules.csv", "line 6", words):
            found_by(more)
        found_by(more, veto=False)
        assert "line 6: meets no interaction" in caplog.text
        caplog.clear()


def test_the_run_says_whether_there_are_vetoes(finished_run, write, ask, tmp_path):
    """Of a run with --veto, even if nobody had used one; an earlier version said only how many had."""
    output = Path(finished_run.output_path)
    record = json.loads((output / "preprocess.json").read_text())
    record = {key: value for key, value in record.items() if key not in ("veto", "vetoed")}
    shutil.copy(output / "disclosure.csv", tmp_path)
    for said, vetoes in (({"veto": True, "vetoed": 0}, True), ({"veto": False, "vetoed": 0}, False), ({"vetoed": 3}, True)):
        (tmp_path / "preprocess.json").write_text(json.dumps({**record, **said}))
        rows = json.loads(ask(write(), "--format", "json", "--decisions_path", tmp_path).out)["users"][0]["interactions"]
        found = {row["item_id"]: row for row in rows}
        assert len(found) == len(ONE)
        for item in (9, 41):
            assert (found[item]["reason"] == VETOED) is vetoes and (found[item]["influence"] is None) is vetoes
            assert not (vetoes and found[item]["disclosed"])


def test_rows_are_in_order_of_time_or_as_they_stand(finished_run, write):
    dataset, ids = load_dataset(finished_run), [5, 14, 8, 60, 2]
    found = read(dataset, finished_run, write()).whole
    assert found.user_ids.tolist() == [77, 901] and found.user_ids.dtype.kind == "i"
    assert dataset.item_ids[found.item].tolist() == [*ids, 58, 41, 33, 27, 14, 9, 3]
    path = write([(u, i, b) for u, i, _, b in ROWS], ("user_id", "item_id", "unwillingness"))
    found = read(dataset, finished_run, path).whole
    assert dataset.item_ids[found.item].tolist() == [*ids, *(item for item, _ in ONE)] and found.time is None


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ifrqe", "ask-first"])
def test_newcomers_decide_as_they_would_in_a_run_that_has_them(cpu, settings, tmp_path, strategy, request):
    """Left out of the dataset and given as newcomers, users disclose what they do in a run that has them.

    After ask-first they join the masked model, which no withheld interaction has trained; that takes real data.
    """
    data = ["--dataset", "simulation", "--sim_users", 150, "--sim_items", 200, "--sim_ratings", 6000, "--batch_size", 1024]
    if strategy == "ask-first":
        archive = request.getfixturevalue("real_data") / "ml-100k.zip"
        data = ["--dataset", "ml-100k", "--archive", archive, "--batch_size", 4096, "--learning_rate", 0.005]
    config = settings("--recipe", "fast", "--num_eval_neg", 50, *data, "--strategy", strategy)
    prepare(config)
    preprocess(config)
    folder, output = tmp_path / "data" / config.dataset, tmp_path / "output"
    decided, ratings = pd.read_csv(output / "disclosure.csv"), pd.read_csv(folder / "ratings.csv")
    run_decided = decided.query("user_id <= 30")
    unwilling = decided[["user_id", "item_id", "unwillingness"]]

    (tmp_path / "data" / "rest").mkdir()
    ratings[ratings.user_id > 30].to_csv(tmp_path / "data" / "rest" / "ratings.csv", index=False)
    shutil.copy(folder / "movies.csv", tmp_path / "data" / "rest")
    unwilling[unwilling.user_id > 30].to_csv(tmp_path / "data" / "rest" / "unwillingness.csv", index=False)
    rest = config.replace(dataset="rest", output_path=str(tmp_path / "rest"), checkpoint_path=str(tmp_path / "rest"))
    preprocess(rest)
    joined = Variant(rest, strategy == "ask-first")
    train(joined)

    mine = ratings[ratings.user_id <= 30].reset_index(names="row").sort_values(["user_id", "timestamp", "row"])
    mine = mine[mine.groupby("user_id").cumcount(ascending=False) > 0]  # the run has not looked at the test item
    mine = mine.merge(unwilling, how="left").fillna({"unwillingness": 0.5})
    mine[["user_id", "item_id", "timestamp", "unwillingness"]].to_csv(tmp_path / "new.csv", index=False)
    dataset = load_dataset(joined.settings(), joined.masked)
    people = arriving_of(read(dataset, rest, tmp_path / "new.csv", False), False)
    record = json.loads((tmp_path / "rest" / "preprocess.json").read_text())
    net, sets, info = load_sets(joined.checkpoint, dataset, joined)
    found, own = decide(people, Rows(net, dataset, rest), sets_to_decide_by(sets, info, record), record), people.dataset
    both = pd.DataFrame({"user_id": own.user_ids[own.user], "item_id": own.item_ids[own.item], "new": found.disclosed,
                         "worth": found.expected}).merge(run_decided, on=["user_id", "item_id"])
    assert len(both) == len(run_decided) and len(own.user) == len(both) + 30

    def correlation(flag):
        return np.corrcoef(flag, both.disclosed)[0, 1]
    rng = np.random.default_rng(0)
    chance = [correlation(both.groupby("user_id").worth.transform(lambda x: rng.permutation(x.to_numpy()))
                          > record["willingness_weight"] * both.unwillingness) for _ in range(20)]
    assert correlation(both.new) > max(chance) + 0.03  # much of it is unwillingness
    assert both.worth.corr(both.expected_influence) > 0.7


def test_newcomers_are_what_an_update_would_decide(cpu, product, tmp_path, capsys):
    """Nothing held out: the same file, shown and then written."""
    config, path = product("ask-first"), tmp_path / "new.csv"
    rows = [row for row in ROWS if row[1] < 46]
    pd.DataFrame([(user, item, 1_700_000_000 + at, b) for user, item, at, b in rows],
                 columns=["user_id", "item_id", "timestamp", "unwillingness"]).to_csv(path, index=False)
    main(run, "run_preprocess", "", flags(config, "--holdout", 0, "--newcomers", path, "--masked", "--format", "json"))
    shown = {(user["user_id"], row["item_id"]): row["disclosed"] for user in json.loads(capsys.readouterr().out)["users"]
             for row in user["interactions"]}
    main(run, "run_preprocess", "", flags(config, "--holdout", 0, "--update", path))
    decided = pd.read_csv(Path(config.output_path) / "disclosure.csv")
    decided = decided[decided.user_id.isin([77, 901])]
    assert shown == {(row.user_id, row.item_id): bool(row.disclosed) for row in decided.itertuples()}
    assert len(shown) == len(rows) and 0 < sum(shown.values())
    # with as many epochs as a study found best, or a warm start takes, the model is still that of this mask
    config = config.replace(train_epochs=1)
    train(asked(config.replace(masked=True)))
    path.write_text("user_id,item_id,unwillingness\n950,3,0.1\n")
    capsys.readouterr()
    main(run, "run_preprocess", "", flags(config, "--holdout", 0, "--newcomers", path, "--masked", "--format", "json"))
    assert [user["user_id"] for user in json.loads(capsys.readouterr().out)["users"]] == [950]
