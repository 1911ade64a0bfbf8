"""Reads the book of money: what scopes have spent and hold, and for whom."""

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
    Holding,
    UsageCounters,
    parse_book,
    parse_holding,
)
from fleet.ledger.rules.entries import Counted, Held
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.redis.store import Store

PAGE = 1000
"""Fields in one answer: half a millisecond of Redis's time."""

MAX_FIELDS = 4000
"""In one question: some 2 ms of Redis's time."""

DAY_SECONDS = 86_400
WINDOWS = {"hour": "h%Y%m%d%H", "day": "d%Y%m%d", "month": "m%Y%m"}


class Standing(NamedTuple):
    """How a scope stands now: settled by `hour`, `day`, `month` and `rolling`, and what is held,
    which counts in each of them."""

    settled: Mapping[str, Counted]
    held: Held


class Standings(NamedTuple):
    """How scopes stand at one moment, and the ids of its `hour`, `day` and `month`."""

    windows: Mapping[str, str]
    of: Mapping[str, Standing]


class Reserved(NamedTuple):
    """What is held for tasks that have not ended, by id, and bound by steps, by id and call."""

    tasks: Mapping[str, Holding]
    steps: Mapping[str, Holding]

    @property
    def all(self) -> tuple[Holding, ...]:
        return (*self.tasks.values(), *self.steps.values())


class UsageStore(Store):
    """Reads alone: what changes the book is a script that charges, holds or gives back."""

    def read(self) -> UsageCounters:
        """All of it."""
        with redis_errors(self.client):
            return book_of(self.client.hgetall(self.keys.money))

    def reserved(self) -> Reserved:
        """What is held, task by task. Read at one moment."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=True)
            pipeline.hgetall(self.keys.reservations)
            pipeline.hgetall(self.keys.open_steps)
            return reserved_of(*pipeline.execute())

    def standing(self, scopes: Sequence[str]) -> dict[str, Standing]:
        """How scopes stand in the windows of Redis's clock. Two calls, and one more for each 61
        further scopes."""
        seconds = self._seconds()
        minutes = [f"{ROLLING}{seconds // 60 - back}" for back in range(ROLLING_MINUTES + 1)]
        return self._standing(scopes, [*window_ids(seconds).values(), HELD, *minutes])

    def standings(self, scopes: Sequence[str]) -> Standings:
        """How any number of scopes stand in the UTC hour, day and month of Redis's clock, without
        the last 60 minutes. One call, and one for each 1,000 scopes."""
        windows = window_ids(self._seconds())
        return Standings(windows, self._standing(scopes, [*windows.values(), HELD]))

    def scopes(self, kind: str) -> list[str]:
        """The scopes of a kind, such as `tenant`, that hold anything or have spent this month.

        Goes through the whole book, a page a call; it has some 600 fields for each scope.
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

    def _standing(self, scopes: Sequence[str], fields: Sequence[str]) -> dict[str, Standing]:
        wanted = [f"{window} {scope}" for scope in scopes for window in fields]
        size = len(fields)
        step = MAX_FIELDS // size * size
        found: list[Any] = []
        with redis_errors(self.client):
            for start in range(0, len(wanted), step):
                found += self.client.hmget(self.keys.money, wanted[start : start + step])
        rows = (found[start : start + size] for start in range(0, len(found), size))
        return {scope: _standing(row) for scope, row in zip(scopes, rows, strict=True)}


def window_ids(seconds: int) -> dict[str, str]:
    """The ids of the UTC hour, day and month of a moment, in seconds since 1970."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return {name: moment.strftime(form) for name, form in WINDOWS.items()}


def oldest_kept(seconds: int) -> tuple[str, str]:
    """The oldest UTC hour and day that the book is sure to have then, in seconds since 1970."""
    hour = window_ids(seconds - HOURS_KEPT_DAYS * DAY_SECONDS)["hour"]
    return hour, window_ids(seconds - DAYS_KEPT * DAY_SECONDS)["day"]


def book_of(found: Mapping[Any, Any]) -> UsageCounters:
    """The book from what Redis answered."""
    return parse_book({text(name): text(packed) for name, packed in found.items()})


def reserved_of(tasks: Mapping[Any, Any], steps: Mapping[Any, Any]) -> Reserved:
    """The reservations and open steps from what Redis answered."""
    return Reserved(
        {text(name): parse_holding(text(packed), True) for name, packed in tasks.items()},
        {text(name): parse_holding(text(packed), False) for name, packed in steps.items()},
    )


def _standing(row: Sequence[bytes | str | None]) -> Standing:
    hour, day, month, held, *minutes = row
    settled = {
        "hour": _counted(hour),
        "day": _counted(day),
        "month": _counted(month),
        "rolling": _sum(map(_counted, minutes)),
    }
    return Standing(settled, Held(*_numbers(held)))


def _counted(packed: bytes | str | None) -> Counted:
    return Counted(*_numbers(packed))


def _numbers(packed: bytes | str | None) -> list[int]:
    return [int(number) for number in text(packed).split(",")] if packed else []


def _sum(counted: Iterable[Counted]) -> Counted:
    total = Counted()
    for each in counted:
        total = Counted(*(a + b for a, b in zip(total, each, strict=True)))
    return total
