"""Base models through the whole pipeline, models of one's own, and what is refused."""
import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from src.common.plugins import identity
from src.common.variant import Variant, asked
from src.config import load_config
from src.constants import MODELS
from src.dataset import load_dataset
from src.evaluation.evaluate import evaluate
from src.evaluation.explain import explain
from src.evaluation.newcomers import newcomers
from src.evaluation.recommend import recommend
from src.evaluation.withdraw import withdraw
from src.game.anchors import trained_model
from src.game.preprocess import preprocess
from src.network import GraphPairs, build
from src.training.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from src.training.train import train
from tests.report.reading import words
from tests.small import SMALL, refused

TINY = ["--num_factors", 3, "--num_neg", 2, "--num_eval_neg", 5, "--train_epochs", 2, "--top_k", 3, "--lazy_adam", "False",
        "--learning_rate", 0.05, "--unwillingness", "uniform"]
GUIDE = (Path(__file__).resolve().parents[1] / "docs" / "CONTRIBUTING.md").read_text()
MODEL, = (text for text in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if "class Model" in text)


@pytest.fixture
def own(tmp_path):
    """own(text) -> path of a file with it."""
    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(text)
        return path
    return write


@pytest.mark.parametrize("model", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("mf", "lightgcn")), "mine"])
def test_every_stage_runs_with_it(cpu, ratings, settings, tmp_path, own, caplog, monkeypatch, model):
    from eval import evaluate_and_report
    name = MODELS.get(model, model)
    config = settings("--model", own(MODEL) if model == "mine" else model, *TINY, "--personal", "auto",
                      "--instalments", ".5,1")
    monkeypatch.setattr("src.evaluation.personal.prefers_personal", lambda *_: True)
    monkeypatch.setattr("src.game.ask_first.FEW", 0)
    output = tmp_path / "output"
    caplog.set_level(logging.INFO, logger="ifrqe")
    preprocess(config.replace(strategy="ifrqe"))  # trains the plain model
    assert (tmp_path / "checkpoint" / f"{name}.ckpt").exists() and (output / f"train_{name.lower()}.json").exists()
    found = np.genfromtxt(output / "disclosure.csv", delimiter=",", names=True)
    assert np.isfinite(found["influence"]).all() and found["influence"].std() > 0
    people = tmp_path / "people.csv"
    people.write_text("user_id,item_id,timestamp\n" + "".join(f"99,{item},{item}\n" for item in (3, 4, 7, 8, 11)))
    preprocess(config.replace(strategy="ask-first"))
    newcomers(asked(config.replace(newcomers=str(people), strategy="ask-first")))
    record = json.loads((output / "preprocess.json").read_text())
    assert 0 < record["wv"] <= 0.6 * record["total_wv"] and record["model_settings"]["model"] == identity(config.model)
    train(asked(config.replace(masked=True)))
    evaluate(asked(config))
    evaluate_and_report(config.replace(masked=True))
    plain, masked = (json.loads((output / f"eval_{m}.json").read_text()) for m in (name.lower(), "ifrqe"))
    assert (plain["model"], masked["model"]) == (name, "IFRQE") and plain["training"]["model"] == identity(config.model)
    assert f"{name} on tiny" in caplog.text and f"{name} is trained on" in caplog.text and "NCF" not in caplog.text
    assert f" | {name} | IFRQE | change |" in words(config)
    assert "NCF" not in re.sub(r"[A-Za-z0-9+/=]{60,}", "", (output / "report.html").read_text())  # but in encoded pictures
    recommend(asked(config.replace(recommend="3")))
    explain(asked(config.replace(explain_user="3")))
    assert f"{name} with personal rows recommends" in caplog.text and "without the recommendations" not in caplog.text


def test_a_model_of_ones_own_is_known_by_what_its_file_holds(cpu, ratings, settings, tmp_path, own, caplog):
    file = Path(own(MODEL))
    train(asked(settings("--model", file, *TINY)))
    moved = shutil.copy(file, tmp_path / "data" / file.name)
    caplog.set_level(logging.INFO, logger="ifrqe")
    train(asked(settings("--model", moved, *TINY)))
    assert "done before" in caplog.text
    file.write_text(file.read_text() + "\n")
    for path, fault in ((moved, None), (file, "another version")):
        config = settings("--model", path, *TINY)
        dataset = load_dataset(config)
        if fault is None:
            load_checkpoint(asked(config).checkpoint, dataset, asked(config))
            request = tmp_path / "request.csv"
            request.write_text(f"user_id,item_id\n{dataset.user_ids[0]},{dataset.item_ids[dataset.item[0]]}\n")
            withdraw(asked(config.replace(withdraw=str(request))))
            assert load_dataset(config).num_interactions == dataset.num_interactions - 1
        else:
            with refused(file.name, fault):
                load_checkpoint(asked(config).checkpoint, dataset, asked(config))


@pytest.mark.parametrize("of_items", [False, True])
@pytest.mark.parametrize("model", [f"ncf {layers}" for layers in ("8", "8,4", "8,6,4,2")] + ["mf", "lightgcn"])
def test_rows_in_closed_form_are_those_of_automatic_differentiation(cpu, ratings, settings, monkeypatch, model, of_items):
    monkeypatch.setattr("src.ncf.BLOCK", 4)
    name, *layers = model.split()
    config = settings("--model", name, *(["--layers", *layers] if layers else []), "--num_factors", 3, "--embedding_std", 1)
    net = build(load_dataset(config), config)
    rng, values = np.random.default_rng(0), net.values()
    user, item = rng.integers(0, 12, 9).astype(np.int32), rng.integers(0, 20, 9).astype(np.int32)
    closed, by_graph = net.pairs(6, of_items), GraphPairs(net, 6, of_items)
    other = rng.normal(size=net.user_rows(values).shape).astype(np.float32)
    for change in (lambda rows: rows.at(values), *([] if of_items else [lambda rows: rows.take(other)])):
        for rows in (closed, by_graph):
            change(rows)
        for a, b, entry in zip(closed(user, item), by_graph(user, item), (None, closed.entry)):
            np.testing.assert_allclose(a if entry is None else a @ entry, b, rtol=1e-4, atol=1e-5)


def test_what_is_found_of_a_pair_of_ncf_does_not_depend_on_how_many_are_asked_about(cpu, ratings, settings):
    net = build(load_dataset(settings()), settings("--embedding_std", 1))
    rows, rng = net.pairs(1), np.random.default_rng(0)
    rows.at(net.values())
    user, item = rng.integers(0, 12, 5000).astype(np.int32), rng.integers(0, 20, 5000).astype(np.int32)
    whole = rows(user, item)
    for number in (1, 7, 100, 4097):
        for a, b in zip(rows(user[:number], item[:number]), whole):
            np.testing.assert_array_equal(a, b[:number])


@pytest.mark.parametrize("text, words", [
    ("class Model(:", "SyntaxError"), ("x = 1", "does not define Model"), ("class Model: pass", "TABLES"),
    ("from src.network import Network\nclass Model(Network): TABLES = ('a', 'b')", "TypeError"),
    (MODEL.replace(".reshape(g, n)", ""), "correct it"),
])
def test_an_unfit_file_is_named(cpu, ratings, settings, own, text, words):
    with refused("--model", "mine.py", words):
        train(asked(settings("--model", own(text), *TINY)))


@pytest.mark.parametrize("arguments, words", [
    (["--model", "bpr"], "--model bpr"), (["--model", "none.py"], "--model none.py"),
    (["--model", "mf", "--layers", "8,4"], "--layers"), (["--gcn_layers", "2"], "--gcn_layers 2"),
    (["--model", "lightgcn", "--solver", "lissa"], "--solver lissa"), (["--model", "NCF.py"], "NCF.py"),
    (["--model", "ifrqe.py"], "ifrqe.py")])
def test_what_does_not_go_together_is_refused(own, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    own(MODEL, "NCF.py"), own(MODEL, "ifrqe.py")  # names of other models
    with refused(words):
        load_config(arguments)


def test_a_checkpoint_of_another_base_model_is_refused(cpu, ratings, settings, tmp_path):
    config = settings(*SMALL)
    train(asked(config))
    path = tmp_path / "checkpoint" / "NCF.ckpt"
    values, info = read_checkpoint(path, "remove it")
    for key in ("model", "gcn_layers"):
        del info["settings"][key]
    save_checkpoint(path, {"": values}, info)  # of a version that had no other models
    assert load_checkpoint(path, load_dataset(config), Variant(config))[1]["settings"]["model"] == "ncf"
    assert trained_model(config) == path
    shutil.copy(path, path.with_name("MF.ckpt"))
    with refused("MF.ckpt", "model=ncf", "model=mf", "--model mf"):
        load_checkpoint(path.with_name("MF.ckpt"), load_dataset(config), Variant(settings("--model", "mf", *TINY)))
