"""Large tables as CSV and as Parquet."""
import sys

import numpy as np
import pandas as pd
import pytest

from src.common import stored
from src.common.stored import write_table
from src.common.tables import read_table
from tests.small import refused


@pytest.mark.parametrize("rows", [0, 1, 4, 5])
def test_a_table_written_in_parts_is_the_same_file(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(stored, "ROWS", 2)
    table = pd.DataFrame({"a": range(rows), "b": [0.1 * k for k in range(rows)], "c": ["x,\n"] * rows,
                          "d": pd.Categorical(['a,b "c"', "r\udce8gles.csv:3", np.nan, "plain", " blank "][:rows])})
    write_table(table, tmp_path / "parts.csv")
    text = table.to_csv(index=False, lineterminator="\n")
    assert (tmp_path / "parts.csv").read_bytes() == text.encode("utf-8", "backslashreplace")


def test_a_table_lies_in_one_file_and_parquet_needs_pyarrow(tmp_path, monkeypatch):
    name, other = tmp_path / "ratings.csv", tmp_path / "ratings.parquet"
    assert stored.stored(name) == name
    write_table(pd.DataFrame({"a": [1]}), other)
    assert stored.stored(name) == other and read_table(other, ["a"])["a"].tolist() == [1]
    for empty in (tmp_path / f"empty{ending}" for ending in (stored.CSV, stored.PARQUET)):
        write_table(pd.DataFrame({"user_id": np.zeros(0, object), "a": np.zeros(0)}), empty)
        assert list(read_table(empty, ["user_id", "a"])) == ["user_id", "a"]
    name.write_text("a\n1\n")
    with refused(other):
        stored.stored(name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with refused(other, "ifrqe[parquet]"):
        write_table(pd.DataFrame({"a": [1]}), other)
