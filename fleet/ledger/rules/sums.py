"""Sums of the ledger's entries, in the form of the roll-ups and in the form of the counters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

from fleet.budgets.rules.usage_counters import Counted
from fleet.ledger.rules.entries import LedgerEntry, Names, Rolled
from fleet.ledger.rules.spend_rows import SpendRow


class RolledKey(NamedTuple):
    """The key of a sum in a roll-up: an hour (YYYYMMDDHH) or a day (YYYYMMDD), and names."""

    period: str
    names: Names


class LedgerSums:
    """Sums of entries by windows and names. Only the sums are in memory."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, Names], list[int]] = {}

    def add(self, entries: Iterable[LedgerEntry]) -> Self:
        """Add entries, in any order."""
        for entry in entries:
            self._add((entry.windows, entry.names), entry.rolled)
        return self

    def merge(self, other: Self) -> Self:
        """Add the sums of another object."""
        for group, sums in other._sums.items():
            self._add(group, sums)
        return self

    def rolled(self) -> dict[RolledKey, Rolled]:
        """The sums of each hour and each day."""
        found: dict[RolledKey, Rolled] = {}
        for (windows, names), sums in self._sums.items():
            hour, day, _ = windows.split(",")
            for period in (hour[1:], day[1:]):
                key = RolledKey(period, names)
                before = found.get(key, Rolled())
                found[key] = Rolled(*(a + b for a, b in zip(before, sums, strict=True)))
        return found

    def counted(self) -> dict[tuple[str, str], Counted]:
        """The sums of each scope and window."""
        found: dict[tuple[str, str], Counted] = {}
        for key, counted in self._by_scope():
            before = found.get(key, Counted())
            found[key] = Counted(*(a + b for a, b in zip(before, counted, strict=True)))
        return found

    def _add(self, group: tuple[str, Names], sums: Iterable[int]) -> None:
        found = self._sums.get(group)
        if found is None:
            self._sums[group] = list(sums)
        else:
            found[:] = [a + b for a, b in zip(found, sums, strict=True)]

    def _by_scope(self) -> Iterator[tuple[tuple[str, str], Counted]]:
        for (windows, names), sums in self._sums.items():
            rolled = Rolled(*sums)
            tokens = rolled.input + rolled.output
            counted = Counted(rolled.amount, tokens, rolled.requests)
            for scope in names.scopes:
                for window in windows.split(","):
                    yield (scope, window), counted


def spend_row(key: RolledKey, rolled: Rolled) -> SpendRow:
    """A sum of a roll-up as a row for the analysis of spend."""
    return SpendRow(key.period, *key.names, *rolled)
