"""Parquet files and folders of them: the same dataset as the same rows in a CSV."""
import sys

import numpy as np
import pandas as pd
import pytest

from src.common import parquet
from src.constants import ARRAYS
from src.dataset import load_dataset
from src.movielens import prepare
from src.sources import checks
from tests.small import refused

pa = pytest.importorskip("pyarrow")

NAMES = ["user_id", "item_id", "rating", "timestamp"]
T = 1_700_000_000
ROWS = [(2, 30, 4.5, T + 5), (1, 10, 3.0, T + 9), (2, 10, 1.0, T + 1), (1, 30, 2.0, T + 2), (10, 7, 5.0, T),
        (1, 7, 0.5, T + 2), (2, 7, 4.0, T + 3), (10, 10, 2.0, T + 4), (10, 30, 1.5, T + 4)]


@pytest.fixture(autouse=True)
def in_parts(monkeypatch):
    """Two rows are read at a time, and three sorted."""
    monkeypatch.setattr(parquet, "_ROWS", 2)
    monkeypatch.setattr(checks, "_BUCKET", 3)


def table(rows=ROWS, names=NAMES, **types):
    """An Arrow table of rows; by name the type of a column, where it is to be cast to one."""
    found = pa.Table.from_pandas(pd.DataFrame(rows, columns=names), preserve_index=False)
    for name, kind in types.items():
        column = found[name].dictionary_encode() if kind == "dictionary" else found[name].cast(kind)
        found = found.set_column(names.index(name), name, column)
    return found


def write(path, *tables):
    """A .parquet file of one table, or a folder of several."""
    from pyarrow.parquet import write_table
    if len(tables) == 1:
        write_table(tables[0], path, row_group_size=4)
        return path
    path.mkdir()
    for k, part in enumerate(tables):
        write_table(part, path / f"part-{k}.parquet")
    return path


def made(settings, tmp_path, archive, name, *flags):
    """The folder of a dataset of this source."""
    prepare(settings("--archive", archive, "--dataset", name, *flags))
    return tmp_path / "data" / name


@pytest.mark.parametrize("names, types, change", [
    (NAMES, {}, None), (NAMES, {"user_id": "uint32", "item_id": "int8", "timestamp": "timestamp[s]"}, None),
    (["uid", "parent_asin", "rating", "timestamp"], {"uid": "string", "parent_asin": "large_string"}, None),
    (NAMES, {"user_id": "dictionary", "item_id": "dictionary", "rating": "float"}, None),
    (NAMES, {"timestamp": pa.timestamp("us", "Europe/Berlin")}, None),
    (NAMES, {"user_id": "dictionary", "item_id": "binary"}, lambda u, i, r, t: (f"u {u}", f"b\u00e4{i}", r, t * 1000)),
    (NAMES[:2], {}, lambda *row: row[:2]), (["uid", "timestamp", "item_id"], {}, lambda u, i, r, t: (u, t, i))])
@pytest.mark.parametrize("several", [False, True])
def test_it_gives_what_a_csv_of_the_same_rows_gives(tmp_path, settings, names, types, change, several):
    rows = [change(*row) if change else row for row in ROWS]
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "x.csv", index=False)
    parts = (rows[:5], rows[5:]) if several else (rows,)
    source = write(tmp_path / ("x" if several else "x.parquet"), *(table(part, names, **types) for part in parts))
    one, other = made(settings, tmp_path, tmp_path / "x.csv", "csv"), made(settings, tmp_path, source, "arrow")
    for name in ("users.csv", "movies.csv", "times.npy"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    (items, rows), stored = np.load(one / "interactions.npy"), np.load(other / "interactions.npy")
    assert stored.tolist() == [items.tolist(), list(range(len(items)))]
    text = pd.read_csv(one / "ratings.csv").iloc[rows].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_parquet(other / "ratings.parquet"), text)
    as_text = made(settings, tmp_path, source, "text", "--table", "csv")
    for name in ("ratings.csv", *ARRAYS):
        assert (one / name).read_bytes() == (as_text / name).read_bytes()
    ours, theirs = (load_dataset(settings("--dataset", name)) for name in ("csv", "arrow"))
    assert ours.item.tolist() == theirs.item.tolist() and ours.user_ids.tolist() == theirs.user_ids.tolist()


def test_of_repeated_pairs_the_last_by_time_counts(tmp_path, settings):
    again = [*ROWS, (2, 30, 1.0, T + 7), (2, 30, 2.0, T + 6)]
    source = write(tmp_path / "x.parquet", table(again))
    with refused("x.parquet", "2 user-item pairs", "user 2, item 30", "--duplicates"):
        made(settings, tmp_path, source, "x")
    found = pd.read_parquet(made(settings, tmp_path, source, "x", "--duplicates", "last") / "ratings.parquet")
    assert found[(found.user_id == 2) & (found.item_id == 30)].values.tolist() == [[2, 30, 1.0, T + 7]]
    assert len(found) == len(ROWS) and found.equals(found.sort_values(["user_id", "timestamp"], kind="stable"))


def test_what_cannot_be_read_is_named(tmp_path, settings, monkeypatch):
    def refuse(name, *named):
        with refused(*named):
            made(settings, tmp_path, tmp_path / name, "bad")
        assert not (tmp_path / "data" / "bad").exists()

    missing = [*ROWS[:5], (None, 10, 1.0, T)]
    write(tmp_path / "null.parquet", table(missing, user_id="int64"))
    write(tmp_path / "words.parquet", table([(str(u) if u else None, *row) for u, *row in missing]))
    for name in ("null", "words"):
        refuse(f"{name}.parquet", f"{name}.parquet", "row 6 has nothing as user_id")
    write(tmp_path / "float.parquet", table(user_id="double"))
    refuse("float.parquet", "user_id", "double", "integers")
    write(tmp_path / "other.parquet", table(names=["who", *NAMES[1:]]))
    refuse("other.parquet", "other.parquet", "no column user_id")
    write(tmp_path / "seen.parquet", table(names=[*NAMES[:3], "seen"], seen="timestamp[s]"))
    refuse("seen.parquet", "seen", "rename")
    write(tmp_path / "late.parquet", table([*ROWS[:4], (9, 9, 1.0, None)]))
    refuse("late.parquet", "late.parquet", "row 5 has", "timestamp")
    write(tmp_path / "mixed", table(), table(names=[*NAMES[:3], "seen"]))
    refuse("mixed", "part-1.parquet", "seen")
    (tmp_path / "empty").mkdir()
    refuse("empty", "empty", ".parquet")
    whole = (tmp_path / "null.parquet").read_bytes()
    torn = whole[:4] + bytes(60) + whole[64:]
    for name, content in (("cut", whole[:-40]), ("text", b"user_id,item_id\n1,2\n"), ("torn", torn)):
        (tmp_path / f"{name}.parquet").write_bytes(content)
        refuse(f"{name}.parquet", f"{name}.parquet", "cannot be read")
    write(tmp_path / "good.parquet", table())
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    refuse("good.parquet", "pyarrow", "ifrqe[parquet]")


def test_a_folder_is_another_source_when_a_file_of_it_changes(tmp_path, settings):
    folder = write(tmp_path / "x", table(ROWS[:5]), table(ROWS[5:]))
    target = made(settings, tmp_path, folder, "x")
    before = (target / "dataset.json").read_bytes()
    made(settings, tmp_path, folder, "x")
    assert (target / "dataset.json").read_bytes() == before
    write(folder / "part-2.parquet", table([(10, 11, 1.0, T)]))
    assert len(pd.read_parquet(made(settings, tmp_path, folder, "x") / "ratings.parquet")) == len(ROWS) + 1
