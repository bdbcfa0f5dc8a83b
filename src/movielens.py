"""The data stage: MovieLens releases, RecBole, CSV and Parquet files, or the simulation, all into one format.

Run as `python -m src.movielens --dataset NAME [--archive FILE]`. Writes under data_path:
NAME/ratings.csv (user_id,item_id,rating,timestamp; original ids, order of the source) or NAME/ratings.parquet (by user and
time), the same as numbers (see sources/arrays.py), NAME/movies.csv (the catalogue: item_id,title,genres of every item that
occurs) and NAME/dataset.json (where it comes from, filters, counts); for the simulation also NAME/unwillingness.csv.
"""
import contextlib
from pathlib import Path

import pandas as pd

from . import constants as names
from .common.errors import InputError, logger
from .common.files import digest
from .common.locks import claim
from .common.machine import code_digest
from .common.stage import main
from .common.stored import PARQUET, arrow, named, slices, stored, write_table
from .common.tables import existing_file, read_parts
from .common.times import ORDER
from .common.together import Together
from .common.variant import DATA, DIGESTS, check_tables, dataset_folder, record_of
from .config import Config
from .consent.unwillingness import check_rules
from .consent.withdrawn import head_of, read_requests
from .constants import ITEM, MASKED_PREFIX, READER, SIMULATION, TIME_UNIT, UPDATED, USER
from .sources.arrays import write_parts
from .sources.catalogue import text_ids
from .sources.checks import Arranged, catalogue
from .sources.download import fetch
from .sources.gather import Gathered
from .sources.readers import items_beside, read_source
from .sources.simulation import simulate

TABLE = "table"  # key of dataset.json: how its tables are stored, "csv" or "parquet"
_MADE = "unwillingness_sha256"  # key of dataset.json: what the simulation wrote


def prepare(config: Config) -> None:
    """Makes the dataset that the settings name, unless it is there already; after an InputError all is as it was."""
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
    path, source = None, {"source": SIMULATION} if simulated else {}
    if config.archive:
        path = Path(config.archive)
        if not path.is_dir():
            existing_file(path, "give the path of a .zip, .inter, .csv or .parquet file", "archive")
        source = {"source": path.name, "sha256": digest(path)}
    if items := items_beside(path, config.items):
        source["items_sha256"] = digest(items)
    if _is_done(folder, config, {**settings, **source, **({} if config.table == "auto" else {TABLE: config.table})}):
        return check_rules(config)
    claim(config)  # a download is part of it
    if path is None and not simulated:
        path = fetch(config, folder)
        source.update(source=path.name, sha256=digest(path))
    given = PARQUET[1:] if path and (path.is_dir() or path.suffix.lower() == PARQUET) else "csv"
    record = {"dataset": name, **source, **settings, TABLE: given if config.table == "auto" else config.table}
    if record[TABLE] != "csv":
        arrow(folder / named(names.RATINGS_FILE, record[TABLE]))
    ratings, movies, unwillingness = _read(config, path, items)
    ratings = Arranged(ratings, config.duplicates, config.min_ratings, config.max_ratings, record[TABLE] != "csv")
    _check_updates(folder, ratings, source["source"])
    _write(config, ratings, catalogue(ratings.item_ids, movies, source["source"], items), unwillingness, record)
    users, items, unit = len(ratings.user_ids), len(ratings.item_ids), ratings.found.times.unit
    logger.info("%s: %s users, %s items, %s ratings (%.2f%% of all pairs), %s, written to %s", name, f"{users:,}",
                f"{items:,}", f"{ratings.rows:,}", 100 * ratings.rows / users / items,
                "without times: the order of the rows counts" if unit == ORDER else
                f"times in {unit}{'' if ratings.finer else ', whole days: of one day the order of the rows counts'}", folder)
    check_rules(config)


def _read(config, path, items):
    """Gathered ratings, the list of items, and of a simulation (path None) unwillingness, else None."""
    folder = dataset_folder(config)
    spool = folder if folder.is_dir() else folder.parent
    spool.mkdir(parents=True, exist_ok=True)
    if path is not None:
        return *read_source(path, items, spool), None
    ratings, movies, unwillingness = simulate(config.sim_users, config.sim_items, config.sim_ratings, config.seed)
    return Gathered(SIMULATION, spool).take(slices(ratings)), movies, unwillingness


def _is_done(folder, config, wanted):
    if config.overwrite or not stored(folder / names.RATINGS_FILE).exists():
        return False
    record = record_of(folder)
    if not record:
        if config.items and not config.archive:
            raise InputError(f"--items {config.items}: {folder} holds data by hand; put the list there as "
                             f"{names.MOVIES_FILE}")
        if not config.archive:
            logger.info("%s: %s has no %s, so it was not made here; used as it is", config.dataset, folder,
                        names.DATASET_FILE)
        return not config.archive
    check_tables(folder)
    same = all(record.get(key) == value for key, value in wanted.items())
    if not same or not all((folder / name).exists() for name in record.get("files", [])):
        return False
    logger.info("%s: %s is there already, kept (--overwrite makes it anew)", config.dataset, folder)
    if record.get(READER) != _reader():
        logger.warning("%s: was made by another version of this program, which may read its source otherwise; --overwrite "
                       "makes it anew", folder)
    return True


def _check_updates(folder, ratings, name):
    number, path = None, stored(folder / names.RATINGS_FILE)
    with contextlib.suppress(InputError):  # a damaged record, which --overwrite makes anew
        number = record_of(folder).get(UPDATED)
    if not number or not path.exists():
        return
    added = pd.DataFrame()
    for part in read_parts(path, [USER, ITEM], extra="quiet"):
        added = pd.concat([added, part.tail(number).astype(str)]).tail(number)
    there = ratings.holds(added[USER].to_numpy(), added[ITEM].to_numpy())
    if not there.all():
        user, item = added[~there].iloc[0]
        raise InputError(f"{folder}: holds what updates have added, which {name} lacks, such as item {item} of user "
                         f"{user}; give a source with all of it, or the dataset another name")


def _reader():
    return [code_digest(f"{__package__}.sources.{name}", "") for name in ("readers", "checks", "simulation")]


def _write(config, ratings, movies, unwillingness, record):
    made, path = unwillingness is not None, stored(dataset_folder(config) / names.UNWILLINGNESS_FILE)
    if made and path.exists() and record_of(path.parent, "remove it").get(_MADE) != digest(path):
        logger.warning("%s: was changed since the simulation wrote it, and is kept; remove it for a new one", path)
        made = False
    digests, (table, stated) = {}, (named(name, record[TABLE]) for name in (names.RATINGS_FILE, names.UNWILLINGNESS_FILE))
    said = (part[part[USER].isin(ratings.user_ids)] for part in slices(unwillingness)) if made else ()
    with Together(config) as files:
        for name, parts, rows in ((table, ratings.table(), ratings.rows), (names.MOVIES_FILE, movies, None),
                                  *([(stated, said, None)] if made else [])):
            with files.write(DATA, name) as temporary:
                write_table(parts, temporary, rows)
                digests[name] = digest(temporary)
        digests.update(write_parts(files, ratings.user_ids, ratings.length, ratings.found.times.kind, ratings.arrays()))
        every = list(digests)
        if made:  # which may be edited
            record[_MADE] = digests.pop(stated)
        files.write_json(DATA, names.DATASET_FILE, {
            **record, "num_users": len(ratings.user_ids), "num_items": len(ratings.item_ids), "num_ratings": ratings.rows,
            TIME_UNIT: ratings.found.times.unit, "files": every, READER: _reader(),
            **text_ids(ratings.user_ids, ratings.item_ids), DIGESTS: digests, **head_of(read_requests(config))})


if __name__ == "__main__":
    main(prepare, "run_download_dataset", __doc__)
