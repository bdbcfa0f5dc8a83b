"""Readers of MovieLens releases, RecBole files and CSV."""
import csv
import functools
import logging
import lzma
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import pandas as pd

from ..common.columns import NO_GENRE, clean_movies
from ..common.errors import InputError
from ..common.tables import YEAR, read_stream, read_without_header
from ..constants import GENRES, ITEM, MOVIE_COLUMNS, RATING_COLUMNS, TITLE, USER

logger = logging.getLogger("ifrqe")

ML_100K_GENRES = ("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
                  "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western")

# What reading a damaged archive may raise, whatever is damaged in it.
_DAMAGED = (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError, KeyError, IndexError,
            OverflowError, struct.error, zlib.error, lzma.LZMAError)


def read_source(path):
    """Reads a GroupLens zip (any release), a RecBole .inter file with its .item file, or a CSV.

    Returns:
        ratings: DataFrame with user_id, item_id (text) and, where the source has them, rating and timestamp.
        movies: DataFrame item_id, title, genres, see columns.clean_movies; empty where the source has none.

    Raises:
        InputError: names the file and what is wrong with it.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".zip":
            return _read_zip(path)
        if suffix == ".inter":
            items = items_beside(path)
            movies = _read_file(items, _read_atomic_items) if items.is_file() else _no_movies()
            return _read_file(path, _read_atomic), movies
        if suffix == ".csv":
            return _read_file(path, _read_csv), _no_movies()
    except _DAMAGED as e:
        raise InputError(f"{path}: cannot be read ({e}); it may be cut short or no file of this kind, fetch it anew") from e
    raise InputError(f"{path}: unknown kind of file {suffix!r}; a .zip, .inter or .csv file is needed")


def items_beside(path):
    """Path of the RecBole file of the items of a .inter file; one that no other file has."""
    return path.with_suffix(".item") if path.suffix.lower() == ".inter" else path.with_suffix(".none")


def _no_movies():
    return pd.DataFrame(columns=MOVIE_COLUMNS)


def _read_file(path, read):
    with open(path, "rb") as file:
        return read(file, path.stat().st_size, path.name)


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        members = _members(path, archive)

        def part(name, read):
            with archive.open(members[name]) as file:
                return read(file, archive.getinfo(members[name]).file_size, f"{path.name}:{name}")

        found = [name for name in _LAYOUTS if name in members] + [name for name in members if name.endswith(".inter")]
        if not found:
            raise InputError(f"{path}: holds none of u.data, ratings.dat, ratings.csv, *.inter; is it a MovieLens zip?")
        if len(found) > 1:
            raise InputError(f"{path}: holds {' and '.join(found)}; give a zip with one file of ratings (parts joined "
                             "in order of time, under one header)")
        ratings = found[0]
        recbole = (_read_atomic, ratings[:-len("inter")] + "item", _read_atomic_items)
        read_ratings, items, read_items = _LAYOUTS.get(ratings, recbole)
        return part(ratings, read_ratings), part(items, read_items) if items in members else _no_movies()


def _members(path, archive):
    """dict of the lower-case names of the files in a zip, without folders, to their full names."""
    members = {}
    for name in archive.namelist():
        pure = PurePosixPath(name.replace("\\", "/"))
        if pure.is_absolute() or ".." in pure.parts or ":" in "".join(pure.parts[:1]):
            raise InputError(f"{path}: the entry {name!r} points outside the archive; "
                             "it is no GroupLens file, fetch it anew")
        if name.endswith("/") or "__MACOSX" in pure.parts:
            continue
        word = pure.name.lower()
        if word in members and (word in _LAYOUTS or word in _ITEM_FILES or word.endswith((".inter", ".item"))):
            raise InputError(f"{path}: holds {pure.name} twice ({members[word]}, {name}); give a zip of one dataset")
        members.setdefault(word, name)
    return members


_read_csv = functools.partial(read_stream, known=RATING_COLUMNS, needed=(USER, ITEM))
_read_atomic = functools.partial(_read_csv, sep="\t", quoting=csv.QUOTE_NONE)
_read_tabs = functools.partial(read_without_header, sep="\t", names=RATING_COLUMNS)


def _read_double_colons(file, size, name):
    """a::b::c::d, read with the fast parser as a:(nothing):b:..."""
    names = [word for column in RATING_COLUMNS for word in (column, f"#{column}")][:-1]
    return read_without_header(file, size, name, sep=":", names=names)[RATING_COLUMNS]


def _read_csv_items(file, size, name):
    return _clean(read_stream(file, size, name, MOVIE_COLUMNS, movies=True), name)


def _read_atomic_items(file, size, name):
    """The items of a RecBole .item file; genres of the type token_seq are parted by blanks."""
    table = read_stream(file, size, name, (*MOVIE_COLUMNS, YEAR), sep="\t", movies=True, quoting=csv.QUOTE_NONE)
    if YEAR in table and TITLE in table:
        year = table[YEAR].str.strip()
        table[TITLE] = table[TITLE].where(year == "", table[TITLE] + " (" + year + ")")
    if GENRES in table and table.attrs["header"][GENRES].strip().endswith("token_seq"):
        table[GENRES] = [text if text.strip() == NO_GENRE else "|".join(text.split()) for text in table[GENRES]]
    return _clean(table, name)


def _clean(table, name):
    if ITEM in table:
        return clean_movies(table, name)
    logger.warning("%s: has no column %s, so its titles and genres are not used", name, ITEM)
    return _no_movies()


def _read_bar_items(file, _, name):
    rows = _split_lines(file, name, "|", lambda row: len(row) >= 6, "in columns separated by '|'")
    table = [(row[0], row[1], "|".join(genre for genre, flag in zip(ML_100K_GENRES, row[5:]) if flag.strip() == "1"))
             for row in rows]
    return clean_movies(pd.DataFrame(table, columns=MOVIE_COLUMNS), name)


def _read_double_colon_items(file, _, name):
    rows = _split_lines(file, name, "::", lambda row: len(row) == 3 and row[0].isdigit(), "ID::TITLE::GENRES")
    return clean_movies(pd.DataFrame(rows, columns=MOVIE_COLUMNS), name)


def _split_lines(file, name, separator, is_right, form):
    """The fields of each line of a file that is UTF-8 or, as GroupLens' older ones, latin-1."""
    raw = file.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # splitlines parts titles at odd characters
        row = line.rstrip("\r").split(separator)
        if line.strip():
            if not is_right(row):
                raise InputError(f"{name}: line {number} is not {form}; fetch the file anew")
            rows.append(row)
    return rows


# Of each release of MovieLens the file of ratings, how it is read, the file of items, and how that is read.
_LAYOUTS = {
    "u.data": (_read_tabs, "u.item", _read_bar_items),  # ml-100k
    "ratings.dat": (_read_double_colons, "movies.dat", _read_double_colon_items),  # ml-1m, ml-10m
    "ratings.csv": (_read_csv, "movies.csv", _read_csv_items),  # ml-latest-small, ml-20m and later
}
_ITEM_FILES = [items for _, items, _ in _LAYOUTS.values()]
