"""Times that other programs wrote, read in one way by every stage."""
from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ..constants import TIMESTAMP
from .columns import BLANKS, numbers, refuse_first, shown
from .errors import InputError

logger = logging.getLogger("ifrqe")

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
    """Times that come part by part, see `times`; what they are is settled when all are there.

    unit, kind: unit as `times` says it, and type of the numbers, from then on.
    """

    def __init__(self, name: str | Path):
        self.name, self.rows, self.first_row, self.kinds, self.whole = name, 0, "", set(), True
        self.step = self.form = None  # place in UNITS that dates need; how dates are written as numbers
        self.low, self.high, self.thousands = np.inf, -np.inf, True
        self.levels, self.first = np.zeros(len(_ENDS) + 1, np.int64), {}  # numbers by size, and row and value of the first

    def add(self, values: pd.Series) -> np.ndarray:
        """(n,) int64 or float64 of the next rows, which `times` makes of them; raises as `times` does."""
        if not pd.api.types.is_numeric_dtype(values):
            is_date = pd.api.types.is_datetime64_any_dtype(values)
            values = values if is_date else values.astype(str).str.strip(BLANKS)
            if is_date or values.str.fullmatch(_ISO).any():
                return self._dates(values, is_date)
        if self.step is not None:
            return self._dates(values.astype(str), False)
        found = numbers(values, self.name, TIMESTAMP, _MEND_TIME, self.rows)
        self.first_row = self.first_row or str(values.iloc[0])
        self.kinds.add(values.dtype.kind)
        self.thousands = self.thousands and not (found % 1000).any()
        self.whole &= found.dtype.kind == "i"
        self._sizes(found)
        self.rows += len(found)
        return found

    def _dates(self, values, is_date):
        found = values.to_numpy("datetime64[ns]") if is_date else _read_iso(values)
        bad, first, text = np.isnat(found), self.rows, lambda row: "" if is_date else values.iloc[row]
        if self.rows and self.step is None:
            bad, first, text = np.ones(1, bool), 0, lambda _: self.first_row
        refuse_first(bad, self.name, lambda row: shown(text(row)), f"{TIMESTAMP}, where others have ISO dates; {_MEND_TIME}",
                     first)
        nanoseconds, self.step = found.astype(np.int64), self.step or 0
        while (nanoseconds % _STEPS[self.step]).any():
            self.step += 1
        self.rows += len(found)
        return nanoseconds

    def _sizes(self, found):
        self.low, self.high = min(self.low, found.min()), max(self.high, found.max())
        level = np.searchsorted(_ENDS, np.abs(found.astype(float)), side="right")  # 0: too small, 1: seconds, ...
        count = np.bincount(level, minlength=len(self.levels))
        self.levels += count
        for k in np.flatnonzero(count):
            row = (level == k).argmax()
            self.first.setdefault(k, (self.rows + row, found[row]))

    def settle(self, parts: Iterable[np.ndarray]) -> None:
        """Decides what all of them are; `parts` are what `add` has given."""
        self.kind = np.int64
        if self.step is not None:
            self.unit = list(UNITS)[self.step]
            return
        self.form = _form(self.low, self.high)
        if self.form and not all(_calendar(part, self.form) is not None for part in parts):
            self.form = None
        self.unit = "seconds" if self.form else self._unit()
        if not (self.form or self.whole):
            self.kind = np.float64
        if self.unit == "seconds" and not self.form and self.thousands and "f" in self.kinds and "O" not in self.kinds:
            logger.warning("%s: all times are multiples of 1000 seconds, as if a spreadsheet had rounded them "
                           "(8.81251E+08); what came first may be lost", self.name)

    def _unit(self):
        """The unit of times since 1970 by their size; raises InputError if there are several."""
        present, words = np.flatnonzero(self.levels[1:]) + 1, ["", *UNITS, "numbers too large for nanoseconds"]
        if len(present) > 1:
            row, value = self.first[present[1]]
            raise InputError(f"{self.name}: row {row + 1} has {value} as {TIMESTAMP}, which looks like {words[present[1]]}, "
                             f"but others look like {words[present[0]]}; {_MEND_TIME}")
        few = self.levels[0] > self.rows / 2 or self.low == self.high
        return ORDER if few or not len(present) or present[0] > len(UNITS) else words[present[0]]

    def convert(self, part: np.ndarray) -> np.ndarray:
        """What `times` makes of what `add` has given."""
        if self.step is not None:
            return part // _STEPS[self.step]
        if self.form:
            return np.round(_calendar(part, self.form) * DAY).astype(np.int64)
        return part.astype(self.kind, copy=False)


def times(values: pd.Series, name: str | Path) -> tuple[np.ndarray, str]:
    """A column of times as numbers that grow with time, (n,) int64 or float64, and their unit.

    Numbers stay as they are, but ISO dates and numbers such as 20240531 and 202405311830 become seconds since 1970, dates
    milli- or microseconds if they have such parts; without an offset they are UTC. The unit is ORDER for numbers that are no
    times since 1970 or are all the same.

    Raises:
        InputError: names the first row that is neither, or that is in another unit than others.
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
    """(n,) datetime64[ns] of a column of text, in UTC; NaT for what is no ISO date."""
    kind = {"format": "ISO8601"} if int(pd.__version__.split(".")[0]) >= 2 else {}
    place, unique = pd.factorize(text.to_numpy(object))
    unique = pd.Series(unique)
    found = pd.to_datetime(unique.where(unique.str.fullmatch(_ISO)), utc=True, errors="coerce", **kind)
    return found.dt.tz_localize(None).to_numpy("datetime64[ns]")[place]


def _form(low, high):
    """The form of numbers such as 20240531 or 20240531183000 between these, None for others."""
    return next((form for form, one in _CALENDAR.items() if 19 * one < low < high < 21 * one), None)


def _calendar(numbers, form):
    """(n,) float64 days since 1970 of numbers that are all dates of a form, or NaN; else None."""
    place, unique = pd.factorize(numbers, use_na_sentinel=False)
    days = pd.to_datetime(pd.Series(unique).map("{:.14g}".format), format=form, errors="coerce")
    return None if (days.isna() & ~np.isnan(unique)).any() else _days(days.to_numpy())[place]


def _days(dates):
    return (dates - np.datetime64(0, "D")) / np.timedelta64(1, "D")


class Moments:
    """Whether a column that comes part by part holds times, whatever it is called.

    Times are dates, also such as 20240531, and numbers of days or of one of UNITS, from 1990 to next year, not all the same
    and not so few different ones that they may be anything. A field may be empty, or a date in a form that `times` does not
    read.

    text: whether some part was no column of numbers.
    """

    def __init__(self):
        self.ways = None  # in which its values may be times: first and last day, and whether any is within a day
        self.rows, self.different, self.gaps, self.text = 0, set(), False, False

    def add(self, values: pd.Series) -> None:
        """Looks at the next rows."""
        if self.ways == {} or not len(values):
            return
        part = self._ways(values)
        if self.ways is None:
            self.ways = part
        elif part is not None:
            self.ways = {way: (min(own[0], part[way][0]), max(own[1], part[way][1]), own[2] or part[way][2])
                         for way, own in self.ways.items() if way in part}
        self.rows += len(values)

    def _ways(self, values):
        """What `ways` is of these rows; None of empty fields."""
        if pd.api.types.is_datetime64_any_dtype(values):
            self.text = True
            return {"dates": self._reach(_days(values.to_numpy("datetime64[ns]")))}
        found = values
        if not pd.api.types.is_numeric_dtype(values):
            self.text = True
            for part in (values.head(100), values):  # most columns of text need no more than the first
                text = part.astype(str).str.strip(BLANKS)
                dates, found, there = text.str.fullmatch(_DATE), pd.to_numeric(text, errors="coerce"), text.ne("")
                if not there.any() and self.ways is None or not dates[there].all() and found[there].isna().any():
                    return {}
            if dates.any() or not there.any():
                return {"dates": self._reach(_days(_read_iso(text)))} if dates.any() else None
        found = found.to_numpy(float)
        if len(self.different) < 1000:
            self.different.update(np.unique(found).tolist())
        days = {form: _calendar(found, form) for form, one in _CALENDAR.items()
                if 19 * one < np.nanmin(found) and np.nanmax(found) < 21 * one}
        days.update({unit: found * (step / DAY) for unit, step in {**UNITS, "days": DAY}.items()})
        reach = {way: self._reach(held) for way, held in days.items() if held is not None}
        return {way: found for way, found in reach.items() if _in_our_days(*found[:2])}

    def _reach(self, days):
        self.gaps |= bool(np.isnan(days).any())
        return np.nanmin(days, initial=np.inf), np.nanmax(days, initial=-np.inf), bool((days % 1 > 0).any())

    @property
    def finer(self) -> bool | None:
        """Whether it tells more than days; None of a column that holds no times."""
        for way, (low, high, within) in (self.ways or {}).items():
            few = way != "dates" and within and len(self.different) < min(self.rows / 4, 1000)
            if not few and (way == "dates" and low > high or low < high and _in_our_days(low, high)):
                return within or self.gaps
        return None


def _in_our_days(low, high):
    return _FIRST_DAY <= low and high < time.time() / DAY + 366
