"""Scaling: what is measured of each stage, and data of the shape of Yambda."""
import json

import numpy as np
import pytest

from benchmarks.large import STEP, write_yambda
from benchmarks.scaling import measured
from src.common.machine import peak_rss_mb

from .small import refused


def test_seconds_and_memory_of_a_process_and_the_log_of_one_that_fails(tmp_path):
    seconds, peak = measured(("-c", "import time; x = bytearray(600_000_000); time.sleep(.5); x[::4096] = x[::4096]"),
                             tmp_path / "x.log")
    assert .5 < seconds < 20 and 600 < peak < max(750, 1.2 * peak_rss_mb())  # a child begins with its parent's peak
    with refused(tmp_path / "x.log"):
        measured(("-c", "print('why'); raise SystemExit(1)"), tmp_path / "x.log")
    assert (tmp_path / "x.log").read_text() == "why\n"


def test_data_of_the_shape_of_yambda(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = [tmp_path / f"{k}.parquet" for k in range(3)]
    for path, seed in zip(paths, (1, 1, 2)):
        write_yambda(path, 40, 900, 9000, seed)
    table = parquet.read_table(paths[0]).to_pandas()
    assert {name: str(kind) for name, kind in table.dtypes.items()} == {
        "uid": "uint32", "timestamp": "uint32", "item_id": "uint32", "is_organic": "uint8"}
    assert len(table) == 9000 and table.uid.nunique() == 40 and not (table.timestamp % STEP).any()
    assert table[["uid", "timestamp"]].equals(table.sort_values(["uid", "timestamp"])[["uid", "timestamp"]])
    assert .05 < table.duplicated(["uid", "item_id"]).mean() < .5 and table.item_id.max() > 3 * table.item_id.nunique()
    counts = np.sort(table.item_id.value_counts())[::-1]
    assert counts[:9].mean() > 4 * counts.mean()
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["simulation"])
def test_the_table_of_stages(dataset, tmp_path):
    stages = "data,mask,retrain,evaluate-masked"
    measured(("-m", "benchmarks.scaling", "--dataset", dataset, "--output_path", tmp_path, "--scaling_sizes", ".01,.02",
              "--scaling_stages", stages, "--strategy", "threshold", "--train_epochs", 1, "--num_eval_neg", 30),
             tmp_path / "x.log")
    rows = json.loads((tmp_path / "scaling.json").read_text())["sizes"]
    assert [(row["millions"], row["stage"]) for row in rows] == [(m, s) for m in (.01, .02) for s in stages.split(",")]
    assert all(row["seconds"] > 0 and row["peak_mb"] > 50 for row in rows)
