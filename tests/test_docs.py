"""What the documents name exists: functions, tests, files and options."""
import importlib
import re
from pathlib import Path

import pytest
import yaml

from src.config import load_config
from tests.test_pipeline import folders, script

ROOT = Path(__file__).resolve().parents[1]
MATHS = (ROOT / "docs" / "maths.md").read_text()
DOCUMENTS = ["README.md", "CHANGELOG.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
NAMED = sorted(set(re.findall(r"`((?:test_)?[a-z_]+)\.(?!html`)([A-Za-z_]+)`", MATHS)))


@pytest.mark.parametrize("module, name", [pair for pair in NAMED if pair[0] != "dataset"])
def test_the_walk_through_the_maths_names_what_there_is(module, name):
    if module.startswith("test_"):
        assert any(re.search(rf"^def {name}\(", path.read_text(), re.M) for path in (ROOT / "tests").rglob(f"{module}.py"))
    else:
        files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "src").rglob(f"{module}.py")]
        assert any(hasattr(importlib.import_module(".".join(file.parts)), name) for file in files)


def test_it_names_much():
    assert len(NAMED) > 40


def anchors(path):
    """The names of the headings of a Markdown file, as links to them have it."""
    return {re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).strip().replace(" ", "-")
            for line in path.read_text().splitlines() if line.startswith("#")}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_pictures_are_there(document):
    path = ROOT / document
    text = path.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("http"):
            file, _, anchor = target.partition("#")
            other = (path.parent / file) if file else path
            assert other.exists(), target
            assert not anchor or anchor in anchors(other), target


def test_pictures_are_small():
    for path in (ROOT / "docs").glob("*.png"):
        assert path.stat().st_size < 250_000, path


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name != "CHANGELOG.md"])
def test_options_on_the_command_lines_exist(document):
    # --flag: any; the others are not of the program itself
    known = set(load_config([]).as_dict()) | {"config_path", "help", "flag", "portable", "dev", "data", "check", "quick"}
    for study in (ROOT / "studies").glob("*.py"):
        if "\nOWN = " in study.read_text():  # others may be programs of another Python
            known |= set(importlib.import_module(f"studies.{study.stem}").OWN)
    named = set(re.findall(r"(?<![\w-])--([a-z_]+)", (ROOT / document).read_text()))
    assert not named - known
    assert document != "README.md" or named > {"masked", "recommend", "explain_user"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_of_a_user_it_says_they(document):
    text = (ROOT / document).read_text().replace("She's the One", "")  # a film
    assert not re.findall(r"(?<!\w)(?:she|her|hers|herself)(?!\w)", text, re.I)


def test_the_citation_names_the_paper_and_this_version():
    from src import __version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__ and f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
    paper = citation["preferred-citation"]
    assert paper["title"].startswith("Would You Like Your Data to Be Trained?") and len(paper["authors"]) == 4
    assert paper["year"] == 2024


# Of the README's example a run elsewhere may differ so much, in either column. Runs on one machine by the C step and by the
# graph, whose steps agree to 1e-5, differ by up to half of it: training amplifies last bits, in which processors differ.
TOLERANCE = {"num_interactions": 20, "hr@10": 0.02, "ndcg@10": 0.01, "loss": 0.004, "pos_loss": 0.06, "wv": 0.005,
             "willingness_weight": 0.0001, "auc": 0.005, "reward": 0.005, "spent_wv": 1e-4, "total_wv": 1e-4}


def comparison(text):
    """By name of a row both models' values in the table that run_all.sh prints, the last in a text."""
    table = text[text.rindex("test items, plain against masked"):]
    return {name: [float(value.replace(",", "")) for value in values] for name, *values in
            re.findall(r"^(\S+) +([\d.,-]+) +([\d.,-]+) +[+-]\S+$", table, re.M)}


@pytest.mark.slow
def test_the_readmes_example_is_what_its_command_prints(tmp_path):
    said = comparison((ROOT / "README.md").read_text())
    process = script("run_all.sh", *folders(tmp_path))
    assert process.returncode == 0, process.stderr
    found = comparison(process.stdout)
    assert set(said) == set(found) == set(TOLERANCE)
    assert said["num_interactions"][0] == found["num_interactions"][0]
    for name, values in said.items():
        assert found[name] == pytest.approx(values, abs=TOLERANCE[name]), name
