"""Tables that have some of the rows of others, or more: as CSV and as Parquet, in the columns and types that these have."""
import csv
import itertools
import mmap
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from .columns import whole_numbers
from .errors import InputError
from .share import here
from .stored import PARQUET, ROWS, arrow, write_table
from .tables import lines_of

_ODD = (b'"', b"\r", b"\0", b", ", b"\n ", b"\n\n")  # in a file whose lines are not to be copied as they are


def copy_rows(source: Path, kept: np.ndarray, target: Path) -> None:
    """Writes the header and the rows of a table that are `kept`, (rows,) bool or less, to another that is stored alike.

    Lines that are rows are copied as they are, in a fraction of time and memory. Of several ranks the first alone does so.
    """
    if not here().first:
        return target.touch()
    if source.suffix == PARQUET:
        pa, start = arrow(source), 0
        with pa.parquet.ParquetFile(source) as file, pa.parquet.ParquetWriter(target, file.schema_arrow) as copy:
            for part in file.iter_batches(ROWS):
                some = kept[start:start + len(part)]
                copy.write_batch(part[:len(some)].filter(pa.array(some)))
                start += len(part)
        return
    chosen = b"\1" + kept.tobytes()
    with open(source, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        odd = content[:1] in (b"\n", b" ") or any(content.find(sign) >= 0 for sign in _ODD)
    if odd:
        with lines_of(source) as lines, open(target, "w", encoding="utf-8", newline="") as copy:
            csv.writer(copy, lineterminator="\n").writerows(itertools.compress(filter(any, lines), chosen))
        return
    with open(source, "rb") as file, open(target, "wb") as copy:
        for line in itertools.compress(file, chosen):
            copy.write(line if line.endswith(b"\n") else line + b"\n")


def append_rows(source: Path, table: pd.DataFrame, target: Path) -> None:
    """Writes a table and more rows to another that is stored alike; raises InputError if it lacks one of their columns."""
    if source.suffix == PARQUET:
        with arrow(source).parquet.ParquetFile(source) as file:
            schema = file.schema_arrow
            table, was, kinds = _in_columns(source, table, schema.names), schema.empty_table().to_pandas(), {}
            for name in table:
                found = table[name] if is_numeric_dtype(table[name]) else whole_numbers(table[name])
                fits = found is not None and is_numeric_dtype(was[name])
                kinds[name] = np.result_type(was[name].dtype, found.dtype) if fits else str
                table[name] = found if fits else table[name]
            whole = itertools.chain((part.to_pandas() for part in file.iter_batches(ROWS)), [table])
            write_table((part.astype(kinds) for part in whole), target)
        return
    with open(source, "rb") as file, open(target, "wb") as copy:
        header = file.readline()
        rows = _in_columns(source, table, next(csv.reader([header.decode("utf-8-sig").strip()])))
        copy.write(header)
        shutil.copyfileobj(file, copy)
        file.seek(-1, os.SEEK_END)
        copy.write(b"\n" * (file.read(1) != b"\n"))
        copy.write(rows.to_csv(index=False, header=False, lineterminator="\n").encode("utf-8", "backslashreplace"))


def _in_columns(source, table, names):
    if missing := sorted(set(table) - set(names)):
        raise InputError(f"{source}: has no column {missing[0]}; name its columns {','.join(table)}")
    return table.reindex(columns=names)
