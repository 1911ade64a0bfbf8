"""The ledger: a stream with an entry for each settled model call, and the counters of its sums.

    usage.lua     atomically charges the task, writes the entry and moves the counters. The scripts
                  that end a run do the same for a call without reported usage
    correct.lua   atomically writes a correction and moves the counters of the same windows
    trim.lua      atomically removes entries that a file of the archive has

So after every script the sum of all entries, archived ones included, equals each scope's counters
for each window. Nothing else writes to either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fleet.budgets.rules.usage_counters import UsageCounters
from fleet.budgets.usage_store import Reserved, counters_of, reserved_of
from fleet.errors import InvalidRequest
from fleet.ledger.rules.entries import (
    CORRECTION,
    FIRST,
    LedgerEntry,
    archived_ids,
    parse_entry,
)
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.redis.store import Store

__all__ = ["Ledger", "LedgerEntry", "Moment", "Page"]

PAGE = 2000
"""The number of entries in one answer: some 800 KB, a few milliseconds of Redis's time."""

NAMES = {
    name: field for field in LedgerEntry._fields for name in (field, field.encode())
}
"""Field names by text and by bytes: saves half of the time to read a million entries."""


class Page(NamedTuple):
    """Entries in order, and the name of the archive's newest file at that moment, or ''."""

    entries: list[LedgerEntry]
    archive: str


class Moment(NamedTuple):
    """The whole book of money, what is held for whom, and the id of the last entry that the book
    counts; `FIRST` where there is none. `seconds` are those since 1970, by Redis's clock."""

    book: UsageCounters
    reserved: Reserved
    last: str
    seconds: int


class Ledger(Store):
    """Reads the ledger's stream and counters, and writes corrections. Each method is one call to
    Redis."""

    def page(self, after: str, most: int = PAGE) -> Page:
        """The entries after an id that the stream still has."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=True)
            pipeline.xrange(self.keys.ledger, min=f"({after}", count=most)
            pipeline.lindex(self.keys.archives, -1)
            found, archive = pipeline.execute()
        return Page(_entries(found), text(archive or b""))

    def length(self) -> int:
        """The number of entries in the stream."""
        with redis_errors(self.client):
            return int(self.client.xlen(self.keys.ledger))

    def newest(self, most: int, tenant: str | None = None) -> list[LedgerEntry]:
        """Entries of the stream, newest first. For those of one tenant the stream is searched, with
        a call for each `PAGE` entries."""
        size, last = (most if tenant is None else PAGE), "+"
        found: list[LedgerEntry] = []
        while True:
            with redis_errors(self.client):
                page: Any = self.client.xrevrange(self.keys.ledger, last, count=size)
            entries = _entries(page)
            found += [each for each in entries if tenant in (None, each.tenant)]
            if tenant is None or len(found) >= most or len(entries) < size:
                return found[:most]
            last = f"({entries[-1].id}"

    def find(self, entry_id: str) -> LedgerEntry | None:
        """One entry of the stream."""
        with redis_errors(self.client):
            found: Any = self.client.xrange(self.keys.ledger, entry_id, entry_id)
        return next(iter(_entries(found)), None)

    def moment(self) -> Moment:
        """All counters as they were at one moment."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=True)
            pipeline.hgetall(self.keys.money)
            pipeline.hgetall(self.keys.reservations)
            pipeline.hgetall(self.keys.open_steps)
            pipeline.xrevrange(self.keys.ledger, count=1)
            pipeline.lindex(self.keys.archives, -1)
            pipeline.time()
            money, tasks, steps, newest, archive, (seconds, _) = pipeline.execute()
        if newest:
            last = text(newest[0][0])
        else:
            last = archived_ids(text(archive))[1] if archive else FIRST
        return Moment(counters_of(money), reserved_of(tasks, steps), last, int(seconds))

    def correct(self, entry: LedgerEntry, amount: int, by: str, why: str, once: str) -> str:
        """Add an amount to an entry, in nano-dollars: negative if the charge was too high.

        Returns the id of the correction. `once` names this correction, so that repeating the call
        does not repeat the correction. Raises `InvalidRequest` if `entry` is a correction, if the
        amount is 0, or if the entry and its corrections would be under 0.
        """
        _check(entry, amount, why)
        correction = entry._replace(
            kind=CORRECTION, amount=amount, estimate=0, of=entry.id, by=by, why=why
        )
        correction = correction._replace(input=0, cached=0, output=0, reasoning=0)
        keys = [self.keys.ledger, self.keys.corrections, self.keys.money]
        arguments: list[str | int] = [entry.id, entry.amount, amount, once, entry.windows]
        arguments += [entry.tenant, entry.agent_type, entry.model, int(entry.epoch) // 60]
        arguments += [part for pair in correction.fields.items() for part in pair]
        with redis_errors(self.client):
            made = text(self.scripts.correct(keys=keys, args=arguments))
        if not made:
            raise InvalidRequest(
                f"entry {entry.id} and its corrections would be less than 0; the entry charged "
                f"{entry.amount} nano-dollars, `fleet ledger show` lists the corrections since"
            )
        return made

    def archives(self) -> list[str]:
        """The names of all archive files, oldest first."""
        with redis_errors(self.client):
            return [text(name) for name in self.client.lrange(self.keys.archives, 0, -1)]

    def trim(self, name: str, first: str, last: str) -> bool:
        """Remove the entries from the first to the last, which an archive file has.

        False if the stream does not begin with the first, or not all are rolled up yet.
        """
        keys = [self.keys.ledger, self.keys.archives, self.keys.rollup_cursor]
        with redis_errors(self.client):
            return bool(self.scripts.trim(keys=keys, args=[name, first, last]))


def _check(entry: LedgerEntry, amount: int, why: str) -> None:
    if entry.kind == CORRECTION:
        raise InvalidRequest(f"{entry.id} is a correction; correct the entry {entry.of} again")
    if amount == 0:
        raise InvalidRequest("a correction of 0 changes nothing; give an amount to add or subtract")
    if not why.strip():
        raise InvalidRequest("give a reason for the correction")


def _entries(found: Iterable[Any]) -> list[LedgerEntry]:
    return [parse_entry(text(entry_id), _decoded(fields)) for entry_id, fields in found]


def _decoded(fields: Mapping[Any, Any]) -> dict[str, str]:
    try:
        return {NAMES[name]: value.decode() for name, value in fields.items()}
    except AttributeError:
        # A client that decodes answers itself.
        return dict(fields)
