"""The study of --why: what is withheld together, what a retraining draws, and McNemar's test."""
import json

import numpy as np
import pytest

from src.common.errors import InputError
from src.dataset import load_dataset
from src.movielens import prepare
from src.network import build
from src.training.trainer import Trainer
from studies import counterfactuals as study
from studies.counterfactuals import COLUMNS, GROUPS, SameDraws, Seed, counterfactuals, gone, mcnemar, summary
from tests.small import SMALL


class Bar:
    def update(self):
        pass


def test_mcnemar_is_the_binomial_test_of_those_who_differ():
    one = np.repeat([True, False, True, False], [9, 1, 50, 40])
    other = np.repeat([False, True, True, False], [9, 1, 50, 40])
    assert mcnemar(one, other) == pytest.approx(2 * (1 + 10) / 2 ** 10)
    assert mcnemar(one, other) == mcnemar(other, one) and mcnemar(one, one) == 1.0


def test_an_item_is_gone_if_it_is_nowhere_in_the_list():
    assert gone(np.array([3, 4, 5]), np.array([[3, 1], [1, 4], [1, 2]])).tolist() == [False, False, True]


def test_what_is_withheld_changes_no_other_draw(cpu, ratings, settings):
    config = settings(*SMALL)
    dataset = load_dataset(config)
    kept = np.ones(dataset.num_interactions, bool)
    kept[[3, 20, 21]] = False
    users, items = Trainer(build(dataset, config), dataset, config, cpu).samples(1)
    same, part = SameDraws(build(dataset, config), dataset, kept, config, cpu), dataset.part(kept).history_pairs()
    found_users, found = same.samples(1)
    positive = part.contains(users, items[:, 0])
    assert 3 <= (~positive).sum() < len(positive) / 2
    assert np.array_equal(users[positive], found_users[positive]) and np.array_equal(items[positive, 0], found[positive, 0])
    assert part.contains(found_users, found[:, 0]).all()  # nothing that is withheld is a positive
    assert not part.contains(found_users[:, None], found[:, 1:]).any()  # and no positive a negative
    whole = SameDraws(build(dataset, config), dataset, np.ones_like(kept), config, cpu).samples(1)
    assert all(np.array_equal(a, b) for a, b in zip(whole, (users, items)))


def test_each_user_withholds_their_own_set_in_one_retraining_alone(cpu, ratings, settings, monkeypatch):
    config, trained = settings(*SMALL), []
    dataset = load_dataset(config)
    seed = Seed(dataset, config, cpu, Bar())

    def training(kept, _):
        trained.append(kept)
        return np.arange(dataset.num_items) * np.where(len(trained) == 1, 1.0, -1.0) + np.zeros((dataset.num_users, 1))
    monkeypatch.setattr(seed, "trained", training)
    sets = [np.flatnonzero(dataset.user == user)[:user % 3] if user != 4 else None for user in range(dataset.num_users)]
    group = np.arange(dataset.num_users) % GROUPS
    own, other = seed.retrained(sets, group, config)
    assert len(trained) == GROUPS
    for number, kept in enumerate(trained):
        wanted = [position for user, one in enumerate(sets) if group[user] == number and one is not None for position in one]
        assert np.flatnonzero(~kept).tolist() == wanted
    assert not (~trained[0] & ~trained[1]).any()  # disjoint
    lists = [seed.lists(sign * np.arange(dataset.num_items) + np.zeros((dataset.num_users, 1))) for sign in (1.0, -1.0)]
    for user in range(dataset.num_users):
        assert np.array_equal(own[user], lists[group[user]][user])
        assert np.array_equal(other[user], lists[1 - group[user]][user])


def test_a_summary_counts_clear_sets_apart():
    rows = {key: np.zeros(6) for key in COLUMNS}
    rows |= {"influence_size": np.array([0, 1, 2, 3, 1, 5]), "clear": np.array([0, 1, 1, 1, 0, 1]),
             "influence_left": np.array([0, 1, 1, 0, 1, 1]), "similar_left": np.array([1, 1, 0, 1, 0, 0]),
             "similar_own_size": np.array([2, 0, 0, 4, 0, 0]), "similar_own_left": np.array([1, 0, 0, 0, 0, 0])}
    found = summary([rows, rows])
    assert found["asked"] == 12 and found["clear"]["found"] == 8 and found["all"]["found"] == 10
    assert found["clear"]["size"] == 2.75 and found["clear"]["influence"] == 0.75 and found["clear"]["similar"] == 0.5
    assert found["clear"]["only_influence"] == 4 and found["clear"]["only_similar"] == 2
    assert found["all"]["own_found"] == 4 and found["all"]["own_size"] == 3 and found["all"]["own"] == 0.5
    assert found["clear"]["own_found"] == 0 and found["clear"]["own"] is None


def test_a_simulation_from_data_to_the_table(cpu, settings, tmp_path, monkeypatch):
    config = settings(*SMALL, "--dataset", "simulation", "--sim_users", 40, "--sim_items", 60, "--sim_ratings", 800,
                      "--embedding_std", 0.3, "--learning_rate", 0.03, "--train_epochs", 8, "--seeds", "1,2")
    prepare(config)
    counterfactuals(config)
    report = json.loads((tmp_path / "output" / "why.json").read_text())
    found = report["all"]
    assert report["seeds"] == [1, 2] and report["asked"] == 80 and report["top_k"] == 3
    assert 0 < report["clear"]["found"] <= found["found"] <= 80 and 1 <= found["size"] <= report["most"]
    assert sum(one["all"]["found"] for one in report["by_place"].values()) == found["found"]
    assert sum(one["all"]["found"] for one in report["by_seed"].values()) == found["found"]
    assert found["influence"] > found["meanwhile"] and 0 <= found["p"] <= 1
    assert not (tmp_path / "output" / study.FOLDER).exists()
    monkeypatch.setattr(study, "Seed", None)  # done before
    counterfactuals(config)


def test_a_model_with_a_graph_is_refused(cpu, ratings, settings):
    with pytest.raises(InputError, match="--model lightgcn: .* give --model ncf or mf"):
        counterfactuals(settings("--model", "lightgcn"))
