"""The leakage audit: models are made once, what cannot be measured is skipped with a reason, and reports show the rest."""
import json
from types import SimpleNamespace

import numpy as np
import pytest

from src.common.errors import InputError
from src.constants import AUDIT_FILE, AUDIT_PLOT
from src.dataset import load_dataset
from src.movielens import prepare
from studies import audit as audited
from studies import audit_measures
from studies.audit import TABLE, Audit, audit
from studies.audit_models import Models
from studies.figures import audit_plot
from studies.leakage import remarks, tables
from studies.retraining import Retraining
from tests.common.test_figures import is_png
from tests.small import SMALL

SIMULATED = [*SMALL, "--dataset", "simulation", "--sim_users", 60, "--sim_items", 120, "--sim_ratings", 1500,
             "--train_epochs", 1]


@pytest.fixture
def few(monkeypatch):
    """Fewer resamples and folds than an audit has."""
    monkeypatch.setattr(audited, "RESAMPLES", 30)
    monkeypatch.setattr(audit_measures, "FOLDS", 2)


def test_models_are_trained_once_and_every_part_is_measured(cpu, settings, tmp_path, monkeypatch, few):
    config = settings(*SIMULATED, "--audit_strategies", "threshold")
    prepare(config)
    trained = []

    def made_up(self, part, seed):
        trained.append(part.num_interactions)
        self.shown.set_values({name: value + 0.1 * np.random.default_rng(part.num_interactions).standard_normal(value.shape)
                               .astype(np.float32) for name, value in self.shown.values().items()})
    monkeypatch.setattr(Retraining, "__call__", made_up)
    audit(config)
    output = tmp_path / "output"
    record = json.loads((output / AUDIT_FILE).read_text())
    assert list(record["strategies"]) == ["none", "random", "threshold"] and len(trained) == 3
    assert trained[0] == record["num_interactions"] > trained[2] > trained[1]
    for name in ("random", "threshold"):
        row = record["strategies"][name]
        assert row["withheld"] == record["num_interactions"] - trained[1 if name == "random" else 2]
        assert row["wv_share"] <= 0.6
        for found in (*(row["reinference"][key] for key in ("own", "full", "popularity")),
                      *(row["membership"][key] for key in ("disclosed_withheld", "withheld_untouched", "disclosed_untouched",
                                                           "disclosed_withheld_full")), row["taste"]["own"]):
            assert found["interval"][0] <= found["auc"] <= found["interval"][1]
    assert record["strategies"]["none"]["reinference"] == {"skipped": "it withholds nothing"}
    assert record["skipped"] == {}
    assert is_png(output / AUDIT_PLOT) and "| threshold |" in (output / TABLE).read_text()

    written = (output / AUDIT_FILE).stat().st_mtime_ns
    audit(config)  # nothing has changed
    assert (output / AUDIT_FILE).stat().st_mtime_ns == written

    def made(strategies, **changes):
        models = Models(config.replace(**changes), output / "audit", "CPU", False)
        masks = {strategy: models(strategy)[0] for strategy in strategies}
        assert all(len(mask) == record["num_interactions"] for mask in masks.values())
        return models.trained
    assert made(["none", "random", "threshold"]) == []
    (output / "audit" / "random.npz").write_bytes(b"damaged")
    assert made(["none", "random", "recent"]) == ["random", "recent"]
    assert made(["random"], learning_rate=0.5) == ["random"] and made(["threshold"], wv_budget=0.3) == ["threshold"]
    assert made(["none"], overwrite=True) == ["none"]


@pytest.fixture
def known(cpu, settings, few):
    """An Audit of a simulation whose models are functions of user, item and whether the interaction is disclosed."""
    config = settings(*SIMULATED)
    prepare(config)
    dataset = load_dataset(config)
    rng = np.random.default_rng(0)
    disclosed = rng.random(dataset.num_interactions) < 0.6
    models = SimpleNamespace(config=config, dataset=dataset, device="CPU", scores=lambda values, u, i: values(u, i),
                             problem=SimpleNamespace(unwillingness=np.ones(dataset.num_interactions)))
    return Audit(models, ["none", "random"]), disclosed


def test_a_model_that_memorises_gives_membership_away(known):
    audit_of, disclosed = known
    pairs = audit_of.dataset.part(disclosed).history_pairs()
    rng = np.random.default_rng(1)

    def memorises(user, item):
        return pairs.contains(user, item) + 0.1 * rng.random(len(user))

    def guesses(user, item):
        return rng.random(len(user))
    found = audit_of._membership("mine", disclosed, memorises, guesses)
    assert found["disclosed_withheld"] == {"auc": 1, "interval": [1, 1]} == found["disclosed_untouched"]
    for key in ("withheld_untouched", "disclosed_withheld_full"):
        assert abs(found[key]["auc"] - 0.5) < 0.05


def test_what_a_model_knows_is_guessed(known):
    audit_of, disclosed = known
    touched = audit_of.dataset.all_pairs()
    rng = np.random.default_rng(1)
    found = audit_of._reinference(disclosed, lambda u, i: rng.random(len(u)), lambda u, i: touched.contains(u, i) * 1.0)
    assert abs(found["own"]["auc"] - 0.5) < 0.05 and found["full"]["auc"] == 1
    assert found["full"]["listed"] == 1 and found["own_less_full"]["difference"] == pytest.approx(found["own"]["auc"] - 1)


def test_what_is_skipped_has_a_reason(cpu, ratings, settings, few, monkeypatch):
    """Data without genres, and a budget at which nothing is withheld."""
    monkeypatch.setattr(Models, "_make", lambda self, strategy: (np.ones(self.dataset.num_interactions, bool),
                                                                 self.net.values()))
    config = settings(*SMALL, "--audit_strategies", "threshold", "--wv_budget", 1)
    audit(config)
    record = json.loads((ratings.parents[1] / "output" / AUDIT_FILE).read_text())
    assert record["skipped"]["taste"] == "the catalogue of the dataset lists no genres"
    for row in record["strategies"].values():
        assert all(row[part]["skipped"] for part in ("reinference", "taste"))
        assert set(row["membership"]) == {"pairs", "disclosed_untouched"}
    assert [rows[0][0] for _, rows, _ in tables(record)] == ["none", "none"]
    assert remarks(record) == ["Skipped: withheld genres from disclosed ones: the catalogue of the dataset lists no genres."]


def test_settings_that_do_not_fit_are_one_line(cpu, ratings, settings):
    assert audited._strategies(settings("--audit_strategies", "recent,none")) == ["none", "random", "recent"]
    with pytest.raises(InputError, match="--audit_strategies ifrqe,magic: there is no strategy 'magic'; name some of"):
        audit(settings("--audit_strategies", "ifrqe,magic"))
    with pytest.raises(InputError, match="--holdout 1: leaves no validation item"):
        audit(settings("--holdout", 1))
    with pytest.raises(InputError, match="--num_eval_neg 15: user 1 has interacted with all but 11 of the 20 items"):
        audit(settings(*SMALL, "--num_eval_neg", 15, "--audit_strategies", "threshold"))


def test_a_picture_of_few_parts(tmp_path):
    def found(auc):
        return {"auc": auc, "interval": [auc - 0.1, auc + 0.1]}
    nothing = {"skipped": "no"}
    rows = {name: {"reinference": {"own": found(0.8), "full": found(0.9), "popularity": {**found(0.7), "interval": None}},
                   "membership": {"pairs": 3, "disclosed_untouched": found(0.6)}, "taste": nothing}
            for name in ("none", "a$strange_name")}
    audit_plot(tmp_path / "x.png", {"dataset": "tiny", "wv_budget": 0.6, "strategies": rows})
    assert is_png(tmp_path / "x.png")
