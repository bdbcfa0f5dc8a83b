"""What the report says of interactions and their genres."""
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.common.variant import asked
from src.report.interactions import KINDS, disclosed, kinds
from src.report.results import read_results
from tests.report.reading import simulated_results


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
    popularity = np.bincount(results.dataset.item, minlength=100)
    chosen = (np.argsort(np.argsort(-popularity, kind="stable")) < 10)[results.dataset.item] & (results.dataset.item < 30)
    row = next(row for row in best["rows"] if row[0] == "Good, the most popular tenth")
    influence = 1e3 * results.decisions.influence[chosen]
    assert row[1] == str(chosen.sum())
    assert row[2] == f"{influence.mean():+.2f} ± {influence.std(ddof=1) / chosen.sum() ** 0.5:.2f}"
    assert row[4] == f"{100 * results.decisions.disclosed[chosen].mean():.0f}%"


@pytest.mark.parametrize("genre", ["{x}", "A$^$", "$5 to $10", "<img src=x onerror=alert(1)>", "two\nlines", "*"])
def test_genres_are_text_too(copied, genre):
    path = Path(copied.data_path) / "simulation" / "movies.csv"
    movies = pd.read_csv(path)
    movies["genres"] = genre
    movies.to_csv(path, index=False)
    path.with_name("dataset.json").unlink()
    text = "".join(map(str, disclosed(read_results(asked(copied)), copied)))
    assert " ".join(genre.split()) in text


def test_many_genres_are_shown_together(finished_run):
    results = simulated_results(finished_run, 50, 40, 100)
    results.catalogue["genres"] = [f"own {k}" + "|shared" * (k % 2) for k in range(100)]
    table = disclosed(results, finished_run)[1]
    assert len(table["rows"]) == 31 and {row[0] for row in table["rows"]} > {"shared", "(others)"}
