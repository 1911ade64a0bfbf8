"""Reads the usage counters and the reservations: what scopes have spent and reserved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fleet.budgets.rules.usage_counters import (
    DAYS_KEPT,
    HELD,
    HOURS_KEPT_DAYS,
    ROLLING,
    ROLLING_MINUTES,
    Counted,
    Holding,
    ReservedAmounts,
    UsageCounters,
    parse_counters,
    parse_holding,
)
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.redis.store import Store

PAGE = 1000
"""Fields in one answer: half a millisecond of Redis's time."""

MAX_FIELDS = 4000
"""In one question: some 2 ms of Redis's time."""

DAY_SECONDS = 86_400
WINDOWS = {"hour": "h%Y%m%d%H", "day": "d%Y%m%d", "month": "m%Y%m"}


class ScopeUsage(NamedTuple):
    """The usage of a scope: settled amounts by `hour`, `day`, `month` and `rolling`, and the
    reserved amount, which counts in each window."""

    settled: Mapping[str, Counted]
    held: ReservedAmounts


class UsageReading(NamedTuple):
    """The usage of scopes at one moment, and the ids of its `hour`, `day` and `month`."""

    windows: Mapping[str, str]
    scopes: Mapping[str, ScopeUsage]


class Reserved(NamedTuple):
    """Reservations: for tasks that have not ended, by task id, and for calls in flight, by task id
    and call."""

    tasks: Mapping[str, Holding]
    steps: Mapping[str, Holding]

    @property
    def all(self) -> tuple[Holding, ...]:
        return (*self.tasks.values(), *self.steps.values())


class UsageStore(Store):
    """Reads only: the scripts that charge, reserve and release change the counters."""

    def read(self) -> UsageCounters:
        """All counters."""
        with redis_errors(self.client):
            return counters_of(self.client.hgetall(self.keys.money))

    def reserved(self) -> Reserved:
        """All reservations at one moment."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=True)
            pipeline.hgetall(self.keys.reservations)
            pipeline.hgetall(self.keys.open_steps)
            return reserved_of(*pipeline.execute())

    def scope_usage(self, scopes: Sequence[str]) -> dict[str, ScopeUsage]:
        """The usage of scopes in the windows of Redis's clock. Two calls, and one more for each 61
        further scopes."""
        seconds = self._seconds()
        minutes = [f"{ROLLING}{seconds // 60 - back}" for back in range(ROLLING_MINUTES + 1)]
        return self._read(scopes, [*window_ids(seconds).values(), HELD, *minutes])

    def window_usage(self, scopes: Sequence[str]) -> UsageReading:
        """The usage of any number of scopes in the UTC hour, day and month of Redis's clock,
        without the last 60 minutes. One call, and one for each 1,000 scopes."""
        windows = window_ids(self._seconds())
        return UsageReading(windows, self._read(scopes, [*windows.values(), HELD]))

    def scopes(self, kind: str) -> list[str]:
        """The scopes of a kind, such as `tenant`, with a reservation or with spending this month.

        Scans all counters, one call for each page. There are some 600 fields for each scope.
        """
        month = window_ids(self._seconds())["month"]
        patterns = (f"{window} {kind}:*" for window in (HELD, month))
        fields = (text(field) for pattern in patterns for field in self._fields(pattern))
        return sorted({field.partition(" ")[2] for field in fields})

    def _fields(self, pattern: str) -> Iterator[bytes | str]:
        with redis_errors(self.client):
            found = self.client.hscan_iter(self.keys.money, match=pattern, count=PAGE)
            yield from (field for field, _ in found)

    def _seconds(self) -> int:
        with redis_errors(self.client):
            seconds, _ = self.client.time()
        return int(seconds)

    def _read(self, scopes: Sequence[str], fields: Sequence[str]) -> dict[str, ScopeUsage]:
        wanted = [f"{window} {scope}" for scope in scopes for window in fields]
        size = len(fields)
        step = MAX_FIELDS // size * size
        found: list[Any] = []
        with redis_errors(self.client):
            for start in range(0, len(wanted), step):
                found += self.client.hmget(self.keys.money, wanted[start : start + step])
        rows = (found[start : start + size] for start in range(0, len(found), size))
        return {scope: _scope_usage(row) for scope, row in zip(scopes, rows, strict=True)}


def window_ids(seconds: int) -> dict[str, str]:
    """The ids of the UTC hour, day and month of a moment, in seconds since 1970."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return {name: moment.strftime(form) for name, form in WINDOWS.items()}


def oldest_kept(seconds: int) -> tuple[str, str]:
    """The oldest UTC hour and day that the counters are sure to include at a moment, in seconds
    since 1970."""
    hour = window_ids(seconds - HOURS_KEPT_DAYS * DAY_SECONDS)["hour"]
    return hour, window_ids(seconds - DAYS_KEPT * DAY_SECONDS)["day"]


def counters_of(found: Mapping[Any, Any]) -> UsageCounters:
    """The counters from the answer of Redis."""
    return parse_counters({text(name): text(packed) for name, packed in found.items()})


def reserved_of(tasks: Mapping[Any, Any], steps: Mapping[Any, Any]) -> Reserved:
    """The reservations from the answer of Redis."""
    return Reserved(
        {text(name): parse_holding(text(packed), True) for name, packed in tasks.items()},
        {text(name): parse_holding(text(packed), False) for name, packed in steps.items()},
    )


def _scope_usage(row: Sequence[bytes | str | None]) -> ScopeUsage:
    hour, day, month, held, *minutes = row
    settled = {
        "hour": _counted(hour),
        "day": _counted(day),
        "month": _counted(month),
        "rolling": _sum(map(_counted, minutes)),
    }
    return ScopeUsage(settled, ReservedAmounts(*_numbers(held)))


def _counted(packed: bytes | str | None) -> Counted:
    return Counted(*_numbers(packed))


def _numbers(packed: bytes | str | None) -> list[int]:
    return [int(number) for number in text(packed).split(",")] if packed else []


def _sum(counted: Iterable[Counted]) -> Counted:
    total = Counted()
    for each in counted:
        total = Counted(*(a + b for a, b in zip(total, each, strict=True)))
    return total
