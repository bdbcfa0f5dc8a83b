"""Rules: lines that name a user, an item, a genre or a time, and which interactions they meet, held-out ones too."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.columns import BLANKS, clean_ids, clean_text, positions
from ..common.errors import InputError
from ..common.tables import read_parts, short_line
from ..common.times import moment
from ..config import Config
from ..constants import GENRE, ITEM, RATINGS_FILE, SINCE, UNTIL, UNWILLINGNESS, USER
from ..sources.catalogue import genres_of, plain_genre
from ..sources.interactions import Interactions, time_unit
from ..stat_utils import parts
from .receipts import rules_of

NAMED = [USER, ITEM, GENRE]  # what a rule can name
BOUNDS = [SINCE, UNTIL]  # and the times that it means, the former within, the latter not
NOTHING = 1e-12  # an unwillingness below it is none; prices are quotients by it
UNKNOWN, ALL, ELSEWHERE = -1, -2, -3  # where a rule names what is not there, or nothing, or a user of another rank
_SHOWN = 5  # line numbers in a message


@dataclass
class Rules:
    """What lines say of the interactions that they name; who or what a line does not name, it says of all.

    names: (3, r) int64, positions of users, items and genres, UNKNOWN, ALL or ELSEWHERE.
    genres: see genres_of; None where no rule names one.
    bounds: (2, r) float64, the times that they mean, in the unit of Interactions.time; infinite where there is no bound.
    value: (r,) float64 in [0, 1], unwillingness.
    line, text: (r,) int64, lines of the file, and DataFrame of what stands there.
    """
    names: np.ndarray
    genres: tuple | None
    bounds: np.ndarray
    value: np.ndarray
    line: np.ndarray
    text: pd.DataFrame

    @classmethod
    def read(cls, path: str | Path, data: Interactions, config: Config, needed: tuple[str, ...],
             **options) -> Iterator[Rules]:
        """The rules in a receipt, or in a table as `of` takes it, part by part; empty lines say nothing."""
        for table in [rules_of(path)] if Path(path).suffix == ".json" else read_parts(
                path, [*NAMED, *BOUNDS, UNWILLINGNESS], needed, extra="refused", skip_blank_lines=False, **options):
            blank = {column: _is_blank(table[column]) for column in table}
            filled = ~np.all(list(blank.values()), axis=0)
            if any(blank[column][filled].any() for column in set(table) - {UNWILLINGNESS}) and (short := short_line(path)):
                raise InputError(f"{path}: line {short} has fewer fields than the header, and what it does not name must "
                                 "not stand for all; fill it up with commas, or remove it")
            line = table.index[filled].to_numpy() + 2
            yield cls.of(table[filled].reset_index(drop=True), path, line, data, config, needed)

    @classmethod
    def of(cls, table: pd.DataFrame, name: str | Path, line: np.ndarray, data: Interactions, config: Config,
           needed: tuple[str, ...] = ()) -> Rules:
        """The rules in a table of text with some of NAMED, BOUNDS and unwillingness, 1 where it has no such column.

        name, line: of the file, and (r,) the line of each rule.
        needed: columns in which each line must name something.
        Raises InputError: a value is wrong, or a genre or time is named where none are known.
        """
        value = unwillingness_in(table, name, line) if UNWILLINGNESS in table else np.ones(len(table))
        names, genres = np.full((3, len(table)), ALL), None
        for row, column, known in zip(names, (USER, ITEM), (data.all_user_ids, data.item_ids)):
            if column in table:
                ids = clean_ids(table[column], name, column, lambda row: f"line {line[row]}", blank=True)
                row[:] = np.where(ids == "", ALL, positions(known, ids))
            if column in needed:
                refuse(row == ALL, name, f"no {column}; name it", line)
        own = np.append(np.full(len(data.all_user_ids), ELSEWHERE), [ALL, UNKNOWN])
        own[data.numbers] = np.arange(data.num_users)
        names[0] = own[names[0]]  # ALL and UNKNOWN are the last two
        if GENRE in table and (named := (plain := table[GENRE].map(plain_genre)) != "").any():
            genres = genres_of(data, config)
            names[2, named] = genres[1].get_indexer(plain[named])
        return cls(names, genres, _bounds(table, config, name, line), value, line, table)

    def said(self, row: int) -> dict[str, str]:
        """What a line names, by its column."""
        return {column: text for column in (*NAMED, *BOUNDS)
                if column in self.text and (text := clean_text(self.text[column][row]))}

    @property
    def level(self) -> np.ndarray:
        """(r,) int, how specific each is: 8 for a user, 4 for an item, 2 for a genre and 1 for a time."""
        return sum(most * part for most, part in zip((8, 4, 2, 1), (*(self.names != ALL), np.isfinite(self.bounds).any(0))))

    @property
    def sought(self) -> np.ndarray:
        """(r,) bool, which may meet something here."""
        return ((self.names >= 0) | (self.names == ALL)).all(0)

    def match(self, data: Interactions, strength: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Which rule decides on each interaction, and which rules meet any.

        strength: (r,) float, of the rules that an interaction meets the strongest decides. None: the most specific (user and
            item, user and genre, user, item, genre, none; of each kind those that name a time), and of several genres or
            times the most unwilling.
        Returns decides: (n,) int32, the rule; -1 for none; met: (r,) bool.
        Raises InputError: a rule names a time, and the interactions have none.
        """
        level, sizes = self.level, (data.num_users, data.num_items, len(self.genres[1]) if self.genres else 1)
        if (level % 2).any() and data.time is None:
            raise InputError(f"{data.name}: a rule names a time, and these interactions have none; give them a timestamp")
        strong = np.append(2 * level + self.value if strength is None else strength, -np.inf)
        decides, met = np.full(data.num_interactions, -1, np.int32), np.zeros(len(level), bool)
        for kind in np.unique(level[self.sought]):
            rules = np.flatnonzero((level == kind) & self.sought)
            named = [k for k in range(3) if kind & (8, 4, 2)[k]]
            index = pd.Index(_in_one(named, sizes, self.names[:, rules]))
            for part in parts(len(decides)):
                place, rule = self._met(rules, index, named, sizes, data.user[part], data.item[part])
                if kind % 2:  # a time is named
                    time, (since, until) = data.time[part][place], self.bounds[:, rule]
                    place, rule = (found[(since <= time) & (time < until)] for found in (place, rule))
                met[rule] = True
                order = slice(None) if index.is_unique and 2 not in named else np.argsort(strong[rule], kind="stable")
                place, rule = place[order] + part.start, rule[order]
                wins = strong[rule] >= strong[decides[place]]
                decides[place[wins]] = rule[wins]  # of several the last, which is the strongest, stays
        return decides, met

    def _met(self, rules, index, named, sizes, user, item):
        """Which interactions, (n,) user and item, meet which of `rules`, of one kind: (k,) places and (k,) rules."""
        place, genre = np.arange(len(user)), None
        if 2 in named:
            of_genres = pd.DataFrame({"place": place, ITEM: item}).merge(self.genres[0], on=ITEM)
            place, genre = of_genres["place"].to_numpy(), of_genres[GENRE].to_numpy()
        key = _in_one(named, sizes, (user[place], item[place], genre))
        if index.is_unique:  # several times faster than to merge
            at = index.get_indexer(key)
            return place[at >= 0], rules[at[at >= 0]]
        found = pd.DataFrame({"key": key, "place": place}).merge(pd.DataFrame({"rule": rules, "key": index}), on="key")
        return found["place"].to_numpy(), found["rule"].to_numpy()


def _in_one(named, sizes, names):
    key = np.zeros(len(names[0]), np.int64)
    for k in named:
        key = key * sizes[k] + names[k]
    return key


def _bounds(table, config, name, line):
    bounds = np.broadcast_to([[-np.inf], [np.inf]], (2, len(table)))  # which takes no memory
    texts = {k: table[column].astype(str).str.strip(BLANKS) for k, column in enumerate(BOUNDS) if column in table}
    if all((text == "").all() for text in texts.values()):
        return bounds
    bounds, unit = bounds.copy(), time_unit(config)
    for k, text in texts.items():
        given = (text != "").to_numpy()
        bounds[k, given] = moment(text[given], unit)
        refuse(np.isnan(bounds[k]), name, f"{BOUNDS[k]} is no time: give one as in {RATINGS_FILE}, or a date", line)
    refuse(bounds[0] >= bounds[1], name, f"{SINCE} is not before {UNTIL}", line)
    return bounds


def unwillingness_in(table: pd.DataFrame, name: str | Path, line: np.ndarray | None = None) -> np.ndarray:
    """(n,) float64 in [0, 1] of the column unwillingness, next to nothing as 0; `refuse` is called for any other."""
    value = pd.to_numeric(table[UNWILLINGNESS], errors="coerce").to_numpy(float)
    bad = ~((value >= 0) & (value <= 1)) | (table[UNWILLINGNESS].dtype == bool)
    refuse(bad, name, f"unwillingness {next(iter(table[UNWILLINGNESS][bad]), '')}; it must be a number in [0, 1]", line)
    return np.where(value < NOTHING, 0, value)


def refuse(bad: np.ndarray, name: str | Path, what: str, line: np.ndarray | None = None) -> None:
    """Raises InputError about the rows where `bad`, (n,) bool, is true: by their numbers from 1, or by (n,) `line`."""
    if bad.any():
        where = f"row {listed(np.flatnonzero(bad) + 1)}" if line is None else f"line {listed(line[bad])}"
        raise InputError(f"{name}: {where}: {what}")


def _is_blank(column):
    texts = [] if pd.api.types.is_numeric_dtype(column) else [text for text in column.unique() if text.strip() == ""]
    return column.isin(texts).to_numpy()


def listed(lines: np.ndarray) -> str:
    """The first of some line numbers, for a message."""
    shown = ", ".join(map(str, lines[:_SHOWN]))
    return shown + (f" and {len(lines) - _SHOWN:,} more" if len(lines) > _SHOWN else "")
