"""The data stage: MovieLens releases, RecBole and CSV files, or the simulation, all into one format.

Run as `python -m src.movielens --dataset NAME [--archive FILE]`. Writes under data_path:
NAME/ratings.csv (user_id,item_id,rating,timestamp; original ids, order of the source), NAME/movies.csv (the catalogue:
item_id,title,genres of every item that occurs) and NAME/dataset.json (where it comes from, filters, counts);
for the simulation also NAME/unwillingness.csv.
"""
import csv
import hashlib
import http.client
import logging
import lzma
import re
import shutil
import ssl
import struct
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from .constants import (
    DATASET_FILE,
    FILTER_KEYS,
    GENRES,
    ITEM,
    MASKED_PREFIX,
    MOVIE_COLUMNS,
    MOVIES_FILE,
    RATING,
    RATING_COLUMNS,
    RATINGS_FILE,
    SIMULATION,
    SIMULATION_KEYS,
    TEXT_IDS,
    TIME_UNIT,
    TIMESTAMP,
    TITLE,
    UNWILLINGNESS_FILE,
    USER,
)
from .dataset import text_ids
from .errors import InputError
from .locks import claim
from .simulation import simulate
from .stage import digest, main, read_json, write_json
from .tables import (
    NO_GENRE,
    ORDER,
    YEAR,
    clean_ids,
    clean_movies,
    existing_file,
    numbers,
    read_stream,
    read_without_header,
    say_what_ids_are,
    times,
    whole_numbers,
)
from .terminal import progress, write_csv

logger = logging.getLogger("ifrqe")

# MD5 sums that GroupLens publishes beside the files; ml-latest-small changes, so its sum is fetched with it.
MD5 = {
    "ml-100k": "0e33842e24a9c977be4e0107933c0723",
    "ml-latest-small": None,
    "ml-1m": "c4d9eecfca2ab87c1945afe126590906",
    "ml-10m": "ce571fd55effeba0271552578f2648bd",
    "ml-20m": "cd245b17a1ae2cc31bb14903e1204af3",
    "ml-25m": "6b51fb2759a8657d3bfcbfc42b592ada",
    "ml-32m": "d472be332d4daa821edc399621853b57",
}
_MADE = "unwillingness_sha256"  # key of dataset.json: what the simulation wrote
ATTEMPTS = 3
TIMEOUT = 30  # seconds without a byte
ML_100K_GENRES = ("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
                  "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western")


def prepare(config):
    """Makes the dataset that the settings name, unless it is there already with the same filters and source.

    Raises:
        InputError: the source cannot be had, or is no such data; nothing that was there is touched.
    """
    folder = Path(config.data_path) / config.dataset
    if config.dataset.startswith(MASKED_PREFIX):
        raise InputError(f"--dataset {config.dataset}: masked datasets are written by preprocess.py; "
                         f"name the dataset itself, {config.dataset[len(MASKED_PREFIX):]}")
    if config.dataset == SIMULATION:
        if config.archive:
            raise InputError(f"--archive {config.archive}: the dataset {SIMULATION} is generated; "
                             "give data of your own another name with --dataset")
        keys = FILTER_KEYS + SIMULATION_KEYS
        if _is_done(folder, config, keys):
            return
        claim(config)
        ratings, movies, unwillingness = simulate(config.sim_users, config.sim_items, config.sim_ratings, config.seed)
        source = {"source": SIMULATION}
    else:
        keys = FILTER_KEYS
        if config.archive:
            path = existing_file(config.archive, "give the path of a .zip, .inter or .csv file", "archive")
            source = {"source": path.name, "sha256": digest(path)}
            if _items_beside(path).is_file():
                source["items_sha256"] = digest(_items_beside(path))
            if _is_done(folder, config, keys, source):
                return
        elif _is_done(folder, config, keys):
            return
        else:
            claim(config)  # the download is part of it
            path = _fetch(config, folder)
            source = {"source": path.name, "sha256": digest(path)}
        claim(config)
        ratings, movies = read_source(path)
        unwillingness = None
    ratings, unit = _clean(ratings, source["source"], config.duplicates)
    ratings = _filter_users(ratings, config.min_ratings, config.max_ratings)
    movies = _catalogue(ratings, movies, source["source"])
    tables = {RATINGS_FILE: ratings, MOVIES_FILE: movies}
    if unwillingness is not None:
        tables[UNWILLINGNESS_FILE] = unwillingness[unwillingness[USER].isin(ratings[USER].unique())]
        if _is_edited(folder, config, keys):
            del tables[UNWILLINGNESS_FILE]
    users, items = ratings[USER].nunique(), len(movies)
    _write(folder, tables, {"dataset": config.dataset, **source, **config.select(keys), "num_users": users,
                            "num_items": items, "num_ratings": len(ratings), TIME_UNIT: unit,
                            "files": list(tables), "reader": _reader(),
                            TEXT_IDS: text_ids(ratings[USER], ratings[ITEM])})
    logger.info("%s: %s users, %s items, %s ratings (%.2f%% of all pairs), %s, written to %s", config.dataset, f"{users:,}",
                f"{items:,}", f"{len(ratings):,}", 100 * len(ratings) / users / items,
                "without times: the order of the rows counts" if unit == ORDER else f"times in {unit}", folder)


def _is_edited(folder, config, keys):
    """Whether the unwillingness of a simulation was changed by hand and goes on to fit, so that it is to be kept.

    Raises:
        InputError: it was changed, but the data that are about to be made are others.
    """
    path = folder / UNWILLINGNESS_FILE
    if not path.exists():
        return False
    record = read_json(folder / DATASET_FILE, "remove it") if (folder / DATASET_FILE).exists() else {}
    if record.get(_MADE) == digest(path):
        return False
    if any(record.get(key) != value for key, value in config.select(keys).items()):
        raise InputError(f"{path}: was changed since the simulation wrote it, and does not go with other {', '.join(keys)}; "
                         "move it to another place first, or give the simulation another --data_path")
    logger.warning("%s: was changed since the simulation wrote it, and is kept", path)
    return True


def _write(folder, tables, record):
    """Puts the dataset in place as a whole; files that others put into the folder stay in it.

    A folder that is a symbolic link stays one: what lies behind it is replaced.
    """
    folder = folder.resolve()
    new, old = (folder.with_name(f".{folder.name}.{word}") for word in ("new", "old"))
    if old.exists() and not folder.exists():  # stopped between the two renames below
        old.rename(folder)
    for left_over in (new, old):
        shutil.rmtree(left_over, ignore_errors=True)
    new.mkdir(parents=True)
    for name, table in tables.items():
        write_csv(table, new / name)
    if UNWILLINGNESS_FILE in tables:
        record[_MADE] = digest(new / UNWILLINGNESS_FILE)
    write_json(new / DATASET_FILE, record)
    if folder.exists():
        for path in folder.iterdir():
            if path.is_file() and not (new / path.name).exists():
                shutil.copy2(path, new / path.name)
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _is_done(folder, config, keys, source=None):
    """Whether the folder holds this dataset; one without a record was put there by hand and is taken as it is."""
    if config.overwrite or not (folder / RATINGS_FILE).exists():
        return False
    if not (folder / DATASET_FILE).exists():
        if source is None:
            logger.info("%s: %s has no %s, so it was not made here; used as it is", config.dataset, folder, DATASET_FILE)
        return source is None
    record = read_json(folder / DATASET_FILE, "run the data stage with --overwrite")
    if any(record.get(key) != value for key, value in {**config.select(keys), **(source or {})}.items()):
        return False
    if not all((folder / name).exists() for name in record.get("files", [])):
        return False
    logger.info("%s: %s is there already, kept (--overwrite makes it anew)", config.dataset, folder)
    if record.get("reader") != _reader():
        logger.warning("%s: was made by another version of this program, which may read its source otherwise; --overwrite "
                       "makes it anew", folder)
    return True


def _reader():
    """Digest of the code that makes a dataset."""
    return hashlib.sha256(b"".join(Path(__file__).with_name(f"{name}.py").read_bytes()
                                   for name in ("movielens", "tables", "simulation"))).hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# Fetching


def _fetch(config, folder):
    """Path of the GroupLens zip of a known dataset under data_path, downloaded if need be."""
    path = Path(config.data_path) / f"{config.dataset}.zip"
    if path.is_file():
        logger.info("%s: reading %s, which is there already", config.dataset, path)
        if MD5.get(config.dataset) and digest(path, "md5") != MD5[config.dataset]:
            logger.warning("%s: its MD5 sum is not the published %s; delete it to download it anew", path,
                           MD5[config.dataset])
        return path
    if config.dataset not in MD5 and (folder / DATASET_FILE).exists():
        made = read_json(folder / DATASET_FILE, "give its file with --archive")
        raise InputError(f"--dataset {config.dataset}: {folder} was made with other filters "
                         f"({', '.join(f'{k}={made.get(k)}' for k in FILTER_KEYS)}); give its file again with --archive")
    if config.dataset not in MD5:
        raise InputError(f"--dataset {config.dataset}: neither in {config.data_path} nor one that can be downloaded "
                         f"({', '.join(MD5)}); give its file with --archive")
    url = f"{config.mirror.rstrip('/')}/{path.name}"
    return download(url, path, MD5[config.dataset] or _published_md5(url))


def _published_md5(url):
    """The MD5 sum that lies beside a GroupLens file as FILE.md5, or None where there is none to be had."""
    try:
        with urllib.request.urlopen(f"{url}.md5", timeout=TIMEOUT) as answer:
            match = re.search(r"\b[0-9a-f]{32}\b", answer.read(1000).decode("ascii", "replace").lower())
    except (OSError, http.client.HTTPException, ValueError):
        match = None
    if match is None:
        logger.info("%s.md5: not to be had; the checksums inside the zip are relied on", url)
    return match and match.group()


def download(url, path, md5=None):
    """Downloads `url` to `path`, going on where a broken transfer stopped, and checks its MD5 sum.

    The bytes go to PATH.part until they are all there and right. TLS certificates are always verified.

    Returns:
        `path`

    Raises:
        InputError: the download failed (PATH.part stays, the next run resumes), or the sum is wrong (it goes).
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    by_hand = "or fetch the file by other means and give its path with --archive, or name another --mirror"
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(ATTEMPTS):
        try:
            _transfer(url, part)
            break
        except (OSError, http.client.HTTPException, ValueError) as e:  # ValueError: the address is none
            reason = getattr(e, "reason", None) or e
            hopeless = isinstance(e, ValueError) or isinstance(reason, ssl.SSLError) \
                or isinstance(e, urllib.error.HTTPError) and e.code < 500
            if hopeless or attempt == ATTEMPTS - 1:
                kept = part.stat().st_size if part.exists() else 0
                again = f"{kept:,} bytes are kept and the same command resumes from them"
                if isinstance(reason, ssl.SSLError):
                    again = "its certificate or this machine's clock or certificates must be mended first"
                raise InputError(f"{url}: the download failed ({reason}); {again}; {by_hand}") from e
    if md5 and digest(part, "md5") != md5:
        part.unlink()
        raise InputError(f"{url}: what came has another MD5 sum than the published {md5}; try again, {by_hand}")
    part.replace(path)
    return path


def _transfer(url, part):
    """One request for the bytes that `part` lacks."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as e:
        if e.code == 416 and have:  # nothing is missing, or the part is no part of this file: the MD5 sum will tell
            return
        raise
    with answer:
        if answer.status != 206:
            have = 0  # the server sends the whole file
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with open(part, "ab" if have else "wb") as file, \
                progress(total, url.rsplit("/", 1)[-1], "B", initial=have) as bar:
            while block := answer.read(1 << 16):
                file.write(block)
                bar.update(len(block))
            if total is not None and file.tell() < total:
                raise ConnectionError(f"the connection ended after {file.tell():,} of {total:,} bytes")


# ---------------------------------------------------------------------------------------------------------------------
# Reading


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
            items = _items_beside(path)
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


def _items_beside(path):
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


# ---------------------------------------------------------------------------------------------------------------------
# Checking


def _clean(ratings, name, duplicates):
    """The four rating columns, typed; without the column a rating is 1, a timestamp the number of the row.

    Returns:
        ratings: DataFrame.
        unit: of the timestamps, see tables.times.
    """
    if not len(ratings):
        raise InputError(f"{name}: holds no ratings; fetch or export it anew")
    typed, unit = {}, ORDER
    for column in _with_progress(RATING_COLUMNS, "checking"):
        if column in (USER, ITEM):
            ids = clean_ids(ratings[column], name, column)
            say_what_ids_are(ids.unique, name, column)
            whole = whole_numbers(ids.unique)
            typed[column] = (ids.unique if whole is None else whole)[ids.code]
        elif column not in ratings:
            typed[column] = np.ones(len(ratings), np.int64) if column == RATING else np.arange(len(ratings))
        elif column == RATING:
            typed[column] = numbers(ratings[column], name, column)
        else:
            typed[column], unit = times(ratings[column], name)
    return _drop_duplicates(pd.DataFrame(typed), name, duplicates), unit


def _with_progress(columns, desc):
    with progress(len(columns), desc, "column") as bar:
        for column in columns:
            yield column
            bar.update()


def _drop_duplicates(ratings, name, duplicates):
    repeated = ratings.duplicated([USER, ITEM])
    if not repeated.any():
        return ratings
    if duplicates == "error":
        first = ratings[repeated].iloc[0]
        raise InputError(f"{name}: {int(repeated.sum())} user-item pairs occur more than once, e.g. user {first[USER]}, "
                         f"item {first[ITEM]}; choose which row counts with --duplicates last or first")
    kept = ratings.sort_values(TIMESTAMP, kind="stable").drop_duplicates([USER, ITEM], keep=duplicates).sort_index()
    logger.info("%s: %d repeated user-item pairs dropped, the %s by time kept", name, len(ratings) - len(kept), duplicates)
    return kept.reset_index(drop=True)


def _filter_users(ratings, at_least, at_most):
    """Only users with at_least to at_most ratings (at_most 0: no limit)."""
    count = ratings.groupby(USER, sort=False)[ITEM].transform("size")
    keep = (count >= at_least) & ((count <= at_most) if at_most else True)
    if not keep.any():
        raise InputError(f"--min_ratings {at_least} --max_ratings {at_most}: no user has so many ratings "
                         f"(they have {count.min()} to {count.max()}); widen the limits")
    if not keep.all():
        logger.info("%s of %s users left out: fewer than %d ratings%s", f"{ratings[USER][~keep].nunique():,}",
                    f"{ratings[USER].nunique():,}", at_least, f" or more than {at_most}" if at_most else "")
    return ratings[keep].reset_index(drop=True)


def _catalogue(ratings, movies, name):
    """item_id, title, genres of exactly the items that occur, by id."""
    occurring = pd.DataFrame({ITEM: np.sort(ratings[ITEM].unique())})
    found = movies.set_index(movies[ITEM].astype(str)).reindex(occurring[ITEM].astype(str))
    known = found[TITLE].notna()
    if len(movies) and not known.all():
        logger.warning("%s: %s of %s items are not in its list of titles and genres, e.g. %s (there: %s)", name,
                       f"{int((~known).sum()):,}", f"{len(known):,}", known.index[~known][0], movies[ITEM].iloc[0])
    return occurring.assign(title=found[TITLE].fillna("").to_numpy(), genres=found[GENRES].fillna("").to_numpy())


if __name__ == "__main__":
    main(prepare, "run_download_dataset", __doc__)
