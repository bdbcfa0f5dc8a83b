"""The study of --why: what is withheld together, what a retraining draws, and McNemar's test."""
import json

import numpy as np
import pytest

from src.dataset import load_dataset
from src.network import build
from src.training.trainer import Trainer
from studies import why as study
from studies.why import GROUPS, SameDraws, Seed, gone, mcnemar, summary, why
from tests.small import SMALL, refused


def test_mcnemar_is_the_binomial_test_of_those_who_differ():
    one = np.repeat([True, False, True, False], [9, 1, 50, 40])
    other = np.repeat([False, True, True, False], [9, 1, 50, 40])
    assert mcnemar(one, other) == pytest.approx(2 * (1 + 10) / 2 ** 10)
    assert mcnemar(one, other) == mcnemar(other, one) and mcnemar(one, one) == 1.0
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
    seed = Seed(dataset, config, cpu)

    def training(kept, _):
        trained.append(kept)
        return np.full((dataset.num_users, dataset.num_items), len(trained), np.float32)
    monkeypatch.setattr(seed, "trained", training)
    sets = [np.flatnonzero(dataset.user == user)[:user % 3] for user in range(dataset.num_users)]
    group = np.arange(dataset.num_users) % GROUPS
    own, other = seed.retrained(sets, group, config)
    assert len(trained) == GROUPS and not (~trained[0] & ~trained[1]).any()  # disjoint
    for number, kept in enumerate(trained):
        wanted = [position for user, one in enumerate(sets) if group[user] == number for position in one]
        assert np.flatnonzero(~kept).tolist() == wanted
    assert (own[:, 0] == 1 + group).all() and (other[:, 0] == 2 - group).all()


def test_a_summary_is_of_those_with_a_set():
    names = ("influence_meanwhile", "influence_anew", "similar_anew", "fresh")
    rows = {"size": np.array([0, 1, 2, 3, 0, 5]), "influence": np.array([0, 1, 1, 0, 1, 1]),
            "similar": np.array([1, 1, 0, 1, 0, 0]), **dict.fromkeys(names, np.zeros(6)),
            "moved": np.array([9.0, 1, 2, 3, 9, 5]), "refit": np.array([0.0, 1, 2, 3, 0, 5]),
            "untilted refit": np.array([0.0, 5, 3, 2, 0, 1])}
    found = summary(rows)
    assert (found["asked"], found["found"], found["size"]) == (6, 4, 2.75)
    assert (found["influence"], found["similar"]) == (0.75, 0.5) and found["correlation"]["refit"] == pytest.approx(1)
    assert found["correlation"]["untilted refit"] < 0
    assert summary({name: values * 0 for name, values in rows.items()})["influence"] is None


def test_a_simulation_from_data_to_the_table(cpu, simulated, tmp_path, monkeypatch):
    config = simulated(40, 60, 800, *SMALL, "--embedding_std", 0.3, "--learning_rate", 0.03, "--train_epochs", 8,
                       "--seeds", "1,2")
    why(config)
    report = json.loads((tmp_path / "output" / "why.json").read_text())
    assert report["seeds"] == [1, 2] and report["asked"] == 80 and report["top_k"] == 3
    assert 0 < report["found"] <= 80 and 1 <= report["size"] <= report["most"]
    assert report["influence"] > report["influence_meanwhile"] and 0 <= report["p"] <= 1
    assert report["correlation"]["refit"] > 0 and report["correlation"]["untilted refit"] is not None
    assert "what --why names" in (tmp_path / "output" / "why.md").read_text()
    monkeypatch.setattr(study, "Seed", None)  # done before
    why(config)
    with refused("--model lightgcn"):
        why(config.replace(model="lightgcn"))
