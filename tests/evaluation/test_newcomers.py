"""Decisions for users who were in no training: the rule recomputed, what is left out and named, and agreement with a run."""
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from preprocess import run
from src.common.stage import main
from src.common.variant import Variant
from src.consent.newcomers import Newcomers, read_newcomers
from src.dataset import load_dataset
from src.evaluation.explain import VETOED
from src.evaluation.newcomers import dataset_of_newcomers, decide
from src.game.preprocess import preprocess
from src.influence.rows import Rows
from src.influence_function import influences
from src.movielens import prepare
from src.network import build
from src.sources.catalogue import load_catalogue
from src.training.checkpoint import load_anchors, read_checkpoint, save_checkpoint
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


def by_hand(config, items):
    """Influences of a newcomer with five items: (4, 3) of all but the latest on it and on the two before; and of the latest
    on the one before, with which it has changed places."""
    dataset = load_dataset(config)
    sets = load_anchors(Variant(config).checkpoint, dataset, Variant(config))[0]
    a, b, c, d, e = items
    twice = dataset_of_newcomers(Newcomers(
        np.array([901, 901]), np.repeat([0, 1], 4).astype(np.int32), np.array([a, b, c, d, a, b, c, e], np.int32),
        np.zeros(8), np.zeros(8, bool)), dataset)
    parameters = []
    for values in sets.values():
        net = build(dataset, config)
        net.set_values(values)
        parameters.append(Rows(net, dataset, config).at(values).refitted(twice))
    found = influences(parameters, twice, config, np.array([[e, d, c], [d, e, c]], np.int32))[0]
    return found[:4], found[7, 0]


def test_the_rule_recomputed(finished_run, write, ask):
    """Of a single newcomer: influences of their history on their latest item, the regression, the price."""
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
    dataset = load_dataset(finished_run)
    known = [int(np.flatnonzero(dataset.item_ids == item)[0]) for item in (58, 33, 27, 14, 3)]
    influence, last = by_hand(finished_run, known)  # in order of time: 3 is the latest
    share = record["shrinkage"]
    assert 0 < share < 1

    def shrunk(expected):
        return (1 - share) * expected + share * record["expected_mean"]

    for back, (item, found) in enumerate(((3, np.array([last])), (14, influence[3]), (27, influence[2]), (33, influence[1]),
                                          (58, influence[0]))):
        fitted = record["expectation"][str(min(max(back, 1), 3))]
        scaled = np.multiply(fitted["slopes"], fitted["scale"])
        expected = fitted["intercept"] + sum(slope * value for slope, value in zip(scaled, found))
        assert rows.influence[item] == pytest.approx(found[0], rel=1e-3, abs=1e-7)
        assert rows.expected_influence[item] == pytest.approx(shrunk(expected), rel=1e-3, abs=1e-7)

    open_ones = rows.drop([9, 41])
    worth = open_ones.expected_influence - record["willingness_weight"] * open_ones.unwillingness
    critical = -2 * np.log(0.9 / 0.1) / (record["game_rate"] * (record["rounds"] + 1))
    assert (worth > critical).tolist() == open_ones.disclosed.tolist() and 0 < open_ones.disclosed.sum()
    assert user["disclosed"] == rows.disclosed.sum()
    assert user["violated_share"] == pytest.approx(
        open_ones.unwillingness[open_ones.disclosed].sum() / open_ones.unwillingness.sum())


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


def test_what_is_left_out_is_named(finished_run, write, ask):
    rows = [*ROWS, *[(77, f"x{k}", 9, .5) for k in range(7)], *[(5555, item, 1, .5) for item in (1, 2, 3)],
            *[(6666, item, 1, b) for item, b in ((1, 0), (2, 1), (3, 1), (4, 0), (5, 0))]]
    said = ask(write(rows), "--format", "json")
    lines = [line for line in said.err.splitlines() if "left out" in line]
    assert len(lines) == 3 and "7 rows" in lines[0] and "x0, x1, x2, x3, x4 and 2 more" in lines[0]
    assert "user 5555" in lines[1] and "user 6666" in lines[2] and "3 interactions" in lines[2]  # two of five are vetoed
    assert [user["user_id"] for user in json.loads(said.out)["users"]] == [901, 77]


def test_bad_files_are_one_line(finished_run, write):
    dataset, three = load_dataset(finished_run), ("user_id", "item_id", "unwillingness")
    for rows, columns, named in [
            ([(901, 1)], ("user_id", "what"), "item_id"), ([], ("user_id", "item_id"), "at least 4"),
            ([(901, 1, .1), (901, 2, .1), (901, 1, .2)], three, "row 3 names user 901 and item 1"),
            ([(901, 1, .1), (901, 2, 1.5)], three, "row 2 has unwillingness 1.5"),
            ([(901, 1, .1), (901, 2, "")], three, "row 2 has unwillingness ;"),
            ([(901, 1, .1), ("", 2, .1)], three, "row 2 has nothing as user_id"),
            ([(901, 1, "soon"), (901, 2, "7")], ("user_id", "item_id", "timestamp"), "row 1 has 'soon' as timestamp"),
            ([(901, 1, .1), (5, 2, .1)], three, "row 2 names user 5"),  # whom the dataset has
            ([(901, k, .1) for k in (1, 2, 3)], three, "4 interactions"),
            ([(901, k) for k in range(5)], ("user_id", "item_id"), "--unwillingness file")]:
        path = write(rows, columns)
        with refused(path, named):
            read_newcomers(dataset, finished_run.replace(newcomers=str(path), unwillingness="file"), 4, True)


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
            ({"willingness_weight": None, "strategy": "threshold"}, "strategy threshold has left no price"),
            ({"dataset": "other"}, "no decisions on simulation"), ({"solver": "lissa"}, "--solver lissa"),
            ({"model_sha256": "0" * 64}, "was decided with another model than "),
            ({"expectation": {"1": {"slopes": [1], "intercept": 0}}}, "was written by an earlier version")):
        (tmp_path / "preprocess.json").write_text(json.dumps({**record, **change}))
        error = refuse(path, "--decisions_path", tmp_path)
        assert f"{tmp_path}/preprocess.json" in error and said in error


RULES = "user_id,item_id,genre,unwillingness\n,14,,1\n901,14,,.2\n,,{genre},.6\n1,,,1\n{more}"


def test_options_and_rules_that_name_no_user_hold_for_newcomers(finished_run, write, tmp_path, caplog):
    path, dataset = write([row[:3] for row in ROWS], ("user_id", "item_id", "timestamp")), load_dataset(finished_run)
    genres = load_catalogue(dataset, finished_run).set_index(dataset.item_ids).genres
    genre = genres[5].split("|")[0]
    rules, config = tmp_path / "rules.csv", finished_run.replace(newcomers=str(path), unwillingness="constant")

    def read(more="", veto=True, file=rules, **changes):
        rules.write_text(RULES.format(genre=genre, more=more))
        people = read_newcomers(dataset, config.replace(willingness_file=str(file), **changes), 4, veto)
        items = list(zip(people.ids[people.user].tolist(), dataset.item_ids[people.item].tolist()))
        return dict(zip(items, people.unwillingness.tolist())), dict(zip(items, people.vetoed.tolist()))

    assert set(read(file="", unwillingness_value=0.25)[0].values()) == {0.25}
    for source, base in (("constant", .5), ("auto", 0)):  # beside rules auto is 0
        found, vetoed = read(unwillingness=source)
        assert len(found) == len(ROWS) and "meets" not in caplog.text
        for (user, item), value in found.items():
            by_item = {14: .2 if user == 901 else 1}.get(item)
            assert value == (by_item or (.6 if genre in genres[item].split("|") else base))
        assert [pair for pair in vetoed if vetoed[pair]] == [(77, 14)] and not any(read(veto=False)[1].values())
    uniform = [read(unwillingness="uniform", seed=seed)[0] for seed in (1, 1, 2)]
    assert uniform[0] == uniform[1] != uniform[2] and all(found[77, 14] == 1 for found in uniform)
    for more, words in ((",,Horor,1\n", "Horor"), (",9999,,1\n", "9999")):
        with refused("rules.csv", "line 6", words):
            read(more)
        read(more, veto=False)
        assert "line 6 meets no interaction" in caplog.text
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
    dataset = load_dataset(finished_run)
    config = finished_run.replace(newcomers=str(write()))
    people = read_newcomers(dataset, config, 4, True)
    assert people.ids.tolist() == [901, 77] and people.ids.dtype.kind == "i"
    assert dataset.item_ids[people.item].tolist() == [58, 41, 33, 27, 14, 9, 3, 5, 14, 8, 60, 2]
    assert people.vetoed.tolist() == [b == 1 for b in people.unwillingness] and people.vetoed.sum() == 2
    write([(u, i, b) for u, i, _, b in ROWS], ("user_id", "item_id", "unwillingness"))
    people = read_newcomers(dataset, config, 4, False)
    assert dataset.item_ids[people.item].tolist() == [row[1] for row in ROWS] and not people.vetoed.any()


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
    people = read_newcomers(dataset, rest.replace(newcomers=str(tmp_path / "new.csv")), 4, False)
    record = json.loads((tmp_path / "rest" / "preprocess.json").read_text())
    anchors = list(load_anchors(joined.checkpoint, dataset, joined)[0].values())
    found = decide(people, Rows(build(dataset, rest), dataset, rest), anchors, record)
    both = pd.DataFrame({"user_id": people.ids[people.user], "item_id": dataset.item_ids[people.item],
                         "new": found.disclosed, "worth": found.expected}).merge(run_decided, on=["user_id", "item_id"])
    assert len(both) == len(run_decided) and len(people.user) == len(both) + 30

    def correlation(flag):
        return np.corrcoef(flag, both.disclosed)[0, 1]
    rng = np.random.default_rng(0)
    chance = [correlation(both.groupby("user_id").worth.transform(lambda x: rng.permutation(x.to_numpy()))
                          > record["willingness_weight"] * both.unwillingness) for _ in range(20)]
    assert correlation(both.new) > max(chance) + 0.03  # much of it is unwillingness
    assert both.worth.corr(both.expected_influence) > 0.7
