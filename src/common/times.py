"""Times that other programs wrote, read in one way by every stage."""
from __future__ import annotations

import logging
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ..constants import TIMESTAMP
from .columns import BLANKS, numbers, refuse_first, row_of, shown

logger = logging.getLogger("ifrqe")

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?( ?(Z|[+-]\d{2}(:?\d{2})?))?)?", re.ASCII | re.I)

# Units of a timestamp, in seconds. Numbers in a unit are times if they lie between 1973 and 5138.
UNITS = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}
ORDER = "order"  # the numbers tell what came first, but not when
_FIRST_SECOND, _LAST_SECOND = 1e8, 1e11
DAY, _FIRST_DAY = 86400, 7305  # in seconds; 1990-01-01, before which nobody used what is now recommended
_DATE = re.compile(r"(?=.*\b(19|20)\d\d)(\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|"
                   r".*\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)).*", re.I)

_CALENDAR = {"%Y%m%d": 10 ** 6, "%Y%m%d%H%M": 10 ** 10, "%Y%m%d%H%M%S": 10 ** 12}  # and what a century is in it

_MEND_TIME = "give seconds since 1970 or ISO dates such as 2024-05-31 18:30:00, or leave the column out"


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
    refuse_first(~iso | np.isnat(found), name, row_of, lambda row: shown(text.iloc[row]),
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
        refuse_first(level == present[1], name, row_of, lambda row: values[row], f"{TIMESTAMP}, which looks like "
                f"{words[present[1]]}, but others look like {words[present[0]]}; {_MEND_TIME}")
    if not len(present) or present[0] > len(UNITS) or (level == 0).mean() > 0.5 or np.ptp(values) == 0:
        return ORDER
    return words[present[0]]
