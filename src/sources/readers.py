"""Readers of MovieLens releases, RecBole files and CSV."""
import csv
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
        movies: DataFrame item_id, title, genres, see tables.clean_movies; empty where the source has none.

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
            movies = _no_movies()
            if items.is_file():
                with open(items, "rb") as file:
                    movies = _read_atomic_items(file, items.stat().st_size, items.name)
            with open(path, "rb") as file:
                return _read_ratings(file, path.stat().st_size, path.name, "\t", quoting=csv.QUOTE_NONE), movies
        if suffix == ".csv":
            with open(path, "rb") as file:
                return _read_ratings(file, path.stat().st_size, path.name), _no_movies()
    except _DAMAGED as e:
        raise InputError(f"{path}: cannot be read ({e}); it may be cut short or no file of this kind, fetch it anew") from e
    raise InputError(f"{path}: unknown kind of file {suffix!r}; a .zip, .inter or .csv file is needed")


def items_beside(path):
    """Path of the RecBole file of the items of a .inter file."""
    return path.with_suffix(".item") if path.suffix.lower() == ".inter" else path.with_suffix(".none")


def _no_movies():
    return pd.DataFrame(columns=MOVIE_COLUMNS)


_KINDS = ("u.data", "ratings.dat", "ratings.csv", ".inter")  # of files of ratings in a zip


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        members = _members(path, archive)

        def part(name, read, *arguments, **options):
            with archive.open(members[name]) as file:
                return read(file, archive.getinfo(members[name]).file_size, f"{path.name}:{name}", *arguments, **options)

        inter = [name for name in members if name.endswith(".inter")]
        kinds = [name for name in _KINDS if name in members] + inter
        if not kinds:
            raise InputError(f"{path}: holds none of u.data, ratings.dat, ratings.csv, *.inter; is it a MovieLens zip?")
        if len(kinds) > 1:
            raise InputError(f"{path}: holds {' and '.join(kinds)}; give a zip with one file of ratings (parts joined "
                             "in order of time, under one header)")
        ratings, movies = kinds[0], _no_movies()
        if ratings == "u.data":  # ml-100k
            table = part(ratings, read_without_header, sep="\t", names=RATING_COLUMNS)
            if "u.item" in members:
                movies = _ml_100k_movies(archive.read(members["u.item"]), f"{path.name}:u.item")
        elif ratings == "ratings.dat":  # ml-1m, ml-10m; a::b::c::d read with the fast parser as a:(nothing):b:...
            names = [word for column in RATING_COLUMNS for word in (column, f"#{column}")][:-1]
            table = part(ratings, read_without_header, sep=":", names=names)[RATING_COLUMNS]
            if "movies.dat" in members:
                movies = _double_colon_movies(archive.read(members["movies.dat"]), f"{path.name}:movies.dat")
        elif ratings == "ratings.csv":  # ml-latest-small, ml-20m and later
            table = part(ratings, _read_ratings)
            if "movies.csv" in members:
                movies = part("movies.csv", _read_movies)
        else:
            table = part(ratings, _read_ratings, "\t", quoting=csv.QUOTE_NONE)
            if (items := ratings[:-len("inter")] + "item") in members:
                movies = part(items, _read_atomic_items)
    return table, movies


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
        if word in members and (word in _KINDS or word in ("u.item", "movies.dat", "movies.csv") or
                                word.endswith((".inter", ".item"))):
            raise InputError(f"{path}: holds {pure.name} twice ({members[word]}, {name}); give a zip of one dataset")
        members.setdefault(word, name)
    return members


def _read_ratings(file, size, name, sep=",", **options):
    return read_stream(file, size, name, RATING_COLUMNS, (USER, ITEM), sep, **options)


def _read_movies(file, size, name):
    table = read_stream(file, size, name, MOVIE_COLUMNS, movies=True)
    return clean_movies(table, name) if ITEM in table else _without_ids(name)


def _decoded(raw):
    """Text of a file that is UTF-8 or, as GroupLens' older ones, latin-1."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _ml_100k_movies(raw, name):
    rows = [line.rstrip("\r").split("|") for line in _decoded(raw).split("\n") if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) < 6:
            raise InputError(f"{name}: line {number} is not in columns separated by '|'; fetch the file anew")
    table = [(row[0], row[1], "|".join(genre for genre, flag in zip(ML_100K_GENRES, row[5:]) if flag.strip() == "1"))
             for row in rows]
    return clean_movies(pd.DataFrame(table, columns=MOVIE_COLUMNS), name)


def _double_colon_movies(raw, name):
    rows = [line.rstrip("\r").split("::") for line in _decoded(raw).split("\n")]  # splitlines parts titles at odd characters
    for number, row in enumerate(rows, 1):
        if row != [""] and (len(row) != 3 or not row[0].isdigit()):
            raise InputError(f"{name}: line {number} is not ID::TITLE::GENRES; fetch the file anew")
    return clean_movies(pd.DataFrame([row for row in rows if row != [""]], columns=MOVIE_COLUMNS), name)


def _read_atomic_items(file, size, name):
    """The items of a RecBole .item file; genres of the type token_seq are parted by blanks."""
    table = read_stream(file, size, name, (*MOVIE_COLUMNS, YEAR), sep="\t", movies=True, quoting=csv.QUOTE_NONE)
    if ITEM not in table:
        return _without_ids(name)
    if YEAR in table and TITLE in table:
        year = table[YEAR].str.strip()
        table[TITLE] = table[TITLE].where(year == "", table[TITLE] + " (" + year + ")")
    if GENRES in table and table.attrs["header"][GENRES].strip().endswith("token_seq"):
        table[GENRES] = [text if text.strip() == NO_GENRE else "|".join(text.split()) for text in table[GENRES]]
    return clean_movies(table, name)


def _without_ids(name):
    logger.warning("%s: has no column %s, so its titles and genres are not used", name, ITEM)
    return _no_movies()
