"""Rules: lines that name a user, an item, a genre or a time, and which interactions they meet, held-out ones too."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.columns import BLANKS, ORDER, clean_ids, moment, positions
from ..common.errors import InputError
from ..common.tables import read_table, short_line
from ..common.variant import dataset_folder
from ..config import Config
from ..constants import GENRE, ITEM, RATINGS_FILE, SINCE, UNTIL, UNWILLINGNESS, USER, WITHDRAWN_FILE
from ..sources.catalogue import genres_of, plain_genre
from ..sources.interactions import Interactions, time_unit
from .receipts import is_receipt, rules_of

NAMED = [USER, ITEM, GENRE]  # what a rule can name
BOUNDS = [SINCE, UNTIL]  # and the times that it means, the former within, the latter not
UNKNOWN, ALL = -1, -2  # positions that a rule has where it names what is not there, or nothing
_TOGETHER = 1 << 20  # interactions that are matched at a time
_SHOWN = 5  # line numbers in a message


@dataclass
class Rules:
    """What lines say of the interactions that they name; who or what a line does not name, it says of all.

    names: (3, r) int64, positions of users, items and genres, UNKNOWN or ALL.
    genres: see genres_of; None where no rule names one.
    bounds: (2, r) float64, the times that they mean, in the unit of Interactions.time; infinite where there is no bound.
    value: (r,) float64 in [0, 1], unwillingness.
    line, text: (r,) int64, lines of the file, and DataFrame of what stands there; None for rules of no file.
    """
    names: np.ndarray
    genres: tuple | None
    bounds: np.ndarray
    value: np.ndarray
    line: np.ndarray | None = None
    text: pd.DataFrame | None = None

    @classmethod
    def of_ids(cls, named: list[list], data: Interactions, config: Config) -> Rules:
        """Rules of unwillingness 1 from lists of [user_id, item_id or None, genre or None], or with since or None and until
        or None beside them; raises as genres_of does, or if no times are known."""
        user, item = (positions(ids, [str(rule[k]) for rule in named])
                      for k, ids in enumerate((data.user_ids, data.item_ids)))
        item[[k for k, rule in enumerate(named) if rule[1] is None]] = ALL
        genre, genres = _genres([rule[2] or "" for rule in named], data, config)
        given = pd.DataFrame([[text or "" for text in rule[3:]] or ["", ""] for rule in named], columns=BOUNDS, dtype=str)

        def refuse(bad, what):
            if bad.any():
                raise InputError(f"{dataset_folder(config) / WITHDRAWN_FILE}: a rule of a request: {what}")

        return cls(np.stack([user, item, genre]), genres, _bounds(given, config, refuse), np.ones(len(named)))

    @classmethod
    def read(cls, path: str | Path, data: Interactions, config: Config, needed: tuple[str, ...]) -> Rules:
        """The rules of a receipt, or of a CSV with some of NAMED, BOUNDS and unwillingness, 1 where it has no such column.

        Args:
            path: of the file; lines on which nothing stands say nothing.
            data: Interactions of the dataset.
            config: where the genres of its items are.
            needed: columns that must be there, and in which each line must name something.

        Raises:
            InputError: the file is no such table, or names a genre or time where none are known; the message names the line.
        """
        table = rules_of(path) if is_receipt(path) else read_table(path, [*NAMED, *BOUNDS, UNWILLINGNESS], needed,
                                                                   extra="refused", skip_blank_lines=False)
        blank = {column: _is_blank(table[column]) for column in table}
        filled = ~np.all(list(blank.values()), axis=0)
        line, table = np.flatnonzero(filled) + 2, table[filled].reset_index(drop=True)

        def refuse(bad, what):
            if bad.any():
                raise InputError(f"{path}: line {listed(line[bad])}: {what}")

        value = unwillingness_in(table, refuse) if UNWILLINGNESS in table else np.ones(len(table))
        if any(blank[column][filled].any() for column in set(table) - {UNWILLINGNESS}) and (short := short_line(path)):
            raise InputError(f"{path}: line {short} has fewer fields than the header, and what it does not name must not "
                             "stand for all; fill it up with commas, or remove it")
        names = np.full((3, len(table)), ALL)
        for row, column, known in zip(names, (USER, ITEM), (data.user_ids, data.item_ids)):
            if column in table:
                ids = clean_ids(table[column], path, column, lambda row: f"line {line[row]}", blank=True)
                row[:] = np.append(positions(known, ids.unique), ALL)[ids.code]
            if column in needed:
                refuse(row == ALL, f"no {column}; name it")
        names[2], genres = _genres(table[GENRE].map(plain_genre) if GENRE in table else [""] * len(table), data, config)
        return cls(names, genres, _bounds(table, config, refuse), value, line, table)

    def some(self, chosen: np.ndarray) -> Rules:
        """Some of these rules, (r,) bool, without their lines."""
        return Rules(self.names[:, chosen], self.genres, self.bounds[:, chosen], self.value[chosen])

    def match(self, data: Interactions, strength: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Which rule decides on each interaction, and which rules meet any.

        Args:
            data: Interactions, with the users and items of the rules.
            strength: (r,) float, of the rules that an interaction meets the strongest decides. None: the most specific
                (user and item, user and genre, user, item, genre, none; of each kind those that name a time), and of
                several genres or times the most unwilling.

        Returns:
            decides: (n,) int64, the rule; -1 for none.
            met: (r,) bool.

        Raises:
            InputError: a rule names a time, and the interactions have none.
        """
        timed = np.isfinite(self.bounds).any(0)
        if timed.any() and data.time is None:
            raise InputError(f"{data.name}: a rule names a time, and these interactions have none; give them a timestamp")
        level = np.array([8, 4, 2, 1]) @ [*(self.names != ALL), timed]
        strong = np.append(2 * level + self.value if strength is None else strength, -np.inf)
        decides, met = np.full(data.num_interactions, -1), np.zeros(len(level), bool)
        for kind in np.unique(level):
            rules = np.flatnonzero((level == kind) & (self.names != UNKNOWN).all(0))
            for start in range(0, len(decides), _TOGETHER):
                part = slice(start, start + _TOGETHER)
                place, rule = self._met(rules, data.user[part], data.item[part])
                if kind % 2:  # a time is named
                    time, (since, until) = data.time[part][place], self.bounds[:, rule]
                    place, rule = (found[(since <= time) & (time < until)] for found in (place, rule))
                met[rule] = True
                order = slice(None) if pd.Index(place).is_unique else np.argsort(strong[rule], kind="stable")
                place, rule = place[order] + start, rule[order]
                wins = strong[rule] >= strong[decides[place]]
                decides[place[wins]] = rule[wins]  # of several the last, which is the strongest, stays
        return decides, met

    def _met(self, rules, user, item):
        """Which interactions, (n,) user and item, meet which of `rules`, of one kind: (k,) places and (k,) rules."""
        asked = pd.DataFrame({"place": np.arange(len(user)), USER: user, ITEM: item, "key": 0})
        said, names = pd.DataFrame({"rule": rules, "key": 0}), self.names[:, rules]
        if (names[2] != ALL).any():
            asked = asked.merge(self.genres[0], on=ITEM)
        for column, named in zip(NAMED, names):
            if (named != ALL).any():  # one number for all that rules of this kind name
                size = max(named.max(), asked[column].to_numpy().max(initial=0)) + 1
                asked["key"], said["key"] = asked["key"] * size + asked[column], said["key"] * size + named
        if (index := pd.Index(said["key"])).is_unique:  # several times faster than to merge
            at = index.get_indexer(asked["key"])
            return asked["place"].to_numpy()[at >= 0], rules[at[at >= 0]]
        found = asked[["key", "place"]].merge(said, on="key")
        return found["place"].to_numpy(), found["rule"].to_numpy()


def _genres(names, data, config):
    """(r,) positions of the genres of rules by their plain names, "" for all; see genres_of, None where none is named."""
    names = np.asarray(names, object)
    genres = genres_of(data, config) if (names != "").any() else None
    return np.full(len(names), ALL) if genres is None else np.where(names == "", ALL, genres[1].get_indexer(names)), genres


def _bounds(table, config, refuse):
    """See Rules.bounds; `table` may have the columns BOUNDS, "" for none. Raises as Rules.read does."""
    bounds = np.broadcast_to([[-np.inf], [np.inf]], (2, len(table)))  # which takes no memory
    texts = {k: table[column].astype(str).str.strip(BLANKS) for k, column in enumerate(BOUNDS) if column in table}
    if all((text == "").all() for text in texts.values()):
        return bounds
    bounds, unit = bounds.copy(), time_unit(config)
    for k, text in texts.items():
        given = (text != "").to_numpy()
        bounds[k, given] = moment(text[given], unit)
        right = f"a number as in {RATINGS_FILE}" if unit == ORDER else f"a date such as 2024-05-31, or {unit} since 1970"
        refuse(np.isnan(bounds[k]), f"{BOUNDS[k]} is no time: give {right}")
    refuse(bounds[0] >= bounds[1], f"{SINCE} is not before {UNTIL}")
    return bounds


def unwillingness_in(table: pd.DataFrame, refuse: Callable[[np.ndarray, str], None]) -> np.ndarray:
    """(n,) float64 of the column unwillingness; refuse(bad, what) raises where one is no number in [0, 1]."""
    value = pd.to_numeric(table[UNWILLINGNESS], errors="coerce").to_numpy(float)
    bad = ~((value >= 0) & (value <= 1)) | (table[UNWILLINGNESS].dtype == bool)
    refuse(bad, f"unwillingness {next(iter(table[UNWILLINGNESS][bad]), '')}; it must be a number in [0, 1]")
    return value


def _is_blank(column):
    """(n,) bool: the fields of a column in which nothing stands."""
    if pd.api.types.is_numeric_dtype(column):
        return np.zeros(len(column), bool)
    column = column.astype("category").cat
    return np.array([text.strip() == "" for text in column.categories], bool)[column.codes]


def listed(lines: np.ndarray) -> str:
    """The first of some line numbers, for a message."""
    shown = ", ".join(map(str, lines[:_SHOWN]))
    return shown + (f" and {len(lines) - _SHOWN:,} more" if len(lines) > _SHOWN else "")
