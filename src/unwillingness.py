"""How unwilling each user is to have each of her interactions used: b in [0, 1].

Sources (`unwillingness`): uniform on [0, 1] by seed; constant; ratings: the lower the rating, the more unwilling, from 0 for
the best to 1 for the worst rating that occurs; genres: the rarer an item's genres in its user's own history, the more
unwilling; file: `unwillingness.csv` beside the dataset, with a row for each training interaction.

A `willingness_file` states rules over any of these: a CSV with the column unwillingness and some of user_id, item_id and
genre; an empty field, like a missing column, stands for all. Of the rules that an interaction meets the most specific
wins: user and item, user and genre, user, item, genre, none; of several genres the most unwilling.
"""
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from .constants import GENRE, GENRES, ITEM, MOVIES_FILE, RATING, RATINGS_FILE, UNWILLINGNESS, UNWILLINGNESS_FILE, USER
from .dataset import dataset_files, dataset_folder, id_types
from .errors import InputError
from .stat_utils import generator

logger = logging.getLogger("ifrqe")

_COLUMNS = (USER, ITEM, GENRE)
# what a rule can name, from the least to the most specific
_LEVELS = ((), (GENRE,), (ITEM,), (ITEM, GENRE), (USER,), (USER, GENRE), (USER, ITEM), (USER, ITEM, GENRE))
_UNKNOWN, _ALL = -1, -2  # positions that a rule has instead of an id's
_NO_GENRE = "(no genres listed)"
_SHOWN = 5  # line numbers in a message
_ROWS = 1 << 20  # interactions whose genres are in memory at a time


def unwillingness_files(config):
    """Paths of the files that the settings take unwillingness from.

    Raises:
        InputError: one is called for, but is not there.
    """
    files = []
    path = dataset_folder(config) / UNWILLINGNESS_FILE
    if config.unwillingness == "file" and not path.is_file():
        raise InputError(f"{path}: no such file; write one with the columns {USER},{ITEM},{UNWILLINGNESS}, "
                         "or choose another --unwillingness")
    if unwillingness_source(config) == "file":
        files.append(path)
    if config.unwillingness in ("ratings", "genres"):
        name = RATINGS_FILE if config.unwillingness == "ratings" else MOVIES_FILE
        if not path.with_name(name).is_file():
            raise InputError(f"{path.with_name(name)}: no such file, and --unwillingness {config.unwillingness} needs it; "
                             "choose another")
    if config.willingness_file:
        files.append(_given(config))
    return files


def data_files(config):
    """The files of the dataset and of its unwillingness, as inputs of a stage, each once."""
    return list(dict.fromkeys([*dataset_files(config), *unwillingness_files(config)]))


def _given(config):
    path = Path(config.willingness_file)
    if not path.is_file():
        raise InputError(f"--willingness_file {path}: no such file; give a CSV with {UNWILLINGNESS} and some of {USER}, "
                         f"{ITEM} and {GENRE}")
    return path


def unwillingness_source(config):
    """Where unwillingness comes from; `auto` made definite."""
    if config.unwillingness != "auto":
        return config.unwillingness
    if config.willingness_file:
        return "willing"  # who states nothing has nothing against it
    return "file" if (dataset_folder(config) / UNWILLINGNESS_FILE).is_file() else "uniform"


def load_unwillingness(dataset, config):
    """How unwilling the user is to have each training interaction used.

    Returns:
        (n,) float64 array in [0, 1], in the order of dataset.user.

    Raises:
        InputError: a file is missing, lacks what it must have, or has a value outside [0, 1]: the message names the line.
    """
    unwillingness_files(config)
    source = unwillingness_source(config)
    n = dataset.num_interactions
    if source == "file":
        path = dataset_folder(config) / UNWILLINGNESS_FILE
        value = np.full(n, np.nan)
        apply_rules(value, path, dataset, config, needed=(USER, ITEM))
        if np.isnan(value).any():
            k = int(np.isnan(value).argmax())
            raise InputError(f"{path}: lacks {np.isnan(value).sum()} training interactions, e.g. user "
                             f"{dataset.user_ids[dataset.user[k]]}, item {dataset.item_ids[dataset.item[k]]}; "
                             "add a row for each")
    elif source == "ratings":
        value = _by_rating(dataset, config)
    elif source == "genres":
        value = _by_genre(dataset, config)
    elif source == "uniform":
        value = generator(config.seed, "unwillingness").random(n)
    else:
        value = np.full(n, 0.0 if source == "willing" else config.unwillingness_value)
    if config.willingness_file:
        covered, unmatched = apply_rules(value, _given(config), dataset, config)
        logger.info("%s: states the unwillingness of %s of %s training interactions; the rest: %s", config.willingness_file,
                    f"{covered:,}", f"{n:,}", "0" if source == "willing" else source)
        if len(unmatched):
            logger.warning("%s: line%s %s meet%s no training interaction (held-out ones are never trained on)",
                           config.willingness_file, "s" * (len(unmatched) > 1), _lines(unmatched),
                           "s" * (len(unmatched) == 1))
    return value


def vetoed(unwillingness, config):
    """(n,) bool: the interactions that may never be disclosed, those of unwillingness 1 under --veto."""
    return (unwillingness == 1) & config.veto


def _lines(rows):
    """The first line numbers of rows of a CSV, counting its header."""
    shown = ", ".join(str(row + 2) for row in rows[:_SHOWN])
    return shown + (f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else "")


def apply_rules(value, path, dataset, config, needed=()):
    """Writes what the rules of a CSV say into `value` (n,), in the order of dataset.user.

    Args:
        needed: columns that every rule must name.

    Returns:
        covered: number of interactions that a rule meets.
        unmatched: (r,) rows of the file, from 0, that meet none.

    Raises:
        InputError: names the line that is wrong.
    """
    rules = _read_rules(path, dataset, needed)
    named = rules[list(_COLUMNS)] != _ALL
    interactions = pd.DataFrame({USER: dataset.user, ITEM: dataset.item})
    if named[GENRE].any():
        of_item = _genres(dataset, config)
        rules[GENRE] = rules[GENRE].map({name: k for k, name in enumerate(of_item.columns)}).fillna(_UNKNOWN).where(
            named[GENRE], _ALL).astype(int)
        pairs = pd.DataFrame(np.argwhere(of_item.to_numpy()), columns=[ITEM, GENRE])
    covered, met = np.zeros(len(value), bool), np.zeros(len(rules), bool)
    for level in _LEVELS:
        chosen = rules[(named == [column in level for column in _COLUMNS]).all(axis=1)]
        if chosen.empty:
            continue
        if not level:
            value[:], covered[:], met[chosen.index] = chosen[UNWILLINGNESS].iloc[0], True, len(value) > 0
            continue
        asked = interactions.reset_index(names="place")
        if GENRE in level:
            asked = asked.merge(pairs, on=ITEM)
        found = asked.merge(chosen[[*level, UNWILLINGNESS]].reset_index(names="rule"), on=list(level))
        strongest = found.groupby("place")[UNWILLINGNESS].max()
        value[strongest.index] = strongest
        covered[strongest.index] = True
        met[found["rule"]] = True
    return int(covered.sum()), np.flatnonzero(~met)


def _read_rules(path, dataset, needed):
    """The rules with ids as positions in the dataset: _ALL where nothing is named, _UNKNOWN where there is no such id."""
    options = id_types(dataset)
    try:
        table = pd.read_csv(path, **{**options, "dtype": {**options["dtype"], GENRE: str}}, skip_blank_lines=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: is no CSV file ({' '.join(str(e).split())}); it needs {UNWILLINGNESS} and some of "
                         f"{', '.join(_COLUMNS)}") from e
    missing = [c for c in (*needed, UNWILLINGNESS) if c not in table]
    if missing:
        raise InputError(f"{path}: has no column {', '.join(missing)}; it needs {','.join((*needed, UNWILLINGNESS))}")
    if unknown := [c for c in table if c not in (*_COLUMNS, UNWILLINGNESS)]:
        raise InputError(f"{path}: has a column {unknown[0]!r}; the columns are {', '.join(_COLUMNS)} and {UNWILLINGNESS}")
    table = table[~((table.isna()) | (table == "")).all(axis=1)]
    value = pd.to_numeric(table[UNWILLINGNESS], errors="coerce")
    bad = np.flatnonzero(~value.between(0, 1))
    if len(bad):
        raise InputError(f"{path}: line {_lines(table.index[bad])}: unwillingness {table[UNWILLINGNESS].iloc[bad[0]]}; it "
                         "must be a number in [0, 1]")
    rules = pd.DataFrame({UNWILLINGNESS: value}, table.index)
    for column, ids in ((USER, dataset.user_ids), (ITEM, dataset.item_ids)):
        given = table[column] if column in table else pd.Series("", table.index)
        named = given.notna() & (given != "")
        if ids.dtype.kind in "iu":
            given = pd.to_numeric(given, errors="coerce")
        position = np.full(len(table), _ALL)
        position[named] = pd.Index(ids).get_indexer(given[named])  # -1, that is _UNKNOWN, if it is not there
        rules[column] = position
        if column in needed and not named.all():
            raise InputError(f"{path}: line {_lines(table.index[~named])}: no {column}; name it")
    genre = table[GENRE].fillna("").str.strip().str.casefold() if GENRE in table else pd.Series("", table.index)
    rules[GENRE] = genre.where(genre != "", _ALL)
    repeated = table.index[rules.duplicated(list(_COLUMNS)) & (rules[[USER, ITEM]] != _UNKNOWN).all(axis=1)]
    if len(repeated):
        raise InputError(f"{path}: line {_lines(repeated)}: repeats the rule of an earlier line; remove it")
    return rules


def _genres(dataset, config):
    """(num_items, genres) bool DataFrame in the order of dataset.item_ids; the columns are lower-case names of genres.

    An item without a genre, or without a row in movies.csv, has the genre "(no genres listed)".

    Raises:
        InputError: there is no movies.csv, or it has no genres.
    """
    path = dataset_folder(config) / MOVIES_FILE
    remedy = f"make the dataset anew from a source with genres, or use rules and unwillingness without {GENRE}"
    if not path.is_file():
        raise InputError(f"{path}: no such file, so no genres are known; {remedy}")
    movies = pd.read_csv(path, **id_types(dataset))
    if GENRES not in movies:
        raise InputError(f"{path}: has no column {GENRES}; {remedy}")
    listed = movies.set_index(ITEM)[GENRES].reindex(dataset.item_ids).fillna("").str.strip().str.casefold()
    if (listed == "").all():
        raise InputError(f"{path}: lists no genres; {remedy}")
    return listed.where(listed != "", _NO_GENRE).str.get_dummies("|").astype(bool)


def _by_rating(dataset, config):
    path = dataset_folder(config) / RATINGS_FILE
    table = pd.read_csv(path, usecols=lambda column: column == RATING)
    rating = pd.to_numeric(table[RATING], errors="coerce").to_numpy() if RATING in table else np.zeros(0)
    if not len(rating) or not np.isfinite(rating).all() or np.ptp(rating) == 0:
        raise InputError(f"{path}: has no column {RATING} with different numbers, which --unwillingness ratings needs; "
                         "choose another")
    return ((rating.max() - rating) / np.ptp(rating))[dataset.rows]


def _by_genre(dataset, config):
    """1 minus the mean share of the interaction's genres in its user's history."""
    genres = _genres(dataset, config).to_numpy(np.float32)
    of_user = np.zeros((dataset.num_users, genres.shape[1]), np.float32)
    np.add.at(of_user, dataset.user, genres[dataset.item])
    share = of_user / np.maximum(np.bincount(dataset.user, minlength=dataset.num_users), 1)[:, None]
    value = np.empty(dataset.num_interactions)
    for start in range(0, len(value), _ROWS):
        user, item = dataset.user[start:start + _ROWS], dataset.item[start:start + _ROWS]
        value[start:start + _ROWS] = 1 - (share[user] * genres[item]).sum(1) / genres[item].sum(1)
    return np.clip(value, 0, 1)
