"""Tables that other programs wrote: their first line, and the names of their columns, read in one way by every stage."""
from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
import re
import unicodedata
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from ..constants import GENRE, GENRES, ITEM, RATING, REASON, TIMESTAMP, TITLE, USER
from .columns import BLANKS, PARTED
from .errors import InputError
from .terminal import progress
from .times import moments

logger = logging.getLogger("ifrqe")

YEAR = "year"  # of a movie, which RecBole has in a column of its own
# What columns are called elsewhere, see _plain_name; a name earlier in the list wins. All others have their own name alone.
SYNONYMS = {
    USER: ("userid", "user", "uid", "users", "useridx", "reviewerid", "customerid", "memberid", "visitorid", "accountid"),
    ITEM: ("itemid", "item", "iid", "items", "itemidx", "movieid", "movie", "productid", "product", "parentasin", "asin",
           "trackid", "songid", "artistid", "bookid", "isbn", "businessid", "videoid", "newsid", "gameid"),
    RATING: ("rating", "ratings", "score", "stars", "overall", "preference"),
    TIMESTAMP: ("timestamp", "time", "ts", "unixreviewtime", "unixtime", "datetime", "date", "ratedat", "createdat"),
    TITLE: ("title", "name", "movietitle", "itemtitle", "itemname", "moviename", "productname", "producttitle", "trackname",
            "songname", "songtitle", "artistname", "booktitle", "bookname", "appname", "gamename"),
    YEAR: ("releaseyear", "year", "movieyear", "publicationyear", "yearofpublication"),
    GENRES: ("genres", "genre", "categories", "category", "categoryid", "class", "classes", "type", "types"),
    GENRE: ("genre", "genres"),
}
_IN_MOVIES = {**SYNONYMS, ITEM: (*SYNONYMS[ITEM], "id")}  # in a list of items their id may be called just that

# others pandas decides
_TYPES = {USER: "category", ITEM: "category", REASON: "category", TITLE: str, GENRES: str, GENRE: str, YEAR: str}
_SEPARATORS = {"\t": "tabs", **PARTED}
_NO_TIME = re.compile(r".*(id|idx|no|nr|num|number|code|key|price|amount|count|session|order|invoice|phone|views)s?")
_QUOTES = "\"'`\u00b4\u2018\u2019\u201c\u201d"
_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read_table(path: str | Path, known: list[str], needed: list[str] = (), **options) -> pd.DataFrame:
    """Reads a table from the file `path`; see read_stream."""
    path = existing_file(path, "name a file that can be read")
    with open(path, "rb") as file:
        return read_stream(file, path.stat().st_size, str(path), known, needed, **options)


def read_stream(file: BinaryIO, size: int, name: str, known: list[str], needed: list[str] = (), sep: str = ",",
                extra: str = "named", movies: bool = False, **options) -> pd.DataFrame:
    """Reads a table whose first line names its columns.

    Names may be written in any case, with blanks or quotes around them, with the type that RecBole adds (user_id:token), or
    be one of SYNONYMS. Nothing is taken for a missing value: what is not there is "".

    Args:
        file: buffered.
        size: its bytes, for the progress bar.
        known, needed: the columns that are of use, and those of them that must be there.
        extra: what happens to other columns: "named" in a line of the log, "refused", or "quiet".
        movies: whether it is a list of items.
        options: of pandas.read_csv.

    Returns:
        The known columns that there are, by our names, of _TYPES; attrs["header"] says what the file calls them.

    Raises:
        InputError: it is no such table, or a timestamp is of use and stands under another name.
    """
    with _readable(file, size, name) as (stream, encoding):
        header = _header(stream, encoding, name, sep)
        found = _columns_by_name(header, known, name, needed, extra, _IN_MOVIES if movies else SYNONYMS)
        names = [found.get(k, f"#{k}") for k in range(len(header))]
        if sep == ",":
            options = {"skipinitialspace": True, **options}
        table = _parse(stream, name, sep=sep, header=0, names=names, encoding=encoding, **options)
    if TIMESTAMP in known:
        _refuse_other_times(table, found, header, name)
    others = [word.strip() for k, word in enumerate(header) if k not in found and _plain_name(word)]
    if others and extra == "named":
        logger.info("%s: not used: the %s %s", name, "columns" if len(others) > 1 else "column", ", ".join(others))
    table = table[list(found.values())]
    table.attrs["header"] = {column: header[k] for k, column in found.items()}
    _refuse_repeated_header(table, name)
    return table


def read_without_header(file: BinaryIO, size: int, name: str, **options) -> pd.DataFrame:
    """Reads a table without a line of names; ids as in read_stream."""
    with _readable(file, size, name) as (stream, encoding):
        return _parse(stream, name, header=None, encoding=encoding, **options)


@contextlib.contextmanager
def lines_of(path):
    """A csv.reader of a file."""
    with open(path, "rb") as file, _readable(file, os.path.getsize(path), str(path)) as (stream, encoding):
        yield csv.reader(io.TextIOWrapper(stream, encoding, newline=""), skipinitialspace=True)


def short_line(path: str | Path) -> int | None:
    """Number of the first line of a CSV file that has fewer fields than the first line; None if there is none."""
    with lines_of(path) as lines:
        width = len(next(lines))
        return next((lines.line_num for fields in lines if fields and len(fields) < width), None)


def _parse(source, name, **options):
    """pandas.read_csv that takes nothing for a missing value, and whose failures are InputErrors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with more fields than the header
            return pd.read_csv(source, low_memory=False, index_col=False, na_filter=False, **{"dtype": _TYPES, **options})
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
    """A buffered binary file as what pandas reads, and its encoding."""
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
    """Names of the columns as they stand in the first line that is not empty; nothing is taken from the stream."""
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


def _plain_name(name):
    """The name of a column as SYNONYMS has it."""
    name = unicodedata.normalize("NFKC", str(name)).split(":")[0].strip(_QUOTES + BLANKS)
    return re.sub(r"[\s_-]", "", name).casefold()


def _columns_by_name(header, known, name, needed, extra, synonyms):
    """Our names of the columns that are of use, by their place in the header; see read_stream.

    Raises:
        InputError: a column is there twice, a needed one is not there, or another one is to be refused.
    """
    plain = [_plain_name(column) for column in header]
    shown = [column.strip() for column in header]
    found = {}
    for column in known:
        names = synonyms.get(column, (_plain_name(column),))
        places = [k for k, word in enumerate(plain) if word in names]
        if not places:
            continue
        best = min(places, key=lambda k: names.index(plain[k]))
        # which of two names of users or items is meant cannot be known; of other columns the first synonym counts
        alike = [k for k in places if column in (USER, ITEM) and synonyms is SYNONYMS or plain[k] == plain[best]]
        if len(alike) > 1:
            named = ", ".join(shown[k] for k in alike)
            raise InputError(f"{name}: has the column {column} twice ({named}); remove or rename one")
        found[best] = column
    missing = [column for column in needed if column not in found.values()]
    if missing:
        raise InputError(f"{name}: has no column {', '.join(missing)} (columns: {', '.join(shown)}); the columns are "
                         f"{', '.join(known)}")
    other = next((shown[k] for k in range(len(header)) if k not in found and plain[k]), None)
    if other and extra == "refused":
        raise InputError(f"{name}: has a column {other!r}; the columns are {', '.join(known)}")
    return found


def _refuse_other_times(table, found, header, name):
    """Raises InputError if a column that is not called so holds times, and the timestamp none, or whole days alone."""
    words = list(map(_plain_name, header))
    own = next((k for k, column in found.items() if column == TIMESTAMP), None)
    days = None if own is None else moments(table[TIMESTAMP])
    if own is not None and (words[own] == TIMESTAMP or days is not None and (days % 1).any()):
        return
    for k, word in enumerate(words):
        if k in found or _NO_TIME.fullmatch(word) and pd.api.types.is_numeric_dtype(table[f"#{k}"]):
            continue
        if (held := moments(table[f"#{k}"])) is not None and (days is None or (held % 1).any()):
            more = "" if own is None else f" that tell more than {header[own].strip()}"
            raise InputError(f"{name}: the column {header[k].strip()} holds times{more}, but is not called so; rename the "
                             f"one that counts to {TIMESTAMP}, or remove it if it is about something else")


def _refuse_repeated_header(table, name):
    """Raises InputError if a row names the columns again, as in files that were joined."""
    if USER not in table or ITEM not in table:
        return
    again = np.ones(len(table), bool)
    for column in (USER, ITEM):
        words = [_plain_name(text) in SYNONYMS[column] for text in table[column].cat.categories]
        again &= np.array(words, bool)[table[column].cat.codes] if any(words) else False
    if again.any():
        raise InputError(f"{name}: row {again.argmax() + 1} is the header once more; remove that row")


def existing_file(path: str | Path, remedy: str, option: str = "") -> Path:
    """`path` as a Path if it is a file, else InputError with the option that named it."""
    path = Path(path)
    if path.is_file():
        return path
    named = f"--{option} {path}" if option else path
    raise InputError(f"{named}: {'is a folder' if path.is_dir() else 'no such file'}; {remedy}")
