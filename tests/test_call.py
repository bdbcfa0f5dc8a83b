"""A call decides as the stages do, and leaves no trace."""
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import src
from src.common.files import read_json
from src.common.variant import Variant, dataset_folder
from src.consent.unwillingness import load_stated
from src.dataset import load_dataset
from src.evaluation.recommend import have_had
from src.game.preprocess import preprocess
from src.movielens import prepare
from src.sources.simulation import simulate
from src.training.checkpoint import BEST, read_checkpoint, with_prefix
from src.training.train import train
from tests.small import SMALL, refused

ROOT = Path(__file__).resolve().parents[1]
FEW = SMALL[2:]  # without layers, which one base model has alone
OPTIONS = {**{key[2:]: value for key, value in zip(FEW[::2], FEW[1::2])}, "device_target": "CPU", "min_steps": 0}


def call(frame, *arguments, **options):
    return src.decide(frame, *arguments, **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def frame():
    """Text ids, ties in time, users of 1 and 2 rows, and rows in no order; b of 0 and of 1."""
    ratings, _, minded = simulate(40, 60, 800, 3)
    frame = ratings.merge(minded)
    frame = frame.assign(user_id="u" + frame.user_id.astype(str), item_id="i" + frame.item_id.astype(str),
                         timestamp=frame.timestamp // 500_000)
    few = pd.DataFrame({"user_id": ["one", "two", "two"], "item_id": ["i1", "i2", "i3"], "rating": 3, "timestamp": 5,
                        "unwillingness": [0.2, 0.1, 0.7]})
    frame = pd.concat([frame, few], ignore_index=True).sample(frac=1, random_state=1)
    frame.iloc[::9, -1], frame.iloc[::7, -1] = 0.0, 1.0
    return frame


@pytest.mark.parametrize("more", [
    ("--strategy", "threshold"), ("--strategy", "ifrqe", "--veto", "True", "--seed", "4"),
    ("--strategy", "ask-first", "--veto", "True"), *(pytest.param(more, marks=pytest.mark.slow) for more in (
        ("--strategy", "ifrqe"), ("--strategy", "ask-first", "--model", "mf"),
        ("--strategy", "similarity", "--unwillingness", "uniform")))])
def test_it_decides_and_trains_as_the_stages_do(cpu, frame, settings, tmp_path, more):
    options = {key[2:]: value for key, value in zip(more[::2], more[1::2])}
    drawn = options.pop("unwillingness", None)
    answer = call(frame.drop(columns="unwillingness") if drawn else frame, **options)
    frame.drop(columns="unwillingness").to_csv(tmp_path / "export.csv", index=False)
    config = settings(*FEW, *more, "--holdout", 0, "--archive", tmp_path / "export.csv", "--min_ratings", 1)
    prepare(config)
    frame.to_csv(dataset_folder(config) / "unwillingness.csv", index=False, columns=["user_id", "item_id", "unwillingness"])
    preprocess(config)
    masked = pd.read_csv(dataset_folder(config, masked=True) / "ratings.csv")
    pd.testing.assert_frame_equal(answer.frame[answer.frame.disclosed][list(masked)].reset_index(drop=True), masked)
    record = read_json(Path(config.output_path) / "preprocess.json", "")
    for key in ("wv", "total_wv", "spent_wv", "willingness_weight", "disclosed_share", "vetoed", "num_users", "num_scored"):
        assert answer.record[key] == record[key], key
    variant = Variant(config, masked=True)
    train(variant)
    values = with_prefix(read_checkpoint(variant.checkpoint, "")[0], BEST)
    own = answer.model.values()
    assert set(own) == set(values) and all(np.array_equal(own[name], value) for name, value in values.items())


def test_the_frame_comes_back_as_it_was_with_what_was_decided(frame):
    before = frame.assign(own=[[k] for k in range(len(frame))]).rename(columns={"user_id": "Reviewer-ID"})
    given = before.copy()
    answer = call(given, budget=0.3)
    pd.testing.assert_frame_equal(given, before)
    pd.testing.assert_frame_equal(answer.frame.drop(columns="disclosed"), before)
    assert answer.frame.disclosed.dtype == bool
    b, disclosed, users = frame.unwillingness.to_numpy(), answer.frame.disclosed.to_numpy(), frame.user_id.nunique()
    assert answer.record["wv"] == pytest.approx(b[disclosed].sum() / users)
    assert 0.9 < answer.record["wv"] / (0.3 * b.sum() / users) <= 1 and answer.record["spent_wv"] == answer.record["wv"]
    forbidden = call(frame, veto=True).frame
    assert not forbidden.disclosed[forbidden.unwillingness == 1].any() and forbidden.disclosed.any()
    # what was decided goes in again
    pd.testing.assert_frame_equal(call(answer.frame, budget=0.3).frame, answer.frame)


def numbered(frame):
    return frame.assign(user_id=frame.user_id.str.len() * 1000 + frame.user_id.factorize()[0])


WAYS = {  # of the same frame, and what is to come out alike
    "categories": lambda frame: frame.astype({"user_id": "category", "item_id": "category"}),
    "other names": lambda frame: frame.rename(columns={"user_id": "User ID", "timestamp": "Date"}),
    "an index": lambda frame: frame.set_index(np.arange(len(frame)) % 7),
    "dates": lambda frame: frame.assign(timestamp=pd.to_datetime(frame.timestamp * 86400, unit="s", utc=True)),
    "days as text": lambda frame: frame.assign(timestamp=pd.to_datetime(frame.timestamp * 86400, unit="s").astype(str)),
    "no times": lambda frame: frame.sort_values("timestamp", kind="stable").drop(columns="timestamp"),
    "nullable": lambda frame: frame.convert_dtypes(),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_frame_may_say_the_same_in_several_ways(cpu, frame, way):
    given = WAYS[way](frame)
    alike = frame.sort_values("timestamp", kind="stable") if way == "no times" else frame
    disclosed = call(frame, strategy="ifrqe").frame.disclosed.loc[alike.index]
    assert np.array_equal(call(given, strategy="ifrqe").frame.disclosed, disclosed)


def test_unwillingness_may_be_given_in_several_ways(frame, settings, write_ratings):
    b, plain = frame.unwillingness, frame.drop(columns="unwillingness")
    expected = call(frame).frame.disclosed
    for given in (b, b.to_numpy(), b.tolist(), b.sample(frac=1), "mind"):  # of a Series the index says whose each is
        assert np.array_equal(call(plain.assign(mind=b), given).frame.disclosed, expected)
    assert np.array_equal(call(frame, 0.4, strategy="threshold").whole.stated[0], np.full(len(frame), 0.4))
    for strategy in ("ask-first", "ifrqe", "threshold"):  # nobody minds anything
        assert call(frame, 0, strategy=strategy).frame.disclosed.mean() > (0.99 if strategy != "ifrqe" else 0)
    write_ratings(list(plain[["user_id", "item_id", "timestamp"]].itertuples(index=False)))
    config = settings("--holdout", 0, "--min_ratings", 1)
    drawn = call(plain, strategy="none")
    assert drawn.record["unwillingness"] == "uniform"
    assert drawn.record["wv"] == pytest.approx(load_stated(load_dataset(config), config)[0].sum() / 42)


def test_it_recommends_what_a_user_has_not_had_by_the_ids_of_the_frame(cpu, frame):
    answer = call(frame, veto=True)
    users = ["two", "u3", "one"]
    found = answer.recommend(users, k=4)
    assert list(found) == ["user_id", "item_id", "score"] and found.user_id.tolist() == np.repeat(users, 4).tolist()
    assert not len(found.merge(frame, on=["user_id", "item_id"])) and found.score.between(0, 1).all()
    assert all(scores.is_monotonic_decreasing for _, scores in found.groupby("user_id").score)
    whole = have_had(np.arange(42), answer.whole)
    assert whole.sum() == len(frame)  # withheld and vetoed ones, too
    pd.testing.assert_frame_equal(answer.recommend("u3", k=99),
                                  answer.recommend(pd.Series(["u3"]), k=60 - (frame.user_id == "u3").sum()))
    assert answer.recommend([]).columns.tolist() == list(found) and not len(answer.recommend([]))
    for odd in ("nobody", ["u3", "nobody"], 3):
        with refused("nobody" if odd != 3 else "3", "interactions"):
            answer.recommend(odd)
    pd.testing.assert_frame_equal(found, call(frame, veto=True).recommend(users, k=4))  # of a call like it
    assert not found.equals(call(frame, veto=True, seed=2).recommend(users, k=4))
    as_text = numbered(frame).astype({"user_id": str})  # stays text, that it may be merged
    for given in (numbered(frame), as_text):
        user = given.user_id.iloc[0]
        out = call(given).recommend(user, 2)
        assert out.user_id.tolist() == [user] * 2 and type(out.user_id[0]) is type(user)


def test_of_repeated_pairs_the_row_that_counts_is_disclosed(frame):
    twice = pd.concat([frame, frame.assign(timestamp=frame.timestamp - 10**6)])
    with refused("duplicates", "interactions"):
        call(twice)
    for which, kept in (("last", 0), ("first", 1)):
        found = call(twice, duplicates=which).frame.disclosed.to_numpy().reshape(2, -1)
        assert found[kept].any() and not found[1 - kept].any()


@pytest.mark.parametrize("name", ["none", "threshold", "ifrqe", "ask-first"])
def test_little_is_decided_or_refused_in_a_line(cpu, name):
    five = pd.DataFrame({"user": list("aabbc"), "item": list("xyxzy")})
    if name in ("similarity", "ifrqe", "ifrqe++"):  # nobody has 3
        with refused("--strategy", "3 interactions"):
            call(five, strategy=name)
        return
    answer = call(five, 0.5, strategy=name)
    assert answer.frame.disclosed.any() and len(answer.recommend(list("abc"), 3)) == 4
    alone = pd.DataFrame({"user": ["a"] * 6, "item": list("uvwxyz")})
    found = call(alone, 0.5, strategy=name)
    assert found.frame.disclosed.any()
    if name == "none":
        with refused("user a", "6 items"):  # there is nothing to tell them from
            found.recommend("a")
    else:
        assert not len(found.recommend("a"))
    with refused("budget"):
        call(five[:2], 0.5, budget=0.01, strategy="threshold").recommend("a")


def broken(frame, column, value):
    frame = frame.astype({column: object})
    frame.iloc[2, list(frame).index(column)] = value
    return frame


@pytest.mark.parametrize("change, options, named", [
    (lambda frame: frame[:0], {}, ["interactions"]),
    (lambda frame: {"user_id": [1]}, {}, ["interactions", "DataFrame"]),
    (lambda frame: pd.DataFrame(), {}, ["interactions"]),
    (lambda frame: frame.drop(columns="item_id"), {}, ["interactions", "item_id"]),
    (lambda frame: frame.assign(uid=1), {}, ["interactions", "user_id", "uid"]),
    (lambda frame: frame.drop(columns="timestamp").assign(bought=pd.date_range("2024-05-01", periods=len(frame), freq="h")),
     {}, ["interactions", "bought", "timestamp"]),
    (lambda frame: broken(frame, "user_id", None), {}, ["interactions", "row 3", "user_id"]),
    (lambda frame: broken(frame, "item_id", np.nan), {}, ["interactions", "row 3", "item_id"]),
    (lambda frame: broken(frame, "timestamp", "soon"), {}, ["interactions", "row 3", "timestamp", "soon"]),
    (lambda frame: broken(frame, "unwillingness", 1.5), {}, ["interactions", "row 3", "unwillingness 1.5"]),
    (lambda frame: broken(frame, "unwillingness", None), {}, ["interactions", "row 3", "unwillingness"]),
    (None, {"unwillingness": -0.1}, ["interactions", "row 1", "-0.1"]),
    (None, {"unwillingness": [0.5, 0.5]}, ["unwillingness"]),
    (None, {"unwillingness": "reluctance"}, ["interactions", "reluctance"]),
    (None, {"unwillingness": 1, "veto": True}, ["veto"]),
    (None, {"budget": 0}, ["budget"]), (None, {"budget": 2}, ["budget"]), (None, {"budget": "much"}, ["budget"]),
    (None, {"strategy": "best"}, ["strategy", "ask-first"]), (None, {"model": "svd"}, ["model", "ncf"]),
    (None, {"seed": -1}, ["seed"]), (None, {"epochs": 3}, ["epochs", "train_epochs"]),
    (None, {"train_epochs": 0}, ["train_epochs"]), (None, {"recipe": "quick"}, ["recipe", "fast"]),
    (None, {"train_epochs": 5, "gcn_layers": 2}, ["gcn_layers"]), (None, {"holdout": 2}, ["holdout"]),
    *((None, {key: value}, [key]) for key, value in {
        "data_path": "x", "output_path": "x", "archive": "x.csv", "ranks": 2, "seeds": "1,2", "patience": 3, "help": True,
        "min_ratings": 5, "wv_budget": 0.5, "masked": True, "willingness_file": "x", "config_path": "x"}.items())])
def test_a_fault_is_one_line_that_says_where(frame, change, options, named):
    with refused(*named) as error:
        src.decide(change(frame) if change else frame, **{**OPTIONS, **options})
    assert isinstance(error.value, ValueError)


QUIET = """
import logging, sys
import ifrqe
assert not {"pandas", "numpy", "mindspore"} & set(sys.modules) and "decide" in dir(ifrqe) and not hasattr(ifrqe, "nothing")
assert "unwillingness" in ifrqe.decide.__doc__ and not hasattr(ifrqe, "nothing")
import pandas as pd
frame = pd.DataFrame({"user_id": [k // 6 for k in range(60)], "item_id": [k * k % 41 for k in range(60)], "day": 3,
                      "unwillingness": [k % 10 / 10 for k in range(60)]}).drop_duplicates(["user_id", "item_id"])
frame["user_id"] = frame.user_id.astype(str).replace("3", " 3 ")
ifrqe.decide(frame, device_target="CPU", train_epochs=2, batch_size=32).recommend([1, 3])
assert not logging.root.handlers and logging.root.level == logging.WARNING
said = []
logging.getLogger("ifrqe").setLevel(logging.INFO)
logging.getLogger("ifrqe").addHandler(type("Kept", (logging.Handler,), {"emit": lambda self, record: said.append(record)})())
ifrqe.decide(frame, device_target="CPU", train_epochs=2)
assert any("instalment" in record.getMessage() for record in said)
"""


def in_a_process(code, folder):
    """What a program prints, run in an empty folder where the package is installed as `pip install -e .` does it."""
    library, work = folder / "library", folder / "work"
    library.mkdir()
    work.mkdir()
    (library / "ifrqe").symlink_to(ROOT / "src")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=work, timeout=300, env={
        **os.environ, "PYTHONPATH": str(library), "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(work.iterdir()) == []
    return done


def test_nothing_is_printed_or_written_unless_it_is_asked_for(tmp_path):
    done = in_a_process(QUIET, tmp_path)
    assert done.stdout == done.stderr == ""


def test_the_example_runs(tmp_path):
    text = (ROOT / "examples" / "decide.py").read_text()
    smaller = text.replace("num_users=300, num_items=300, num_ratings=12_000",
                           "num_users=60, num_items=120, num_ratings=1500")
    lines = in_a_process(smaller.replace('recipe="fast"', 'train_epochs=2'), tmp_path).stdout.splitlines()
    assert smaller != text and lines[0].startswith("disclosed: ") and len(lines) == 9


def blocks(page, heading):
    """The Python of a section."""
    section = (ROOT / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.S)


@pytest.fixture
def shown(frame, tmp_path, monkeypatch):
    """What the first block of the page leaves, for those that follow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ifrqe", src)
    Path("exports").mkdir()
    dated = frame.assign(timestamp=pd.to_datetime(frame.timestamp + 1_700_000_000, unit="s"))
    dated.drop(columns="unwillingness").to_csv("exports/watched.csv", index=False)
    names = {}
    exec(blocks("docs/data.md", "From Python")[0].replace('"fast"', '"fast", train_epochs=2'), names)
    return names


def test_what_is_disclosed_goes_into_recbole(cpu, shown, settings, tmp_path):
    exec(blocks("docs/data.md", "From Python")[2], shown)
    file, = tmp_path.glob("*.inter")
    config = settings("--archive", file, "--min_ratings", 1)
    prepare(config)
    read = pd.read_csv(dataset_folder(config) / "ratings.csv")
    columns = ["user_id", "item_id", "timestamp"]
    read["timestamp"] = pd.to_datetime(read.timestamp, unit="s").astype(str)
    pd.testing.assert_frame_equal(read[columns], shown["masked"][columns].reset_index(drop=True))


def test_what_is_disclosed_goes_into_implicit(cpu, shown):
    pytest.importorskip("implicit")
    exec(blocks("docs/data.md", "From Python")[1], shown)
    assert shown["matrix"].sum() == len(shown["masked"])
