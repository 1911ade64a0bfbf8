"""The sides: which processes each consists of, all with as many processes and threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from throughput_parts.rivals import PYTHON as RIVALS_PYTHON

ROOT = Path(__file__).resolve().parents[2]
IDLER = Path(__file__).resolve().parent / "idler_package"
OURS, STOCK, STOCK_WITH_RESULTS = "Fleet", "celery", "celery, results kept"

CONFIG = """
[agent_types.idler]

[request_types.idling]
agent_type = "idler"

[pools.idlers]
agent_type = "idler"
slots = {threads}
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """How many processes a side has, and how many tasks each runs at once."""

    processes: int
    threads: int

    @property
    def slots(self) -> int:
        return self.processes * self.threads


@dataclass(frozen=True, slots=True)
class Side:
    """Arguments of the interpreter for each worker, and for the sender."""

    name: str
    workers: tuple[tuple[str, ...], ...]
    sender: tuple[str, ...]
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)


def sides(shape: Shape, rivals: tuple[str, ...]) -> list[Side]:
    """Fleet, stock Celery twice, and those of the rivals that are installed."""
    found = [_fleet(shape), _celery(shape, STOCK), _celery(shape, STOCK_WITH_RESULTS)]
    make = {"dramatiq": _dramatiq, "taskiq": _taskiq, "huey": _huey}
    return found + [make[name](shape) for name in rivals]


def _fleet(shape: Shape) -> Side:
    worker = ("-m", "fleet", "service", "worker", "idlers")
    # As the others have it: no line for a task that went well.
    quiet = {"FLEET_LOG_LEVEL": "warning"}
    return Side(OURS, (worker,) * shape.processes, _sender("fleet"), environment=quiet)


def _celery(shape: Shape, name: str) -> Side:
    command = ("-m", "celery", "-A", "idler.celery_side", "worker", "--loglevel", "warning")
    command += ("--without-gossip", "--without-mingle")
    command += ("--pool", "threads", "--concurrency", str(shape.threads))
    workers = tuple((*command, "--hostname", f"idler{i}@%h") for i in range(shape.processes))
    kept = {"IDLER_RESULTS": "yes"} if name == STOCK_WITH_RESULTS else {}
    return Side(name, workers, _sender("celery"), environment=kept)


def _dramatiq(shape: Shape) -> Side:
    command = ("-m", "dramatiq", "idler.dramatiq_side")
    command += ("--processes", str(shape.processes), "--threads", str(shape.threads))
    return Side("dramatiq", (command,), _sender("dramatiq"), str(RIVALS_PYTHON))


def _taskiq(shape: Shape) -> Side:
    command = ("-m", "taskiq", "worker", "idler.taskiq_side:broker", "--log-level", "WARNING")
    command += ("--workers", str(shape.processes), "--max-async-tasks", str(shape.threads))
    return Side("taskiq", (command,), _sender("taskiq"), str(RIVALS_PYTHON))


def _huey(shape: Shape) -> Side:
    command = ("-m", "huey.bin.huey_consumer", "idler.huey_side.huey", "--quiet", "--no-periodic")
    command += ("--worker-type", "thread", "--workers", str(shape.threads))
    return Side("huey", (command,) * shape.processes, _sender("huey"), str(RIVALS_PYTHON))


def _sender(side: str) -> tuple[str, ...]:
    return ("-m", "idler.send", side)


def environment(side: Side, shape: Shape, folder: Path, url: str) -> dict[str, str]:
    """What a side's processes are given: a fleet at its defaults, no setting from outside."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join((str(IDLER), str(ROOT))),
        "FLEET_CONFIG": str(folder / "fleet.toml"),
        "FLEET_DATA_DIR": str(folder / "data"),
        "FLEET_BROKER_URL": url,
        "IDLER_BROKER_URL": url,
        "IDLER_PROCESSES": str(shape.processes),
        **side.environment,
    }
