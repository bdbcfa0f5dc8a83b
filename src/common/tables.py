"""Tables that other programs wrote: their first line, and the names of their columns, read in one way by every stage."""
from __future__ import annotations

import contextlib
import csv
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from ..constants import GENRE, GENRES, ITEM, REASON, TITLE, USER
from .columns import PARTED
from .errors import InputError
from .header import YEAR, Header
from .parquet import parts_of as parquet_parts
from .stored import PARQUET
from .terminal import progress

# others pandas decides
_TYPES = {USER: "category", ITEM: "category", REASON: "category", TITLE: str, GENRES: str, GENRE: str, YEAR: str}
_BYTES = 1 << 25  # of text in a part
_SEPARATORS = {"\t": "tabs", **PARTED}
_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read_table(path: str | Path, known: list[str], needed: list[str] = (), **options) -> pd.DataFrame:
    """Reads a whole table from the file `path`; see read_parts."""
    table, = read_parts(path, known, needed, most=None, **options)
    return table


def read_parts(path: str | Path, known: list[str], needed: list[str] = (), **options) -> Iterator[pd.DataFrame]:
    """Reads a table from the file `path` part by part: CSV as `parts_of` does, Parquet as parquet.parts_of."""
    path = existing_file(path, "name a file that can be read")
    if path.suffix == PARQUET:
        parts = parquet_parts([path], path, known, needed, options.get("extra", "named"))
        yield from parts if options.get("most", 1) else [pd.concat(parts)]
        return
    with open(path, "rb") as file:
        yield from parts_of(file, path.stat().st_size, str(path), known, needed, **options)


def read_stream(file: BinaryIO, size: int, name: str, known: list[str], needed: list[str] = (), **options) -> pd.DataFrame:
    """Reads a whole table; see parts_of."""
    table, = parts_of(file, size, name, known, needed, most=None, **options)
    return table


def parts_of(file: BinaryIO, size: int, name: str, known: list[str], needed: list[str] = (), sep: str = ",",
             extra: str = "named", movies: bool = False, **options) -> Iterator[pd.DataFrame]:
    """Reads a table whose first line names its columns, in parts that take some 100 MB; what is not there is "".

    file, size: buffered; its bytes, for the progress bar.
    known, needed, extra, movies: see Header.
    options: of pandas.read_csv; most: None for one part.
    Yields: The known columns that there are, by our names, of _TYPES; attrs["header"] says what the file calls them, the
        index which rows they are.
    Raises InputError: it is no such table, or a timestamp is of use and stands under another name.
    """
    with _readable(file, size, name) as (stream, encoding):
        names = _header(stream, encoding, name, sep)
        header = Header(names, known, name, needed, extra, movies)
        if sep == ",":
            options = {"skipinitialspace": True, **options}
        for part in _parse(stream, name, sep=sep, header=0, encoding=encoding, names=header.columns, **options):
            if not part.index[:1].any():
                header.refuse_other_times(part)
            yield header.of_use(part)


def parts_without_header(file: BinaryIO, size: int, name: str, **options) -> Iterator[pd.DataFrame]:
    """Reads a table without a line of names in parts; ids as in parts_of."""
    with _readable(file, size, name) as (stream, encoding):
        yield from _parse(stream, name, header=None, encoding=encoding, **options)


@contextlib.contextmanager
def lines_of(path):
    """A csv.reader of a file."""
    with open(path, "rb") as file, _readable(file, os.path.getsize(path), str(path)) as (stream, encoding):
        yield csv.reader(io.TextIOWrapper(stream, encoding, newline=""), skipinitialspace=True)


def short_line(path: str | Path) -> int | None:
    """Number of the first line of a CSV file that has fewer fields than the first line; None if there is none."""
    if Path(path).suffix == PARQUET:
        return None
    with lines_of(path) as lines:
        width = len(next(lines))
        return next((lines.line_num for fields in lines if fields and len(fields) < width), None)


def _parse(source, name, most=1 << 20, **options):
    options = {"dtype": _TYPES, "low_memory": False, "index_col": False, "na_filter": False, "iterator": True, **options}
    head = source.peek(1 << 16)
    rows = most and min(most, _BYTES * (head.count(b"\n") + 1) // max(1, len(head)) + 1)
    reader = _in_one_line(name, pd.read_csv, source, **options)
    while True:
        try:
            table = _in_one_line(name, reader.get_chunk, rows)
        except StopIteration:
            return
        yield table


def _in_one_line(name, call, *arguments, **options):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with more fields than the header
            return call(*arguments, **options)
    except pd.errors.ParserWarning:
        raise InputError(f"{name}: its rows have more fields than the header; correct the header or the rows") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{name}: is empty; fetch or export it anew") from None
    except pd.errors.ParserError as e:
        raise InputError(f"{name}: is no CSV file, or not in the expected columns ({' '.join(str(e).split())}); "
                         "check the separator and the quotes") from e
    except UnicodeError as e:
        raise InputError(f"{name}: is not UTF-8 text ({getattr(e, 'reason', e)}); save it as UTF-8") from e


@contextlib.contextmanager
def _readable(file, size, name):
    start = file.peek(4)
    encoding = next((encoding for mark, encoding in _MARKS if start.startswith(mark)), "utf-8-sig")
    with progress(size, f"reading {Path(name).name}", "B") as bar:
        yield io.BufferedReader(_Watched(file, name, bar, encoding == "utf-8-sig"), 1 << 20), encoding


class _Watched(io.RawIOBase):
    """Passes on a binary file, with a progress bar; a NUL, which would end a field without a word, can be an error."""

    def __init__(self, file, name, bar, refuses_nul):
        self.file, self.name, self.bar, self.refuses_nul = file, name, bar, refuses_nul
        self.lines = 1

    def readable(self):
        return True

    def readinto(self, buffer):
        content = self.file.read(len(buffer))
        if self.refuses_nul:
            if b"\0" in content:
                line = self.lines + content.count(b"\n", 0, content.index(b"\0"))
                raise InputError(f"{self.name}: line {line} has a NUL byte, so it is no UTF-8 text (UTF-16 without its "
                                 "mark?); save it as UTF-8")
            self.lines += content.count(b"\n")
        buffer[:len(content)] = content
        self.bar.update(len(content))
        return len(content)


def _header(stream, encoding, name, sep):
    text = stream.peek(1 << 16).decode(encoding, "replace").lstrip("\ufeff")
    lines = csv.reader(io.StringIO(text), delimiter=sep, skipinitialspace=sep == ",")
    try:
        header = next((row for row in lines if row), [])
    except csv.Error as e:
        raise InputError(f"{name}: its first line names no columns ({e}); check the separator and the quotes") from None
    if not header:
        raise InputError(f"{name}: is empty; fetch or export it anew")
    other = [word for sign, word in _SEPARATORS.items() if sign != sep and sign in header[0]]
    if len(header) == 1 and other:
        raise InputError(f"{name}: its columns are separated by {other[0]}, where {'a comma' if sep == ',' else 'a tab'} is "
                         "needed; export it with that separator")
    return header


def existing_file(path: str | Path, remedy: str, option: str = "") -> Path:
    """`path` as a Path if it is a file, else InputError with the option that named it."""
    path = Path(path)
    if path.is_file():
        return path
    named = f"--{option} {path}" if option else path
    raise InputError(f"{named}: {'is a folder' if path.is_dir() else 'no such file'}; {remedy}")
