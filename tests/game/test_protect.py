"""Budgets of each user, nobody worse off, and what users need, on known answers."""
import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.common.errors import InputError
from src.common.variant import Variant
from src.dataset import load_dataset
from src.evaluation.explain import Rule
from src.game.ask_first import AskFirst
from src.game.decisions import read_decisions
from src.game.mirror_descent import Game, price_within_budget, prices_of_users
from src.game.preprocess import preprocess
from src.game.problem import Kept, Problem, first_in_order, load_problem
from src.game.protect import TOLERANCE, ExpectedLoss, Protection, needed, ranks
from src.game.strategies import STRATEGIES, Strategies
from src.influence.refit import refit
from src.ncf import build
from src.training.train import train
from tests.reference import logits
from tests.small import SMALL

OPTIONS = [*SMALL, "--embedding_std", 0.7, "--influence_lags", 2, "--num_eval_neg", 5]


def random_game(seed, users=7, most=30, anchors=1):
    rng = np.random.default_rng(seed)
    user = np.sort(rng.integers(0, users, most * users // 2))
    b = rng.random(len(user)).round(2)
    b[rng.random(len(user)) < 0.1] = 0
    return user, b, rng.normal(0.2, 1, (anchors, len(user))).round(1) * (b + 0.01).round(2)  # with ties


# Budgets of each user.

def test_prices_of_users_are_those_of_games_of_one():
    for seed in range(20):
        user, b, (influence,) = random_game(seed)
        budgets = np.random.default_rng(seed).random(8) * np.bincount(user, b, 8)
        budgets[7] = 0  # of nobody
        found = prices_of_users(influence, b, user, budgets, -1e-4)
        for u in range(8):
            mine = user == u
            assert found[u] == pytest.approx(price_within_budget(influence[mine], b[mine], budgets[u], -1e-4), rel=1e-12)


@pytest.mark.parametrize("anchors", [1, 3])
def test_each_user_plays_as_if_alone(settings, anchors):
    config = settings("--rounds", 200)
    user, b, influence = random_game(3, anchors=anchors)
    selections = np.random.default_rng(5).random(influence.shape) < 0.7
    budgets = 0.4 * np.bincount(user, b)
    disclosed, prices = Game(influence, b, config, selections, user).within_each(budgets)
    spent = np.bincount(user, b * disclosed)
    assert (spent <= budgets * (1 + 1e-9)).all() and (spent > 0).all()
    for u in range(7):
        mine = user == u
        alone, price = Game(influence[:, mine], b[mine], config, selections[:, mine], user[mine]).within(budgets[u])
        assert np.array_equal(disclosed[mine], alone) or anchors > 1 and spent[u] >= b[mine][alone].sum() - b[mine].max()
        if anchors == 1:
            assert prices[u] == pytest.approx(price, rel=1e-12)
            out = ~disclosed[mine] & (influence[0, mine] > 0) & (b[mine] > 0)  # the next at its price, with its equals
            best = (influence[0, mine] / np.maximum(b[mine], 1e-9))
            if out.any():
                following = out & np.isclose(best, best[out].max(), rtol=1e-3)
                assert spent[u] + b[mine][following].sum() > budgets[u]


def test_baselines_take_the_first_of_each_user(cpu, small, settings):
    dataset = load_dataset(settings())
    problem = Problem(dataset, np.full(10, 0.5), np.arange(10) != 9)
    order = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    kept = first_in_order(order, problem, np.array([1.0, 1.2, 5.0, 0.0]))
    assert kept.nonzero()[0].tolist() == [4, 5, 7, 8]  # 2 of 6, 2 of 3; the last user's is vetoed


def test_with_one_user_it_is_the_plain_game(settings):
    user, b, influence = random_game(1, users=1, most=60)
    game = Game(influence, b, settings(), None, user)
    for share in (0.1, 0.5, 1.0):
        alone, price = game.within(share * b.sum())
        each, prices = game.within_each(np.array([share * b.sum()]))
        assert np.array_equal(alone, each) and prices[0] == pytest.approx(price, rel=1e-12)


def test_a_price_for_all_and_one_for_each_do_not_go_together(settings):
    with pytest.raises(InputError, match="--budget_scope user: .*leave out --willingness_weight"):
        settings("--budget_scope", "user", "--willingness_weight", 0.1)


def of_two_kinds(values):
    """Parameters whose items below 30 differ from the others in their first factor."""
    values["item_gmf"][:, 0] += np.where(np.arange(60) < 30, 1, -1)
    values["head.gmf_weight"][0] = 1
    return values


@pytest.fixture
def people(write_ratings, cpu, settings):
    """people(*flags) -> settings, Problem and Strategies: 16 users with 20 of 60 items each, every 7th vetoed.

    They prefer items below 30 or the others, and their model knows that of the items.
    """
    rng = np.random.default_rng(0)
    rows = []
    for user in range(16):
        liking = rng.random(60) + 0.5 * ((np.arange(60) < 30) == user % 2)
        rows += [(user, int(i), t) for t, i in enumerate(rng.permutation(np.argsort(-liking)[:20]))]
    folder = write_ratings(rows, items=range(60))
    stated = pd.DataFrame(rows, columns=["user_id", "item_id", "t"]).drop(columns="t")
    stated["unwillingness"] = rng.random(len(rows)).round(6)
    stated.loc[::7, "unwillingness"] = 1.0
    stated.to_csv(folder / "unwillingness.csv", index=False)

    def make(*flags):
        config = settings(*OPTIONS, "--veto", "--instalments", ".3,1", "--anchors", 2, "--anchor_warm_epochs", 1,
                          "--rounds", 300, *flags)
        problem = load_problem(config)
        models = [({1: of_two_kinds(build(problem.dataset, config).values())}, {"settings": config.as_dict()})]
        return config, problem, Strategies(problem, models, config, "CPU", Kept(Path(config.output_path), {}))
    return make


@pytest.mark.parametrize("name", [s for s in STRATEGIES if not s.startswith("none")])
def test_all_strategies_keep_within_the_budget_of_each_user(people, name):
    config, problem, decide = people("--budget_scope", "user")
    found = decide(name, 0.4)
    user, b = problem.dataset.user, problem.unwillingness
    share = np.bincount(user, b * found.disclosed) / np.bincount(user, b)
    assert share.max() <= 0.4 * (1 + 1e-9) and share.min() > 0 and not (found.disclosed & ~problem.allowed).any()
    if name in ("ifrqe", "ifrqe++", "ask-first"):
        assert found.weight == np.median(found.prices[np.unique(user, return_index=True)[1]])
        assert len(np.unique(found.prices)) > 3
    if name == "ifrqe":
        says = Rule(dataclasses.replace(found, record={**found.record, "strategy": name, **config.select("game")}))
        assert np.array_equal(says.disclosed(found.expected, b, ~problem.allowed, found.prices), found.disclosed)


# Nobody worse off.

class Wants(ExpectedLoss):
    """A loss that is 1 until a user discloses all that they want, then 0."""

    def __init__(self, user, wants):
        self.user, self.wants = user, wants
        self.length = np.bincount(user)
        self.everything, self.asked = np.zeros(len(self.length)), 0

    def __call__(self, disclosed, users=None):
        self.asked += 1
        return (np.bincount(self.user, self.wants & ~disclosed, len(self.length)) > 0).astype(float)


def played(expected, b):
    """What Protection asks of a game within `limit` at one anchor whose critical payoff is 0."""
    def within(limit):
        def play(kept, may):
            left = ~kept & may
            price = price_within_budget(expected[left], b[left], max(limit - b[kept].sum(), 0), 0.0)
            return kept | left & (expected - price * b > 0), price
        return play
    return within


USER = np.repeat([0, 1, 2], 4)
B = np.array([0.5, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 0.5, 0.5])
E = np.array([0.40, 0.30, 0.06, 0.05, 0.20, 0.19, 0.18, 0.17, 0.35, 0.25, 0.20, -1.0])


def protected(wants, limit, b=B):
    within = played(E, b)
    before, price = within(limit)(np.zeros(12, bool), np.ones(12, bool))
    protection = Protection(Wants(USER, np.isin(np.arange(12), wants)), b, E, limit)
    mask, raised = protection(before, within(limit))
    return before.nonzero()[0].tolist(), price, mask.nonzero()[0].tolist(), raised, protection.report


def test_who_would_be_worse_off_gets_back_the_most_helpful_at_a_higher_price_for_all():
    before, price, after, raised, report = protected([2], 2.9)
    assert before == [0, 1, 4, 5, 6, 7, 8, 9, 10]  # user 0 lacks 2
    assert after == [0, 1, 2, 4, 5, 6, 7, 8, 9]  # gets it and not 3; user 2 pays with 10
    assert B[after].sum() <= 2.9 + 1e-9 and raised > price
    assert {key: report[key] for key in ("worse_off_before", "worse_off", "protected", "given_back", "not_protected")} == {
        "worse_off_before": 1, "worse_off": 0, "protected": 1, "given_back": 1, "not_protected": 0}


def test_what_helps_comes_back_before_what_is_needed_and_nothing_after():
    assert protected([3], 2.9)[2] == [0, 1, 2, 3, 4, 5, 6, 7, 8]  # 3 comes after 2 in the order
    assert protected([0], 2.9)[2] == protected([], 2.9)[0]  # who lacks nothing gets nothing


def test_a_rising_price_takes_nothing_that_somebody_needs():
    before, _, after, _, report = protected([2, 10], 3.3)
    assert before == [0, 1, 4, 5, 6, 7, 8, 9, 10]
    assert after == [0, 1, 2, 4, 5, 6, 8, 9, 10] and report["worse_off"] == 0  # user 1 pays, who needs nothing


def test_where_the_budget_cannot_hold_all_the_cheapest_are_protected():
    _, _, after, _, report = protected([3, 7, 11], 0.45)  # users 0 and 2 would need 2.0 each, user 1 needs 0.4
    assert after == [4, 5, 6, 7] and report["not_protected"] == 2 and report["worse_off"] == 2


def test_bisection_asks_a_logarithm_of_times():
    user = np.repeat(np.arange(5), 1000)
    wants = np.zeros(5000, bool)
    wants[[0, 1500, 2999, 4000, 4321]] = True
    loss = Wants(user, wants)
    rank = ranks(user, loss.length, np.arange(5000))
    assert loss.shortest(rank, np.full(5, -1), loss.length).tolist() == [1, 501, 1000, 0, 322]
    assert loss.asked <= 10


# The expected loss.

@pytest.fixture
def loss(people):
    config, problem, _ = people()
    dataset = problem.dataset
    values = of_two_kinds(build(dataset, config).values())
    return config, dataset, values, ExpectedLoss(values, dataset, np.ones(16, bool), config)


def test_expected_loss_is_that_of_the_held_out_items_at_the_refitted_row(loss):
    config, dataset, values, expected = loss
    mask = np.arange(dataset.num_interactions) % 3 > 0
    found = expected(mask)
    length = np.bincount(dataset.user)
    from_end = np.cumsum(length)[dataset.user] - np.arange(dataset.num_interactions)
    rows = refit(expected.net, dataset, expected.prior, expected.config, expected.rows, 3, None, mask & (from_end > 2))
    for user in (0, 7, 15):
        history = dataset.item[dataset.user == user]
        z = logits(values, rows[user], np.array([dataset.validation[user], history[-1], history[-2]]))
        negatives = expected.negatives[user]
        assert len(negatives) == config.num_eval_neg and not set(negatives) & set(history)
        z_negative = logits(values, rows[user], negatives)
        total = np.log1p(np.exp(-z)).mean() + np.log1p(np.exp(z_negative)).sum()
        assert found[user] == pytest.approx(total / (1 + len(negatives)), rel=1e-4)


def test_last_items_and_test_items_change_no_refit(loss):
    config, dataset, values, expected = loss
    length = np.bincount(dataset.user)
    last = np.cumsum(length)[dataset.user] - np.arange(dataset.num_interactions) <= 2
    everything = np.ones(len(last), bool)
    np.testing.assert_array_equal(expected(everything), expected(~last))
    np.testing.assert_array_equal(expected(everything), expected.everything)
    dataset.held.test[:] = dataset.held.test[::-1].copy()
    again = ExpectedLoss(values, dataset, np.ones(16, bool), config)
    np.testing.assert_array_equal(again.everything, expected.everything)


def test_short_histories_are_judged_by_the_validation_item_alone(cpu, small, settings):
    config = settings(*OPTIONS)
    dataset = load_dataset(config)  # histories of 6, 3, 1 and 0
    expected = ExpectedLoss(build(dataset, config).values(), dataset, np.ones(4, bool), config)
    assert expected.counts.sum(1).tolist() == [3, 1, 1, 1]
    assert expected.seen.nonzero()[0].tolist() == [0, 1, 2, 3, 6, 7, 8, 9]
    assert np.isfinite(expected(np.zeros(10, bool))).all()


def test_asking_for_some_users_gives_theirs(loss):
    _, dataset, _, expected = loss
    mask, some = np.arange(dataset.num_interactions) % 2 > 0, np.arange(16) % 3 == 0
    np.testing.assert_allclose(expected(mask, some)[some], expected(mask)[some], rtol=1e-6)


def test_needs_against_brute_force_over_all_prefixes(loss):
    _, dataset, _, expected = loss
    worth = np.random.default_rng(4).normal(size=dataset.num_interactions)
    found = needed(expected, worth)
    rank = ranks(dataset.user, expected.length, -worth)
    fits = np.stack([expected(rank < k) <= expected.everything + TOLERANCE for k in range(expected.length.max() + 1)])
    whole, simple = 0, 0
    for user in range(16):
        mine, n = dataset.user == user, expected.length[user]
        number = found[mine].sum()
        assert np.array_equal(found[mine], rank[mine] < number)  # the best, by worth
        assert fits[number, user] and (number == 0 or not fits[number - 1, user])
        if (np.diff(fits[:n + 1, user].astype(int)) >= 0).all():  # once enough, always enough
            assert number == fits[:n + 1, user].argmax()
            simple += 1
        whole += number == n
    assert simple > 3 and whole < 16 and len(set(np.bincount(dataset.user, found))) > 3


# All of it together.

@pytest.mark.parametrize("name", ["ifrqe", "ifrqe++", "ask-first"])
@pytest.mark.parametrize("scope", ["all", "user"])
def test_nobody_is_worse_off_where_the_budget_allows_it(people, name, scope):
    _, problem, plain = people("--budget_scope", scope)
    _, _, decide = people("--budget_scope", scope, "--protect")
    user, b, allowed = problem.dataset.user, problem.unwillingness, problem.allowed
    total = b.sum() if scope == "all" else np.bincount(user, b)
    worse, held = [], []
    for budget in (0.2, 0.7):
        before, found = plain(name, budget), decide(name, budget)
        report = found.record["protection"]
        assert not (found.disclosed & ~allowed).any()
        spent = b[found.disclosed].sum() if scope == "all" else np.bincount(user, b * found.disclosed)
        assert (spent <= budget * total * (1 + 1e-9)).all()
        fits = decide.expected_loss().fits(found.disclosed[allowed])
        assert (~fits).sum() == report["worse_off"] <= report["not_protected"]
        assert report["worse_off"] <= report["worse_off_before"]
        if scope == "all" and report["given_back"] and not report["barred"]:
            assert found.weight >= before.weight
        if name == "ask-first":
            first = before.instalment == 1
            assert found.disclosed[first].all() and np.array_equal(found.instalment == 1, first)
            assert np.array_equal(found.instalment > 0, found.disclosed)
        worse.append(report["worse_off_before"])
        held.append(report["worse_off_before"] > report["worse_off"])
    if (name, scope) == ("ifrqe", "all"):
        assert max(worse) > 0 and any(held)


def test_the_last_instalment_gives_back_what_is_needed_and_takes_back_nothing_trained_on(people, monkeypatch):
    _, problem, decide = people()
    before = decide("ask-first", 0.3)
    user, b, allowed = problem.dataset.user, problem.unwillingness, problem.allowed
    withheld = ~before.disclosed & allowed
    somebody = np.bincount(user, withheld).argmax()
    left = np.flatnonzero(withheld & (user == somebody))
    order = left[np.argsort(-before.expected[left] / b[left])]
    wants = np.zeros(len(user), bool)
    wants[order[1]] = True
    monkeypatch.setattr(AskFirst, "expected_loss", lambda self: Wants(self.dataset.user, wants[allowed]))
    found = people("--protect")[2]("ask-first", 0.3)
    mine = user == somebody
    wanted = before.disclosed.copy()
    wanted[order[:2]] = True
    assert np.array_equal(found.disclosed[mine], wanted[mine]) and not wanted[mine & allowed].all()
    assert (found.instalment[order[:2]] == 2).all() and np.array_equal(found.instalment == 1, before.instalment == 1)
    assert b[found.disclosed].sum() <= 0.3 * b.sum() * (1 + 1e-9) and found.weight > before.weight
    assert found.record["protection"]["given_back"] == 2 and found.record["instalment_weights"][-1] == found.weight


def test_a_given_price_stays_and_what_is_needed_comes_on_top(people):
    before, found = (people(*flags)[2]("ifrqe", 0.6, weight=0.02) for flags in ((), ("--protect",)))
    assert found.weight == before.weight == 0.02 and found.record["protection"]["worse_off"] == 0
    assert found.disclosed[before.disclosed].all() or found.record["protection"]["barred"]
    assert found.disclosed.sum() > before.disclosed.sum()


def test_files_say_it(people, settings):
    config, problem, _ = people("--budget_scope", "user", "--protect", "--needs")
    train(Variant(config))
    preprocess(config)
    table = pd.read_csv(f"{config.output_path}/disclosure.csv")
    record = json.loads((Path(config.output_path) / "preprocess.json").read_text())
    assert record["budget_scope"] == "user" and {"protect", "needs"} <= set(record["seconds"])
    assert record["protection"]["seconds"] > 0
    read = read_decisions(config, load_dataset(config))
    assert np.array_equal(read.needed, table.needed == 1) and not (read.needed & ~problem.allowed).any()
    assert (table.groupby("user_id").willingness_weight.nunique() == 1).all()
    assert record["willingness_weight"] == pytest.approx(table.groupby("user_id").willingness_weight.first().median())
    rule = Rule(read)
    reasons = np.array(rule.reasons(read.expected, read.unwillingness, read.vetoed, read.disclosed, read.prices))
    says = rule.disclosed(read.expected, read.unwillingness, read.vetoed, read.prices)
    assert ((reasons == "disclosed: so that they are not worse off") == (read.disclosed & ~says)).all()
    config = people()[0]
    train(Variant(config))
    preprocess(config)
    assert list(pd.read_csv(f"{config.output_path}/disclosure.csv")) == [
        "user_id", "item_id", "influence", "unwillingness", "disclosed", "expected_influence"]
    record = json.loads((Path(config.output_path) / "preprocess.json").read_text())
    assert not {"budget_scope", "protection"} & set(record) and not {"protect", "needs"} & set(record["seconds"])
