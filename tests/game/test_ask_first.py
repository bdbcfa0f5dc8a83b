"""Strategy ask-first: instalments, and the proof that nothing is trained on before it is disclosed."""
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.common.errors import InputError
from src.common.files import read_json
from src.common.variant import Variant, dataset_folder
from src.constants import DISCLOSED, INSTALMENT, ITEM, PREPROCESS_FILE, RATINGS_FILE, USER
from src.dataset import load_dataset
from src.evaluation.explain import Rule
from src.game import ask_first
from src.game.ask_first import AskFirst
from src.game.decisions import read_decisions
from src.game.mirror_descent import critical_payoff
from src.game.preprocess import preprocess
from src.game.problem import Problem, load_problem
from src.game.strategies import Strategies
from src.influence import refit
from src.ncf import NCF, build
from src.training.train import train
from src.training.trainer import Trainer

from ..small import SMALL

OPTIONS = [*SMALL, "--strategy", "ask-first", "--num_eval_neg", 20, "--embedding_std", 0.3, "--learning_rate", 0.01,
           "--instalments", ".4,1"]
THREE = ["--instalments", ".3,.7,1"]


@pytest.fixture
def people(write_ratings, cpu):
    """16 users with 12 of 60 items each, all ids such that their text is found nowhere by chance; a few vetoes."""
    rng = np.random.default_rng(0)
    rows = [(7000 + u, 930000 + int(i), t) for u in range(16) for t, i in enumerate(rng.permutation(60)[:12])]
    folder = write_ratings(rows, items=range(930000, 930060))
    stated = pd.DataFrame(rows, columns=[USER, ITEM, "timestamp"]).drop(columns="timestamp")
    stated["unwillingness"] = rng.random(len(rows)).round(6)
    stated.loc[::7, "unwillingness"] = 1.0
    stated.to_csv(folder / "unwillingness.csv", index=False)
    return folder


def decided(config):
    """disclosure.csv as a table, and preprocess.json."""
    return (pd.read_csv(f"{config.output_path}/disclosure.csv"),
            read_json(f"{config.output_path}/{PREPROCESS_FILE}", ""))


class Watch:
    """Records what trains and what a refit finds."""

    def __init__(self, monkeypatch):
        self.pairs, self.rows, self.trainings = set(), [], 0
        run_steps, init, found = Trainer.run_steps, Trainer.__init__, refit.refit

        def steps(trainer, users, items, *arguments):
            self.pairs.update(zip(users.tolist(), items[:, 0].tolist()))
            return run_steps(trainer, users, items, *arguments)

        def begin(trainer, net, dataset, *arguments):
            self.trainings += 1
            self.pairs.update(zip(dataset.user.tolist(), dataset.item.tolist()))  # what its sampler of negatives avoids
            init(trainer, net, dataset, *arguments)

        def rows(*arguments, **options):
            self.rows.append(found(*arguments, **options))
            return self.rows[-1]

        monkeypatch.setattr(Trainer, "run_steps", steps)
        monkeypatch.setattr(Trainer, "__init__", begin)
        monkeypatch.setattr(refit, "refit", rows)


def prove(config, watch):
    """Raises AssertionError if anything outside the final mask was trained on or written, or a refitted row was."""
    preprocess(config)
    train(Variant(config, masked=True))
    dataset, (table, _) = load_dataset(config), decided(config)
    kept, disclosed = table[DISCLOSED].to_numpy() == 1, read_decisions(config, dataset).disclosed
    mask = set(zip(dataset.user[disclosed].tolist(), dataset.item[disclosed].tolist()))
    assert len(mask) == kept.sum()
    assert watch.trainings == 3
    assert watch.pairs == mask
    assert len(watch.rows) >= 2
    files = [path for folder in (config.output_path, config.checkpoint_path, dataset_folder(config, masked=True))
             for path in folder_files(folder)]
    assert {path.name for path in files} >= {"held_out.csv", "IFRQE.ckpt", "disclosure.csv", PREPROCESS_FILE}
    assert not [path for path in files if "instalment" in path.name or path.name.startswith(".")]
    withheld = table[~kept]
    texts = [f"{user},{item}".encode() for user, item in zip(withheld[USER], withheld[ITEM])]
    ids = {str(i).encode() for i in withheld[ITEM]}
    f = config.num_factors
    parts = {part.tobytes() for rows in watch.rows for row in rows for part in (row[:f], row[f:])}
    for path in files:
        content = path.read_bytes()
        assert not any(part in content for part in parts), f"{path} holds a refitted row"
        if path.name == "disclosure.csv":  # what was asked, and answered: no training reads it
            continue
        assert not any(text in content for text in texts), f"{path} names a withheld pair"
        if path.suffix in (".log", ".json", ".yaml"):
            assert not any(item in content for item in ids), f"{path} names an item"


def folder_files(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def test_nothing_is_trained_on_before_it_is_disclosed(people, settings, monkeypatch):
    config = settings(*OPTIONS, *THREE, "--veto")
    prove(config, Watch(monkeypatch))
    table, record = decided(config)
    assert record["vetoed"] == 28 == (table.reason.str.startswith("veto unwillingness.csv:")).sum()
    assert not table[DISCLOSED][table.unwillingness == 1].any() and (table.unwillingness == 1).sum() == 28
    assert record["spent_wv"] == record["wv"] <= 0.6 * record["total_wv"]
    assert 0.2 < table[DISCLOSED].mean() < 0.9


def test_the_proof_finds_one_withheld_pair(people, settings, monkeypatch):
    config = settings(*OPTIONS, *THREE, "--veto")
    model = AskFirst._model

    def careless(self, disclosed, number):
        if number == 3:
            disclosed = disclosed.copy()
            disclosed[np.flatnonzero(~disclosed)[self.unwillingness[~disclosed].argmax()]] = True
        return model(self, disclosed, number)
    monkeypatch.setattr(AskFirst, "_model", careless)
    with pytest.raises(AssertionError, match=r"(?s)assert \{\(.*Extra items in the left set"):
        prove(config, Watch(monkeypatch))


def test_the_proof_finds_a_written_row(people, settings, monkeypatch):
    config = settings(*OPTIONS, *THREE)
    decide = AskFirst._influences

    def careless(self, disclosed, number):
        found = decide(self, disclosed, number)
        Path(self.config.output_path).mkdir(exist_ok=True)
        (Path(self.config.output_path) / "rows.bin").write_bytes(watch.rows[-1].tobytes())
        return found
    watch = Watch(monkeypatch)
    monkeypatch.setattr(AskFirst, "_influences", careless)
    with pytest.raises(AssertionError, match="holds a refitted row"):
        prove(config, watch)


def test_mask_does_not_depend_on_a_plain_model(people, settings):
    config = settings(*OPTIONS, "--veto")

    def files():
        preprocess(config.replace(overwrite=True))
        return [(dataset_folder(config, masked=True) / RATINGS_FILE).read_bytes()] + [
            open(f"{config.output_path}/disclosure.csv", "rb").read()]
    before = files()
    assert not Variant(config).checkpoint.exists()
    train(Variant(config))
    assert files() == before
    Variant(config).checkpoint.write_bytes(b"damaged")
    assert files() == before


class Killed(Exception):
    """Stands for a signal in the middle of an instalment."""


def test_an_interrupted_run_leaves_nothing_and_the_next_one_is_like_the_first(people, settings, monkeypatch):
    config = settings(*OPTIONS, *THREE)
    model = AskFirst._model

    def killed(self, disclosed, number):
        found = model(self, disclosed, number)
        if number == 3:
            raise Killed
        return found
    with monkeypatch.context() as patch:
        patch.setattr(AskFirst, "_model", killed)
        with pytest.raises(Killed):
            preprocess(config)
    assert not folder_files(config.output_path) and not folder_files(config.checkpoint_path)
    assert not dataset_folder(config, masked=True).exists()
    with monkeypatch.context() as patch:
        watch = Watch(patch)
        preprocess(config)
    assert watch.trainings == 2
    after, record = decided(config)
    preprocess(config.replace(overwrite=True))
    pd.testing.assert_frame_equal(decided(config)[0], after)
    assert record["spent_wv"] == record["wv"]


def test_what_earlier_runs_left_is_removed_when_a_mask_is_written_by_whatever_run(people, settings):
    config = settings(*SMALL, "--strategy", "threshold")
    left = [Path(config.output_path) / f"instalment_{n}.partial.ckpt" for n in (1, 2)]
    left.append(Path(config.checkpoint_path) / "IFRQE.last.ckpt")
    mine = Path(config.output_path) / "mine.ckpt"
    for path in (*left, mine):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"knows more than the mask")
    preprocess(config)
    assert not [path for path in left if path.exists()] and mine.exists()


def instalments(config):
    """The Decisions, at the budget and price of the settings."""
    problem = load_problem(config)
    found = Strategies(problem, None, config, "CPU")("ask-first", config.wv_budget, config.willingness_weight)
    return problem, found


def test_instalments_spend_their_shares(people, settings):
    config = settings(*OPTIONS, "--instalments", ".3,.7,1", "--wv_budget", 0.5)
    problem, found = instalments(config)
    b, total = problem.unwillingness, problem.unwillingness.sum()
    spent = np.array([b[(found.instalment > 0) & (found.instalment <= n)].sum() for n in (1, 2, 3)])
    np.testing.assert_allclose(spent / problem.dataset.num_users, found.record["instalment_wv"])
    assert (spent <= np.array([0.3, 0.7, 1]) * 0.5 * total * (1 + 1e-9)).all()
    assert (spent[1:] > np.array([0.5, 0.8]) * 0.5 * total).all()
    np.testing.assert_array_equal(found.disclosed, found.instalment > 0)
    # the first are the least unwilling; the last go by the rule of the game
    first = found.instalment == 1
    assert b[first].max() <= b[~first].min()
    left = (found.instalment == 0) | (found.instalment == 3)
    critical = critical_payoff(config.prior, config.rounds, config.game_rate)
    np.testing.assert_array_equal((found.expected - found.weight * b > critical)[left], (found.instalment == 3)[left])


def test_a_price_is_kept_to(people, settings):
    config = settings(*OPTIONS, *THREE, "--willingness_weight", 0.02, "--wv_budget", 0.3)
    problem, found = instalments(config)
    critical = critical_payoff(config.prior, config.rounds, config.game_rate)
    says = found.expected - 0.02 * problem.unwillingness > critical
    assert found.weight == 0.02
    assert found.disclosed[says].all()  # what the price allows is disclosed by the end
    assert (found.instalment[~says] < 3).all()
    assert found.record["instalment_wv"][0] <= 0.3 * 0.3 * problem.unwillingness.sum() / 16 * (1 + 1e-9)


def test_one_instalment_is_the_threshold(people, settings):
    problem, found = instalments(settings(*OPTIONS, "--instalments", "1"))
    assert found.expected is None and found.weight is None
    assert problem.unwillingness[found.disclosed].max() <= problem.unwillingness[~found.disclosed].min()
    config = settings(*OPTIONS, "--instalments", "1")
    preprocess(config)
    assert decided(config)[1]["willingness_weight"] is None


def test_ties_are_not_broken_user_by_user(people, settings):
    config = settings(*OPTIONS, "--unwillingness", "constant", "--unwillingness_value", 0.5)
    problem, found = instalments(config)
    first = np.bincount(problem.dataset.user, found.instalment == 1)
    assert (first > 0).sum() > 8


def test_budget_too_small_for_the_first_shares(people, settings):
    config = settings(*OPTIONS, "--unwillingness", "constant", "--unwillingness_value", 1, "--wv_budget", 0.013,
                      "--instalments", ".1,.6,1")
    problem, found = instalments(config)  # a budget of two interactions: the first share is below one
    assert (np.bincount(found.instalment, minlength=4)[1:] == [0, 1, 1]).all()


def test_vetoed_interactions_play_no_part(people, settings):
    config = settings(*OPTIONS, "--veto")
    problem, found = instalments(config)
    dropped = problem.dataset.dropped
    assert len(dropped.user) == 28 and (problem.unwillingness < 1).all()
    # but for what negatives avoid it is as if they were not in the data at all
    ratings = people / RATINGS_FILE
    pd.read_csv(ratings).drop(index=dropped.rows).to_csv(ratings, index=False)
    fewer, again = instalments(config)
    for name in ("user", "item", "validation", "test"):
        np.testing.assert_array_equal(getattr(fewer.dataset, name), getattr(problem.dataset, name))
    np.testing.assert_array_equal(fewer.unwillingness, problem.unwillingness)
    np.testing.assert_array_equal(again.instalment == 1, found.instalment == 1)
    other = Problem(dataclasses.replace(problem.dataset, dropped=None), problem.unwillingness, problem.line)
    same = AskFirst(other, config, "CPU")(0.6 * problem.unwillingness.sum())
    np.testing.assert_array_equal(again.disclosed, same.disclosed)
    np.testing.assert_array_equal(again.expected, same.expected)


def test_column_of_instalments(people, settings):
    config = settings(*OPTIONS, *THREE)
    preprocess(config)
    table, record = decided(config)
    assert set(table[INSTALMENT]) <= {0, 1, 2, 3} and (table[INSTALMENT].gt(0) == table[DISCLOSED].eq(1)).all()
    assert len(record["instalment_wv"]) == 3 and len(record["instalment_weights"]) == 2
    read = read_decisions(config, load_dataset(config))
    np.testing.assert_array_equal(read.instalment, table[INSTALMENT])
    rule = Rule(read)
    read.expected[np.flatnonzero(read.instalment == 1)[:2]] = -1  # asked for before that was known
    reasons = np.array(rule.reasons(read.expected, read.unwillingness, read.disclosed))
    against = rule.disclosed(read.expected, read.unwillingness) != read.disclosed
    assert ((reasons == "disclosed: in an earlier instalment, by what was known then") == against).all()
    assert against.sum() >= 2
    assert read.instalment[against].max() < 3  # the last instalment goes by the rule
    assert list(table.columns) == ["user_id", "item_id", "influence", "unwillingness", "disclosed", "expected_influence",
                                   "instalment", "reason"]
    first, second, last = "budget 0.6", *(f"price {weight:.6g}" for weight in record["instalment_weights"])
    assert table.reason.tolist() == [{0: last, 1: first, 2: second, 3: last}[n] for n in table[INSTALMENT]]


def test_lissa_samples_what_is_disclosed_and_no_refitted_row(people, settings, monkeypatch):
    anchors, expected_at = [], ask_first.expected_at
    monkeypatch.setattr(ask_first, "expected_at", lambda anchor, *rest: anchors.append(anchor) or expected_at(anchor, *rest))
    monkeypatch.setattr(ask_first, "refitted", None)
    problem, found = instalments(settings(*OPTIONS, "--solver", "lissa", "--lissa_depth", 2))
    np.testing.assert_array_equal(anchors[0].disclosed, found.instalment == 1)
    assert found.expected.any() and found.disclosed.any()


@pytest.mark.parametrize("shares", [".5", ".5,.4,1", ".2,.2,1", ".2,.9"])
def test_shares_must_rise_to_one(settings, shares):
    with pytest.raises(InputError, match="--instalments .*rising shares"):
        settings("--instalments", shares)


def test_rows_of_users_without_disclosure_stay_as_they_began(people, settings, monkeypatch):
    config = settings(*OPTIONS)
    sets = []
    monkeypatch.setattr(ask_first, "refitted", lambda net, values, *rest: sets.append(values) or refit.refitted(net, values,
                                                                                                                *rest))
    problem, found = instalments(config)
    start = NCF.user_rows(build(problem.dataset, config).values())
    first = np.bincount(problem.dataset.user[found.instalment == 1], minlength=16)
    for user in range(16):
        assert np.array_equal(NCF.user_rows(sets[0])[user], start[user]) == (first[user] == 0)
