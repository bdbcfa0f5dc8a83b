"""Tables with some of the rows of others, or more."""
import numpy as np
import pandas as pd
import pytest

from src.common import copying
from src.common.copying import append_rows, copy_rows
from src.common.stored import write_table
from tests.small import refused


@pytest.mark.parametrize("text", [
    "u,i,t\n1,2,3\n4,5,6\n7,8,9\n", "u,i,t\n1,2,3\n4,5,6\n7,8,9", "u,i\n\u00e4 b,2\n4,\n7,8\n", "u,i\n1,2\n\n4,5\n7,8\n",
    '\nu,i\n"1,1",2\n4,"5"\n7,8\n', 'u,i\n"1\n1",2\n4,5\n7,8', "u,i\n1, 2\n4,5\n7,8\n", "u,i\r\n1,2\r\n4,5\r\n7,8\r\n"])
def test_rows_are_copied_as_they_would_be_read_and_written(tmp_path, text):
    source, target = tmp_path / "source.csv", tmp_path / "target.csv"
    source.write_bytes(text.encode())
    for rows in ([], [1], [0, 2], [0, 1, 2]):
        copy_rows(source, np.bincount(np.array(rows, int)) > 0, target)
        read = pd.read_csv(source, dtype=str, keep_default_na=False, skipinitialspace=True)
        assert target.read_bytes().decode() == read.iloc[rows].to_csv(index=False, lineterminator="\n")


def test_rows_of_parquet_are_copied_in_parts_and_keep_their_types(tmp_path, monkeypatch):
    monkeypatch.setattr(copying, "ROWS", 2)
    source, target = tmp_path / "source.parquet", tmp_path / "target.parquet"
    table = pd.DataFrame({"user_id": list("ababc"), "rating": np.arange(5, dtype=np.int8), "b": [0.1, np.nan, 1, 0, 1]})
    write_table(table, source)
    for rows in ([], [1], [0, 2, 4]):
        copy_rows(source, np.bincount(np.array(rows, int)) > 0, target)
        pd.testing.assert_frame_equal(pd.read_parquet(target), table.iloc[rows].reset_index(drop=True))


@pytest.mark.parametrize("ids, kept", [(["7", "8"], int), (["007", "x"], object)])
def test_rows_are_appended_alike_to_csv_and_parquet(tmp_path, ids, kept):
    table = pd.DataFrame({"user_id": [1, 2, 3], "item_id": list("abc"), "rating": np.array([1, 2, 3], np.int8)})
    more = pd.DataFrame({"item_id": ["4", "d"], "user_id": np.array(ids, object), "rating": [4.5, 300]})
    for suffix in (".csv", ".parquet"):
        source = tmp_path / f"source{suffix}"
        write_table(table, source)
        append_rows(source, more, tmp_path / f"target{suffix}")
        with refused(source, "unwillingness"):
            append_rows(source, more.assign(unwillingness=1), tmp_path / f"refused{suffix}")
    one, other = pd.read_csv(tmp_path / "target.csv", dtype=str), pd.read_parquet(tmp_path / "target.parquet")
    assert other.user_id.dtype == kept and other.rating.tolist() == [1, 2, 3, 4.5, 300]
    assert other.astype(str)[["user_id", "item_id"]].equals(one[["user_id", "item_id"]])
