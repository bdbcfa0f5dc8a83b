"""Personal rows: refitted rows serve, vetoed interactions count for nothing, validation items alone decide."""
import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eval import evaluate_and_report
from eval import run as answer
from src.candidates import evaluation_candidates
from src.common.files import digest
from src.common.terminal import log_to
from src.common.variant import Variant, asked
from src.dataset import load_dataset
from src.evaluation import personal
from src.evaluation.compare import comparison_rows, comparison_table, not_comparable, rankings
from src.evaluation.evaluate import evaluate
from src.evaluation.personal import load_serving, prefers_personal
from src.evaluation.recommend import top_items
from src.game.decisions import read_decisions
from src.influence.rows import Rows
from src.metrics import all_metrics, ranks
from src.ncf import NCF
from src.network import build, score
from tests.report.reading import words
from tests.small import refused

KEYS = ["model", "dataset", "seed", "epoch", "personal", "num_users", "num_items", "num_interactions", "num_candidates",
        "hr@10", "ndcg@10", "auc", "loss", "pos_loss", "wv", "spent_wv", "total_wv", "willingness_weight", "reward",
        "ratings_sha256", "candidates", "candidates_sha256", "training", "made_with", "seconds"]
BOTH = ["hr@10_trained", "ndcg@10_trained", "hr@10_personal", "ndcg@10_personal"]


@pytest.fixture
def config(cpu, finished_run, tmp_path, monkeypatch):
    """Settings of a finished run with vetoes: personal rows, results in a folder of the test, models with opinions."""
    config = finished_run.replace(output_path=str(tmp_path), decisions_path=finished_run.output_path, personal="auto")
    net = build(load_dataset(config), config.replace(embedding_std=0.7))
    values = net.values()
    monkeypatch.setattr(personal, "load_checkpoint", lambda *a: (net.set_values(values) or net, {"epoch": 1}))
    monkeypatch.setattr(personal, "prefers_personal", lambda *a: True)
    return config


def parameters(config, masked):
    """The dataset, a network, its parameters, and these with refitted rows, put together step by step."""
    dataset, net = load_dataset(config), personal.load_checkpoint()[0]
    assert len(dataset.dropped.user) > 50  # of which nothing is refitted
    disclosed = read_decisions(config, dataset).disclosed if masked else np.ones(dataset.num_interactions, bool)
    assert disclosed.all() != masked
    rows = Rows(net, dataset.part(disclosed), config)
    return dataset, net, net.values(), rows.refitted(dataset, rows.trained)


def test_refitted_rows_serve_and_both_results_are_told(config, tmp_path):
    evaluate(asked(config.replace(personal="False")))
    record = json.loads((tmp_path / "eval_ncf.json").read_text())
    assert record["personal"] is False and list(record) == KEYS
    for masked in (False, True):
        dataset, net, values, new = parameters(config, masked)
        candidates = evaluation_candidates(dataset, "test", config)
        expected, rank = {}, {}
        for name, chosen in (("trained", values), ("personal", new)):
            net.set_values(chosen)
            scores = score(net, candidates, 100_000)
            expected[name], rank[name] = all_metrics(scores, 10), ranks(scores)
        assert (rank["trained"] != rank["personal"]).any()
        name = "ifrqe" if masked else "ncf"
        evaluate(asked(config.replace(masked=masked)))
        record = json.loads((tmp_path / f"eval_{name}.json").read_text())
        assert record["personal"] is True and list(record) == [*KEYS[:14], *BOTH, *KEYS[14:]]
        assert {key: record[key] for key in expected["personal"]} == pytest.approx(expected["personal"], rel=1e-6)
        for key in BOTH:
            metric, rows = key.split("_")
            assert record[key] == expected[rows][metric]
        assert pd.read_csv(tmp_path / f"eval_{name}_users.csv")["rank"].tolist() == rank["personal"].tolist()
        assert record["reward"] == pytest.approx(-record["loss"] - record["willingness_weight"] * record["wv"])


def test_what_is_vetoed_is_no_interaction_and_no_negative(config, monkeypatch):
    variant = Variant(config, True)
    dataset = load_dataset(config)
    decisions = read_decisions(config, dataset)
    monkeypatch.setattr(personal, "trained_on", lambda *a: dataset.part(decisions.disclosed))  # would notice other items
    seen, refitted = {}, Rows.refitted
    monkeypatch.setattr(Rows, "refitted", lambda rows, own, start: seen.update(
        own=own, trained=rows.length > 0) or refitted(rows, own, start))

    def scores(changed):
        items = dataset.item.copy()
        items[changed] = dataset.item[changed[::-1]]
        found = load_serving(dataclasses.replace(dataset, item=items), variant, True).net
        return score(found, np.tile(np.arange(dataset.num_items, dtype=np.int32), (dataset.num_users, 1)), 100_000)
    found = scores(np.zeros(0, int))
    own, trained = seen.values()
    assert own.test is None and np.array_equal(own.user, dataset.user) and np.array_equal(own.item, dataset.item)
    assert trained.tolist() == np.isin(np.arange(60), dataset.user[decisions.disclosed]).tolist()
    vetoed = dataset.dropped
    assert (own.places(vetoed.user, vetoed.item) == -1).all() and len(vetoed.user) > 50
    assert own.history_pairs().contains(vetoed.user, vetoed.item).all()  # what negatives are drawn outside of
    assert not np.allclose(scores(np.flatnonzero(~decisions.disclosed)), found)


@pytest.mark.parametrize("gained, lost, chosen", [(9, 1, True), (5, 0, True), (4, 0, False), (9, 4, False), (0, 9, False),
                                                  (0, 0, False)])
def test_refitted_rows_serve_where_they_are_clearly_better(config, monkeypatch, caplog, gained, lost, chosen):
    dataset = load_dataset(config)
    before, after = np.full((2, dataset.num_users), 3)
    before[:gained], after[gained:gained + lost] = config.top_k, config.top_k  # no hits
    found = iter((before, after))
    monkeypatch.setattr(personal, "score", lambda *a: None)
    monkeypatch.setattr(personal.metrics, "ranks", lambda scores: next(found))
    values = build(dataset, config).values()
    with caplog.at_level("INFO", logger="ifrqe"):
        assert prefers_personal(values, values, dataset, Variant(config)) is chosen
    assert f"NCF serves its users with {'personal' if chosen else 'trained'} rows" in caplog.text


def test_auto_looks_at_validation_items_only(config, monkeypatch):
    dataset, asked_for, variant = load_dataset(config), [], Variant(config)
    others = np.roll(dataset.test, 1)  # some of which their user has had already
    other = dataclasses.replace(dataset, test=others)

    def candidates(data, held_out, config):  # drawn outside all that a user has, test items too
        asked_for.append((held_out, data.test is others))
        return evaluation_candidates(dataset, held_out, config)
    monkeypatch.setattr(personal, "evaluation_candidates", candidates)
    monkeypatch.setattr(personal, "prefers_personal", prefers_personal)
    monkeypatch.setattr(personal, "CLEARLY", 0)
    _, net, values, new = parameters(config, False)
    for before, after in ((values, new), (new, values)):
        monkeypatch.setattr(Rows, "refitted", lambda *a, after=after: after)
        monkeypatch.setattr(personal, "load_checkpoint", lambda *a, before=before: (net.set_values(before) or net, {}))
        found = [load_serving(data, variant) for data in (dataset, other)]
        assert found[0].personal == found[1].personal
        serves = after if found[0].personal else before
        assert np.array_equal(NCF.user_rows(found[1].net.values()), NCF.user_rows(serves))
        asked_for.append(found[0].personal)
    one = [("validation", False), ("validation", True)]
    assert asked_for in ([*one, True, *one, False], [*one, False, *one, True])  # the same rows whatever they are called


def test_no_file_holds_refitted_rows_and_the_report_names_what_serves(config, tmp_path, monkeypatch):
    rows, checkpoints, refitted = [], sorted(Path(config.checkpoint_path).iterdir()), Rows.refitted
    before = [digest(path) for path in checkpoints]

    def kept(*arguments):
        rows.append(NCF.user_rows(found := refitted(*arguments)))
        return found
    monkeypatch.setattr(Rows, "refitted", kept)
    for masked, choice in ((False, False), (True, True)):
        monkeypatch.setattr(personal, "prefers_personal", lambda *a, choice=choice: choice)
        evaluate_and_report(config.replace(masked=masked))
    assert len(rows) == 3  # two evaluations, and the lists of the report, where personal rows serve
    assert sorted(Path(config.checkpoint_path).iterdir()) == checkpoints and [digest(path) for path in checkpoints] == before
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"eval_ncf.json", "eval_ifrqe_users.csv", "report.html", "eval.log"}
    for path in files:
        content = path.read_bytes()
        for row in np.concatenate(rows):
            assert row[:16].tobytes() not in content and row[16:].tobytes() not in content
            assert f"{row[0]:.5f}".encode() not in content.replace(b"-", b"") or abs(row[0]) < 1, path
    text = words(config)
    assert "user rows | trained | personal |" in text and "hr@10_personal |" in text and "refitted on a user's" in text


def record(rows, both=True, **more):
    """Of an evaluation."""
    metrics = {"hr@10": 0.5, "ndcg@10": 0.25, **({key: 0.5 + k / 8 for k, key in enumerate(BOTH)} if both else {})}
    return {"model": "NCF", "dataset": "tiny", "seed": 1, "personal": rows == "personal", "num_users": 4, **metrics,
            "loss": 1.0, "training": {"seed": 1}, **more}


def test_the_table_says_which_rows_serve():
    plain, masked = record("trained"), record("personal", model="IFRQE")
    assert not_comparable(plain, masked) == "" and rankings(plain) == ["hr@10", "ndcg@10"]
    rows = comparison_rows(plain, masked)[0]
    assert rows[0] == ("user rows", "trained", "personal", "") and [row[0] for row in rows[3:7]] == BOTH
    lines = str(comparison_table(plain, masked)).splitlines()
    assert lines[5].split() == ["user", "rows", "trained", "personal"]
    assert [line.split()[0] for line in lines[6:12]] == ["hr@10", "ndcg@10", *BOTH]
    alone = record("trained", both=False)
    assert [[row[0] for row in comparison_rows(alone, other)[0]] for other in (masked, alone)] == [
        ["user rows", "hr@10", "ndcg@10", "loss"], ["hr@10", "ndcg@10", "loss"]]


def test_recommendations_are_those_of_the_rows_that_serve(config, capsys):
    dataset, net, _, new = parameters(config, True)
    net.set_values(new)
    (items, _), = top_items(net, np.array([6]), dataset, 10, 100_000)

    def shown(rows, form):
        with log_to(config.output_path, "run_eval.log", "normal", form == "json"):
            answer(config.replace(masked=True, personal=rows, recommend=str(dataset.user_ids[6]), format=form))
        return capsys.readouterr().out
    for rows in ("auto", "False"):
        found = json.loads(shown(rows, "json"))
        same = [row["item_id"] for row in found["users"][0]["items"]] == dataset.item_ids[items].tolist()
        assert found["personal"] is (rows == "auto") and same is (rows == "auto")
    assert "IFRQE with personal rows recommends" in shown("auto", "table")


def test_without_decisions_it_is_not_known_what_was_vetoed(config):
    dataset = load_dataset(config)
    with refused("disclosure.csv", "preprocess.py"):
        load_serving(dataset, Variant(config.replace(decisions_path="nowhere"), True))
