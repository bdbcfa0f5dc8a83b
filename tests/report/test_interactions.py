"""What the report says of interactions and their genres."""
from pathlib import Path

import pandas as pd
import pytest

from src.common.variant import asked
from src.report.interactions import disclosed
from src.report.results import read_results
from tests.report.reading import simulated_results


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
