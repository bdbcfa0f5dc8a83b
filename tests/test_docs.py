"""What the documents name exists: functions, tests, files and options."""
import importlib
import re
from pathlib import Path

import pytest
import yaml

from src.config import load_config

ROOT = Path(__file__).resolve().parents[1]
MATHS, README = ((ROOT / name).read_text() for name in ("docs/maths.md", "README.md"))
NAMED = sorted(set(re.findall(r"`((?:test_)?[a-z_]+)\.(?!html`)([A-Za-z_]+)`", MATHS)))


@pytest.mark.parametrize("module, name", [pair for pair in NAMED if pair[0] != "dataset" or pair[1] == "training_groups"])
def test_the_walk_through_the_maths_names_what_there_is(module, name):
    if module.startswith("test_"):
        path, = (ROOT / "tests").rglob(f"{module}.py")
        assert re.search(rf"^def {name}\(", path.read_text(), re.M)
    else:
        files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "src").rglob(f"{module}.py")]
        assert any(hasattr(importlib.import_module(".".join(file.parts)), name) for file in files)


def test_it_names_much():
    assert len(NAMED) > 40


@pytest.mark.parametrize("document", ["README.md", "docs/maths.md", "docs/CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_and_pictures_are_there(document):
    path = ROOT / document
    text = path.read_text()
    anchors = {re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).strip().replace(" ", "-")
               for line in text.splitlines() if line.startswith("#")}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("http"):
            assert (path.parent / target.split("#")[0]).exists(), target


def test_pictures_are_small():
    for path in (ROOT / "docs").glob("*.png"):
        assert path.stat().st_size < 250_000, path


def test_options_on_the_command_lines_of_the_readme_exist():
    known = set(load_config([]).as_dict()) | {"config_path", "help", "flag", "portable"}  # --flag: any
    named = set(re.findall(r"(?<![\w-])--([a-z_]+)", README))
    assert named > {"masked", "recommend", "explain_user"} and not named - known


def test_the_citation_names_the_paper_and_this_version():
    from src import __version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__ and f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
    paper = citation["preferred-citation"]
    assert paper["title"].startswith("Would You Like Your Data to Be Trained?") and len(paper["authors"]) == 4
    assert paper["year"] == 2024
