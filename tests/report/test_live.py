"""What follows from a selection: nested selections, and lists from refitted rows."""
import numpy as np

from src.common.variant import Variant
from src.dataset import load_dataset
from src.evaluation.personal import load_serving
from src.evaluation.recommend import best_items, have_had, top_items
from src.game.decisions import read_decisions
from src.game.rule import Rule
from src.influence.rows import Rows
from src.report import live
from src.report.live import SIZES, live_lists, ranked, sizes_of
from tests.report.reading import data_of, vetoed_items


def test_sizes_go_from_nothing_to_all_in_equal_steps(finished_run):
    data = data_of(finished_run)
    assert data["num_live"] == 40 and all(len(user["live"]) == SIZES + 1 for user in data["users"])
    assert max(item for user in data["users"] for items in user["live"] for item in items) < len(data["items"])
    assert sizes_of(SIZES - 1).tolist() == list(range(SIZES)) and sizes_of(np.array([0, 150]))[:, -1].tolist() == [0, 150]
    assert (np.diff(sizes_of(1000)) >= 66).all() and (np.diff(sizes_of(1000)) <= 67).all()


def test_the_rule_selects_in_the_order_of_the_ranks(cpu, finished_run):
    users, dataset = np.arange(3, 40), load_dataset(finished_run)
    decisions, place = read_decisions(finished_run, dataset), dataset.history.of_users(users)
    rule, owner, (rank, most) = Rule(decisions), dataset.history.owners(users), ranked(users, dataset, decisions)
    expected, b = decisions.expected[place], decisions.unwillingness[place]
    for price in (0.0, *rule.prices(decisions, [0.02, 0.2, 0.6, 0.9])):
        selected = expected - price * b > rule.critical
        number = np.bincount(owner, selected, minlength=37)
        assert np.array_equal(selected, rank < number[owner]) and (price > 0 or np.array_equal(number, most))
    assert (b == 0).any()  # some cost nothing


def test_lists_are_those_of_refitted_rows_and_offer_nothing_vetoed(cpu, finished_run, monkeypatch):
    users, dataset = np.arange(0, 60, 3), load_dataset(finished_run)
    decisions, place = read_decisions(finished_run, dataset), dataset.history.of_users(users)
    owner, (rank, most) = dataset.history.owners(users), ranked(users, dataset, decisions)
    serving = load_serving(dataset, Variant(finished_run, masked=True))
    rows, had = Rows(serving.net, dataset.part(decisions.disclosed), finished_run), have_had(users, dataset)
    lists = live_lists(users, dataset, decisions, serving, 10, finished_run)
    assert [len(found) for found in lists] == [SIZES + 1] * 20 and np.isin(dataset.dropped.user, users).sum() > 10

    def exact(selection):
        kept = np.zeros(had.shape, bool)
        kept[owner[selection], dataset.item[place[selection]]] = True
        return [items.tolist() for items in best_items(rows.selected(users, kept, steps=24)[1], had, 10)]
    for k, number in ((0, most * 0), (SIZES - 1, most), (SIZES, most + 1000)):
        alike = [len({*one} & {*found[k].tolist()}) for one, found in zip(exact(rank < number[owner]), lists)]
        assert np.mean(alike) > 9
    assert exact(decisions.disclosed[place]) == [items.tolist() for items, _ in top_items(
        serving.net, users, dataset, 10, 1000)]  # of what the model was trained on, the list is the model's
    for user, found in zip(users, lists):
        had = {*dataset.item[dataset.user == user], *vetoed_items(dataset, user)} | {
            dataset.test[user], dataset.validation[user]}
        assert all(len(set(items)) == 10 and not set(items) & had for items in found)
    for pairs, number in ((7 * 120, 7), (1, 1)):  # as many users as there is time for
        monkeypatch.setattr(live, "MOST_PAIRS", pairs)
        assert len(live_lists(users, dataset, decisions, serving, 10, finished_run)) == number
