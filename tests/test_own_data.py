"""The page on data of one's own: its commands, run one after the other as they stand there."""
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
GENRES = ["Horror, Thriller", "Drama", "Comedy, Drama", "Comedy"]


def export(rng, people, rows):
    """DataFrame of what `people` watched, `rows` each of 300 items, at different times."""
    items = [f"n{item}" for _ in people for item in rng.permutation(300)[:rows]]
    times = pd.Timestamp("2026-11-02") + pd.to_timedelta(rng.permutation(len(items)) * 60, "s")
    return pd.DataFrame({"user_id": np.repeat(people, rows), "item_id": items, "timestamp": times})


@pytest.mark.slow
def test_the_commands_of_the_page_run_as_they_stand(tmp_path):
    page = (ROOT / "docs" / "data.md").read_text()
    page = page[page.index("## Your own data"):page.index("## Datasets")]
    blocks = dict(reversed(part) for part in re.findall(r"```(yaml|bash)\n(.*?)```", page, re.S))
    commands = [text for text, kind in blocks.items() if kind == "bash"]
    assert len(commands) == 7
    (tmp_path / "shop.yaml").write_text(next(text for text, kind in blocks.items() if kind == "yaml"))
    for name in ("scripts", "train.py", "preprocess.py", "eval.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "exports").mkdir()
    rng, people = np.random.default_rng(1), ["ann", "ben", *(f"u{k}" for k in range(40))]
    first = export(rng, people, 14)
    first.to_csv(tmp_path / "exports" / "watched.csv", index=False)
    later = export(rng, people, 3).assign(timestamp=lambda t: t.timestamp + pd.Timedelta("1D"))
    both = pd.concat([first, later]).drop_duplicates(["user_id", "item_id"])
    both.to_csv(tmp_path / "exports" / "tuesday.csv", index=False)
    later[later.user_id == "u7"].to_csv(tmp_path / "monday.csv", index=False)
    export(rng, ["zoe"], 12).to_csv(tmp_path / "new.csv", index=False)
    catalogue = pd.DataFrame({"item_id": [f"n{k}" for k in range(300)], "title": [f"Film {k}" for k in range(300)],
                              "genres": [GENRES[k % 4] for k in range(300)]})
    catalogue.to_csv(tmp_path / "exports" / "catalogue.csv", index=False)
    (tmp_path / "rules.csv").write_text("user_id,genre,unwillingness\nann,Horror,1\n,Drama,0.3\n")
    environment = {**os.environ, "PYTHON": sys.executable}
    said, masked = [], None
    for text in commands:
        if takes := "--withdraw" in text:
            taken = masked[masked.user_id == "ben"].item_id.iloc[0]
            (tmp_path / "request.csv").write_text(f"user_id,item_id\nben,{taken}\n")
        process = subprocess.run(["bash", "-e", "-c", text.replace("python ", f"{sys.executable} ")], cwd=tmp_path,
                                 env=environment, capture_output=True, text=True)
        assert process.returncode == 0, text + process.stdout + process.stderr
        said.append(process.stdout)
        masked = pd.read_csv(tmp_path / "data" / "masked_shop" / "ratings.csv")
        left = masked[masked.user_id == "ann"].merge(catalogue, on="item_id")
        assert not left.genres.str.contains("Horror").any()
        assert not takes or not ((masked.user_id == "ben") & (masked.item_id == taken)).any()
    assert "zoe" in said[3] and "update 1: " in said[3]
    assert "is done again, for this has changed: inputs ratings.csv" in said[6]
    assert (tmp_path / "output" / "receipt_ann.html").is_file()
