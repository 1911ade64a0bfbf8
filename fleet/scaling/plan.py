"""Replays a recorded load through each policy: what it costs, and how long tasks wait."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fleet.errors import InvalidRequest
from fleet.scaling.rules.simulation import Conditions, Moment, SimulatedOutcome, Trace, simulate
from fleet.scaling.rules.values import ScalingPolicy
from fleet.text import brief

ARRIVAL_COLUMNS = ("submitted", "arrival", "timestamp")
SERVICE_COLUMN, POOL_COLUMN = "run_seconds", "pool"
MAX_SECONDS = 60 * 86_400.0
"""The longest trace, from its first task to its last."""

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """The result of one policy.

    `paid_hours` are hours of workers, from the start of each until its end. `paid_to_busy` is paid
    over busy time of slots. Waits in seconds. `usd` is None without a price.
    """

    policy: str
    paid_hours: float
    paid_to_busy: float
    usd: float | None
    wait_mean: float
    wait_p50: float
    wait_p95: float
    wait_p99: float
    most_workers: int
    timeline: list[Moment]

    def to_json(self) -> dict[str, object]:
        """For `json.dumps`, without the timeline."""
        return {
            name: getattr(self, name) for name in self.__dataclass_fields__ if name != "timeline"
        }


def plan(
    trace: Trace,
    conditions: Conditions,
    policies: Iterable[ScalingPolicy],
    usd_per_hour: float | None,
    progress: Progress = lambda done: None,
) -> list[Planned]:
    """Replay a trace through each policy. `usd_per_hour` is what a worker costs."""
    found = []
    for policy in policies:
        outcome = simulate(trace, policy, conditions)
        found.append(_planned(policy.name, outcome, conditions.slots, usd_per_hour))
        progress(len(found))
    return found


def _planned(
    name: str, outcome: SimulatedOutcome, slots: int, usd_per_hour: float | None
) -> Planned:
    hours = outcome.paid / slots / 3600.0
    p50, p95, p99 = map(float, np.quantile(outcome.waits, (0.5, 0.95, 0.99)))
    return Planned(
        name,
        hours,
        outcome.paid / outcome.busy if outcome.busy else 0.0,
        None if usd_per_hour is None else hours * usd_per_hour,
        float(outcome.waits.mean()),
        p50,
        p95,
        p99,
        outcome.most_workers,
        outcome.timeline,
    )


def read_trace(path: Path, mean_seconds: float, pool: str = "") -> Trace:
    """The tasks of a CSV file, which may be compressed (`.gz`), the first at 0.

    The column `submitted` (or `arrival`, `timestamp`) has seconds from any start, or dates with
    times; `run_seconds` how long each ran. Without that column all run `mean_seconds`; a task whose
    cell is empty never ran, and is left out. With a pool, so are those that the column `pool` gives
    to others. Raises `InvalidRequest`, which names the line and the column.
    """
    try:
        with _opened(path) as file:
            rows = csv.DictReader(file, strict=True)
            tasks = list(_rows(path, rows, mean_seconds, pool))
    except (OSError, EOFError) as error:
        why = getattr(error, "strerror", None) or "is no complete gzip file"
        raise InvalidRequest(f"{path}: {why}; give a readable file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"{path}: not a CSV file in UTF-8: {error}") from error
    if not tasks:
        which = f" of pool {pool}" if pool else ""
        raise InvalidRequest(
            f"{path}: has no tasks{which} that ran; write a header line, then one line per task"
        )
    columns = np.array(sorted(tasks))
    arrival = columns[:, 0] - columns[0, 0]
    if arrival[-1] > MAX_SECONDS:
        days = arrival[-1] / 86_400
        raise InvalidRequest(
            f"{path}: its tasks span {days:.0f} days; give at most {MAX_SECONDS / 86_400:.0f}"
        )
    return Trace(arrival, columns[:, 1])


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _rows(
    path: Path, rows: csv.DictReader[str], mean_seconds: float, pool: str
) -> Iterator[tuple[float, float]]:
    names = {name.strip().lower(): name for name in rows.fieldnames or ()}
    arrival = next((names[name] for name in ARRIVAL_COLUMNS if name in names), None)
    service = names.get(SERVICE_COLUMN)
    if arrival is None:
        raise InvalidRequest(
            f"{path}: line 1: has no column {' or '.join(ARRIVAL_COLUMNS)}; name the column of the "
            "arrival times so"
        )
    for row in rows:
        elsewhere = pool and POOL_COLUMN in names and row[names[POOL_COLUMN]] != pool
        if elsewhere or (service and row[service] == ""):
            continue
        where = f"{path}: line {rows.line_num}"
        came = _number(where, arrival, row[arrival], _moment)
        yield came, mean_seconds if service is None else _service(where, row[service])


def _service(where: str, text: str | None) -> float:
    seconds = _number(where, SERVICE_COLUMN, text, float)
    if seconds < 0:
        raise InvalidRequest(f"{where}: column {SERVICE_COLUMN}: {seconds:g} is negative")
    return seconds


def _number(
    where: str, column: str, text: str | None, read: Callable[[str], float]
) -> float:
    try:
        found = read(text or "")
    except ValueError:
        found = float("nan")
    if not isfinite(found):
        raise InvalidRequest(f"{where}: column {column}: {brief(text)} is no time; give seconds")
    return found


def _moment(text: str) -> float:
    """Seconds, from a number or from a date with a time, in UTC unless it says otherwise."""
    try:
        return float(text)
    except ValueError:
        # Python reads up to six digits of a second.
        head, dot, fraction = text.partition(".")
        short = head + dot + fraction[:6] if fraction.isdigit() else text
        found = datetime.fromisoformat(short)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def to_json(trace: Trace, conditions: Conditions, rows: Sequence[Planned]) -> dict[str, Any]:
    """For `json.dumps`: the load, the pool, and each policy's figures."""
    return {
        "tasks": len(trace.arrival),
        "seconds": float(trace.arrival[-1]),
        "busy_slots": float(trace.service.sum() / max(trace.arrival[-1], 1.0)),
        "pool": conditions._asdict(),
        "policies": [row.to_json() for row in rows],
    }
