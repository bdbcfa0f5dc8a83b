"""The data stage: MovieLens releases, RecBole and CSV files, or the simulation, all into one format.

Run as `python -m src.movielens --dataset NAME [--archive FILE]`. Writes under data_path:
NAME/ratings.csv (user_id,item_id,rating,timestamp; original ids, order of the source), NAME/movies.csv (the catalogue:
item_id,title,genres of every item that occurs) and NAME/dataset.json (where it comes from, filters, counts);
for the simulation also NAME/unwillingness.csv.
"""
import http.client
import logging
import re
import shutil
import ssl
import urllib.error
import urllib.request
import warnings
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from .constants import (
    DATASET_FILE,
    FILTER_KEYS,
    ITEM,
    MASKED_PREFIX,
    MOVIE_COLUMNS,
    MOVIES_FILE,
    RATING,
    RATING_COLUMNS,
    RATINGS_FILE,
    SIMULATION,
    SIMULATION_KEYS,
    TIMESTAMP,
    UNWILLINGNESS_FILE,
    USER,
)
from .errors import InputError
from .simulation import simulate
from .stage import digest, main, read_json, write_json
from .terminal import progress, read_with_progress, write_csv

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
        ratings, movies, unwillingness = simulate(config.sim_users, config.sim_items, config.sim_ratings, config.seed)
        source = {"source": SIMULATION}
    else:
        keys = FILTER_KEYS
        if config.archive:
            path = Path(config.archive)
            if not path.is_file():
                raise InputError(f"--archive {path}: no such file; give the path of a .zip, .inter or .csv file")
            source = {"source": path.name, "sha256": digest(path)}
            if _is_done(folder, config, keys, source):
                return
        elif _is_done(folder, config, keys):
            return
        else:
            path = _fetch(config, folder)
            source = {"source": path.name, "sha256": digest(path)}
        ratings, movies = read_source(path)
        unwillingness = None
    ratings = _clean(ratings, source["source"], config.duplicates)
    ratings = _filter_users(ratings, config.min_ratings, config.max_ratings)
    movies = _catalogue(ratings, movies)
    tables = {RATINGS_FILE: ratings, MOVIES_FILE: movies}
    if unwillingness is not None:
        tables[UNWILLINGNESS_FILE] = unwillingness[unwillingness[USER].isin(ratings[USER].unique())]
    users, items = ratings[USER].nunique(), len(movies)
    _write(folder, tables, {"dataset": config.dataset, **source, **config.select(keys), "num_users": users,
                            "num_items": items, "num_ratings": len(ratings), "files": list(tables),
                            "text_ids": [c for c in (USER, ITEM) if not pd.api.types.is_integer_dtype(ratings[c])]})
    logger.info("%s: %s users, %s items, %s ratings (%.2f%% of all pairs), written to %s", config.dataset, f"{users:,}",
                f"{items:,}", f"{len(ratings):,}", 100 * len(ratings) / users / items, folder)


def _write(folder, tables, record):
    """Puts the dataset in place as a whole; files that others put into the folder stay in it."""
    new, old = (folder.with_name(f".{folder.name}.{word}") for word in ("new", "old"))
    if old.exists() and not folder.exists():  # stopped between the two renames below
        old.rename(folder)
    for left_over in (new, old):
        shutil.rmtree(left_over, ignore_errors=True)
    new.mkdir(parents=True)
    for name, table in tables.items():
        write_csv(table, new / name)
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
    return True


# ---------------------------------------------------------------------------------------------------------------------
# Fetching


def _fetch(config, folder):
    """Path of the GroupLens zip of a known dataset under data_path, downloaded if need be."""
    path = Path(config.data_path) / f"{config.dataset}.zip"
    if path.is_file():
        logger.info("%s: reading %s, which is there already", config.dataset, path)
        if MD5.get(config.dataset) and digest(path, "md5") != MD5[config.dataset]:
            logger.info("%s: its MD5 sum is not the published %s; delete it to download it anew", path, MD5[config.dataset])
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
                raise InputError(f"{url}: the download failed ({reason}); {kept:,} bytes are kept and the same command "
                                 f"resumes from them; {by_hand}") from e
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


def read_source(path):
    """Reads a GroupLens zip (any release), a RecBole .inter file with its .item file, or a CSV.

    Returns:
        ratings: DataFrame with user_id, item_id and, where the source has them, rating and timestamp.
        movies: DataFrame item_id, title, genres; empty where the source has none.

    Raises:
        InputError: names the file and what is wrong with it.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".zip":
            return _read_zip(path)
        if suffix == ".inter":
            items = path.with_suffix(".item")
            movies = _read_atomic_items(items) if items.exists() else _no_movies()
            with open(path, "rb") as file, read_with_progress(file, path.stat().st_size, path.name) as file:
                return _read_atomic(file, path.name), movies
        if suffix == ".csv":
            with open(path, "rb") as file, read_with_progress(file, path.stat().st_size, path.name) as file:
                return _read_csv(file, path.name), _no_movies()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError) as e:
        raise InputError(f"{path}: cannot be read ({e}); it may be cut short or no file of this kind, fetch it anew") from e
    raise InputError(f"{path}: unknown kind of file {suffix!r}; a .zip, .inter or .csv file is needed")


def _no_movies():
    return pd.DataFrame(columns=MOVIE_COLUMNS)


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        members = {}
        for name in archive.namelist():
            pure = PurePosixPath(name.replace("\\", "/"))
            if pure.is_absolute() or ".." in pure.parts or ":" in "".join(pure.parts[:1]):
                raise InputError(f"{path}: the entry {name!r} points outside the archive; "
                                 "it is no GroupLens file, fetch it anew")
            if name.endswith("/"):
                continue
            if pure.name in members and pure.name in ("u.data", "ratings.dat", "ratings.csv"):
                raise InputError(f"{path}: holds {pure.name} twice ({members[pure.name]}, {name}); "
                                 "give a zip of one dataset")
            members.setdefault(pure.name, name)

        def table(name, **options):
            with archive.open(members[name]) as file, \
                    read_with_progress(file, archive.getinfo(members[name]).file_size, name) as file:
                return _read_table(file, f"{path.name}:{name}", **options)

        if "u.data" in members:  # ml-100k
            ratings = table("u.data", sep="\t", header=None, names=RATING_COLUMNS)
            movies = _no_movies()
            if "u.item" in members:
                movies = table("u.item", sep="|", header=None, encoding="latin-1", quoting=3)
                if movies.shape[1] < 6:
                    raise InputError(f"{path.name}:u.item: is not in columns separated by '|'; fetch the file anew")
                flags = movies.iloc[:, 5:5 + len(ML_100K_GENRES)].to_numpy() == 1
                movies = pd.DataFrame({ITEM: movies[0], "title": movies[1], "genres": [
                    "|".join(np.array(ML_100K_GENRES)[:flags.shape[1]][row]) for row in flags]})
        elif "ratings.dat" in members:  # ml-1m (latin-1), ml-10m (UTF-8)
            # a::b::c::d read with the fast parser as a:(nothing):b:...
            ratings = table("ratings.dat", sep=":", header=None, names=list("ubiarxt"), usecols=list("uirt"))
            ratings.columns = RATING_COLUMNS
            movies = _no_movies()
            if "movies.dat" in members:
                raw = archive.read(members["movies.dat"])
                movies = _double_colon_movies(raw, f"{path.name}:movies.dat")
        elif "ratings.csv" in members:  # ml-latest-small, ml-20m and later
            ratings = _rename(table("ratings.csv"))
            movies = _no_movies()
            if "movies.csv" in members:
                movies = _rename(table("movies.csv"))
        elif inter := [name for name in members if name.endswith(".inter")]:
            with archive.open(members[inter[0]]) as file, \
                    read_with_progress(file, archive.getinfo(members[inter[0]]).file_size, inter[0]) as file:
                ratings = _read_atomic(file, f"{path.name}:{inter[0]}")
            movies = _no_movies()
            if (items := inter[0].replace(".inter", ".item")) in members:
                with archive.open(members[items]) as file:
                    movies = _read_atomic_items(file)
        else:
            raise InputError(f"{path}: holds none of u.data, ratings.dat, ratings.csv, *.inter; is it a MovieLens zip?")
    return ratings, movies


def _double_colon_movies(raw, name):
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    rows = [line.rstrip("\r").split("::") for line in text.split("\n")]  # splitlines would part titles at odd characters
    for number, row in enumerate(rows, 1):
        if row != [""] and (len(row) != 3 or not row[0].isdigit()):
            raise InputError(f"{name}: line {number} is not ID::TITLE::GENRES; fetch the file anew")
    movies = pd.DataFrame([row for row in rows if row != [""]], columns=MOVIE_COLUMNS)
    return movies.astype({ITEM: np.int64})


# Ids of any file but GroupLens' are read as text, so that 007 stays apart from 7, and NA is an id like any other.
_TEXT_IDS = {"dtype": {column + kind: str for column in (USER, ITEM, "userId", "movieId") for kind in ("", ":token")},
             "keep_default_na": False}


def _read_csv(source, name):
    return _rename(_read_table(source, name, **_TEXT_IDS))


def _read_atomic(source, name):
    """A RecBole atomic file: tab-separated, each column named FIELD:TYPE."""
    table = _read_table(source, name, sep="\t", quoting=3, **_TEXT_IDS)
    table.columns = [str(c).split(":")[0] for c in table.columns]
    return table


def _read_atomic_items(source):
    table = _read_atomic(source, getattr(source, "name", str(source)))

    def column(*words):
        found = next((c for c in table.columns if any(w in c.lower() for w in words)), None)
        return pd.Series("", table.index) if found is None else table[found].fillna("").astype(str)

    if ITEM not in table:
        return _no_movies()
    title, year = column("title", "name"), column("year")
    return pd.DataFrame({ITEM: table[ITEM], "title": title.where(year == "", title + " (" + year + ")"),
                         "genres": column("class", "genre", "categor").str.split().str.join("|")})


def _rename(table):
    """GroupLens' column names to ours."""
    return table.rename(columns=lambda c: {"userId": USER, "movieId": ITEM}.get(str(c).strip(), str(c).strip()))


def _read_table(source, name, **options):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with more fields than the header
            return pd.read_csv(source, low_memory=False, index_col=False, **{"encoding": "utf-8-sig", **options})
    except pd.errors.ParserWarning:
        raise InputError(f"{name}: its rows have more fields than the header; correct the header or the rows") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{name}: is empty; fetch or export it anew") from None
    except pd.errors.ParserError as e:
        raise InputError(f"{name}: is not in the expected columns ({' '.join(str(e).split())}); check the separator") from e
    except UnicodeDecodeError as e:
        raise InputError(f"{name}: is not UTF-8 text ({e.reason} at byte {e.start}); convert it") from e


# ---------------------------------------------------------------------------------------------------------------------
# Checking


def _clean(ratings, name, duplicates):
    """The four rating columns, typed; without the column a rating is 1, a timestamp the number of the row."""
    missing = [c for c in (USER, ITEM) if c not in ratings]
    if missing:
        raise InputError(f"{name}: has no column {', '.join(missing)} (columns: {', '.join(map(str, ratings.columns))}); "
                         "rename them to user_id,item_id[,rating,timestamp]")
    if not ratings.columns.is_unique:
        raise InputError(f"{name}: has the column {ratings.columns[ratings.columns.duplicated()][0]} twice; remove one")
    if not len(ratings):
        raise InputError(f"{name}: holds no ratings; fetch or export it anew")
    if RATING not in ratings:
        ratings = ratings.assign(rating=1)
    if TIMESTAMP not in ratings:
        ratings = ratings.assign(timestamp=np.arange(len(ratings)))
    ratings = ratings[RATING_COLUMNS].reset_index(drop=True)
    for column in _with_progress(RATING_COLUMNS, "checking"):
        values = ratings[column]
        if column in (RATING, TIMESTAMP):
            numbers = pd.to_numeric(values, errors="coerce")
            bad = ~(np.abs(numbers.to_numpy(float)) < 2.0 ** 63)
        else:
            numbers = values
            bad = (values.isna() | (values == "")).to_numpy()
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            shown = "nothing" if pd.isna(values[row]) or values[row] == "" else repr(values[row])
            raise InputError(f"{name}: row {row + 1} has {shown} as {column}; correct the row or remove it")
        if column in (USER, ITEM):
            numbers = _ids(values)
        elif pd.api.types.is_float_dtype(numbers) and (numbers == np.floor(numbers)).all():
            numbers = numbers.astype(np.int64)
        ratings[column] = numbers
    return _drop_duplicates(ratings, name, duplicates)


def _with_progress(columns, desc):
    with progress(len(columns), desc, "column") as bar:
        for column in columns:
            yield column
            bar.update()


def _ids(values):
    """Ids as int64 where each is written as a whole number is, else as the text that stands there."""
    if pd.api.types.is_integer_dtype(values):
        return values.astype(np.int64)
    text = values.astype(str)
    unique = pd.Series(text.unique())
    return text.astype(np.int64) if unique.str.fullmatch(r"0|-?[1-9]\d{0,17}").all() else text


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


def _catalogue(ratings, movies):
    """item_id, title, genres of exactly the items that occur, by id."""
    occurring = pd.DataFrame({ITEM: np.sort(ratings[ITEM].unique())})
    for column in MOVIE_COLUMNS:
        if column not in movies:
            movies = movies.assign(**{column: ""})
    movies = movies[MOVIE_COLUMNS].drop_duplicates(ITEM).set_index(movies[ITEM].drop_duplicates().astype(str))
    found = movies.reindex(occurring[ITEM].astype(str))
    return occurring.assign(title=found["title"].fillna("").to_numpy(), genres=found["genres"].fillna("").to_numpy())


if __name__ == "__main__":
    main(prepare, "run_download_dataset", __doc__)
