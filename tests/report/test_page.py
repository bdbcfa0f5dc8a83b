"""The report: what it says of a finished run, what it leaves out, and how large it gets. Browsers: test_browser.py."""
import base64
import dataclasses
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eval import evaluate_and_report
from eval import run as answer
from src.common.errors import InputError
from src.common.terminal import markdown_text
from src.common.variant import asked
from src.dataset import Dataset, load_dataset
from src.evaluation.explain import Rule
from src.game.decisions import read_decisions
from src.game.preprocess import preprocess
from src.report import users as report_users
from src.report.interactions import KINDS, disclosed, kinds
from src.report.page import HTML, MARKDOWN, write_report
from src.report.results import Evaluated, read_results
from src.report.sections import limits
from src.report.users import sample_users, users_page
from src.training.train import train


@pytest.fixture
def copied(finished_run, tmp_path):
    """Settings of a finished run in a copy that a test may change."""
    root = Path(finished_run.output_path).parent
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    return finished_run.replace(**{f"{name}_path": str(tmp_path / name) for name in ("data", "output", "checkpoint")})


def read(config, name=HTML):
    return (Path(config.output_path) / name).read_text()


class Page(HTMLParser):
    """Tags, attributes, and text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.inside, self.data = [], [], None, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside is None:
            self.text.append(data)
        elif self.tags[-1][1].get("id") == "data":
            self.data += data


def test_it_is_one_file_without_a_network(finished_run):
    page = Page(read(finished_run))
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object") or attributes.get("href") == "data:,"
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert "@import" not in read(finished_run) and not re.search(r"url\((?!#)", read(finished_run))


def test_it_has_every_section_and_its_markdown_twin_the_same_figures(finished_run):
    page, markdown = Page(read(finished_run)), read(finished_run, MARKDOWN)
    for title in ("In short", "Both models", "What was run", "Training", "Influences", "What is disclosed",
                  "Kinds of interaction", "Who gains, who pays", "What these figures do not show"):
        assert title in page.text and f"## {title}\n" in markdown
    record = json.loads((Path(finished_run.output_path) / "eval_ifrqe.json").read_text())
    for key in ("hr@10", "ndcg@10", "loss", "wv", "reward"):
        assert f"{record[key]:.4f}" in page.text and f" {record[key]:.4f} |" in markdown
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) == 8 and all(len(attributes["aria-label"]) > 40 for attributes in pictures)
    assert all(f"*{attributes['aria-label']}*" in markdown for attributes in pictures)
    assert not re.search(r"</?(table|svg|div|p)\b", markdown)


def test_the_intervals_are_paired_over_users(finished_run):
    output = Path(finished_run.output_path)
    plain, masked = (pd.read_csv(output / f"eval_{name}_users.csv") for name in ("ncf", "ifrqe"))
    change = (masked["rank"] < 10).astype(float) - (plain["rank"] < 10)
    half = 1.96 * change.std() / 60 ** 0.5
    line = next(line for line in read(finished_run, MARKDOWN).splitlines() if line.startswith("| hr@10"))
    assert f"95% interval {change.mean() - half:+.3f} to {change.mean() + half:+.3f}" in read(finished_run, MARKDOWN)
    assert f"{change.mean():+.4f}" in line and f"{change.mean() - half:+.4f} to {change.mean() + half:+.4f}" in line


def test_results_by_user_are_those_of_the_evaluation(finished_run):
    output = Path(finished_run.output_path)
    for name in ("ncf", "ifrqe"):
        users = pd.read_csv(output / f"eval_{name}_users.csv")
        record = json.loads((output / f"eval_{name}.json").read_text())
        assert users.user_id.tolist() == list(range(1, 61))
        assert (users["rank"] < 10).mean() == pytest.approx(record["hr@10"])
        assert users[["loss", "pos_loss"]].mean().to_list() == pytest.approx([record["loss"], record["pos_loss"]])


def test_it_is_skipped_until_something_changes(copied):
    path = Path(copied.output_path) / HTML
    os.utime(path, (1, 1))
    write_report(asked(copied))
    assert path.stat().st_mtime == 1
    write_report(asked(copied.replace(report_users=3)))
    assert path.stat().st_mtime > 1 and len(data_of(copied)["users"]) == 3


def data_of(config):
    return json.loads(Page(read(config)).data)


def test_what_belongs_to_another_mask_is_left_out(copied):
    preprocess(copied.replace(wv_budget=0.3))
    evaluate_and_report(copied)
    text = read(copied, MARKDOWN)
    assert "eval_ifrqe.json (of another mask" in text and "There is no comparison" in text and "| IFRQE |" not in text
    assert "30% of the unwillingness" in text and "budget | 30% of total_wv" in text
    assert list(data_of(copied)["users"][0]["lists"]) == ["NCF"]

    train(asked(copied.replace(masked=True)))
    evaluate_and_report(copied.replace(masked=True))
    assert "There is no comparison" not in read(copied, MARKDOWN) and "another mask" not in read(copied, MARKDOWN)


def test_what_belongs_to_another_model_or_dataset_is_left_out(copied):
    train(asked(copied.replace(train_epochs=1)))
    results = read_results(asked(copied))
    assert [name for name, found in results.models.items() if found.training] == ["IFRQE"]
    assert "train_ncf.json (of another model" in results.run.left_out[0]
    for name in ("train_ifrqe.json", "eval_ifrqe.json"):
        path = Path(copied.output_path) / name
        path.write_text(path.read_text().replace('"simulation"', '"elsewhere"'))
    results = read_results(asked(copied))
    assert list(results.models) == ["NCF"] and results.models["NCF"].training is None
    assert {line.split(" (")[0] for line in results.run.left_out} == {"train_ncf.json", "train_ifrqe.json",
                                                                       "eval_ifrqe.json", "recommendations of NCF"}


def test_the_plain_model_alone_has_a_report(copied):
    for name in ("disclosure.csv", "preprocess.json", "eval_ifrqe.json", "train_ifrqe.json"):
        (Path(copied.output_path) / name).unlink()
    evaluate_and_report(copied.replace(overwrite=True))
    text = read(copied, MARKDOWN)
    assert "# simulation: NCF\n" in text and "There is no comparison" in text and "Who gains" not in text
    assert not Page(read(copied)).data


def test_a_baseline_has_a_report_without_influences(copied):
    preprocess(copied.replace(strategy="threshold"))
    train(asked(copied.replace(masked=True)))
    evaluate_and_report(copied)
    evaluate_and_report(copied.replace(masked=True))
    text, data = read(copied, MARKDOWN), data_of(copied)
    assert "## Influences" not in text and "## Kinds" not in text and "A baseline decided" in text
    assert data["played"] is False and data["prices"] is None and "influence" not in data["users"][0]


def test_the_trade_off_study_of_the_same_dataset_is_shown(copied):
    rows = [{"strategy": s, "budget": b, "seed": k, "hr@10": 0.5 + b / 10 + k / 100, "ndcg@10": 0.3, "loss": 0.13,
             "pos_loss": 1.2, "wv": 9.0 * b, "wv_share": b, "disclosed_share": b, "willingness_weight": 0.01, "reward": -0.3}
            for s in ("none", "threshold", "ifrqe", "mine") for b in (0.3, 0.6) for k in (1, 2)]
    output = Path(copied.output_path)
    pd.DataFrame(rows).to_csv(output / "tradeoff.csv", index=False)
    write_report(asked(copied))
    assert "tradeoff.csv (of another dataset, or of an unfinished study)" in read(copied, MARKDOWN)
    from src.common.stage import Stage
    inputs = [Path(copied.data_path) / "simulation" / name for name in ("ratings.csv", "unwillingness.csv")]
    Stage("tradeoff", copied, ("tradeoff",), inputs, [output / "tradeoff.csv"]).finish()
    write_report(asked(copied.replace(overwrite=True)))
    text = read(copied, MARKDOWN)
    assert "## The trade-off" in text and "| threshold | 60% | 0.575 | 0.300 | 0.1300 | -0.3000 |" in text
    assert sum(tag == "svg" for tag, _ in Page(read(copied)).tags) == 10
    inputs[1].write_text(inputs[1].read_text().replace("0.5", "0.6"))  # a dataset of the same name
    assert read_results(asked(copied)).study is None


def test_titles_are_text_wherever_they_stand(copied):
    path = Path(copied.data_path) / "simulation" / "movies.csv"
    movies = pd.read_csv(path)
    movies["title"] = [f"</script><b>{k}|" for k in range(len(movies))]
    movies["genres"] = "<i>|Drama & War"
    movies.to_csv(path, index=False)
    evaluate_and_report(copied)
    html, markdown = read(copied), read(copied, MARKDOWN)
    assert "<b>" not in html and "<i>" not in html and html.count("</script>") == 2
    assert "&lt;i&gt;" in html and data_of(copied)["items"][0][1].startswith("</script><b>")
    assert all(line.count("|") - line.count("\\|") in (0, 3, 4, 5, 6, 7, 8, 9) for line in markdown.splitlines())


def test_the_page_computes_with_the_numbers_of_disclosure_csv(finished_run):
    dataset, data = load_dataset(finished_run), data_of(finished_run)
    decisions = read_decisions(finished_run, dataset)
    assert len(data["users"]) == 40 and data["num_users"] == 60
    for user in data["users"][:5]:
        mine = dataset.user == int(user["id"]) - 1
        for name, values, kind in (("unwillingness", decisions.unwillingness, "<f8"),
                                   ("expected", decisions.expected, "<f8"),
                                   ("influence", decisions.influence.astype("f4"), "<f4"),
                                   ("disclosed", decisions.disclosed, "<u1")):
            assert np.array_equal(np.frombuffer(base64.b64decode(user[name]), kind), values[mine])
        items = np.frombuffer(base64.b64decode(user["items"]), "<u4")
        assert [int(data["items"][i][0]) for i in items] == dataset.item_ids[dataset.item[mine]].tolist()
    rule = Rule(decisions)
    assert rule.agreement(decisions) == data["agreement"] == 1.0
    assert len(data["prices"]) == 101 and data["prices"][60] == rule.weight
    assert data["veto"] is True and data["share"] <= 0.6


def test_what_is_vetoed_is_in_the_report_only_if_asked_for(cpu, copied):
    dataset = load_dataset(copied)
    decisions = read_decisions(copied, dataset)
    vetoed = decisions.vetoed
    assert vetoed.sum() > 50
    for shown in (True, False):
        write_report(asked(copied.replace(report_vetoed=shown)))
        page, data = read(copied), data_of(copied)
        for user in data["users"]:
            mine = (dataset.user == int(user["id"]) - 1) & (shown | ~vetoed)
            items = [data["items"][i][0] for i in np.frombuffer(base64.b64decode(user["items"]), "<u4")]
            assert items == list(map(str, dataset.item_ids[dataset.item[mine]]))
            for column, kind in (("unwillingness", "<f8"), ("expected", "<f8"), ("disclosed", "<u1"), ("influence", "<f4")):
                assert len(np.frombuffer(base64.b64decode(user[column]), kind)) == mine.sum()
            assert shown or 1.0 not in np.frombuffer(base64.b64decode(user["unwillingness"]), "<f8")
        assert ("vetoed is left out here" in page) != shown


def test_paths_and_addresses_stay_at_home(cpu, copied, tmp_path):
    name = "stage settings of the run"
    for path in Path(copied.output_path).glob("settings_*.yaml"):
        text = path.read_text().replace("mirror: https://files.grouplens.org", "mirror: https://me:secret@files.example.org")
        path.write_text(text.replace("train_url: ''", "train_url: obs://bucket/secret"))
    write_report(asked(copied.replace(overwrite=True)))
    for kind in (HTML, MARKDOWN):
        text = read(copied, kind)
        assert "secret" not in text and str(tmp_path) not in text and "/tmp" not in text and "obs:" not in text, name


def simulated_results(finished_run, users, length, items):
    """Results with many users whose histories are long: only what users_page looks at."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(users, dtype=np.int32), length)
    item = np.concatenate([rng.permutation(items)[:length] for _ in range(users)]).astype(np.int32)
    dataset = Dataset("large", user, item, rng.integers(0, items, users).astype(np.int32),
                      rng.integers(0, items, users).astype(np.int32), np.arange(1, users + 1), np.arange(1, items + 1),
                      np.zeros((users, 2), int), np.arange(len(user)))
    results = read_results(asked(finished_run))
    n = len(user)
    results.dataset = dataset
    results.models = {"NCF": Evaluated(results.models["NCF"].record, pd.DataFrame({"rank": np.zeros(users, int)}))}
    results.catalogue = pd.DataFrame({"title": [f"A Title of the Usual Length {k} (1999)" for k in range(items)],
                                      "genres": "Drama|Romance|War"})
    for name in ("influence", "expected"):
        setattr(results.decisions, name, rng.normal(0, 0.01, n))
    results.decisions.unwillingness, results.decisions.disclosed = rng.random(n), rng.random(n) < 0.6
    return results


def test_it_stays_small_whatever_the_data(cpu, finished_run, monkeypatch):
    results = simulated_results(finished_run, 3000, 300, 4000)
    results.models["NCF"].recommends = True
    monkeypatch.setattr(report_users, "load_model", lambda *_: None)
    monkeypatch.setattr(report_users, "top_items", lambda net, users, *_: [(np.arange(10), np.full(10, 0.5))] * len(users))
    page = users_page(results, finished_run.replace(report_users=1000))
    assert len(page["users"]) == 200  # of 300 interactions each
    assert 1e6 < len(json.dumps(page)) < 3.5e6
    chosen = sample_users(results.dataset, finished_run.replace(report_users=1000))
    assert [int(user["id"]) for user in page["users"]] == (chosen + 1).tolist() == sorted(set(chosen + 1))
    assert users_page(results, finished_run.replace(report_users=0)) is None


def test_kinds_are_ranked_by_their_mean_influence(finished_run):
    results = simulated_results(finished_run, 50, 40, 100)
    results.catalogue["genres"] = ["Good" if k < 30 else "Bad|Dull" if k < 60 else "" for k in range(100)]
    value = np.where(results.dataset.item < 30, 0.5, np.where(results.dataset.item < 60, -0.5, 0.0))
    results.decisions.influence = value + 1e-3 * results.decisions.influence
    best, worst, said = kinds(results, finished_run)
    names = [row[0].split(",")[0] for row in best["rows"]]
    assert names[0] == "Good" and {row[0].split(",")[0] for row in worst["rows"][:2]} == {"Bad", "Dull"}
    assert len(best["rows"]) <= KINDS and "(none listed)" in names
    assert sum(int(row[1]) for row in best["rows"] if row[0].startswith("Good")) == (results.dataset.item < 30).sum()
    assert best["rows"][0][2].startswith("+500") or best["rows"][0][2].startswith("+499")


def test_several_seeds_have_reports_of_their_own(copied):
    answer(copied.replace(seeds=[1], checkpoint_path=str(link_seed(copied))))
    assert (Path(copied.output_path) / "seed_1" / HTML).exists()
    record = json.loads((Path(copied.output_path) / "eval_ncf_seeds.json").read_text())
    assert record["seeds"] == [1]
    assert "NCF" in read_results(asked(copied)).models  # the single run's own record stays


def link_seed(config):
    """A folder of checkpoints that has those of the run as seed 1."""
    folder = Path(config.checkpoint_path)
    shutil.copytree(folder, folder / "seed_1")
    return folder


def test_both_rewards_are_at_one_price(copied):
    """The plain model was evaluated at the price of an earlier mask."""
    before = json.loads((Path(copied.output_path) / "eval_ncf.json").read_text())
    preprocess(copied.replace(willingness_weight=0.2))
    train(asked(copied.replace(masked=True)))
    evaluate_and_report(copied.replace(masked=True))
    line = next(line for line in read(copied, MARKDOWN).splitlines() if line.startswith("| reward"))
    assert f"| {-before['loss'] - 0.2 * before['total_wv']:.4f} |" in line and "| willingness_weight | 0.2 | 0.2 | +0 |" in \
        read(copied, MARKDOWN)


@pytest.mark.parametrize("masked, kept", [(True, "IFRQE"), (False, "NCF")])
def test_lists_of_other_lengths_are_not_compared(copied, masked, kept):
    evaluate_and_report(copied.replace(masked=masked, top_k=5))
    text = read(copied, MARKDOWN)
    assert f"# simulation: {kept}\n" in text and "top_k " in text and "hr@5" in text and "hr@10" not in text


def test_recommendations_are_those_of_the_evaluated_model(copied):
    train(asked(copied.replace(train_epochs=2, learning_rate=0.02)))
    write_report(asked(copied))
    assert "recommendations of NCF (NCF.ckpt is not what was evaluated" in read(copied, MARKDOWN)
    assert list(data_of(copied)["users"][0]["lists"]) == ["IFRQE"]


def test_a_training_of_a_model_that_is_left_out_is_left_out(copied):
    preprocess(copied.replace(wv_budget=0.2))
    evaluate_and_report(copied)
    text = read(copied, MARKDOWN)
    assert "train_ifrqe.json (its model is not among the evaluated ones)" in text and "train IFRQE" not in text
    assert "; IFRQE from" not in text


def test_a_damaged_result_is_named(copied):
    (Path(copied.output_path) / "eval_ncf_users.csv").write_text("user_id\n1\n")
    with pytest.raises(InputError, match="eval_ncf_users.csv: lacks columns; remove it"):
        write_report(asked(copied))


def test_a_baseline_is_not_said_to_have_looked_at_anything(copied):
    preprocess(copied.replace(strategy="random", unwillingness="uniform"))
    text = " ".join(str(block) for block in limits(read_results(asked(copied)), copied))
    assert not any(word in text for word in ("validation", "Influences", "reward")) and "drawn at random: nobody" in text


@pytest.mark.parametrize("genre", ["{x}", "A$^$", "$5 to $10", "<img src=x onerror=alert(1)>", "two\nlines", "*"])
def test_genres_are_text_too(copied, genre):
    path = Path(copied.data_path) / "simulation" / "movies.csv"
    movies = pd.read_csv(path)
    movies["genres"] = genre
    movies.to_csv(path, index=False)
    text = "".join(map(str, disclosed(read_results(asked(copied)), copied)))
    assert " ".join(genre.split()) in text
    assert markdown_text("a\nb <i> | *") == "a b &lt;i> \\| \\*"


def test_many_genres_are_shown_together(finished_run):
    results = simulated_results(finished_run, 50, 40, 100)
    results.catalogue["genres"] = [f"own {k}" + "|shared" * (k % 2) for k in range(100)]
    table = disclosed(results, finished_run)[1]
    assert len(table["rows"]) == 31 and {row[0] for row in table["rows"]} > {"shared", "(others)"}


def test_large_ids_stay_what_they_are(finished_run):
    results = read_results(asked(finished_run))
    results.dataset = dataclasses.replace(results.dataset, user_ids=76561197960265729 + np.arange(60))
    for found in results.models.values():
        found.recommends = False  # no model is one of these users
    page = json.loads(json.dumps(users_page(results, finished_run)))
    assert {int(user["id"]) for user in page["users"]} <= set(results.dataset.user_ids.tolist())
