"""The data stage: MovieLens releases, RecBole and CSV files, or the simulation, all into one format.

Run as `python -m src.movielens --dataset NAME [--archive FILE]`. Writes under data_path:
NAME/ratings.csv (user_id,item_id,rating,timestamp; original ids, order of the source), NAME/movies.csv (the catalogue:
item_id,title,genres of every item that occurs) and NAME/dataset.json (where it comes from, filters, counts);
for the simulation also NAME/unwillingness.csv.
"""
from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import pandas as pd

from .common.errors import InputError
from .common.files import digest
from .common.locks import claim
from .common.machine import code_digest
from .common.stage import main
from .common.stored import named, stored, write_table
from .common.tables import existing_file
from .common.times import DAY, ORDER, UNITS
from .common.together import Together
from .common.variant import DATA, DIGESTS, check_tables, record_of
from .config import Config
from .consent.unwillingness import check_rules
from .consent.withdrawn import head_of, read_requests
from .constants import (
    ARRAYS,
    DATASET_FILE,
    ITEM,
    MASKED_PREFIX,
    MOVIES_FILE,
    RATINGS_FILE,
    READER,
    SIMULATION,
    TABLE,
    TEXT_IDS,
    TIME_UNIT,
    TIMESTAMP,
    UNWILLINGNESS_FILE,
    UPDATED,
    USER,
)
from .sources.catalogue import text_ids
from .sources.checks import catalogue, clean, filter_users
from .sources.download import fetch
from .sources.interactions import ordered, write_arrays
from .sources.readers import items_beside, read_source
from .sources.simulation import simulate

logger = logging.getLogger("ifrqe")

_MADE = "unwillingness_sha256"  # key of dataset.json: what the simulation wrote


def prepare(config: Config) -> None:
    """Makes the dataset that the settings name, unless it is there already with the same filters and source.

    Raises:
        InputError: the source cannot be had, or is no such data; nothing that was there is touched.
    """
    name, folder = config.dataset, Path(config.data_path) / config.dataset
    simulated = name == SIMULATION
    if name.startswith(MASKED_PREFIX):
        raise InputError(f"--dataset {name}: masked datasets are written by preprocess.py; name the dataset itself, "
                         f"{name[len(MASKED_PREFIX):]}")
    for option in ("archive", "items"):
        if simulated and getattr(config, option):
            raise InputError(f"--{option} {getattr(config, option)}: the dataset {SIMULATION} is generated; "
                             "give data of your own another name with --dataset")
    settings = config.select("filter", *(["simulation", "randomness"] if simulated else []))
    kind = "csv" if config.table == "auto" else config.table
    path, source = None, {"source": SIMULATION} if simulated else {}
    if config.archive:
        path = existing_file(config.archive, "give the path of a .zip, .inter or .csv file", "archive")
        source = {"source": path.name, "sha256": digest(path)}
    if items := items_beside(path, config.items):
        source["items_sha256"] = digest(items)
    if _is_done(folder, config, {**settings, **source, **({} if config.table == "auto" else {TABLE: kind})}):
        return check_rules(config)
    claim(config)  # a download is part of it
    if simulated:
        ratings, movies, unwillingness = simulate(config.sim_users, config.sim_items, config.sim_ratings, config.seed)
    else:
        if path is None:
            path = fetch(config, folder)
            source.update(source=path.name, sha256=digest(path))
        ratings, movies = read_source(path, items)
    ratings, unit = clean(ratings, source["source"], config.duplicates)
    ratings = filter_users(ratings, config.min_ratings, config.max_ratings)
    _check_updates(folder, ratings, source["source"])
    tables = {named(RATINGS_FILE, kind): ratings, MOVIES_FILE: catalogue(ratings, movies, source["source"], items)}
    if simulated and not _is_edited(folder):
        tables[named(UNWILLINGNESS_FILE, kind)] = unwillingness[unwillingness[USER].isin(ratings[USER].unique())]
    (user, user_ids), (item, item_ids) = (pd.factorize(ratings[column], sort=True) for column in (USER, ITEM))
    whole = ordered(name, (user_ids.to_numpy(), item_ids.to_numpy()), (user, item, ratings[TIMESTAMP]))
    users, items = whole.num_users, whole.num_items
    _write(config, tables, whole, {"dataset": name, **source, **settings, "num_users": users, "num_items": items,
                            "num_ratings": len(ratings), TIME_UNIT: unit, "files": [*tables, *ARRAYS], READER: _reader(),
                                   TABLE: kind, TEXT_IDS: text_ids(ratings[USER], ratings[ITEM])})
    finer = (ratings[TIMESTAMP] % (DAY / UNITS.get(unit, 1))).any()
    logger.info("%s: %s users, %s items, %s ratings (%.2f%% of all pairs), %s, written to %s", name, f"{users:,}",
                f"{items:,}", f"{len(ratings):,}", 100 * len(ratings) / users / items,
                "without times: the order of the rows counts" if unit == ORDER else
                f"times in {unit}{'' if finer else ', whole days: of one day the order of the rows counts'}", folder)
    check_rules(config)


def _is_done(folder, config, wanted):
    """Whether the folder holds this dataset; one without a record was put there by hand and is taken as it is."""
    if config.overwrite or not stored(folder / RATINGS_FILE).exists():
        return False
    record = record_of(folder)
    if not record:
        if config.items and not config.archive:
            raise InputError(f"--items {config.items}: {folder} holds data by hand; put the list there as {MOVIES_FILE}")
        if not config.archive:
            logger.info("%s: %s has no %s, so it was not made here; used as it is", config.dataset, folder, DATASET_FILE)
        return not config.archive
    check_tables(folder)
    if any(record.get(key) != value for key, value in wanted.items()):
        return False
    if not all((folder / name).exists() for name in record.get("files", [])):
        return False
    logger.info("%s: %s is there already, kept (--overwrite makes it anew)", config.dataset, folder)
    if record.get(READER) != _reader():
        logger.warning("%s: was made by another version of this program, which may read its source otherwise; --overwrite "
                       "makes it anew", folder)
    return True


def _is_edited(folder):
    """Whether the unwillingness of a simulation was changed by hand, so that it is to be kept."""
    path = stored(folder / UNWILLINGNESS_FILE)
    edited = path.exists() and record_of(folder, "remove it").get(_MADE) != digest(path)
    if edited:
        logger.warning("%s: was changed since the simulation wrote it, and is kept; remove it for a new one", path)
    return edited


def _check_updates(folder, ratings, name):
    """Raises InputError if the dataset that is there holds what an update has added, and these ratings lack it."""
    number = None
    with contextlib.suppress(InputError):  # a damaged record, which --overwrite makes anew
        number = record_of(folder).get(UPDATED)
    if not number or not stored(folder / RATINGS_FILE).exists():
        return
    added = pd.read_csv(folder / RATINGS_FILE, usecols=[USER, ITEM], dtype=str, keep_default_na=False)[-number:]
    there = pd.MultiIndex.from_frame(added).isin(pd.MultiIndex.from_frame(ratings[[USER, ITEM]].astype(str)))
    if not there.all():
        user, item = added[~there].iloc[0]
        raise InputError(f"{folder}: holds what updates have added, which {name} lacks, such as item {item} of user "
                         f"{user}; give a source with all of it, or the dataset another name")


def _reader():
    """Digests of the code that makes a dataset."""
    return [code_digest(f"{__package__}.sources.{name}", "") for name in ("readers", "checks", "simulation")]


def _write(config, tables, whole, record):
    """Puts the files of the dataset in place together; whatever else lies in its folder stays as it is."""
    digests, requests = {}, read_requests(config)
    with Together(config) as files:
        for name, table in tables.items():
            with files.write(DATA, name) as temporary:
                write_table(table, temporary)
                digests[name] = digest(temporary)
        if (made := digests.pop(named(UNWILLINGNESS_FILE, record[TABLE]), None)) is not None:  # which may be edited
            record[_MADE] = made
        digests.update(write_arrays(files, whole))
        files.write_json(DATA, DATASET_FILE, {**record, DIGESTS: digests, **head_of(requests)})


if __name__ == "__main__":
    main(prepare, "run_download_dataset", __doc__)
