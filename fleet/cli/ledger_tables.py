"""The ledger's entries and differences as tables, and how far a long look at it has come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fleet.cli.output import dollars, error_console, moment

if TYPE_CHECKING:
    from fleet.ledger.rules.entries import LedgerEntry
    from fleet.ledger.rules.reconciliation import Compared
    from fleet.ledger.verification import Difference


def entries_table(entries: Iterable[LedgerEntry]) -> Table:
    """One line an entry, with its id in full, for somebody to copy."""
    names = ("id", "time", "kind", "task", "tenant", "pool", "model")
    table = _table(names, ("in", "out", "amount"))
    table.add_column("usage")
    for entry in entries:
        table.add_row(
            entry.id,
            moment(entry.epoch),
            entry.kind,
            entry.task,
            entry.tenant,
            entry.pool,
            entry.model,
            str(entry.input),
            str(entry.output),
            signed(entry.amount),
            f"of {entry.of}: {entry.why}" if entry.of else entry.usage,
        )
    return table


def differences_table(differences: Iterable[Difference]) -> Table:
    """One line a figure: what the entries come to, and what is stored."""
    table = _table(("where", "of", "window", "figure"), ("entries", "stored"))
    for each in differences:
        table.add_row(*map(str, each))
    return table


def compared_table(lines: Iterable[Compared]) -> Table:
    """One line a day and model: amounts of both sides, and what the bill has more."""
    figures = ("billed", "ledger", "difference", "input", "cached", "output", "requests")
    table = _table(("day", "model"), figures)
    for line in lines:
        more = line.difference
        amounts = (line.billed.amount, line.ledger.amount, more.amount)
        counts = (more.input, more.cached, more.output, more.requests)
        table.add_row(*line.key, *map(signed, amounts), *(f"{count:+d}" for count in counts))
    return table


def compared_json(line: Compared) -> dict[str, Any]:
    """A day and model for programs; amounts are nano-dollars."""
    return {
        **line.key._asdict(),
        "billed": line.billed._asdict(),
        "ledger": line.ledger._asdict(),
        "difference": line.difference._asdict(),
    }


def signed(nanodollars: int) -> str:
    """An amount that may be under 0."""
    return f"-{dollars(-nanodollars)}" if nanodollars < 0 else dollars(nanodollars)


@contextmanager
def counting(what: str, total: int | None = None) -> Iterator[Callable[[int], object]]:
    """A bar on the error stream, where that is a terminal; it is told how many there were."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    what_of = TextColumn("{task.description}", markup=False)
    columns = (what_of, BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=error_console(), transient=True) as bars:
        shown = bars.add_task(what, total=total)
        yield lambda done: bars.update(shown, completed=done)


def _table(names: Iterable[str], figures: Iterable[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=name in ("id", "task"))
    for figure in figures:
        table.add_column(figure, justify="right", no_wrap=True)
    return table
