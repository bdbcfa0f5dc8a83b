"""Tables that other programs wrote: their first line, and the names of their columns, read in one way by every stage."""
import contextlib
import csv
import io
import logging
import re
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from ..constants import DISCLOSED, EXPECTED, GENRE, GENRES, INFLUENCE, ITEM, RATING, TIMESTAMP, TITLE, UNWILLINGNESS, USER
from .columns import BLANKS
from .errors import InputError
from .terminal import read_with_progress

logger = logging.getLogger("ifrqe")


YEAR = "year"  # of a movie, which RecBole has in a column of its own
# What columns are called elsewhere, without case, blanks, quotes, hyphens and underscores; a name earlier in the list wins.
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
    UNWILLINGNESS: ("unwillingness",),
    INFLUENCE: ("influence",),
    EXPECTED: ("expectedinfluence",),
    DISCLOSED: ("disclosed",),
}
_IN_MOVIES = {**SYNONYMS, ITEM: (*SYNONYMS[ITEM], "id")}  # in a list of items their id may be called just that

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}
_QUOTES = "\"'`\u00b4\u2018\u2019\u201c\u201d"
_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read_table(path, known, needed=(), sep=",", extra="named", **options):
    """Reads a table from the file `path`; see read_stream."""
    path = existing_file(path, "name a file that can be read")
    with open(path, "rb") as file:
        return read_stream(file, path.stat().st_size, str(path), known, needed, sep, extra, **options)


def read_stream(file, size, name, known, needed=(), sep=",", extra="named", movies=False, **options):
    """Reads a table whose first line names its columns.

    Names may be written in any case, with blanks or quotes around them, with the type that RecBole adds (user_id:token), or
    be one of SYNONYMS. Nothing is taken for a missing value: what is not there is "".

    Args:
        file: binary file.
        size: its bytes, for the progress bar.
        name: for messages.
        known: the columns that are of use.
        needed: those of them that must be there.
        sep: separator of the columns.
        extra: what happens to other columns: "named" in a line of the log, "refused", or "quiet".
        movies: whether it is a list of items.
        options: of pandas.read_csv.

    Returns:
        DataFrame of the known columns that there are, by our names; attrs["header"] says what the file calls them. USER and
        ITEM are categories of text as it stands in the file, titles and genres are str, of other columns pandas decides.

    Raises:
        InputError: it is no such table; the message names what is wrong.
    """
    with _readable(file, size, name) as (stream, encoding):
        header = _header(stream, encoding, name, sep)
        found = columns_by_name(header, known, name, needed, extra, _IN_MOVIES if movies else SYNONYMS)
        names = [found.get(k, f"#{k}") for k in range(len(header))]
        text = {column: str for column in (TITLE, GENRES, GENRE, YEAR)}
        table = parse(stream, name, sep=sep, header=0, names=names, encoding=encoding,
                      dtype={**{column: "category" for column in (USER, ITEM)}, **text},
                      **{**({"skipinitialspace": True} if sep == "," else {}), **options})
    table = table[list(found.values())]
    table.attrs["header"] = {column: header[k] for k, column in found.items()}
    _refuse_repeated_header(table, name)
    return table


def read_without_header(file, size, name, **options):
    """Reads a table without a line of names; ids as in read_stream."""
    with _readable(file, size, name) as (stream, encoding):
        return parse(stream, name, header=None, encoding=encoding, dtype={c: "category" for c in (USER, ITEM)}, **options)


def read_rows(path):
    """The rows of a CSV file as text, under the names that its first line has, to be written again as they are."""
    path = Path(path)
    with open(path, "rb") as file, _readable(file, path.stat().st_size, str(path)) as (stream, encoding):
        return parse(stream, str(path), encoding=encoding, dtype=str, skipinitialspace=True)


def short_line(path):
    """Number of the first line of a CSV file that has fewer fields than the first line; None if there is none."""
    path = Path(path)
    with open(path, "rb") as file, _readable(file, path.stat().st_size, str(path)) as (stream, encoding):
        rows = csv.reader(io.TextIOWrapper(stream, encoding, newline=""))
        width = len(next(rows))
        return next((rows.line_num for row in rows if row and len(row) < width), None)


def parse(source, name, **options):
    """pandas.read_csv that takes nothing for a missing value, and whose failures are InputErrors."""
    if isinstance(options["dtype"], dict):
        options["dtype"] = {column: kind for column, kind in options["dtype"].items() if column in options["names"]}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with more fields than the header
            return pd.read_csv(source, low_memory=False, index_col=False, na_filter=False, **options)
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
    """A binary file as what pandas reads, and its encoding: with a progress bar, and no NUL in it."""
    with read_with_progress(file, size, Path(name).name) as stream:
        start = stream.peek(4)
        encoding = next((encoding for mark, encoding in _MARKS if start.startswith(mark)), "utf-8-sig")
        if encoding == "utf-8-sig":
            stream = io.BufferedReader(_WithoutNul(stream, name), 1 << 20)
        yield stream, encoding


class _WithoutNul(io.RawIOBase):
    """Passes on a binary file; a NUL in it, which would end a field without a word, is an error."""

    def __init__(self, file, name):
        self.file, self.name, self.lines = file, name, 1

    def readable(self):
        return True

    def readinto(self, buffer):
        content = self.file.read(len(buffer))
        if b"\0" in content:
            line = self.lines + content.count(b"\n", 0, content.index(b"\0"))
            raise InputError(f"{self.name}: line {line} has a NUL byte, so it is no UTF-8 text (UTF-16 without its mark?); "
                             "save it as UTF-8")
        self.lines += content.count(b"\n")
        buffer[:len(content)] = content
        return len(content)


def _header(stream, encoding, name, sep):
    """Names of the columns as they stand in the first line that is not empty; nothing is taken from the stream."""
    text = stream.peek(1 << 16).decode(encoding, "replace").lstrip("\ufeff")
    lines = csv.reader(io.StringIO(text), delimiter=sep, skipinitialspace=sep == ",")
    try:
        header = next((row for row in lines if row), [])
    except csv.Error as e:
        raise InputError(f"{name}: its first line names no columns ({e}); check the separator and the quotes") from None
    other = next((s for s in _SEPARATORS if s != sep and s in header[0]), None) if len(header) == 1 else None
    if other:
        raise InputError(f"{name}: its columns are separated by {_SEPARATORS[other]}, where "
                         f"{'a comma' if sep == ',' else 'a tab'} is needed; export it with that separator")
    if not header:
        raise InputError(f"{name}: is empty; fetch or export it anew")
    return header


def plain_name(name):
    """The name of a column as SYNONYMS has it."""
    name = unicodedata.normalize("NFKC", str(name)).split(":")[0].strip(_QUOTES + BLANKS)
    return re.sub(r"[\s_-]", "", name).casefold()


def columns_by_name(header, known, name, needed=(), extra="named", synonyms=SYNONYMS):
    """Which columns of a header are of use.

    Returns:
        dict of place in the header to our name.

    Raises:
        InputError: a column is there twice, a needed one is not there, or another one is to be refused.
    """
    plain = [plain_name(column) for column in header]
    found = {}
    for column in known:
        places = [k for k, word in enumerate(plain) if word in synonyms[column]]
        if not places:
            continue
        best = min(places, key=lambda k: synonyms[column].index(plain[k]))
        # which of two names of users or items is meant cannot be known; of other columns the first synonym counts
        alike = [k for k in places if column in (USER, ITEM) and synonyms is SYNONYMS or plain[k] == plain[best]]
        if len(alike) > 1:
            named = ", ".join(header[k].strip() for k in alike)
            raise InputError(f"{name}: has the column {column} twice ({named}); remove or rename one")
        found[best] = column
    missing = [column for column in needed if column not in found.values()]
    shown = ", ".join(column.strip() for column in header)
    if missing:
        raise InputError(f"{name}: has no column {', '.join(missing)} (columns: {shown}); the columns are "
                         f"{', '.join(known)}")
    others = [header[k].strip() for k in range(len(header)) if k not in found and plain[k]]
    if others and extra == "refused":
        raise InputError(f"{name}: has a column {others[0]!r}; the columns are {', '.join(known)}")
    if others and extra == "named":
        logger.info("%s: not used: the column%s %s", name, "s" if len(others) > 1 else "", ", ".join(others))
    return found


def _refuse_repeated_header(table, name):
    """Raises InputError if a row names the columns again, as in files that were joined."""
    if USER not in table or ITEM not in table:
        return
    again = np.ones(len(table), bool)
    for column in (USER, ITEM):
        categories = table[column].cat.categories
        words = np.array([plain_name(text) in SYNONYMS[column] for text in categories], bool)
        again &= words[table[column].cat.codes] if words.any() else False
    if again.any():
        raise InputError(f"{name}: row {int(again.argmax()) + 1} is the header once more; remove that row")


def existing_file(path, remedy, option=""):
    """`path` as a Path if it is a file, else InputError with the option that named it."""
    path = Path(path)
    if path.is_file():
        return path
    what = "is a folder" if path.is_dir() else "no such file"
    raise InputError(f"{f'--{option} ' * bool(option)}{path}: {what}; {remedy}")
