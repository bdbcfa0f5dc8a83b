"""What follows from a selection: nested selections, and lists from refitted rows."""
import numpy as np

from src.evaluation.recommend import best_items, have_had, top_items
from src.game.rule import Rule
from src.report import live
from src.report.live import SIZES, live_lists, sizes_of
from tests.report.reading import Selections, at_price, data_of, overlap, vetoed_items


def test_sizes_go_from_nothing_to_all_in_equal_steps(finished_run):
    data = data_of(finished_run)
    assert data["num_live"] == 40 and all(len(user["live"]) == SIZES + 1 for user in data["users"])
    assert max(item for user in data["users"] for items in user["live"] for item in items) < len(data["items"])
    assert sizes_of(SIZES - 1).tolist() == list(range(SIZES)) and sizes_of(np.array([0, 150]))[:, -1].tolist() == [0, 150]
    assert (np.diff(sizes_of(1000)) >= 66).all() and (np.diff(sizes_of(1000)) <= 67).all()


def test_the_rule_selects_in_the_order_of_the_ranks(cpu, finished_run):
    found = Selections(finished_run, np.arange(3, 40))
    rule, decisions = Rule(found.decisions), found.decisions
    expected, b = decisions.expected[found.place], decisions.unwillingness[found.place]
    for price in (0.0, *rule.prices(decisions, [0.02, 0.2, 0.6, 0.9])):
        selected = at_price(rule, expected, b, price)
        number = np.bincount(found.owner, selected, minlength=37)
        assert np.array_equal(selected, found.rank < number[found.owner])
        assert price > 0 or np.array_equal(number, found.most)
    assert (b == 0).any()  # some cost nothing


def test_lists_are_those_of_refitted_rows_and_offer_nothing_vetoed(cpu, finished_run, monkeypatch):
    users = np.arange(0, 60, 3)
    known = Selections(finished_run, users)
    dataset, decisions, serving = known.dataset, known.decisions, known.serving
    lists, had = live_lists(users, dataset, decisions, serving, 10, finished_run), have_had(users, dataset)
    assert [len(found) for found in lists] == [SIZES + 1] * 20 and np.isin(dataset.dropped.user, users).sum() > 10
    for place, number in ((0, known.most * 0), (SIZES - 1, known.most), (SIZES, known.most + 1000)):
        exact = best_items(known.logits(known.rank < number[known.owner]), had, 10)
        assert np.mean([overlap(exact[k], lists[k][place]) for k in range(20)]) > 0.9
    as_trained = best_items(known.logits(decisions.disclosed[known.place]), had, 10)
    assert [items.tolist() for items in as_trained] == [items.tolist() for items, _ in top_items(
        serving.net, users, dataset, 10, 1000)]  # of what the model was trained on, the list is the model's
    for user, found in zip(users, lists):
        had = {*dataset.item[dataset.user == user], *vetoed_items(dataset, user)} | {
            dataset.test[user], dataset.validation[user]}
        assert all(len(set(items)) == 10 and not set(items) & had for items in found)
    for pairs, number in ((7 * 120, 7), (1, 1)):  # as many users as there is time for
        monkeypatch.setattr(live, "MOST_PAIRS", pairs)
        assert len(live_lists(users, dataset, decisions, serving, 10, finished_run)) == number
