"""Parquet files that other programs or this one wrote, read part by part."""
from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from ..constants import ITEM, REASON, USER
from .errors import InputError
from .header import Header
from .stored import arrow
from .terminal import progress

_ROWS, _SOME = 1 << 20, 1 << 16  # in memory at a time; looked at for times that are not called so


def parts_of(paths: list[Path], name: str | Path, known: list[str], needed: list[str] = (),
             extra: str = "named") -> Iterator[pd.DataFrame]:
    """Reads Parquet files as one table in parts, see tables.parts_of; ids may be integers; InputError names a bad file."""
    pa, rows = arrow(name), 0
    files = [_readable(path, pa.parquet.ParquetFile, path, buffer_size=1 << 20) for path in paths]
    names = files[0].schema_arrow.names
    header = Header(names, known, name, needed, extra)
    for path, file in zip(paths, files):
        if odd := set(names) ^ set(file.schema_arrow.names):
            raise InputError(f"{path}: it and {paths[0].name} do not both have a column {min(odd)}; give files of a kind")
    texts = [column for path, file in zip(paths, files) for k, column in header.found.items()
             if column in (USER, ITEM) and _is_text(pa, file.schema_arrow.field(names[k]), path)]
    with progress(sum(file.metadata.num_rows for file in files), f"reading {Path(name).name}", "row") as bar:
        for first in itertools.islice(_frames(pa, paths[0], files[0], _SOME, dict(zip(names, header.columns)), texts), 1):
            header.refuse_other_times(first)
        for path, file in zip(paths, files):
            for part in _frames(pa, path, file, _ROWS, {names[k]: column for k, column in header.found.items()}, texts):
                part.index += rows
                rows += len(part)
                yield header.of_use(part)
                bar.update(len(part))


def _frames(pa, path, file, most, read, texts):
    """At most so many rows of a file at a time, of the columns that `read` names; `texts` are ids that are text."""
    none = pa.RecordBatch.from_pylist([], pa.schema([file.schema_arrow.field(column) for column in read]))
    batches = file.iter_batches(most, columns=list(read)) if file.metadata.num_rows else iter([none])
    while (batch := _readable(path, next, batches, None)) is not None:
        yield pd.DataFrame({column: _readable(path, _column, pa, batch.column(place), column, column in texts)
                            for place, column in read.items()}, copy=False)


def _readable(path, call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except (ValueError, OSError, NotImplementedError) as e:  # as those of pyarrow are
        raise InputError(f"{path}: cannot be read ({' '.join(str(e).split())}); it may be cut short or no Parquet file, "
                         "fetch it anew") from e


def _is_text(pa, field, path):
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if not _is_of_text(pa, kind) and not pa.types.is_integer(kind):
        raise InputError(f"{path}: its column {field.name} is of the type {kind}, which is none of ids; write it as "
                         "integers or as text")
    return _is_of_text(pa, kind)


def _is_of_text(pa, kind):
    types = pa.types  # the last of a column without rows
    return types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_null(kind)


def _column(pa, values, column, is_text):
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if column in (USER, ITEM) and (is_text or values.null_count) or column == REASON:
        encoded = values.cast(pa.string()).fill_null("").dictionary_encode()
        return pd.Categorical.from_codes(encoded.indices.to_numpy(), encoded.dictionary.to_pylist())
    if pa.types.is_nested(kind) or pa.types.is_null(kind):
        return np.full(len(values), "", object)
    if pa.types.is_temporal(kind):
        values = values.cast(pa.timestamp("ns"))
    elif pa.types.is_decimal(kind):
        values = values.cast(pa.float64())
    elif _is_of_text(pa, kind):
        values = values.cast(pa.string()).fill_null("")
    return values.to_numpy(zero_copy_only=False)
