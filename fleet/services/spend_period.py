"""Which days are meant: what somebody typed, as a period, or a sentence of what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from redis import Redis

from fleet.core.days import days_between, shifted
from fleet.errors import InvalidRequest
from fleet.state.client import redis_errors

DEFAULT_DAYS = 30
MOST_DAYS = 1100
"""Three years and a bit."""


@dataclass(frozen=True, slots=True)
class Period:
    """Days from the first to the last, both included, as YYYYMMDD in UTC.

    With `open_day` the last is today, which has not ended.
    """

    first: str
    last: str
    open_day: bool

    @property
    def days(self) -> tuple[str, ...]:
        return days_between(self.first, self.last)


def today_of(client: Redis) -> tuple[str, int]:
    """The UTC day by Redis's clock, and the seconds since 1970."""
    with redis_errors(client):
        seconds, _ = client.time()
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d"), seconds


def period_of(
    today: str, first: str | None = None, last: str | None = None, days: int | None = None
) -> Period:
    """The period that somebody asked for: the last 30 days where nothing was said.

    Days are written as 2026-11-24 or 20261124. Raises `InvalidRequest`.
    """
    if first is not None and days is not None:
        raise InvalidRequest("give --from or --days, not both")
    end = today if last is None else _day("--to", last)
    if end > today:
        raise InvalidRequest(f"--to {last}: is after today, {today}; name a day up to today (UTC)")
    start = shifted(end, 1 - (days or DEFAULT_DAYS)) if first is None else _day("--from", first)
    if start > end:
        raise InvalidRequest(f"--from {first}: is after the period's last day, {end}; swap them")
    period = Period(start, end, end == today)
    if len(period.days) > MOST_DAYS:
        raise InvalidRequest(
            f"{start} to {end} is {len(period.days)} days; ask for at most {MOST_DAYS}"
        )
    return period


def _day(option: str, text: str) -> str:
    try:
        return date.fromisoformat(text).strftime("%Y%m%d")
    except ValueError:
        raise InvalidRequest(
            f"{option} {text}: is no day of the calendar; write it as 2026-11-24"
        ) from None
