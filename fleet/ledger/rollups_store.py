"""The roll-ups: sums of the ledger's entries by hour and by day, for each combination of names.

A cursor marks the last entry that is included. One script adds a batch and moves the cursor. It
does nothing if the cursor is not at the start of the batch. So the job may be killed anywhere, run
twice, and run in several places at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from urllib.parse import quote, unquote

from fleet.errors import InvalidRequest
from fleet.ledger.rules.entries import FIRST, Names, Rolled
from fleet.ledger.rules.spend_rows import SpendRow
from fleet.ledger.rules.sums import LedgerSums, RolledKey, spend_row
from fleet.ledger.store import Ledger
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.redis.store import Store

SEPARATOR = "|"
HOURS = tuple(f"{hour:02d}" for hour in range(24))


class Rollups(Store):
    """Updates and reads the roll-ups."""

    def roll_up(self) -> int:
        """Add all new entries. Returns how many. Two calls for each page of entries."""
        ledger, done = Ledger(self.client, self.keys, self.scripts), 0
        while True:
            before = self.cursor()
            entries = ledger.page(before).entries
            if not entries:
                return done
            if self.add(before, entries[-1].id, LedgerSums().add(entries).rolled()):
                done += len(entries)

    def cursor(self) -> str:
        """The id of the last entry that is included."""
        with redis_errors(self.client):
            return text(self.client.get(self.keys.rollup_cursor) or FIRST)

    def add(self, before: str, last: str, sums: Mapping[RolledKey, Rolled]) -> bool:
        """Add a batch from `before`, exclusive, to `last`. False if the cursor is elsewhere."""
        numbers: dict[str, int] = {}
        arguments: list[str | int] = [before, last]
        for key, rolled in sums.items():
            number = numbers.setdefault(key.period, len(numbers) + 1)
            arguments += [number, _field(key.names), ",".join(map(str, rolled))]
        keys = [self.keys.rollup_cursor, self.keys.rollups, *map(self.keys.rollup, numbers)]
        with redis_errors(self.client):
            return bool(self.scripts.rollup(keys=keys, args=arguments))

    def rows(self, first_day: date, last_day: date, hourly: bool = False) -> list[SpendRow]:
        """The spending from one UTC day to another, both included: a row for each day, or hour, and
        combination of names, ordered by time.

        New entries are rolled up first, so the current hour is included. Raises `InvalidRequest` if
        the last day is before the first.
        """
        if last_day < first_day:
            raise InvalidRequest(f"{last_day} is before {first_day}; give the earlier day first")
        self.roll_up()
        found = self.read(_periods(first_day, last_day, hourly))
        return [spend_row(key, rolled) for key, rolled in sorted(found.items())]

    def read(self, periods: list[str]) -> dict[RolledKey, Rolled]:
        """The roll-ups of these hours or days; those that do not exist are left out."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            for period in periods:
                pipeline.hgetall(self.keys.rollup(period))
            found = pipeline.execute()
        return {
            RolledKey(period, _names(text(field))): Rolled(*map(int, text(packed).split(",")))
            for period, fields in zip(periods, found, strict=True)
            for field, packed in fields.items()
        }

    def periods(self) -> list[str]:
        """All hours and days that have a roll-up."""
        with redis_errors(self.client):
            return sorted(
                text(key).rpartition(":")[2] for key in self.client.smembers(self.keys.rollups)
            )

    def today(self) -> date:
        """The UTC day of Redis's clock."""
        with redis_errors(self.client):
            seconds, _ = self.client.time()
        return datetime.fromtimestamp(seconds, UTC).date()


def _periods(first: date, last: date, hourly: bool) -> list[str]:
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [f"{day:%Y%m%d}{hour}" for day in days for hour in (HOURS if hourly else ("",))]


@lru_cache(maxsize=10_000)
def _field(names: Names) -> str:
    # Another publisher's tenant may be any text.
    return SEPARATOR.join(quote(name, safe=" /:") for name in names)


def _names(field: str) -> Names:
    return Names(*map(unquote, field.split(SEPARATOR)))
