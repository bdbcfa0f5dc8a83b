"""The seven promises, over random data, budgets, vetoes and requests, and at every moment at which a process may die."""
import json

import numpy as np
import pandas as pd
import pytest

from src.candidates import evaluation_candidates
from src.common.together import Together, finish
from src.common.variant import Variant
from src.consent.allowed import TOO_FEW, VETO, WAITS
from src.consent.unwillingness import load_stated
from src.consent.withdrawn import with_request, withdrawn_path
from src.dataset import load_dataset, split_allowed
from src.evaluation.evaluate import evaluate
from src.evaluation.recommend import have_had
from src.game.mirror_descent import Game
from src.game.preprocess import preprocess
from src.game.problem import Problem
from src.game.strategies import Strategies
from src.movielens import prepare
from src.sources.interactions import ordered, read_interactions
from src.training.train import train
from tests.small import SMALL, before_each_operation, refused


def random_interactions(rng, users=None, items=None):
    """Interactions of 2 to 12 items of each user, in random order of rows and with ties in time."""
    users, items = users or int(rng.integers(2, 12)), items or int(rng.integers(14, 30))
    pairs = [(u, i) for u in range(users) for i in rng.permutation(items)[:rng.integers(2, 13)]]
    user, item = np.array(pairs)[rng.permutation(len(pairs))].T
    return ordered("random", (np.arange(users), np.arange(items)), (user, item, rng.integers(0, 6, len(pairs))))


@pytest.mark.parametrize("seed", range(40))
def test_nothing_that_is_forbidden_is_trained_on_or_held_out_and_the_last_two_of_the_rest_are_held_out(seed):
    rng = np.random.default_rng(seed)
    whole, holdout = random_interactions(rng), int(rng.integers(0, 3))
    share = rng.choice([0, 0.1, 0.5, 0.9])
    why = np.where(rng.random(whole.num_interactions) < share, rng.choice([VETO, 1, 2], whole.num_interactions), 0)
    later = np.where((rng.random(whole.num_interactions) < 0.2) & (why == 0), 3, 0)
    trained = split_allowed(whole, holdout, why)
    for dataset, gone in ((trained, why), (split_allowed(whole, holdout, why, later), np.where(why, why, later))):
        held = dataset.held_out[dataset.scored].ravel()
        dropped = dataset.dropped.rows if dataset.dropped is not None else []
        assert sorted([*dataset.rows, *held, *dropped]) == list(range(whole.num_interactions))
        assert not np.isin(whole.rows[gone != 0], [*dataset.rows, *held]).any()
        had = have_had(np.arange(whole.num_users), dataset)
        assert had.sum() == whole.num_interactions and had[whole.user, whole.item].all()
        assert dataset.all_pairs().contains(whole.user, whole.item).all()
    for user in range(whole.num_users):
        allowed = whole.rows[(whole.user == user) & (why == 0)]
        split = len(allowed) - holdout
        if split < 0:
            assert user not in trained.scored and user not in trained.user
            assert (trained.dropped.why[np.isin(trained.dropped.rows, allowed)] == TOO_FEW).all()
        else:
            assert trained.held_out[user].tolist() == allowed[split:].tolist()
            assert trained.rows[trained.user == user].tolist() == allowed[:split].tolist()
            scored = not (later[np.isin(whole.rows, allowed[split:])] > 0).any()
            assert (user in dataset.scored) == (scored and holdout > 0)
            left = allowed[:split][later[np.isin(whole.rows, allowed[:split])] == 0]
            assert dataset.rows[dataset.user == user].tolist() == left.tolist()  # the split of a trained model does not move
    if dataset.dropped is not None:
        waits = dataset.dropped.rows[dataset.dropped.why == WAITS]
        assert not np.isin(waits, whole.rows[later > 0]).any()


@pytest.mark.parametrize("seed", range(25))
def test_nobodys_veto_is_paid_by_others(settings, seed):
    rng, config = np.random.default_rng(seed), settings("--seed", seed)
    whole = random_interactions(rng, users=8)
    b = rng.choice([rng.random(whole.num_interactions), np.round(rng.random(whole.num_interactions), 1)])
    b[rng.random(len(b)) < 0.2] = 0
    b[rng.random(len(b)) < 0.2] = 1
    vetoed = rng.random(len(b)) < rng.choice([0, 0.3, 0.7])
    dataset = split_allowed(whole, 2, np.where(vetoed, VETO, 0))
    by_row = np.empty(len(b))
    by_row[whole.rows] = b
    problem = Problem(dataset, by_row[dataset.rows])
    total, budget = problem.unwillingness.sum(), float(rng.random())
    strategies = Strategies(problem, None, config, "CPU")
    found = {name: strategies(name, budget).disclosed for name in ("random", "threshold", "recent")}
    expected = rng.normal(0, 0.01, dataset.num_interactions)
    b, limit = problem.unwillingness, problem.limit(budget)
    found["ifrqe"] = Game(expected, b, config).within(limit)[0]
    anchors = [np.ones(len(expected), bool), rng.random(len(expected)) < 0.5]
    if len(expected):
        noisy = expected + rng.normal(0, 0.01, len(expected))
        found["ifrqe++"] = Game([expected, noisy], b, config, anchors, dataset.user).within(limit)[0]
    for name, disclosed in found.items():
        assert problem.unwillingness[disclosed].sum() <= budget * total * (1 + 1e-9), name
        assert not np.isin(dataset.rows[disclosed], whole.rows[vetoed]).any()


def test_vetoes_leave_the_unwillingness_of_the_rest_as_it_is(settings, ratings, tmp_path):
    free = load_dataset(settings())
    b = dict(zip(free.rows.tolist(), load_stated(free, settings())[0]))
    rules = tmp_path / "rules.csv"
    gone = [(free.user_ids[0], ""), ("", free.item_ids[7]),
            *((free.user_ids[u], free.item_ids[free.test[u]]) for u in (3, 4))]
    rules.write_text("user_id,item_id,unwillingness\n" + "".join(f"{u},{i},1\n" for u, i in gone))
    config = settings("--veto", "--willingness_file", rules, "--unwillingness", "uniform")
    dataset = load_dataset(config)
    assert load_stated(dataset, config)[0].tolist() == [b[row] for row in dataset.rows.tolist()]
    assert 0 not in dataset.user and not (dataset.item == 7).any() and 0 not in dataset.scored
    candidates = evaluation_candidates(dataset, "test", config.replace(num_eval_neg=8, top_k=3))
    whole = read_interactions(config)
    had = set(zip(whole.user.tolist(), whole.item.tolist()))
    assert not {(u, i) for u, items in zip(dataset.scored.tolist(), candidates[:, 1:].tolist()) for i in items} & had


def test_a_veto_is_a_veto_from_the_plain_model_to_the_masked_one(cpu, settings, ratings, tmp_path):
    """A rule on a last item, one on all of a user, and one on all but one item of a user."""
    free = load_dataset(settings(*SMALL))
    hidden = free.user_ids[2], free.item_ids[free.validation[2]]
    lone = free.item_ids[free.test[5]]
    rules = tmp_path / "rules.csv"
    rules.write_text(f"user_id,item_id,unwillingness\n{hidden[0]},{hidden[1]},1\n{free.user_ids[4]},,1\n"
                     f"{free.user_ids[5]},,1\n{free.user_ids[5]},{lone},0.2\n")
    train(Variant(settings(*SMALL)))
    veto = settings(*SMALL, "--veto", "--willingness_file", rules)
    with refused("train.py --dataset tiny --overwrite --veto --willingness_file"):
        preprocess(veto)
    train(Variant(veto))
    preprocess(veto)
    masked = veto.replace(masked=True)
    train(Variant(masked, True))
    folder = tmp_path / "data" / "masked_tiny"
    rows = pd.concat(pd.read_csv(path) for path in folder.glob("*.csv"))
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.json", "held_out.csv", "ratings.csv"]
    assert not rows.user_id.isin([free.user_ids[4], free.user_ids[5]]).any()
    assert not ((rows.user_id == hidden[0]) & (rows.item_id == hidden[1])).any()
    table = pd.read_csv(tmp_path / "output" / "disclosure.csv").set_index(["user_id", "item_id"])
    assert table.reason[hidden] == "veto rules.csv:2" and table.disclosed[hidden] == 0
    assert set(table.loc[free.user_ids[4]].reason) == {"veto rules.csv:3"}
    assert table.reason[free.user_ids[5], lone] == "too few rows"
    held = pd.read_csv(folder / "held_out.csv")
    assert len(table) + len(held) == len(pd.read_csv(tmp_path / "data" / "tiny" / "ratings.csv"))
    record = json.loads((tmp_path / "output" / "preprocess.json").read_text())
    assert record["wv"] <= 0.6 * record["total_wv"] + 1e-12 and record["num_scored"] == free.num_users - 2
    no_flags = settings(*SMALL)  # the vetoes are known from what was trained and decided
    for variant in (Variant(no_flags), Variant(no_flags.replace(masked=True), True)):
        evaluate(variant)
        result = json.loads((tmp_path / "output" / f"eval_{variant.model.lower()}.json").read_text())
        assert result["num_scored"] == free.num_users - 2
    with refused("NCF.ckpt", "train.py --dataset tiny --overwrite"):  # nor is a model with the vetoes one without
        preprocess(no_flags.replace(overwrite=True))
    with refused("what is vetoed, or the ratings, have changed"):
        rules.write_text("user_id,unwillingness\n1,1\n")
        evaluate(Variant(veto.replace(overwrite=True)))


def test_the_data_stage_dies_at_any_moment_and_nothing_is_lost(settings, tmp_path, monkeypatch):
    """What lies there before each operation is what a kill at that moment leaves, in a copy that is then gone on with."""
    folder = tmp_path / "data" / "tiny"
    for path in (folder / "raw", tmp_path / "output", tmp_path / "checkpoint"):
        path.mkdir(parents=True)
    (folder / "raw" / "notes.txt").write_text("bought in May")
    for name, users in (("old", 6), ("new", 7)):
        (folder / "raw" / f"{name}.csv").write_text("user_id,item_id\n" + "".join(
            f"{u},{i}\n" for u in range(1, users + 1) for i in range(8)))
    config = settings("--archive", folder / "raw" / "old.csv")
    prepare(config)
    (folder / "raw" / "old.csv").unlink()
    line, requests = with_request({"time": "", "models": [], "file_sha256": "", "rules": [[3, None, None]],
                                   "interactions": [], "forbidden": [], "before": {}, "after": {}}, [])
    withdrawn_path(config).write_text(line + "\n")
    again, seen = settings("--archive", folder / "raw" / "new.csv", "--overwrite"), set()
    taken = before_each_operation(monkeypatch, tmp_path, lambda: prepare(again))
    for copy in taken:
        stopped, tables = config.replace(data_path=str(copy / "data"), archive=""), copy / "data" / "tiny"
        journal, dataset = finish(Together(stopped)), load_dataset(stopped)
        new = dataset.num_users == 7
        assert new or not journal
        assert sorted(path.name for path in (tables / "raw").iterdir()) == ["new.csv", "notes.txt"]
        assert (dataset.user_ids[dataset.user] != 3).all()  # who was withdrawn does not come back
        assert ("withdrawals" in (tables / "dataset.json").read_text()) == new
        seen.add((journal, new))
    assert seen == {(False, False), (True, True), (False, True)} and len(taken) > 8
