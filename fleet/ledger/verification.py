"""Recomputes every counter and roll-up from the ledger's entries, and reports differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from fleet.budgets.rules.usage_counters import (
    Counted,
    ReservedAmounts,
    UsageCounters,
    held_by_scope,
    is_kept,
)
from fleet.budgets.usage_store import oldest_kept
from fleet.ledger.reading import LedgerReader
from fleet.ledger.rules.entries import LedgerEntry, Rolled, id_parts
from fleet.ledger.rules.sums import LedgerSums, RolledKey
from fleet.ledger.stores import LedgerStores

COUNTER = "counter"
ROLL_UP = "roll-up"
RESERVED = "reserved"
ROLLING = "last 60 minutes"


class Difference(NamedTuple):
    """A figure that differs from the sum of the entries, the reservations or the minutes.

    `of` is the counter's scope, or the roll-up's names with `|` between. `window` is an hour, day
    or month, such as `d20261124`.
    """

    where: str
    of: str
    window: str
    figure: str
    entries: int
    stored: int


class Verified(NamedTuple):
    """The numbers of compared entries, counters and roll-ups, the entries' sum in nano-dollars, and
    the differences."""

    entries: int
    amount: int
    counters: int
    rollups: int
    differences: tuple[Difference, ...]


def verify(ledger: LedgerStores, seen: Callable[[int], object] = lambda entries: None) -> Verified:
    """Compare all entries, archived ones included, with every counter and every roll-up.

    Charges may go on meanwhile: the counters are read at one moment, and so are the roll-ups. The
    counters keep hours for 8 days and days for 400, so older ones are not compared, nor late
    corrections of them. The roll-ups keep all. `seen` is called now and then with the number of
    entries read.
    """
    cursor, rolled = _rollups(ledger)
    moment = ledger.entries.moment()
    up_to_cursor, later, entries, amount = LedgerSums(), LedgerSums(), 0, 0
    for page in LedgerReader(ledger).pages(until=moment.last):
        up_to_cursor.add(entry for entry in page if not _later(entry, cursor))
        later.add(entry for entry in page if _later(entry, cursor))
        entries += len(page)
        amount += sum(entry.amount for entry in page)
        seen(entries)
    oldest = oldest_kept(moment.seconds)
    stored = {
        (scope, window): counted
        for scope, found in moment.book.counters.items()
        for window, counted in found.items()
        if is_kept(window, oldest)
    }
    expected = up_to_cursor.rolled()
    sums = up_to_cursor.merge(later).counted()
    counted = {key: each for key, each in sums.items() if is_kept(key[1], oldest)}
    differences = (
        *_rolled_differences(expected, rolled),
        *_counted_differences(counted, stored),
        *_held_differences(held_by_scope(moment.reserved.all), moment.book.held),
        *_minute_differences(moment.book),
    )
    return Verified(entries, amount, len(stored), len(rolled), differences)


def _rollups(ledger: LedgerStores) -> tuple[str, dict[RolledKey, Rolled]]:
    """All roll-ups, and the last entry that they included while they were read."""
    while True:
        ledger.rollups.roll_up()
        cursor = ledger.rollups.cursor()
        found = ledger.rollups.read(ledger.rollups.periods())
        if ledger.rollups.cursor() == cursor:
            return cursor, found


def _later(entry: LedgerEntry, cursor: str) -> bool:
    return id_parts(entry.id) > id_parts(cursor)


def _rolled_differences(
    expected: Mapping[RolledKey, Rolled], stored: Mapping[RolledKey, Rolled]
) -> Iterator[Difference]:
    for key in sorted({*expected, *stored}):
        window = ("h" if len(key.period) == len("2026112421") else "d") + key.period
        pair = expected.get(key, Rolled()), stored.get(key, Rolled())
        yield from _differences(ROLL_UP, "|".join(key.names), window, *pair)


def _counted_differences(
    expected: Mapping[tuple[str, str], Counted], stored: Mapping[tuple[str, str], Counted]
) -> Iterator[Difference]:
    for scope, window in sorted({*expected, *stored}):
        pair = (found.get((scope, window), Counted()) for found in (expected, stored))
        yield from _differences(COUNTER, scope, window, *pair)


def _held_differences(
    expected: Mapping[str, ReservedAmounts], stored: Mapping[str, ReservedAmounts]
) -> Iterator[Difference]:
    for scope in sorted({*expected, *stored}):
        pair = (found.get(scope, ReservedAmounts()) for found in (expected, stored))
        yield from _differences(RESERVED, scope, "", *pair)


def _minute_differences(book: UsageCounters) -> Iterator[Difference]:
    for scope in sorted({*book.minutes, *book.rolling}):
        minutes = book.minutes.get(scope, {}).values()
        total = Counted(*map(sum, zip(*minutes, strict=True))) if minutes else Counted()
        yield from _differences(ROLLING, scope, "r", total, book.rolling.get(scope, Counted()))


def _differences(
    where: str, of: str, window: str, expected: Any, stored: Any
) -> Iterator[Difference]:
    for figure, ours, theirs in zip(expected._fields, expected, stored, strict=True):
        if ours != theirs:
            yield Difference(where, of, window, figure, ours, theirs)
