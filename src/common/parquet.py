"""Parquet files that other programs or this one wrote, read part by part."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from ..constants import ITEM, REASON, USER
from .errors import InputError
from .header import Header
from .stored import arrow
from .terminal import progress

_ROWS = 1 << 20


def parts_of(paths: list[Path], name: str | Path, known: list[str], needed: list[str] = (),
             extra: str = "named") -> Iterator[pd.DataFrame]:
    """Reads Parquet files with the same columns as one table in parts, as tables.parts_of does; ids may be integers.

    Raises:
        InputError: names the file that is damaged or has other columns, or a column of ids of another type; or see Header.
    """
    pa, rows = arrow(name), 0
    files = [_readable(path, pa.parquet.ParquetFile, path, buffer_size=1 << 20) for path in paths]
    names = files[0].schema_arrow.names
    header = Header(names, known, name, needed, extra)
    for path, file in zip(paths, files):
        if odd := set(names) ^ set(file.schema_arrow.names):
            raise InputError(f"{path}: it and {paths[0].name} do not both have a column {min(odd)}; give files of a kind")
    in_text = [column for path, file in zip(paths, files) for k, column in header.found.items()
               if column in (USER, ITEM) and _is_text(pa, file.schema_arrow.field(names[k]), path)]
    with progress(sum(file.metadata.num_rows for file in files), f"reading {Path(name).name}", "row") as bar:
        for path, file in zip(paths, files):
            read = {names[k]: column for k, column in [*header.found.items(), *((k, f"#{k}") for k in header.asked)]}
            batches = file.iter_batches(_ROWS, columns=list(read))
            while (batch := _readable(path, next, batches, None)) is not None:
                part = {column: _readable(path, _column, pa, batch.column(place), column, column in in_text)
                        for place, column in read.items()}
                part = pd.DataFrame(part, pd.RangeIndex(rows, rows := rows + batch.num_rows), copy=False)
                yield header.look_at(part)
                bar.update(len(part))
    header.finish()


def _readable(path, call, *arguments, **options):
    """What a call returns that reads from a file; raises InputError if that fails."""
    try:
        return call(*arguments, **options)
    except (ValueError, OSError, NotImplementedError) as e:  # as those of pyarrow are
        raise InputError(f"{path}: cannot be read ({' '.join(str(e).split())}); it may be cut short or no Parquet file, "
                         "fetch it anew") from e


def _is_text(pa, field, path):
    """Whether a column of ids is one of text; raises InputError if it is neither that nor one of integers."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)):
        return True
    if not pa.types.is_integer(kind):
        raise InputError(f"{path}: its column {field.name} is of the type {kind}, which is none of ids; write it as "
                         "integers or as text")
    return False


def _column(pa, values, column, in_text):
    """A column of a batch as pandas has it when it comes from text, but integers stay such."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    if column in (USER, ITEM) and (in_text or values.null_count) or column == REASON:
        encoded = values.cast(pa.string()).fill_null("").dictionary_encode()
        return pd.Categorical.from_codes(encoded.indices.to_numpy(), encoded.dictionary.to_pylist())
    if pa.types.is_temporal(kind):
        return values.cast(pa.timestamp("ns")).to_numpy(zero_copy_only=False)
    if pa.types.is_decimal(kind):
        values = values.cast(pa.float64())
    elif any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)):
        values = values.cast(pa.string()).fill_null("")
    elif pa.types.is_nested(kind) or pa.types.is_null(kind):
        return np.full(len(values), "", object)
    return values.to_numpy(zero_copy_only=False)
