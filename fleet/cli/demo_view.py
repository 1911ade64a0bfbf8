"""What `fleet demo` shows while things happen: a live table, or plain lines off a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fleet.cli.output import SHORT_ID, dollars, seconds, state

if TYPE_CHECKING:
    from fleet import Task
    from fleet.cli.demo_work import Errand
    from fleet.operations.health import Part
    from fleet.tasks.store import TaskRecord

POLL_SECONDS = 0.25
REFRESHES = 8
HEADINGS = ("id", "task", "request type", "state", "pool", "model")
NEVER_FOLDED = ("id", "state", "pool", "model")
FIGURES = ("tokens", "cost", "wait", "run")


def show_start(console: Console, looks: Iterable[Sequence[Part]], began: float) -> None:
    """Show what is starting, and how many seconds after `began` each part was seen healthy."""
    healthy: dict[str, float] = {}
    with _live(console) as live:
        for parts in looks:
            fresh = [part.name for part in parts if part.ok and part.name not in healthy]
            healthy |= dict.fromkeys(fresh, time.monotonic() - began)
            if live:
                live.update(_start_table(parts, healthy))
            else:
                _say(console, (f"{name} is healthy after {healthy[name]:.1f} s" for name in fresh))


def _start_table(parts: Sequence[Part], healthy: dict[str, float]) -> Table:
    table = Table.grid(padding=(0, 2))
    for part in parts:
        when = healthy.get(part.name)
        mark = Spinner("dots", "starting") if when is None else Text(f"{when:.1f} s", "green")
        table.add_row(part.name, mark, part.where)
    if not parts:
        table.add_row(Spinner("dots", "starting"))
    return table


def show_work(
    console: Console, errands: Sequence[Errand], tasks: Sequence[Task], deadline: float
) -> list[TaskRecord]:
    """Show the tasks until all have ended or `deadline` (monotonic) has come; their records."""
    said: dict[str, str] = {}
    with _live(console) as live:
        while True:
            records = [task.record() for task in tasks]
            if live:
                live.update(work_table(errands, records))
            else:
                _say(console, _changes(errands, records, said))
            if all(record.has_ended for record in records) or time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
    if not live:
        console.print(work_table(errands, records))
    return records


@contextmanager
def _live(console: Console) -> Iterator[Live | None]:
    """A display that is drawn over and over, on a terminal; elsewhere none."""
    if not console.is_terminal:
        yield None
        return
    with Live(console=console, refresh_per_second=REFRESHES) as live:
        yield live


def work_table(errands: Sequence[Errand], records: Sequence[TaskRecord]) -> Table:
    """One line a task."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=heading in NEVER_FOLDED, overflow="ellipsis")
    for heading in FIGURES:
        table.add_column(heading, justify="right", no_wrap=True)
    for errand, record in zip(errands, records, strict=True):
        table.add_row(
            record.id[:SHORT_ID],
            errand.title,
            record.request_type,
            state(record.state),
            record.pool or "-",
            record.model or "-",
            str(record.input_tokens + record.output_tokens),
            dollars(record.cost_nanodollars),
            seconds(record.wait_seconds),
            seconds(record.run_seconds),
        )
    return table


def _changes(
    errands: Sequence[Errand], records: Sequence[TaskRecord], said: dict[str, str]
) -> list[str]:
    lines = []
    for errand, record in zip(errands, records, strict=True):
        if said.get(record.id) != record.state:
            said[record.id] = record.state
            where = f" in pool {record.pool}" if record.pool else ""
            lines.append(f"{record.id[:SHORT_ID]} {errand.title}: {record.state}{where}")
    return lines


def _say(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line)
