"""Readers of MovieLens releases, RecBole files, CSV and Parquet."""
import csv
import functools
import re
import zipfile
from pathlib import Path, PurePosixPath

import pandas as pd

from ..common.errors import InputError, logger
from ..common.files import files_in
from ..common.header import YEAR
from ..common.parquet import parts_of as parquet_parts
from ..common.tables import existing_file, parts_of, parts_without_header, read_stream
from ..constants import GENRES, ITEM, MOVIE_COLUMNS, RATING_COLUMNS, TITLE, USER
from .catalogue import clean_movies
from .gather import Gathered

_SHOWN = 5  # files in a message
ML_100K_GENRES = ("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
                  "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western")

_NO_MOVIES = pd.DataFrame(columns=MOVIE_COLUMNS)
_DOUBLED = re.compile(r'"(?=.*"")(?:[^"]|"")*"', re.S)  # a field in quotes with doubled ones in it


def read_source(path, items=None, folder=None):
    """Reads a GroupLens zip (any release), a RecBole .inter file, a CSV, or a .parquet file or a folder of such.

    items: Path of its list of items, see items_beside; without it that in a zip.
    folder: see Gathered.
    Returns ratings: Gathered; movies: see catalogue.clean_movies, empty where the source has none.
    Raises InputError: names the file and what is wrong with it.
    """
    path = Path(path)
    suffix, ratings = ".parquet" if path.is_dir() else path.suffix.lower(), Gathered(path.name, folder)
    try:
        if suffix == ".zip":
            return _read_zip(path, items, ratings)
        if suffix == ".parquet":
            return ratings.take(parquet_parts(files_in(path), path, RATING_COLUMNS, (USER, ITEM))), _read_items(items)
        if suffix in (".inter", ".csv"):
            read = _read_atomic if suffix == ".inter" else _read_csv
            return _read_file(path, lambda *source: ratings.take(read(*source))), _read_items(items)
    except (InputError, MemoryError):
        raise
    except Exception as e:  # of a damaged archive it may be anything
        raise InputError(f"{path}: cannot be read ({e}); it may be cut short or no file of this kind, fetch it anew") from e
    raise InputError(f"{path}: unknown kind of file {suffix!r}; a .zip, .inter, .csv or .parquet file is needed")


def items_beside(path, given=""):
    """Path of a source's list of items or None: `given`, else NAME.items.csv, or of shop-view.inter shop.item alone."""
    if given:
        return existing_file(given, f"give a CSV with {ITEM},{TITLE},{GENRES}, or an .item file", "items")
    suffix = path.suffix.lower() if path else ""
    if suffix == ".inter":
        return _fitting(path, {item.name: item for item in path.parent.iterdir() if item.suffix.lower() == ".item"})
    return items if path and suffix != ".zip" and (items := path.with_suffix(".items.csv")).is_file() else None


def _fitting(path, items, alone=False):
    """Of .item files, a dict by name, that of the .inter file `path`; if one is `alone`, it may have any name."""
    stem = PurePosixPath(path).stem.lower()
    stems = {name: PurePosixPath(name).stem.lower() for name in items}
    same = [name for name in items if stems[name] == stem]
    begin = [name for name in items if re.match(re.escape(stems[name]) + r"[-._]", stem)]
    found = same or begin or (list(items) if alone else [])
    if len(found) == 1 and alone and not same:
        logger.info("%s: titles and genres are those of %s", path, found[0])
    elif items and len(found) != 1:
        logger.warning("%s: its list of items may be another file, and none is used: %s; name one with --items", path,
                       ", ".join(sorted(items)[:_SHOWN]))
    return items[found[0]] if len(found) == 1 else None


def _read_items(path):
    if path is None:
        return _NO_MOVIES
    logger.info("%s: read for titles and genres", path)
    return _read_file(path, _read_atomic_items if path.suffix.lower() == ".item" else _read_csv_items)


def _read_file(path, read):
    with open(path, "rb") as file:
        return read(file, path.stat().st_size, path.name)


def _read_zip(path, given, into):
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
        read_ratings, items, read_items = _LAYOUTS.get(ratings, (_read_atomic, None, _read_atomic_items))
        if items is None and not given:
            items = _fitting(ratings, {name: name for name in members if name.endswith(".item")}, alone=True)
        movies = _read_items(given) if given or items not in members else part(items, read_items)
        return part(ratings, lambda *source: into.take(read_ratings(*source))), movies


def _members(path, archive):
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


_read_csv = functools.partial(parts_of, known=RATING_COLUMNS, needed=(USER, ITEM))
_read_atomic = functools.partial(_read_csv, sep="\t", quoting=csv.QUOTE_NONE)
_read_tabs = functools.partial(parts_without_header, sep="\t", names=RATING_COLUMNS)


def _read_double_colons(file, size, name):
    """a::b::c::d, read with the fast parser as a:(nothing):b:..."""
    names = [word for column in RATING_COLUMNS for word in (column, f"#{column}")][:-1]
    return (part[RATING_COLUMNS] for part in parts_without_header(file, size, name, sep=":", names=names))


def _read_csv_items(file, size, name):
    return _clean(read_stream(file, size, name, MOVIE_COLUMNS, movies=True), name)


def _read_atomic_items(file, size, name):
    """The items of a RecBole .item file; blanks may part genres of the type token_seq alone."""
    table = read_stream(file, size, name, (*MOVIE_COLUMNS, YEAR), sep="\t", movies=True, quoting=csv.QUOTE_NONE)
    for column in {TITLE, GENRES}.intersection(table):  # written by a program that quotes
        table[column] = [text[1:-1].replace('""', '"') if _DOUBLED.fullmatch(text) else text for text in table[column]]
    if YEAR in table and TITLE in table:
        year = table[YEAR].str.strip()
        table[TITLE] = table[TITLE].where(year == "", table[TITLE] + " (" + year + ")")
    return _clean(table, name, table.attrs["header"].get(GENRES, "").strip().endswith("token_seq"))


def _clean(table, name, blanks=False):
    if ITEM in table:
        return clean_movies(table, name, blanks=blanks)
    logger.warning("%s: has no column %s, so its titles and genres are not used", name, ITEM)
    return _NO_MOVIES


def _read_old_items(file, _, name, form):
    """The items in a file of GroupLens in UTF-8 or, as most are, latin-1, with lines of the form `form`."""
    separator, raw, rows = "|" if "|" in form else "::", file.read(), []
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    for number, line in enumerate(text.split("\n"), 1):  # splitlines parts titles at odd characters
        item, *fields = line.rstrip("\r").split(separator)
        if not line.strip():
            continue
        if not item.isdigit() or (len(fields) != 2 if separator == "::" else len(fields) < 5):
            raise InputError(f"{name}: line {number} is not {form}; fetch the file anew")
        flags = zip(ML_100K_GENRES, fields[4:])
        genres = fields[1] if separator == "::" else "|".join(genre for genre, flag in flags if flag.strip() == "1")
        rows.append((item, fields[0], genres))
    return clean_movies(pd.DataFrame(rows, columns=MOVIE_COLUMNS), name, bars=True)


# Of each release of MovieLens the file of ratings, how it is read, the file of items, and how that is read.
_LAYOUTS = {
    "u.data": (_read_tabs, "u.item", functools.partial(_read_old_items, form="ID|TITLE|...")),  # ml-100k
    "ratings.dat": (_read_double_colons, "movies.dat", functools.partial(_read_old_items, form="ID::TITLE::GENRES")),
    "ratings.csv": (_read_csv, "movies.csv", _read_csv_items),  # ml-latest-small, ml-20m and later
}
_ITEM_FILES = [items for _, items, _ in _LAYOUTS.values()]
