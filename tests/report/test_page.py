"""The report as a whole: one file, when it is written, and that nothing in it leaks. Browsers: test_browser.py."""
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from eval import evaluate_and_report
from eval import run as answer
from src.common.variant import asked
from src.report.page import HTML, write_report
from src.report.results import read_results
from tests.report.reading import Page, data_of, read


def test_it_is_one_file_without_a_network(finished_run):
    page = Page(read(finished_run))
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object") or attributes.get("href") == "data:,"
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert "@import" not in read(finished_run) and not re.search(r"url\((?!#)", read(finished_run))


def test_it_has_every_section(finished_run):
    page = Page(read(finished_run))
    for title in ("In short", "Both models", "What was run", "Training", "Influences", "What is disclosed",
                  "Who gains, who pays", "What these figures do not show"):
        assert title in page.text
    record = json.loads((Path(finished_run.output_path) / "eval_ifrqe.json").read_text())
    for key in ("hr@10", "ndcg@10", "loss", "wv", "reward"):
        assert f"{record[key]:.4f}" in page.text
    labels = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert len(labels) == 5 and all(len(label) > 40 for label in labels)


def test_it_is_skipped_until_something_changes(copied):
    path = Path(copied.output_path) / HTML
    os.utime(path, (1, 1))
    write_report(asked(copied))
    assert path.stat().st_mtime == 1
    write_report(asked(copied.replace(report_users=3)))
    assert path.stat().st_mtime > 1 and len(data_of(copied)["users"]) == 3


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_one_that_cannot_be_made_is_a_warning(copied, monkeypatch, caplog, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it could not be imported
    write_report(asked(copied.replace(report_users=3)))
    warning, = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    path = Path(copied.output_path) / HTML
    assert warning.startswith(f"{path}: this report could not be made (ModuleNotFoundError: import of {package}")
    assert not path.exists()


def test_titles_are_text_wherever_they_stand(copied):
    path = Path(copied.data_path) / "simulation" / "movies.csv"
    movies = pd.read_csv(path)
    movies.assign(title="</script><b>|", genres="<i>|Drama & War").to_csv(path, index=False)
    path.with_name("dataset.json").unlink()
    evaluate_and_report(copied)
    html = read(copied)
    assert "<b>" not in html and "<i>" not in html and html.count("</script>") == 2
    assert "&lt;i&gt;" in html and data_of(copied)["items"][0][1].startswith("</script><b>")


def test_paths_and_addresses_stay_at_home(cpu, copied, tmp_path):
    for path in Path(copied.output_path).glob("settings_*.yaml"):
        text = path.read_text().replace("mirror: https://files.grouplens.org", "mirror: https://me:secret@files.example.org")
        path.write_text(text.replace("train_url: ''", "train_url: obs://bucket/secret"))
    write_report(asked(copied.replace(overwrite=True)))
    text = read(copied)
    assert "secret" not in text and str(tmp_path) not in text and "/tmp" not in text and "obs:" not in text


def test_several_seeds_have_reports_of_their_own(copied):
    folder = Path(copied.checkpoint_path)
    shutil.copytree(folder, folder / "seed_1")
    answer(copied.replace(seeds=[1]))
    assert (Path(copied.output_path) / "seed_1" / HTML).exists()
    record = json.loads((Path(copied.output_path) / "eval_ncf_seeds.json").read_text())
    assert record["seeds"] == [1]
    assert "NCF" in read_results(asked(copied)).models  # the single run's own record stays
