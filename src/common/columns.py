"""Columns that other programs wrote: ids, numbers and times, read in one way by every stage.

An id is text until all ids of its column are proven to be whole numbers, and never a float on the way: 007 stays apart from
7, 1.0 from 1, and NA is an id like any other. Blanks around an id, and the Unicode form that it is written in, do not count.
"""
from __future__ import annotations

import logging
import re
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..constants import TIMESTAMP
from .errors import InputError

logger = logging.getLogger("ifrqe")

NO_GENRE = "(no genres listed)"
BLANKS = "".join(map(chr, (0x09, 0x20, 0xA0, 0x1680, *range(0x2000, 0x200C), 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF)))
_SPREADSHEET = re.compile(r"-?\d+([.,]\d+)?[eE]\+\d+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # categories Cc, Zl, Zp and Cs
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?( ?(Z|[+-]\d{2}(:?\d{2})?))?)?", re.ASCII | re.I)

# Units of a timestamp, in seconds. Numbers in a unit are times if they lie between 1973 and 5138.
UNITS = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}
ORDER = "order"  # the numbers tell what came first, but not when
_FIRST_SECOND, _LAST_SECOND = 1e8, 1e11
DAY, _FIRST_DAY = 86400, 7305  # in seconds; 1990-01-01, before which nobody used what is now recommended
_DATE = re.compile(r"(?=.*\b(19|20)\d\d)(\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|"
                   r".*\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)).*", re.I)

_CALENDAR = {"%Y%m%d": 10 ** 6, "%Y%m%d%H%M": 10 ** 10, "%Y%m%d%H%M%S": 10 ** 12}  # and what a century is in it

# What parts genres: the first of these signs that a file has.
PARTED = {"|": "bars", ";": "semicolons", ",": "commas"}

_MEND = "correct the row or remove it"
_MEND_TIME = "give seconds since 1970 or ISO dates such as 2024-05-31 18:30:00, or leave the column out"


@dataclass
class Ids:
    """A column of ids.

    unique: (k,) object array of different texts.
    code: (n,) int, the place of each row's id in `unique`; -1 where there is none.
    """
    unique: np.ndarray
    code: np.ndarray


def _refuse(bad, name, row_name, shown, what):
    """Raises InputError for the first row of `bad` (n,) bool; row_name(row) and shown(row) are what messages call it."""
    if bad.any():
        row = int(bad.argmax())
        raise InputError(f"{name}: {row_name(row)} has {shown(row)} as {what}")


def _row(row):
    return f"row {row + 1}"


def clean_ids(column: pd.Series, name: str | Path, what: str, row_name: Callable[[int], str] = _row,
              blank: bool = False) -> Ids:
    """The ids of a column (text, or categories of text), without blanks around them and in one Unicode form.

    Args:
        name, what: of the file and of the column, for messages.
        row_name: what messages call a row, by its place from 0.
        blank: whether an empty field is allowed; else it is an error.

    Raises:
        InputError: names the first row whose id is missing, holds control characters, or has lost its digits to a
            spreadsheet.
    """
    column = column.astype("category").cat
    texts = [str(text) for text in column.categories]
    cleaned = [clean_text(text) for text in texts]
    codes = np.asarray(column.codes, np.int64)
    faults = [(lambda text: text == "" and not blank, ""),
              (lambda text: not printable(text), ", with a control character or a line break in it"),
              (_SPREADSHEET.fullmatch, ": a spreadsheet wrote it in scientific notation, and its last digits are lost; "
               "export ids as text")]
    for is_fault, why in faults:
        bad = np.array([bool(is_fault(text)) for text in cleaned], bool)
        _refuse(bad[codes], name, row_name, lambda row: _shown(texts[codes[row]]), f"{what}{why}; {_MEND}")
    unique, place = np.unique(np.array(cleaned, object), return_inverse=True)
    if len(unique) < len(cleaned):
        twice = next(text for text in texts if clean_text(text) != text)
        logger.warning("%s: %s are written in more than one way (blanks around them, Unicode forms), e.g. %s; each is "
                       "taken for one", name, f"{len(cleaned) - len(unique)} {what}s", _shown(twice))
    code = place[codes]
    if blank and len(unique) and unique[0] == "":
        unique, code = unique[1:], code - 1
    return Ids(unique, code)


def clean_text(text: object) -> str:
    """An id as it is compared: without blanks around it, in Unicode form NFC."""
    return unicodedata.normalize("NFC", str(text)).strip(BLANKS)


def printable(text: str) -> bool:
    """Whether a text can be an id: no control characters, line breaks or surrogates."""
    return not _UNPRINTABLE.search(text)


def _shown(text):
    return "nothing" if text.strip(BLANKS) == "" and printable(text) else repr(text)


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


def say_what_ids_are(unique: np.ndarray, name: str, what: str) -> None:
    """Logs why a column of ids is text where nearly all look like whole numbers, which order and merge otherwise."""
    odd = [text for text in unique if not _WHOLE.fullmatch(text)]
    if 0 < len(odd) <= len(unique) // 10:
        logger.warning("%s: %ss are text, not numbers, since %s of %s are no whole numbers, e.g. %r", name, what,
                       f"{len(odd):,}", f"{len(unique):,}", odd[0])


def numbers(values: pd.Series, name: str | Path, what: str, remedy: str = _MEND) -> np.ndarray:
    """A column as numbers: int64 where all are whole, else float64; True and False count as 1 and 0.

    Raises:
        InputError: names the first row that is no number below 2^63.
    """
    found = _to_numbers(values)
    bad = ~(np.abs(found.astype(float)) < 2.0 ** 63)
    _refuse(bad, name, _row, lambda row: _shown(str(values.iloc[row])), f"{what}; {remedy}")
    if found.dtype.kind == "f" and (found == np.floor(found)).all():
        found = found.astype(np.int64)
    return found


def _to_numbers(values):
    """(n,) int64 or float64, NaN for what is no number."""
    if values.dtype == bool:
        return values.to_numpy(np.int64)
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy()
    text = values.astype(str).str.strip(BLANKS)
    found = pd.to_numeric(text, errors="coerce").to_numpy(float)
    word = text.str.casefold()
    return np.where(word == "true", 1.0, np.where(word == "false", 0.0, found))


def times(values: pd.Series, name: str | Path) -> tuple[np.ndarray, str]:
    """A column of times as numbers that grow with time, (n,) int64 or float64, and their unit.

    Numbers stay as they are, but ISO dates and numbers such as 20240531 and 202405311830 become seconds since 1970, dates
    milli- or microseconds if they have such parts; without an offset they are UTC. The unit is ORDER for numbers that are no
    times since 1970 or are all the same.

    Raises:
        InputError: names the first row that is neither, or that is in another unit than others.
    """
    if not pd.api.types.is_numeric_dtype(values):
        values = values.astype(str).str.strip(BLANKS)
        iso = values.str.fullmatch(_ISO).to_numpy()
        if iso.any():
            return _iso_times(values, iso, name)
    found = numbers(values, name, TIMESTAMP, _MEND_TIME)
    if (days := _calendar(found)) is not None:
        return np.round(days * DAY).astype(np.int64), "seconds"
    unit = _unit(found, name)
    if unit == "seconds" and pd.api.types.is_float_dtype(values) and not (found % 1000).any():
        logger.warning("%s: all times are multiples of 1000 seconds, as if a spreadsheet had rounded them (8.81251E+08); "
                       "what came first may be lost", name)
    return found, unit


def moment(values: pd.Series, unit: str) -> np.ndarray:
    """(n,) float64 of numbers in a unit, or of ISO dates where it is one of UNITS; NaN for what is neither or of another."""
    text = values.astype(str).str.strip(BLANKS)
    number, iso = pd.to_numeric(text, errors="coerce").to_numpy(float), _read_iso(text)
    if unit == ORDER:
        return number
    step = UNITS[unit]
    fits = (number >= _FIRST_SECOND / step) & (number < _LAST_SECOND / step)
    return np.where(np.isnat(iso), np.where(fits, number, np.nan), iso.astype(np.int64) / round(1e9 * step))


def in_unit(found: np.ndarray, unit: str, wanted: str) -> np.ndarray | None:
    """(n,) times of one unit in another, both as `times` calls them; None where one is ORDER."""
    if unit == wanted:
        return found
    return None if ORDER in (unit, wanted) else found * UNITS[unit] / UNITS[wanted]


def _iso_times(text, iso, name):
    """`times` of a column of text of which `iso` (n,) bool are ISO dates."""
    found = _read_iso(text)
    _refuse(~iso | np.isnat(found), name, _row, lambda row: _shown(text.iloc[row]),
            f"{TIMESTAMP}, where others have ISO dates; {_MEND_TIME}")
    nanoseconds = found.astype(np.int64)
    for unit, seconds in UNITS.items():
        step = round(seconds * 1e9)
        if not (nanoseconds % step).any():
            return nanoseconds // step, unit


def _read_iso(text):
    """(n,) datetime64[ns] of a column of text, in UTC; NaT for what is no ISO date."""
    kind = {"format": "ISO8601"} if int(pd.__version__.split(".")[0]) >= 2 else {}
    unique, place = np.unique(text.to_numpy(), return_inverse=True)
    unique = pd.Series(unique)
    found = pd.to_datetime(unique.where(unique.str.fullmatch(_ISO)), utc=True, errors="coerce", **kind)
    return found.dt.tz_localize(None).to_numpy("datetime64[ns]")[place]


def _calendar(numbers):
    """(n,) float64 days since 1970 of numbers that are all dates such as 20240531 or 20240531183000, or NaN; else None."""
    low, high = np.nanmin(numbers, initial=2 ** 62), np.nanmax(numbers, initial=0)
    form = next((form for form, one in _CALENDAR.items() if 19 * one < low < high < 21 * one), None)
    if form is None:
        return None
    unique, place = np.unique(numbers, return_inverse=True)
    days = pd.to_datetime(pd.Series(unique).map("{:.14g}".format), format=form, errors="coerce")
    return None if (days.isna() & ~np.isnan(unique)).any() else _days(days.to_numpy())[place]


def _days(dates):
    return (dates - np.datetime64(0, "D")) / np.timedelta64(1, "D")


def moments(values: pd.Series) -> np.ndarray | None:
    """(n,) float64 days since 1970 of a column that holds times, whatever it is called; None of one that holds none.

    Times are dates, also such as 20240531, and numbers of one of UNITS, from 1990 to next year, not all the same and not so
    few different ones that they may be anything. NaN is an empty field, or a date in a form that `times` does not read.
    """
    found, in_text = values, not pd.api.types.is_numeric_dtype(values)
    for part in (values.head(100), values) if in_text else ():  # most columns of text need no more than the first
        text = part.astype(str).str.strip(BLANKS)
        dates, found, there = text.str.fullmatch(_DATE), pd.to_numeric(text, errors="coerce"), text.ne("")
        if not there.any() or not dates[there].all() and found[there].isna().any():
            return None
    if in_text and dates.any():
        days = _days(_read_iso(text))
        return days if np.isnan(days).all() or _in_our_days(days) else None
    found = found.to_numpy(float)
    if (days := _calendar(found)) is None:
        days = next((days for step in UNITS.values() if _in_our_days(days := found * (step / DAY))), found)
    few = len(np.unique(found)) < min(len(found) / 4, 1000) and np.nanmax(days % 1) > 0
    return None if few or not _in_our_days(days) else days


def _in_our_days(days):
    return _FIRST_DAY <= np.nanmin(days, initial=np.inf) < np.nanmax(days, initial=0) < time.time() / DAY + 366


def _unit(values, name):
    """The unit of times since 1970 by their size; raises InputError if there are several."""
    ends = np.array([_FIRST_SECOND, *(_LAST_SECOND / step for step in UNITS.values())])
    level = np.searchsorted(ends, np.abs(values.astype(float)), side="right")  # 0: too small, 1: seconds, ...
    present = np.unique(level[level > 0])
    words = ["", *UNITS, "numbers too large for nanoseconds"]
    if len(present) > 1:
        _refuse(level == present[1], name, _row, lambda row: values[row], f"{TIMESTAMP}, which looks like "
                f"{words[present[1]]}, but others look like {words[present[0]]}; {_MEND_TIME}")
    if not len(present) or present[0] > len(UNITS) or (level == 0).mean() > 0.5 or np.ptp(values) == 0:
        return ORDER
    return words[present[0]]
