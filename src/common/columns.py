"""Columns that other programs wrote: ids, numbers and times, read in one way by every stage.

An id is text until all ids of its column are proven to be whole numbers, and never a float on the way: 007 stays apart from
7, 1.0 from 1, and NA is an id like any other. Blanks around an id, and the Unicode form that it is written in, do not count.
"""
from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from .errors import InputError, logger

NO_GENRE = "(no genres listed)"
BLANKS = "".join(map(chr, (0x09, 0x20, 0xA0, 0x1680, *range(0x2000, 0x200C), 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF)))
_SPREADSHEET = re.compile(r"-?\d+([.,]\d+)?[eE]\+\d+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # categories Cc, Zl, Zp and Cs
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")
# What parts genres: the first of these signs that a file has.
PARTED = {"|": "bars", ";": "semicolons", ",": "commas"}

_MEND = "correct the row or remove it"


def refuse_first(bad, name, shown, what, first=0, row_name=None):
    """Raises InputError for the first row of `bad` (n,) bool, with shown(row); `first`: rows that come before these."""
    if bad.any():
        row = int(bad.argmax())
        raise InputError(f"{name}: {row_name(row) if row_name else f'row {first + row + 1}'} has {shown(row)} as {what}")


class Learned:
    """The ids of a column that comes part by part, see clean_ids: `unique` has each by its code, as they are met."""

    def __init__(self, name: str | Path, what: str, row_name: Callable[[int], str] | None = None, blank: bool = False):
        self.name, self.what, self.row_name, self.blank = name, what, row_name, blank
        self.known, self.other, self.unique, self.rows, self.twice = {}, {}, [], 0, ""

    def add(self, column: pd.Series) -> np.ndarray:
        """(n,) int32 codes of the next rows: integers, text, or categories of text; raises as clean_ids does."""
        if pd.api.types.is_integer_dtype(column):
            place, unique = pd.factorize(column.to_numpy())
            texts = unique.tolist()
            self._learn({number: number for number in texts if number not in self.known})
        else:
            column = column.astype("category").cat
            texts, place = [str(text) for text in column.categories], np.asarray(column.codes)
            new = {text: clean_text(text) for text in texts if text not in self.known}
            self._check(new, texts, place)
            self._learn(new)
        self.rows += len(place)
        return np.fromiter(map(self.known.__getitem__, texts), np.int32, len(texts))[place]

    def _check(self, new, texts, place):
        for is_fault, why in _FAULTS[self.blank:]:
            if bad := {text for text, cleaned in new.items() if is_fault(cleaned)}:
                bad = np.array([text in bad for text in texts])
                refuse_first(bad[place], self.name, lambda row: shown(texts[place[row]]),
                             f"{self.what}{why}; {_MEND}", self.rows, self.row_name)

    def _learn(self, new):
        for text, cleaned in new.items():
            there = cleaned if cleaned in self.known else self.other.get(cleaned)
            if there is not None:
                self.twice = text if cleaned != text else there
                self.known[text] = self.known[there]
                continue
            self.known[text] = len(self.unique)
            self.unique.append(cleaned)
            if cleaned != text:
                self.other[cleaned] = text

    def say(self) -> None:
        """Logs that ids are written in more than one way, if some are."""
        if more := len(self.known) - len(self.unique):
            logger.warning("%s: %s are written in more than one way (blanks around them, Unicode forms), e.g. %s; each is "
                           "taken for one", self.name, f"{more} {self.what}s", shown(self.twice))

    @property
    def texts(self) -> np.ndarray:
        """(k,) ids as text by their codes."""
        return np.array(list(map(str, self.unique)), object)

    def ids(self) -> tuple[np.ndarray, np.ndarray]:
        """(k,) ids, ascending, int64 if all are whole numbers, else the log may say why; (k,) int32 place of each code."""
        self.say()
        texts = self.texts
        odd = [text for text in texts if not _WHOLE.fullmatch(text)]
        if 0 < len(odd) <= len(texts) // 10:
            logger.warning("%s: %ss are text, not numbers, since %s of %s are no whole numbers, e.g. %r", self.name,
                           self.what, f"{len(odd):,}", f"{len(texts):,}", odd[0])
        whole = whole_numbers(texts)
        ids = texts if whole is None else whole
        order = np.argsort(ids, kind="stable")
        place = np.empty(len(ids), np.int32)
        place[order] = np.arange(len(ids), dtype=np.int32)
        return ids[order], place


def clean_ids(column: pd.Series, name: str | Path, what: str, row_name: Callable[[int], str] | None = None,
              blank: bool = False) -> np.ndarray:
    """(n,) ids of a column (text, or categories of text), without blanks around them and in one Unicode form.

    name, what, row_name: of the file, of the column, and of a row by its place from 0, for messages.
    blank: whether an empty field is allowed; else it is an error.
    Raises InputError: names the first row whose id is missing, unprintable, or has lost its digits to a spreadsheet.
    """
    learned = Learned(name, what, row_name, blank)
    code = learned.add(column)
    learned.say()
    return learned.texts[code]


def clean_text(text: object) -> str:
    """An id as it is compared: without blanks around it, in Unicode form NFC."""
    return unicodedata.normalize("NFC", str(text)).strip(BLANKS)


def printable(text: str) -> bool:
    """Whether a text can be an id: no control characters, line breaks or surrogates."""
    return not _UNPRINTABLE.search(text)


def shown(text):
    return "nothing" if text.strip(BLANKS) == "" and printable(text) else repr(text)


# what an id must not be, and what a message says of it
_FAULTS = ((lambda text: text == "", ""),
           (lambda text: not printable(text), ", with a control character or a line break in it"),
           (_SPREADSHEET.fullmatch, ": a spreadsheet wrote it in scientific notation, and its last digits are lost; export "
            "ids as text"))


def whole_numbers(texts: list[str]) -> np.ndarray | None:
    """(k,) int64 of texts that are all written as whole numbers are, else None."""
    if not all(_WHOLE.fullmatch(text) for text in texts):
        return None
    numbers = [int(text) for text in texts]
    return np.array(numbers, np.int64) if all(abs(number) < 2 ** 63 for number in numbers) else None


def in_order(texts: np.ndarray, as_text: bool = False) -> np.ndarray:
    """Ids in ascending order, int64 if all are whole numbers and need not stay text."""
    numbers = None if as_text else whole_numbers(texts)
    return np.sort(np.array(texts, object) if numbers is None else numbers, kind="stable")


def positions(ids: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """(k,) place in the sorted `ids` (see in_order) of each of `texts`; -1 where it is not there."""
    return pd.Index(list(map(str, ids)), dtype=object).get_indexer(texts).astype(np.int64)


def finder(ids: np.ndarray) -> Callable[[pd.Series], np.ndarray]:
    """A function of a column, categories of text or whole numbers, to (k,) the places in the sorted `ids`; -1 for others."""
    whole, text = pd.Index(ids), pd.Index(list(map(str, ids)), dtype=object)
    return lambda column: whole.get_indexer(column) if not isinstance(column.dtype, pd.CategoricalDtype) else \
        text.get_indexer(column.cat.categories)[column.cat.codes]


def numbers(values: pd.Series, name: str | Path, what: str, remedy: str = _MEND, first: int = 0) -> np.ndarray:
    """A column as numbers: int64 where all are whole, else float64; True and False count as 1 and 0.

    `first`: rows of the column that come before these.
    Raises InputError: names the first row that is no number below 2^63.
    """
    found = _to_numbers(values)
    bad = ~(np.abs(found.astype(float)) < 2.0 ** 63)
    refuse_first(bad, name, lambda row: shown(str(values.iloc[row])), f"{what}; {remedy}", first)
    if found.dtype.kind == "f" and (found == np.floor(found)).all():
        found = found.astype(np.int64)
    return found


def _to_numbers(values):
    if values.dtype == bool:
        return values.to_numpy(np.int64)
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy()
    text = values.astype(str).str.strip(BLANKS)
    found = pd.to_numeric(text, errors="coerce").to_numpy(float)
    word = text.str.casefold()
    return np.where(word == "true", 1.0, np.where(word == "false", 0.0, found))
