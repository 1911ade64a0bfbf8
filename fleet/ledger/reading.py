"""Reads the whole ledger: the archive's files, then the stream, each entry once.

The archiving job may move entries from the stream to files meanwhile. So each page of the stream
comes with the name of the archive's newest file at that moment. If this file goes beyond the
entries read so far, the files are read first. Only files recorded in Redis count, not what a killed
job left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import NamedTuple

from fleet.errors import InvalidRequest
from fleet.ledger.files import LedgerFiles
from fleet.ledger.rules.entries import FIRST, LedgerEntry, archived_ids, id_parts
from fleet.ledger.stores import LedgerStores

LAST_NUMBER = 2**64 - 1


class LedgerFilter(NamedTuple):
    """Selects entries by UTC day, both included, and by names. None selects all."""

    first_day: date | None = None
    last_day: date | None = None
    tenant: str | None = None
    request_type: str | None = None
    agent_type: str | None = None
    pool: str | None = None
    model: str | None = None
    provider: str | None = None
    kind: str | None = None
    task: str | None = None

    def takes(self, entry: LedgerEntry) -> bool:
        """Whether the filter selects an entry."""
        first, last, *names = self
        if first and entry.day < f"{first:%Y%m%d}":
            return False
        if last and entry.day > f"{last:%Y%m%d}":
            return False
        wanted = zip(self._fields[2:], names, strict=True)
        return all(name is None or getattr(entry, field) == name for field, name in wanted)

    @property
    def after(self) -> str:
        """An id before all selected entries. A correction is written later than its day."""
        if self.first_day is None:
            return FIRST
        midnight = datetime(*self.first_day.timetuple()[:3], tzinfo=UTC)
        return f"{max(1, int(midnight.timestamp() * 1000)) - 1}-{LAST_NUMBER}"


class LedgerReader:
    """Reads stream and archive of one fleet."""

    def __init__(self, stores: LedgerStores) -> None:
        self.ledger = stores.entries
        self.files = LedgerFiles(stores.data_dir)

    def pages(self, after: str = FIRST, until: str | None = None) -> Iterator[list[LedgerEntry]]:
        """All entries after an id, in order, up to and including `until` if it is given."""
        for entries in self._pages(after):
            wanted = [each for each in entries if until is None or not _follows(each.id, until)]
            if wanted:
                yield wanted
            if len(wanted) < len(entries):
                return

    def matching(
        self, wanted: LedgerFilter, seen: Callable[[int], object] = lambda entries: None
    ) -> Iterator[list[LedgerEntry]]:
        """The selected entries, page by page. A page may be empty.

        `seen` is called now and then with the number of entries read.
        """
        looked_at = 0
        for entries in self.pages(wanted.after):
            yield [entry for entry in entries if wanted.takes(entry)]
            looked_at += len(entries)
            seen(looked_at)

    def length(self) -> int:
        """The total number of entries."""
        return self.ledger.length() + sum(map(self.files.length, self.ledger.archives()))

    def find(self, entry_id: str) -> LedgerEntry:
        """One entry. Raises `InvalidRequest` if there is none with this id."""
        _check_id(entry_id)
        found = self.ledger.find(entry_id)
        if found is not None:
            return found
        for name in self.ledger.archives():
            first, last = archived_ids(name)
            if not _follows(first, entry_id) and not _follows(entry_id, last):
                for entries in self.files.read(name):
                    for entry in entries:
                        if entry.id == entry_id:
                            return entry
        raise InvalidRequest(f"the ledger has no entry {entry_id}; see `fleet ledger show`")

    def _pages(self, after: str) -> Iterator[list[LedgerEntry]]:
        while True:
            page = self.ledger.page(after)
            if page.archive and _follows(archived_ids(page.archive)[1], after):
                to = archived_ids(page.archive)[1]
                yield from self._archived(after, to)
                after = to
            elif page.entries:
                yield page.entries
                after = page.entries[-1].id
            else:
                return

    def _archived(self, after: str, to: str) -> Iterator[list[LedgerEntry]]:
        for name in self.ledger.archives():
            last = archived_ids(name)[1]
            if _follows(last, after) and not _follows(last, to):
                for entries in self.files.read(name):
                    yield [entry for entry in entries if _follows(entry.id, after)]


def _follows(one: str, other: str) -> bool:
    return id_parts(one) > id_parts(other)


def _check_id(entry_id: str) -> None:
    ms, _, number = entry_id.partition("-")
    if not (ms.isascii() and ms.isdigit() and number.isascii() and number.isdigit()):
        raise InvalidRequest(
            f"{entry_id!r} is no id of a ledger entry; `fleet ledger show` lists the ids"
        )
