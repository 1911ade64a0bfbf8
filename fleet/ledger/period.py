"""Parses the days of a report: a period from what a user typed, or an error that says why not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from fleet.errors import InvalidRequest
from fleet.ledger.rules.days import day_number, days_between, shifted
from fleet.redis.store import Store
from fleet.text import brief

DEFAULT_DAYS = 30
FIRST_DAY = "20000101"
MAX_DAYS = 1100
"""The most days in a period: three years and a bit."""


@dataclass(frozen=True, slots=True)
class Period:
    """Days from the first to the last, both included, as YYYYMMDD in UTC.

    With `open_day` the last day is today, which has not ended.
    """

    first: str
    last: str
    open_day: bool

    @property
    def days(self) -> tuple[str, ...]:
        return days_between(self.first, self.last)


def today_of(store: Store) -> tuple[str, int]:
    """The UTC day by Redis's clock, and the seconds since 1970."""
    seconds = store.now_us() // 1_000_000
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d"), seconds


def period_of(
    today: str, first: str | None = None, last: str | None = None, days: int | None = None
) -> Period:
    """The requested period; by default the last 30 days.

    Days are written as 2026-11-24 or 20261124. Raises `InvalidRequest`.
    """
    if first is not None and days is not None:
        raise InvalidRequest("give --from or --days, not both")
    if days is not None and days < 1:
        raise InvalidRequest(f"--days {brief(days)}: give a number of days from 1")
    if days is not None and days > MAX_DAYS:
        raise InvalidRequest(f"--days is {brief(days)} days; ask for at most {MAX_DAYS}")
    end = today if last is None else _day("--to", last)
    if end < FIRST_DAY:
        raise InvalidRequest(f"--to {last}: is before any fleet existed; name a later day")
    if end > today:
        raise InvalidRequest(f"--to {last}: is after today, {today}; name a day up to today (UTC)")
    start = shifted(end, 1 - (days or DEFAULT_DAYS)) if first is None else _day("--from", first)
    if start > end:
        raise InvalidRequest(f"--from {first}: is after the period's last day, {end}; swap them")
    period = Period(start, end, end == today)
    count = day_number(end) - day_number(start) + 1
    if count > MAX_DAYS:
        raise InvalidRequest(
            f"{start} to {end} is {count} days; ask for at most {MAX_DAYS}"
        )
    return period


def _day(option: str, text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat().replace("-", "")
    except ValueError:
        raise InvalidRequest(
            f"{option} {text:.40}: is no valid date; write it as 2026-11-24"
        ) from None
