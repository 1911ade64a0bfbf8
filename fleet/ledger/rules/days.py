"""Calendar days as YYYYMMDD, which sort by time. There is no clock here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

FIRST_WEEKDAY = 3
"""1970-01-01, the day 0, was a Thursday; Monday is 0."""


def day_number(day: str) -> int:
    """Days since 1970-01-01. Raises `ValueError` for an invalid date."""
    return int(np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:8]}", "D").astype(np.int64))


def shifted(day: str, by: int) -> str:
    """The day `by` days later, or earlier if `by` is negative."""
    return str(np.datetime64(day_number(day) + by, "D")).replace("-", "")


def days_between(first: str, last: str) -> tuple[str, ...]:
    """All days from the first to the last, both included."""
    return tuple(shifted(first, by) for by in range(day_number(last) - day_number(first) + 1))


def month_days(month: str) -> tuple[str, ...]:
    """All days of a month, written as YYYYMM."""
    first = f"{month}01"
    following = shifted(first, 31)[:6]  # no month is longer, and none is short enough to be skipped
    return days_between(first, shifted(f"{following}01", -1))


def weekdays(days: Sequence[str]) -> Numbers:
    """The day of the week of each, from 0 for Monday to 6; shape (days,)."""
    return (np.array([day_number(day) for day in days], dtype=np.int64) + FIRST_WEEKDAY) % 7
