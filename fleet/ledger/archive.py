"""Moves old entries of the ledger from Redis to files. Entries are trimmed once a file is on disk.

If the job is killed before the trim, the entries are still in the stream and the next run writes
the same file again. The script that trims also records the file in Redis. A file has the entries of
one finished day, so that two runs at once write the same files.
"""

from __future__ import annotations

from fleet.ledger.files import LedgerFiles
from fleet.ledger.rules.entries import FIRST, LedgerEntry
from fleet.ledger.stores import LedgerStores
from fleet.telemetry.logger import get_logger

KEEP_DAYS = 7
"""The least number of days that entries stay in Redis. An entry takes some 150 bytes there."""

MAX_ENTRIES = 20_000
"""The most entries in a file: some 20 MB in memory while it is written."""

DAY_SECONDS = 86_400

log = get_logger(__name__)


def archive(ledger: LedgerStores, keep_days: int = KEEP_DAYS) -> list[str]:
    """Archive entries older than `keep_days` whole days by Redis's clock. Returns the files' names.
    """
    ledger.rollups.roll_up()
    files = LedgerFiles(ledger.data_dir)
    names: list[str] = []
    while batch := _batch(ledger, _day(ledger.entries.now_us() / 1e6) - keep_days):
        name = files.write(batch)
        if ledger.entries.trim(name, batch[0].id, batch[-1].id):
            names.append(name)
        elif ledger.entries.archives()[-1:] == names[-1:]:
            log.warning("archiving entries failed, retried by the next run", file=name)
            break
    return names


def _batch(ledger: LedgerStores, before_day: int) -> list[LedgerEntry]:
    """The oldest entries of the stream: one day's entries, if that day is before `before_day`."""
    found: list[LedgerEntry] = []
    while len(found) < MAX_ENTRIES:
        entries = ledger.entries.page(found[-1].id if found else FIRST).entries
        if not entries:
            break
        day = _day((found or entries)[0].epoch)
        more = [entry for entry in entries if _day(entry.epoch) == day]
        if day >= before_day or not more:
            break
        found += more
    return found[:MAX_ENTRIES]


def _day(epoch: float) -> int:
    return int(epoch // DAY_SECONDS)
