"""How unwilling each user is to have each of their interactions used: b in [0, 1].

The sources (`unwillingness`) are uniform on [0, 1] by seed; constant; ratings, from 0 for the best to 1 for the worst that
occurs; genres, the rarer in the user's own history the more unwilling; file, `unwillingness.csv` beside the dataset. A
`willingness_file` states rules over any of these: a CSV with the column unwillingness and some of user_id, item_id and
genre, where an empty field, like a missing column, stands for all; or a receipt, see receipts.py. Of the rules that an
interaction meets the most specific wins: user and item, user and genre, user, item, genre, none; of several genres the most
unwilling.
"""
from __future__ import annotations

import difflib
import logging

import numpy as np
import pandas as pd

from ..common.columns import NO_GENRE, clean_ids, clean_text, positions
from ..common.errors import InputError
from ..common.tables import existing_file, read_table, short_line
from ..common.variant import dataset_files, dataset_folder
from ..config import Config
from ..constants import GENRE, GENRES, ITEM, MOVIES_FILE, RATING, RATINGS_FILE, UNWILLINGNESS, UNWILLINGNESS_FILE, USER
from ..sources.catalogue import genres_of, load_catalogue, plain_genre
from ..sources.interactions import Interactions, read_interactions, read_ratings_column
from ..stat_utils import generator
from .receipts import is_receipt, rules_of
from .withdrawn import withdrawn_path

logger = logging.getLogger("ifrqe")

_COLUMNS = [USER, ITEM, GENRE]  # what a rule can name
_UNKNOWN, _ALL = -1, -2  # positions that a rule has instead of an id's
_NOTHING = 1e-12  # an unwillingness below it is none; prices are quotients by it
_SHOWN = 5  # line numbers in a message
_ROWS = 1 << 20  # interactions whose genres are in memory at a time


def unwillingness_files(config):
    """Paths of the files that the settings take unwillingness from, beside those of the dataset.

    Raises:
        InputError: one is called for, but is not there.
    """
    source = unwillingness_source(config)
    name = {"file": UNWILLINGNESS_FILE, "ratings": RATINGS_FILE, "genres": MOVIES_FILE}.get(source, "")
    path = dataset_folder(config) / name
    if source == "file" and not path.is_file():
        raise InputError(f"{path}: no such file; write one with the columns {USER},{ITEM},{UNWILLINGNESS}, "
                         "or choose another --unwillingness")
    if name and not path.is_file():
        raise InputError(f"{path}: no such file, and --unwillingness {source} needs it; choose another")
    files = [path] if source == "file" else []
    return [*files, _given(config)] if config.willingness_file else files


def data_files(config):
    """The files of the dataset and of its unwillingness, as inputs of a stage, each once."""
    record = [path] if (path := withdrawn_path(config)).exists() else []
    return list(dict.fromkeys([*dataset_files(config), *unwillingness_files(config), *record]))


def _given(config):
    return existing_file(config.willingness_file, f"give a CSV with {UNWILLINGNESS} and some of {USER}, {ITEM} and {GENRE}",
                         "willingness_file")


def unwillingness_source(config):
    """Where unwillingness comes from; `auto` made definite."""
    if config.unwillingness != "auto":
        return config.unwillingness
    if config.willingness_file:
        return "willing"  # who states nothing has nothing against it
    return "file" if (dataset_folder(config) / UNWILLINGNESS_FILE).is_file() else "uniform"


def stated(data: Interactions, config: Config, whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """What is said of interactions by themselves: by a file, rules, ratings or a constant.

    Args:
        data: Interactions, or a Dataset.
        config: the options of unwillingness.
        whole: whether they are all of the dataset, held-out ones too.

    Returns:
        value: (n,) float64 in [0, 1], how unwilling; NaN where that depends on the history, or nobody has said it.
        line: (n,) int32, the line of the `willingness_file` that says so; with a minus that of the file beside the dataset;
            0 for none.

    Raises:
        InputError: a file is missing, lacks what it must have, or has a value outside [0, 1]: the message names the line.
    """
    unwillingness_files(config)
    source, n = unwillingness_source(config), data.num_interactions
    value, line = np.full(n, np.nan), np.zeros(n, np.int32)
    if source == "file":
        _apply_rules(value, line, dataset_folder(config) / UNWILLINGNESS_FILE, data, config, needed=(USER, ITEM))
        line *= -1
    elif source == "ratings":
        value = _by_rating(data, config)
    elif source in ("willing", "constant"):
        value[:] = 0 if source == "willing" else config.unwillingness_value
    if config.willingness_file:
        covered, unmet = _apply_rules(value, line, _given(config), data, config)
        kind = "interactions" if whole else "training interactions"
        logger.info("%s: states the unwillingness of %s of %s %s; the rest: %s", config.willingness_file,
                    f"{covered:,}", f"{n:,}", kind, "0" if source == "willing" else source)
        _name_unmet(_faults(unmet, data, config, whole), kind, config, whole)
    value[value < _NOTHING] = 0
    return value, line


def check_rules(config: Config) -> None:
    """Raises InputError if rules, or genres, cannot state the unwillingness of the dataset that is there."""
    if config.willingness_file:
        stated(read_interactions(config), config, whole=True)
    elif config.unwillingness == "genres":
        genres_of(read_interactions(config), config)


def _name_unmet(faults, kind, config, whole):
    """Names the rules that meet nothing, see _faults; under --veto, which may lose none, wrong ones are an error."""
    wrong = {row: fault for row, fault in faults.items() if fault}
    refused = wrong and config.veto and whole
    if (rows := list(wrong if refused or config.newcomers else faults)):
        lines = f"lines {_lines(rows)} meet" if len(rows) > 1 else f"line {_lines(rows)} meets"
        said = ": ".join([f"{config.willingness_file}: {lines} no {kind.removesuffix('s')}",
                          *[", ".join(list(dict.fromkeys(wrong.values()))[:_SHOWN])] * bool(wrong)])
        if refused:
            raise InputError(f"{said}; correct or remove what is wrong, since under --veto no rule may be lost")
        logger.warning("%s%s", said, "" if whole else
                       " (held-out ones are never trained on; --veto keeps them out of all use)")


def _faults(rules, data, config, whole):
    """By row of the file what is wrong with rules, a DataFrame of text, that meet nothing: "" for what may come yet."""
    if not len(rules):
        return {}
    genres = [NO_GENRE, *load_catalogue(data, config)[GENRES].str.split("|").explode()]
    names = {USER: {str(name): name for name in data.user_ids}, ITEM: {str(name): name for name in data.item_ids},
             GENRE: {plain_genre(genre): genre for genre in genres}}
    faults = {}
    for row, rule in zip(rules.index, rules.to_dict("records")):
        said = {column: (plain_genre if column == GENRE else clean_text)(rule.get(column, "")) for column in _COLUMNS}
        unknown = next((column for column, text in said.items() if text and text not in names[column]), None)
        if unknown is None:
            faults[row] = "no such pair" if whole and said[ITEM] and (said[USER] or said[GENRE]) else ""
        elif not (config.newcomers and unknown == USER):  # perhaps another newcomer
            near = difflib.get_close_matches(said[unknown], names[unknown], 1) if len(faults) < _SHOWN else []
            faults[row] = f"no {unknown.removesuffix('_id')} {rule[unknown].strip()!r}" + "".join(
                f" (did you mean {names[unknown][name]}?)" for name in near)
    return faults


def load_stated(dataset, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """How unwilling the user is to have each training interaction of a Dataset used: what `stated` says, without NaN.

    Raises:
        InputError: as `stated` does, or the file beside the dataset lacks an interaction.
    """
    value, line = stated(dataset, config) if dataset.stated is None else dataset.stated
    missing = np.isnan(value)
    if not missing.any():
        return value, line
    source = unwillingness_source(config)
    if source == "file":
        k = int(missing.argmax())
        raise InputError(f"{dataset_folder(config) / UNWILLINGNESS_FILE}: lacks {missing.sum()} training interactions, e.g. "
                         f"user {dataset.user_ids[dataset.user[k]]}, item {dataset.item_ids[dataset.item[k]]}; "
                         "add a row for each")
    value = value.copy()
    if source == "genres":
        value[missing] = _by_genre(dataset, config)[missing]
    else:  # the draws of an interaction stay its own when others are left out
        place = np.arange(len(value)) if dataset.place is None else dataset.place
        drawn = generator(config.seed, "unwillingness").random(int(place.max()) + 1)[place]
        value[missing] = drawn[missing]
    value[value < _NOTHING] = 0
    return value, line


def load_unwillingness(dataset, config: Config) -> np.ndarray:
    """(n,) float64: the values of load_stated; raises as it does."""
    return load_stated(dataset, config)[0]


def _lines(rows):
    """The first line numbers of rows of a CSV, counting its header."""
    shown = ", ".join(str(row + 2) for row in rows[:_SHOWN])
    return shown + (f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else "")


def _apply_rules(value, line, path, data, config, needed=()):
    """Writes what the rules of a CSV say into `value` and `line` (n,), of some Interactions; every rule names `needed`.

    Returns:
        covered: number of interactions that a rule meets.
        unmet: DataFrame of the rules, as text, that meet none, by row of the file, from 0.
    """
    rules, table, rows = _read_rules(path, data, needed)
    by_genre = rules[GENRE] != _ALL
    if by_genre.any():
        pairs, names = genres_of(data, config)
        rules[GENRE] = np.where(by_genre, names.get_indexer(rules[GENRE]), _ALL)  # -1, that is _UNKNOWN, if not in names
        pairs = pairs[pairs[GENRE].isin(rules[GENRE])]
    said, met, lines = rules[UNWILLINGNESS].to_numpy(), np.zeros(len(rules), bool), np.asarray(rows) + 2
    decides = np.full(len(value), -1)  # the rule that decides on each interaction
    specificity = sum(weight * (rules[column] != _ALL).to_numpy(np.int8) for weight, column in zip((4, 2, 1), _COLUMNS))
    for rank in np.unique(specificity):
        chosen = rules[specificity == rank]
        level = [column for column in _COLUMNS if chosen[column].iloc[0] != _ALL]
        if not level:
            decides[:], met[chosen.index] = chosen.index[0], len(value) > 0
            continue
        if level == [USER, ITEM]:
            place, rule = _of_pairs(chosen, data)
            decides[place], met[rule] = rule, True
            continue
        chosen = chosen[[*level, UNWILLINGNESS]].reset_index(names="rule")
        if USER in level:
            chosen = chosen.sort_values(USER)
        for start in range(0, len(value), _ROWS):
            part = slice(start, start + _ROWS)
            asked = pd.DataFrame({"place": np.arange(len(value))[part], USER: data.user[part], ITEM: data.item[part]})
            near = chosen
            if USER in level:  # interactions are by user
                first, last = asked[USER].iloc[0], asked[USER].iloc[-1]
                near = chosen[slice(*np.searchsorted(chosen[USER], [first, last + 1]))]
            if GENRE in level:
                asked = asked.merge(pairs, on=ITEM)
            found = asked.merge(near, on=level)
            strongest = found.sort_values(UNWILLINGNESS, kind="stable").drop_duplicates("place", keep="last")
            decides[strongest["place"]] = strongest["rule"]
            met[found["rule"]] = True
    covered = decides >= 0
    value[covered], line[covered] = said[decides[covered]], lines[decides[covered]]
    return int(covered.sum()), table[~met].set_axis(rows[~met])


def _of_pairs(rules, dataset):
    """Where rules of a user and an item, different ones by _read_rules, apply: (k,) places of interactions, (k,) rules."""
    known = rules[(rules[USER] != _UNKNOWN) & (rules[ITEM] != _UNKNOWN)]
    key = known[USER].to_numpy(np.int64) * dataset.num_items + known[ITEM].to_numpy()
    order = np.argsort(key, kind="stable")
    key, rule = key[order], known.index.to_numpy()[order]
    asked = dataset.user.astype(np.int64) * dataset.num_items + dataset.item
    at = np.searchsorted(key, asked)
    place = np.flatnonzero(np.append(key, -1)[at] == asked)
    return place, rule[at[place]]


def _read_rules(path, dataset, needed):
    """The rules of a CSV, the same as text, and the row of the file of each.

    Ids are positions in the dataset, genres text; _ALL stands for what is not named, _UNKNOWN for an id of no position.
    """
    table = rules_of(path) if is_receipt(path) else read_table(path, [*_COLUMNS, UNWILLINGNESS], [*needed, UNWILLINGNESS],
                                                               extra="refused", skip_blank_lines=False)
    blank = {column: _is_blank(table[column]) for column in table}
    empty = np.all(list(blank.values()), axis=0)
    rows = table.index
    if empty.any():
        rows = rows[~empty]
        table = table[~empty].reset_index(drop=True)

    def refuse(bad, what):
        if bad.any():
            raise InputError(f"{path}: line {_lines(rows[bad])}: {what}")

    value = pd.to_numeric(table[UNWILLINGNESS], errors="coerce")
    bad = ~value.between(0, 1) | (table[UNWILLINGNESS].dtype == bool)
    refuse(bad, f"unwillingness {next(iter(table[UNWILLINGNESS][bad]), '')}; it must be a number in [0, 1]")
    if any(blank[column][rows].any() for column in _COLUMNS if column in table) and (short := short_line(path)):
        raise InputError(f"{path}: line {short} has fewer fields than the header, and what it does not name must not stand "
                         "for all; fill it up with commas, or remove it")
    rules = pd.DataFrame({UNWILLINGNESS: value})
    for column, known in ((USER, dataset.user_ids), (ITEM, dataset.item_ids)):
        rules[column] = _ALL
        if column in table:
            ids = clean_ids(table[column], path, column, lambda row: f"line {rows[row] + 2}", blank=True)
            # a position is -1, that is _UNKNOWN, if there is no such id
            rules[column] = np.append(positions(known, ids.unique), _ALL)[ids.code]
        if column in needed:
            refuse(rules[column] == _ALL, f"no {column}; name it")
    rules[GENRE] = _ALL
    if GENRE in table:
        genre = table[GENRE].map(plain_genre)
        rules[GENRE] = genre.where(genre != "", _ALL)
    pair = np.sort((rules[USER].to_numpy(np.int64) - _ALL) * (dataset.num_items - _ALL) + rules[ITEM].to_numpy() - _ALL)
    if (pair[1:] == pair[:-1]).any():  # else all rules differ
        refuse(rules.duplicated(_COLUMNS) & (rules[[USER, ITEM]] != _UNKNOWN).all(axis=1),
               "repeats the rule of an earlier line; remove it")
    return rules, table, rows


def _is_blank(column):
    """(n,) bool: the fields of a column in which nothing stands."""
    if pd.api.types.is_numeric_dtype(column):
        return np.zeros(len(column), bool)
    column = column.astype("category").cat
    return np.array([text.strip() == "" for text in column.categories], bool)[column.codes]


def _by_rating(data, config):
    rating = read_ratings_column(config, RATING)
    if rating is None or np.ptp(rating) == 0:
        raise InputError(f"{dataset_folder(config) / RATINGS_FILE}: has no column {RATING} with different numbers, which "
                         "--unwillingness ratings needs; choose another")
    return ((rating.max() - rating) / np.ptp(rating))[data.rows]


def _by_genre(dataset, config):
    """(n,) 1 minus the mean share of the interaction's genres in its user's history."""
    pairs, names = genres_of(dataset, config)
    genre = pairs[GENRE].to_numpy()
    number = np.bincount(pairs[ITEM], minlength=dataset.num_items)  # of genres of an item
    first = np.cumsum(number) - number
    length = np.bincount(dataset.user, minlength=dataset.num_users)
    value = np.empty(dataset.num_interactions)
    start = 0
    while start < len(value):  # whole users, since shares are those of a history
        end = int(np.searchsorted(dataset.user, dataset.user[min(start + _ROWS, len(value)) - 1], side="right"))
        user, of_item = dataset.user[start:end], dataset.item[start:end]
        row = np.repeat(np.arange(end - start), number[of_item])
        begin = np.cumsum(number[of_item]) - number[of_item]
        key = user[row].astype(np.int64) * len(names) + genre[first[of_item][row] + np.arange(len(row)) - begin[row]]
        _, place, count = np.unique(key, return_inverse=True, return_counts=True)
        share = count[place] / length[user[row]]
        value[start:end] = 1 - np.bincount(row, share, end - start) / number[of_item]
        start = end
    return np.clip(value, 0, 1)
