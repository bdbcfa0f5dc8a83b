"""Times that other programs wrote, read in one way by every stage."""
from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ..constants import TIMESTAMP
from .columns import BLANKS, numbers, refuse_first, shown
from .terminal import logger

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?( ?(Z|[+-]\d{2}(:?\d{2})?))?)?", re.ASCII | re.I)

# Units of a timestamp, in seconds. Numbers in a unit are times if they lie between 1973 and 5138.
UNITS = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}
ORDER = "order"  # the numbers tell what came first, but not when
_FIRST_SECOND, _LAST_SECOND = 1e8, 1e11
DAY, _FIRST_DAY = 86400, 7305  # in seconds; 1990-01-01, before which nobody used what is now recommended
_DATE = re.compile(r"(?=.*\b(19|20)\d\d)(\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|"
                   r".*\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)).*", re.I)

_STEPS = [round(step * 1e9) for step in UNITS.values()]  # in nanoseconds
_ENDS = np.array([_FIRST_SECOND, *(_LAST_SECOND / step for step in UNITS.values())])  # of the numbers of each, by size
_CALENDAR = {"%Y%m%d": 10 ** 6, "%Y%m%d%H%M": 10 ** 10, "%Y%m%d%H%M%S": 10 ** 12}  # and what a century is in it

_MEND_TIME = "give seconds since 1970 or ISO dates such as 2024-05-31 18:30:00, or leave the column out"


class Times:
    """Times that come part by part, see `times`; once settled they have its unit, ORDER where there are none, and a kind."""

    def __init__(self, name: str | Path):
        self.name, self.rows, self.example, self.kinds = name, 0, "", set()
        self.kind, self.unit = np.int64, ORDER
        self.step = self.form = None  # place in UNITS that dates need; how dates are written as numbers

    def add(self, values: pd.Series) -> np.ndarray:
        """(n,) int64 or float64 of the next rows, which `convert` takes; raises as `times` does."""
        kind, first = values.dtype.kind if isinstance(values.dtype, np.dtype) else "O", self.rows
        self.rows += len(values)
        if kind not in "iufbM":
            values = values.astype(str).str.strip(BLANKS)
        if self.step is not None or kind == "M" or kind not in "iufb" and values.str.fullmatch(_ISO).any():
            return self._dates(values, first)
        self.example = self.example or str(values.iloc[0])
        self.kinds.add(kind)
        return numbers(values, self.name, TIMESTAMP, _MEND_TIME, first)

    def _dates(self, values, first):
        found = values.to_numpy("datetime64[ns]") if values.dtype.kind == "M" else _read_iso(values.astype(str))
        bad, text = np.isnat(found), values
        if first and self.step is None:
            text, bad, first = pd.Series([self.example]), np.ones(1, bool), 0
        refuse_first(bad, self.name, lambda row: shown("" if text.iloc[row] is pd.NaT else str(text.iloc[row])),
                     f"{TIMESTAMP}, where others have ISO dates; {_MEND_TIME}", first)
        nanoseconds, self.step = found.astype(np.int64), self.step or 0
        while (nanoseconds % _STEPS[self.step]).any():
            self.step += 1
        return nanoseconds

    def settle(self, parts: Iterable[np.ndarray]) -> None:
        """Decides what all of them are; `parts` are what `add` has given, to be gone through several times."""
        if self.step is not None:
            self.unit = list(UNITS)[self.step]
        if not self.rows or self.step is not None:
            return
        ends = [(part.min(), part.max()) for part in parts]
        self.form = _form(min(low for low, _ in ends), max(high for _, high in ends))
        if self.form and any(_calendar(part, self.form) is None for part in parts):
            self.form = None
        if not self.form and any(part.dtype.kind == "f" for part in parts):
            self.kind = np.float64
        self.unit = "seconds" if self.form else ORDER if len(set(sum(ends, ()))) == 1 else self._unit(parts)

    def _unit(self, parts):
        count = sum(np.bincount(_level(part), minlength=len(_ENDS) + 1) for part in parts)
        present, words, first = np.flatnonzero(count[1:]) + 1, ["", *UNITS, "numbers too large for nanoseconds"], 0
        for part in parts if len(present) > 1 else ():
            refuse_first(_level(part) == present[1], self.name, part.__getitem__, f"{TIMESTAMP}, which looks like "
                         f"{words[present[1]]}, but others look like {words[present[0]]}; {_MEND_TIME}", first)
            first += len(part)
        if not len(present) or present[0] > len(UNITS) or count[0] > self.rows / 2:
            return ORDER
        if present[0] == 1 and self.kinds in ({"f"}, {"f", "i"}) and not any((part % 1000).any() for part in parts):
            logger.warning("%s: all times are multiples of 1000 seconds, as if a spreadsheet had rounded them "
                           "(8.81251E+08); what came first may be lost", self.name)
        return words[present[0]]

    def convert(self, part: np.ndarray) -> np.ndarray:
        """What `times` makes of what `add` has given."""
        if self.step is not None:
            return part // _STEPS[self.step]
        if self.form:
            return np.round(_calendar(part, self.form) * DAY).astype(np.int64)
        return part.astype(self.kind, copy=False)


def _level(numbers):
    return np.searchsorted(_ENDS, np.abs(numbers.astype(float)), side="right")


def times(values: pd.Series, name: str | Path) -> tuple[np.ndarray, str]:
    """A column of times as numbers that grow with time, (n,) int64 or float64, and their unit.

    Numbers stay as they are, but ISO dates and numbers such as 20240531 and 202405311830 become seconds since 1970, dates
    milli- or microseconds if they have such parts; without an offset they are UTC. The unit is ORDER for numbers that are no
    times since 1970 or are all the same.
    Raises InputError: names the first row that is neither, or that is in another unit than others.
    """
    found = Times(name)
    part = found.add(values)
    found.settle([part])
    return found.convert(part), found.unit


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


def _read_iso(text):
    kind = {"format": "ISO8601"} if int(pd.__version__.split(".")[0]) >= 2 else {}
    place, unique = pd.factorize(text.to_numpy(object))
    unique = pd.Series(unique)
    found = pd.to_datetime(unique.where(unique.str.fullmatch(_ISO)), utc=True, errors="coerce", **kind)
    return found.dt.tz_localize(None).to_numpy("datetime64[ns]")[place]


def _form(low, high):
    return next((form for form, one in _CALENDAR.items() if 19 * one < low < high < 21 * one), None)


def _calendar(numbers, form):
    """(n,) float64 days since 1970 of numbers that are all dates of a form, or NaN; else None."""
    place, unique = pd.factorize(numbers, use_na_sentinel=False)
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
    if pd.api.types.is_datetime64_any_dtype(values):
        return _days(values.to_numpy("datetime64[ns]"))
    for part in (values.head(100), values) if in_text else ():  # most columns of text need no more than the first
        text = part.astype(str).str.strip(BLANKS)
        dates, found, there = text.str.fullmatch(_DATE), pd.to_numeric(text, errors="coerce"), text.ne("")
        if not there.any() or not dates[there].all() and found[there].isna().any():
            return None
    if in_text and dates.any():
        days = _days(_read_iso(text))
        return days if np.isnan(days).all() or _in_our_days(days) else None
    found = found.to_numpy(float)
    form = _form(np.nanmin(found, initial=2 ** 62), np.nanmax(found, initial=0))
    if (days := form and _calendar(found, form)) is None:
        days = next((days for step in UNITS.values() if _in_our_days(days := found * (step / DAY))), found)
    few = len(np.unique(found)) < min(len(found) / 4, 1000) and np.nanmax(days % 1) > 0
    return None if few or not _in_our_days(days) else days


def _in_our_days(days):
    return _FIRST_DAY <= np.nanmin(days, initial=np.inf) < np.nanmax(days, initial=0) < time.time() / DAY + 366
