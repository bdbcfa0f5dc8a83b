"""Strategy ask-first: instalments, and the proof that nothing is trained on before it is disclosed."""
import dataclasses
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.common.files import read_json
from src.common.variant import Variant, dataset_folder
from src.constants import DISCLOSED, INSTALMENT, ITEM, PREPROCESS_FILE, USER
from src.dataset import load_dataset
from src.game import ask_first
from src.game.ask_first import AskFirst, DecidingSide, answers
from src.game.decisions import read_decisions
from src.game.mirror_descent import critical_payoff
from src.game.preprocess import preprocess
from src.game.problem import Problem, load_problem
from src.game.rule import Rule
from src.game.strategies import Strategies
from src.influence.expected import per_item
from src.training.train import train
from src.training.trainer import Trainer

from ..small import SMALL, refused

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


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """The tiny data here have two or three interactions an item."""
    monkeypatch.setattr(ask_first, "FEW", 0)


@pytest.fixture
def watch(monkeypatch):
    """The pairs that train, by training."""
    trained, run_steps, init = [], Trainer.run_steps, Trainer.__init__

    def steps(trainer, users, items, *arguments):
        trained[-1].update(zip(users.tolist(), items[:, 0].tolist()))
        return run_steps(trainer, users, items, *arguments)

    def begin(trainer, net, dataset, *arguments):
        trained.append(set(zip(dataset.user.tolist(), dataset.item.tolist())))  # what its sampler of negatives avoids
        init(trainer, net, dataset, *arguments)
    monkeypatch.setattr(Trainer, "run_steps", steps)
    monkeypatch.setattr(Trainer, "__init__", begin)
    return trained


def files_of(*folders):
    return [path for folder in folders for path in Path(folder).rglob("*") if path.is_file()]


def test_nothing_is_trained_on_before_it_is_disclosed(people, settings, watch):
    config = settings(*OPTIONS, *THREE, "--veto")
    plain = Variant(config).checkpoint
    plain.parent.mkdir()
    plain.write_bytes(b"damaged")  # nobody reads the plain model
    preprocess(config)
    train(Variant(config, masked=True))
    dataset, (table, record) = load_dataset(config), decided(config)
    read, vetoed = read_decisions(config, dataset), table.unwillingness == 1
    pairs = zip(dataset.user[read.disclosed].tolist(), dataset.item[read.disclosed].tolist())
    assert len(watch) == 3 and watch[0] < watch[1] < watch[2] == set(pairs)
    assert 0.2 < table[DISCLOSED].mean() < 0.9 and table[DISCLOSED].sum() == len(watch[2])
    assert record["spent_wv"] == record["wv"] <= 0.6 * record["total_wv"] and record["vetoed"] == 28 == vetoed.sum()
    # no file knows what is withheld, but for what was asked and answered, which no training reads
    files = files_of(config.output_path, config.checkpoint_path, dataset_folder(config, masked=True))
    assert {path.name for path in files} >= {"held_out.csv", "IFRQE.ckpt", "disclosure.csv", PREPROCESS_FILE}
    assert not [path for path in files if "instalment" in path.name or path.name.startswith(".")]
    withheld = table[table[DISCLOSED] == 0]
    texts = [f"{user},{item}".encode() for user, item in zip(withheld[USER], withheld[ITEM])]
    for path in files:
        content = path.read_bytes()
        assert path.name == "disclosure.csv" or not any(text in content for text in texts), path
        if path.suffix in (".log", ".json", ".yaml"):  # an item's number may stand within the digits of a time
            assert not {str(i).encode() for i in withheld[ITEM]} & set(re.findall(rb"\d+", content)), path
    # the columns of instalments and reasons
    assert (table[INSTALMENT].gt(0) == table[DISCLOSED].eq(1)).all() and not table[INSTALMENT][vetoed].any()
    assert record["instalment_weights"][0] is None and read.instalment.tolist() == table[INSTALMENT][~vetoed].tolist()
    first, second, last = "budget 0.6", *(f"price {weight:.6g}" for weight in record["instalment_weights"][1:])
    assert read.reason.tolist() == [[last, first, second, last][n] for n in read.instalment]
    read.expected[np.flatnonzero(read.instalment == 1)[:2]] = -1  # asked for before that was known
    reasons = np.array(Rule(read).reasons(read.expected, read.unwillingness, read.disclosed))
    against = Rule(read).disclosed(read.expected, read.unwillingness) != read.disclosed
    assert ((reasons == "disclosed: in an earlier instalment, by what was known then") == against).all()
    assert against.sum() >= 2 and read.instalment[against].max() < 3  # the last instalment goes by the rule


def test_an_interrupted_run_leaves_nothing_and_the_next_one_begins_anew(people, settings, watch):
    config, announce = settings(*OPTIONS, *THREE), DecidingSide.announce

    def killed(self):
        found = announce(self)
        if len(watch) == 2:
            raise KeyboardInterrupt
        return found
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DecidingSide, "announce", killed)
        with pytest.raises(KeyboardInterrupt):
            preprocess(config)
    assert not files_of(config.output_path, config.checkpoint_path) and not dataset_folder(config, masked=True).exists()
    preprocess(config)
    record = decided(config)[1]
    assert len(watch) == 4 and record["spent_wv"] == record["wv"]


def test_what_earlier_runs_left_is_removed_when_a_mask_is_written_by_whatever_run(people, settings):
    config = settings(*SMALL, "--strategy", "threshold")
    left = [Path(config.output_path) / "instalment_1.partial.ckpt", Path(config.checkpoint_path) / "IFRQE.last.ckpt"]
    mine = Path(config.output_path) / "mine.ckpt"
    for path in (*left, mine):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"knows more than the mask")
    preprocess(config)
    assert not [path for path in left if path.exists()] and mine.exists()


def decide(problem, config, budget, weight=None):
    """The Decisions about a problem."""
    return Strategies(problem, None, config, "CPU")("ask-first", budget, weight)


def instalments(config):
    """The Problem, and the Decisions at the budget and price of the settings."""
    problem = load_problem(config)
    return problem, decide(problem, config, config.wv_budget, config.willingness_weight)


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
    says = found.expected - 0.02 * problem.unwillingness > critical_payoff(config.prior, config.rounds, config.game_rate)
    assert found.weight == 0.02 and found.disclosed[says].all()  # what the price allows is disclosed by the end
    assert (found.instalment[~says] < 3).all()


def test_equal_unwillingness(people, settings):
    same = [*OPTIONS, "--unwillingness", "constant", "--unwillingness_value"]
    problem, found = instalments(settings(*same, 0.5))
    assert (np.bincount(problem.dataset.user, found.instalment == 1) > 0).sum() > 8  # ties are not broken user by user
    # a budget of two interactions: the first share is below one
    found = instalments(settings(*same, 1, "--wv_budget", 0.013, "--instalments", ".1,.6,1"))[1]
    assert np.bincount(found.instalment, minlength=4)[1:].tolist() == [0, 1, 1]


def test_what_is_refused(people, settings):
    with refused("--solver lissa"):  # which looks at the data of others
        instalments(settings(*OPTIONS, "--solver", "lissa"))
    for shares in (".5", ".5,.4,1", ".2,.2,1", ".2,.9"):
        with refused("--instalments"):
            settings("--instalments", shares)


def world(problem, place, rng):
    """The Problem with a user's interactions at `place` exchanged for an item each, or two for one with the b of both."""
    dataset, b = problem.dataset, problem.unwillingness.copy()
    user, item = dataset.user[place[0]], dataset.item.copy()
    own = [items[users == user] for users, items in ((dataset.user, item), dataset.held_pairs)]
    had = np.concatenate(own)
    item[place] = rng.permutation(np.setdiff1d(np.arange(dataset.num_items), had))[:len(place)]
    kept = np.ones(len(b), bool)
    if len(place) == 2:
        b[place[0]], kept[place[1]] = b[place].sum(), False
    return Problem(dataclasses.replace(dataset, user=dataset.user[kept], item=item[kept], rows=dataset.rows[kept]), b[kept])


def outcome(problem, config):
    """The problem, the Decisions, the bytes of all announcements, and by user and item the price at which each answered."""
    asked, said, prices = AskFirst(Strategies(problem, None, config, "CPU")), [], {}
    announce = asked.side.announce

    def announced():
        found = announce()
        said.extend(values[name].tobytes() for values in found for name in sorted(values))
        said.extend((asked.side.disclosed.user.tobytes(), asked.side.disclosed.item.tobytes()))
        return found

    def answered(level, *rest, answer=ask_first.answers):
        more = answer(level, *rest)
        prices.update(zip(zip(problem.dataset.user[more], problem.dataset.item[more]), level[more]))
        return more
    asked.side.announce = announced
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ask_first, "answers", answered)
        return problem, asked(config.wv_budget), said, prices


def differs(one, other, user):
    """Names of what differs between two outcomes beside what a user withholds; None if that user answers otherwise."""
    (_, was, said, before), (_, now, heard, after) = one, other
    mine = [{(found[0].dataset.item[k], found[1].instalment[k])
             for k in np.flatnonzero((found[0].dataset.user == user) & found[1].disclosed)} for found in (one, other)]
    if mine[0] != mine[1]:
        return None
    rest = [found[0].dataset.user != user for found in (one, other)]
    return [name for name, same in {
        "announcements": said == heard, "answers": before == after,
        **{key: was.record[key] == now.record[key] for key in ("instalment_wv", "instalment_weights")},
        **{name: getattr(was, name)[rest[0]].tobytes() == getattr(now, name)[rest[1]].tobytes()
           for name in ("disclosed", "instalment", "expected", "influence")}}.items() if not same]


def two_worlds(config, users, tries=2):
    """What differs in worlds in which one user withholds something else and answers the same; and how many there were.

    Those of even and of odd number exchange one interaction each, and two for one; it ends where something differs, or there
    were two worlds of each.
    """
    problem = load_problem(config)
    dataset = problem.dataset
    one = outcome(Problem(dataset, problem.unwillingness / 2), config)
    last = 1 if config.holdout else 2  # what a user's last items are moves their own answers
    withheld = ~one[1].disclosed & (dataset.history.from_end > last)
    found, number = set(), [0, 0]
    for user in users:
        place = np.flatnonzero(withheld & (dataset.user == user))[-1 - user % 2:]
        for trial in range(tries if len(place) == 1 + user % 2 else 0):
            changed = world(one[0], place, np.random.default_rng([user, trial]))
            what = differs(one, outcome(changed, config), user)
            if what is not None:
                found.update(what)
                number[user % 2] += 1
                break
        if found or min(number) > 1:
            break
    return found, number


@pytest.mark.parametrize("flags", [
    ["--instalments", ".3,.7,1"], ["--instalments", ".2,1", "--seed", 2, "--solver", "block"],
    ["--instalments", ".3,1", "--willingness_weight", 0.02, "--unwillingness", "constant", "--unwillingness_value", 0.25],
    ["--instalments", ".3,.7,1", "--holdout", 0]])
def test_what_a_user_withholds_reaches_nobody(people, settings, flags):
    found, number = two_worlds(settings(*OPTIONS, *flags), range(10))
    assert min(number) >= 1 and not found


def by_count(patch):
    """Models are trained at a rate that depends on how many interactions there are."""
    def init(self, strategies, begin=AskFirst.__init__):
        begin(self, strategies)
        rate = self.config.learning_rate * (1 + 1e-5 * len(self.problem.unwillingness))
        self.side.config = self.config.replace(learning_rate=rate)
    patch.setattr(AskFirst, "__init__", init)


def by_one_generator(patch):
    """Ties are broken by random numbers that are drawn one after the other for all."""
    patch.setattr(ask_first, "own_numbers", lambda seed, purpose, users, *keys: np.random.default_rng(seed).integers(
        1 << 50, size=len(users)))


def by_what_is_withheld(patch):
    """The price depends on those at which others would answer."""
    def answered(level, *rest, answer=ask_first.answers):
        more = answer(level, *rest)
        patch.setattr(ask_first, "_BELOW", 1e-3 * abs(level[~more & (level > -np.inf)].mean()))
        return more
    patch.setattr(ask_first, "answers", answered)


@pytest.mark.parametrize("look", [by_count, by_one_generator, by_what_is_withheld])
def test_the_two_worlds_tell_whoever_looks(people, settings, monkeypatch, look):
    look(monkeypatch)
    same = ["--unwillingness", "constant", "--unwillingness_value", 0.8] if look is by_one_generator else []
    assert two_worlds(settings(*OPTIONS, "--instalments", ".3,1", *same), range(15, -1, -1))[0]


def test_the_deciding_side_needs_nothing_but_what_it_hears(people, settings):
    """A process of its own, which is given the ids and told the same through a pipe, announces the same bytes."""
    arguments, events = [*OPTIONS, *THREE], []

    def heard(self, *told, hear=DecidingSide.hear):
        events.append(told)
        hear(self, *told)

    def announced(self, announce=DecidingSide.announce):
        events.append(announce(self))
        return events[-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DecidingSide, "hear", heard)
        patch.setattr(DecidingSide, "announce", announced)
        problem, found = instalments(settings(*arguments))
    with subprocess.Popen([sys.executable, "-m", "tests.game.deciding_side"], cwd=Path(__file__).parents[2],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        def tell(told):
            pickle.dump(told, process.stdin)
            process.stdin.flush()
        flags = ["--device_target", "CPU", "--dataset", "tiny", "--min_steps", 0, *arguments]
        tell(([str(flag) for flag in flags], problem.dataset.user_ids, problem.dataset.item_ids))
        for event in events:
            if isinstance(event, tuple):
                tell(event)
                assert len(event[0]) <= found.disclosed.sum()
            else:
                tell(None)
                for values, again in zip(event, pickle.load(process.stdout)):
                    assert all(again[name].tobytes() == values[name].tobytes() for name in values)
        process.stdin.close()
    assert sum(isinstance(event, list) for event in events) == 2


def test_a_clock_of_small_steps_agrees_with_sorting_to_a_step():
    rng = np.random.default_rng(0)
    b = rng.random(5000)
    for worth in (rng.lognormal(0, 2, 5000) / b, -b):  # prices that fall, and a level of unwillingness that rises
        exact = answers(worth, rng.random(5000), b, 600.0)
        rising = worth.max() < 0
        level, disclosed, left = None, np.zeros(5000, bool), 600.0
        for level in np.linspace(0, -1, 10_000) if rising else np.geomspace(worth.max(), 1e-3, 10_000):
            for k in np.flatnonzero((worth >= level) & ~disclosed):  # one by one, whatever each is worth
                if left >= ask_first.MOST:
                    disclosed[k] = True
                    left -= b[k]
            if left < ask_first.MOST:
                break
        step = 2 / 10_000 if rising else 2 * abs(level) * np.log(worth.max() / 1e-3) / 10_000
        assert np.abs(worth[exact != disclosed] - level).max(initial=0) <= step
        assert 599 < b[exact].sum() <= 600 and 599 < b[disclosed].sum() <= 600


def test_few_interactions_an_item_are_decided_by_unwillingness(people, settings, monkeypatch):
    config, sides = settings(*OPTIONS, "--instalments", ".3,.6,.8,1"), []
    monkeypatch.setattr(DecidingSide, "announce", lambda self, announce=DecidingSide.announce: sides.append(
        per_item(self.disclosed)) or announce(self))
    instalments(config)
    one, two, three = sides
    assert one < two < three
    monkeypatch.setattr(ask_first, "FEW", two)
    problem, found = instalments(config)
    assert [price is None for price in found.record["instalment_weights"]] == [True, True, False, False]
    first = (found.instalment == 1) | (found.instalment == 2)
    assert problem.unwillingness[first].max() <= problem.unwillingness[~first].min()
    monkeypatch.setattr(ask_first, "FEW", 100)
    found = instalments(config)[1]
    assert found.weight is None and found.expected is None
    assert problem.unwillingness[found.disclosed].max() <= problem.unwillingness[~found.disclosed].min()
