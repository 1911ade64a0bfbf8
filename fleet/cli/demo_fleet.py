"""The fleet of the demo: `fleet up` as a child process, and a live view of its start and tasks."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fleet.cli.output import SHORT_ID, dollars, seconds, state
from fleet.cli.rows import Column, RowTable, figure, table
from fleet.cli.status import look
from fleet.errors import Unavailable
from fleet.local.run_file import already_running, make_data_dir, running
from fleet.local.supervisor import end_with_parent
from fleet.settings import Settings, load_settings

if TYPE_CHECKING:
    from fleet import Task
    from fleet.cli.demo import DemoTask
    from fleet.operations.health import Part
    from fleet.tasks.store import TaskRecord

START_SECONDS = 90.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.25
LAST_LINES = 15
REFRESHES_PER_SECOND = 8


@dataclass(frozen=True, slots=True)
class Login:
    """The user and password of Flower."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class DemoFleet:
    """The fleet of the demo. `began` is its start by the monotonic clock, in seconds."""

    began: float
    process: subprocess.Popen[bytes]
    log: Path
    login: Login

    def parts_until_healthy(self) -> Iterator[list[Part]]:
        """Yield the parts again and again, until all of them are healthy.

        Raises `Unavailable` with the end of the log if the fleet ends or takes too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._check(deadline)
            settings = load_settings()
            parts = look(settings) if running(settings.environment.data_dir) else []
            yield parts
            if parts and all(part.ok for part in parts):
                return
            time.sleep(POLL_SECONDS)

    def _check(self, deadline: float) -> None:
        ended = self.process.poll()
        late = time.monotonic() > deadline
        if ended is None and not late:
            return
        reason = f"was not healthy within {START_SECONDS:.0f} s" if late else "ended"
        raise Unavailable(f"the fleet {reason}; the end of {self.log}:\n{_tail(self.log)}")


@contextmanager
def demo_fleet(settings: Settings) -> Iterator[DemoFleet]:
    """Start a fleet. Stop it with all its processes when the block ends, for any reason.

    Raises `RetryLater` if a fleet is already running in the data folder.
    """
    data_dir = settings.environment.data_dir
    if running(data_dir):
        raise already_running(data_dir)
    log = make_data_dir(settings) / "logs" / "up.log"
    log.parent.mkdir(mode=0o700, exist_ok=True)
    login = _login(settings)
    began = time.monotonic()
    process = _start(log, login)
    try:
        yield DemoFleet(began, process, log, login)
    finally:
        _stop(process, settings.config.workers.grace_seconds + STOP_SECONDS)


def _login(settings: Settings) -> Login:
    given = settings.environment.flower_password
    password = given.get_secret_value() if given else secrets.token_urlsafe(12)
    return Login(settings.environment.flower_user, password)


def _start(log: Path, login: Login) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "fleet", "up"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "FLEET_FLOWER_PASSWORD": login.password},
            # Ctrl-C reaches only the demo, which then stops its fleet in order.
            start_new_session=True,
            preexec_fn=partial(end_with_parent, signal.SIGTERM),
        )


def _stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        # Its children die with it, see `end_with_parent`.
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as lines:
        return "".join(deque(lines, LAST_LINES)).rstrip()


# The view: a live table on a terminal, plain lines elsewhere.


def show_start(console: Console, looks: Iterable[Sequence[Part]], began: float) -> None:
    """Show the parts while they start, and how many seconds after `began` each became healthy."""
    healthy: dict[str, float] = {}
    with _live(console) as live:
        for parts in looks:
            fresh = [part.name for part in parts if part.ok and part.name not in healthy]
            healthy |= dict.fromkeys(fresh, time.monotonic() - began)
            if live:
                live.update(_start_table(parts, healthy))
            else:
                after = time.monotonic() - began
                _print(console, (f"{name} is healthy after {after:.1f} s" for name in fresh))


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
    console: Console, chosen: Sequence[DemoTask], tasks: Sequence[Task], deadline: float
) -> list[TaskRecord]:
    """Show the tasks until all have ended, or until `deadline` (monotonic). Returns the records."""
    shown: dict[str, str] = {}
    with _live(console) as live:
        while True:
            records = [task.record() for task in tasks]
            if live:
                live.update(work_table(chosen, records))
            else:
                _print(console, _changes(chosen, records, shown))
            if all(record.has_ended for record in records) or time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
    if not live:
        console.print(work_table(chosen, records))
    return records


@contextmanager
def _live(console: Console) -> Iterator[Live | None]:
    """A live display on a terminal, else None."""
    if not console.is_terminal:
        yield None
        return
    with Live(console=console, refresh_per_second=REFRESHES_PER_SECOND) as live:
        yield live


def work_table(chosen: Sequence[DemoTask], records: Sequence[TaskRecord]) -> RowTable:
    """One row for each task."""
    return table(zip(chosen, records, strict=True), WORK)


def _changes(
    chosen: Sequence[DemoTask], records: Sequence[TaskRecord], shown: dict[str, str]
) -> list[str]:
    """A line for each task whose state differs from the one in `shown`, which is updated."""
    lines = []
    for task, record in zip(chosen, records, strict=True):
        if shown.get(record.id) != record.state:
            shown[record.id] = record.state
            where = f" in pool {record.pool}" if record.pool else ""
            lines.append(f"{record.id[:SHORT_ID]} {task.title}: {record.state}{where}")
    return lines


def _print(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line)


WORK: tuple[Column[tuple[DemoTask, TaskRecord]], ...] = (
    Column("id", lambda row: row[1].id[:SHORT_ID], whole=True),
    Column("task", lambda row: row[0].title),
    Column("request type", lambda row: row[1].request_type),
    Column("state", lambda row: state(row[1].state), whole=True),
    Column("pool", lambda row: row[1].pool or "-", whole=True),
    Column("model", lambda row: row[1].model or "-", whole=True),
    figure("tokens", lambda row: str(row[1].input_tokens + row[1].output_tokens)),
    figure("cost", lambda row: dollars(row[1].cost_nanodollars)),
    figure("wait", lambda row: seconds(row[1].wait_seconds)),
    figure("run", lambda row: seconds(row[1].run_seconds)),
)
