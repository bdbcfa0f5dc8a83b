"""Large tables as this program stores them: CSV, or Parquet, which pyarrow reads and writes."""
from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from .errors import InputError
from .files import name_of
from .share import here
from .terminal import progress

if TYPE_CHECKING:
    import pandas as pd

CSV, PARQUET = ".csv", ".parquet"
ROWS = 1 << 18  # of a table that are in memory at a time


def arrow(path: str | Path) -> ModuleType:
    """pyarrow, with its module parquet; raises InputError that names the table `path` if it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as e:
        raise InputError(f"{path}: Parquet needs pyarrow, which cannot be imported ({' '.join(str(e).split())}); install "
                         "ifrqe[parquet], or use CSV") from None
    return pyarrow


def as_csv(name: str) -> str:
    """The name of a file, of a table the one that it has as CSV, by which the rest of the program calls it."""
    return name.removesuffix(PARQUET) + CSV if name.endswith(PARQUET) else name


def named(name: str, kind: str) -> str:
    """The name of the table that is called NAME.csv where it is stored as a kind: "csv" or "parquet"."""
    return f"{name.removesuffix(CSV)}.{kind}"


def stored(path: Path) -> Path:
    """Where the table lies that is called NAME.csv: there, or in NAME.parquet; raises InputError if it is in both."""
    other = path.with_suffix(PARQUET)
    if other != path and other.is_file() and path.is_file():
        raise InputError(f"{other}: lies beside {path.name}, so that one of the two would be passed over; remove the one "
                         "that does not count")
    return other if other.is_file() else path


def slices(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """A table in parts of at most ROWS rows, at least one."""
    return (table.iloc[start:start + ROWS] for start in range(0, max(1, len(table)), ROWS))


def write_table(table: pd.DataFrame | Iterable[pd.DataFrame], path: Path, rows: int | None = None) -> None:
    """Writes a DataFrame without its index, as CSV or Parquet by the suffix of `path`, with a progress bar.

    table: the whole, or parts of it, of which the first, that may be empty, says what the columns are.
    rows: how many there are in all parts, if that is known. Of several ranks the first alone writes; all take the parts.
    """
    if hasattr(table, "iloc"):  # so that pandas, which takes half a second, need not be loaded here
        table, rows = slices(table), len(table)
    arrows, writer = arrow(path) if path.suffix == PARQUET else None, None
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(progress(rows, f"writing {name_of(path)}", "row"))
        path.touch()
        for number, part in enumerate(table):
            if not here().first:
                continue
            if arrows:
                found = arrows.Table.from_pandas(part, preserve_index=False).replace_schema_metadata()
                writer = writer or stack.enter_context(arrows.parquet.ParquetWriter(path, found.schema, use_dictionary=[
                    field.name for field in found.schema if not arrows.types.is_floating(field.type)]))  # which repeat
                writer.write_table(found)
            else:
                part.to_csv(path, index=False, header=not number, mode="a" if number else "w", lineterminator="\n",
                            errors="backslashreplace")
            bar.update(len(part))
