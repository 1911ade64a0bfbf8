"""The faults that are done to either side in the same way; what came of them, as figures.

Nothing here waits for luck: a fault is done when what it is to hit is there, and what follows is
awaited, with a bound.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from followers import await_followers
from labor_runs import Run
from sides import Side, await_ready, until

Figures = dict[str, Any]


def kill_workers(side: Side, send: Callable[[], list[str]], kills: int, quiet: float) -> Figures:
    """Two workers, one of them killed each time that so much of the work has been done."""
    dice = Random(7)
    for name in ("one", "two"):
        side.start(name)
    await_ready(side, "one", "two")
    began = time.monotonic()
    tasks = send()
    done, killed = 0, 0
    missing = set(tasks)
    last_progress = time.monotonic()
    while missing and killed < kills:
        left = side.runs.without_effect(missing)
        if left != missing:
            missing, last_progress = left, time.monotonic()
        done = len(tasks) - len(missing)
        up = [name for name in ("one", "two") if side.ready(name)]
        if up and done >= (killed + 1) * len(tasks) // (kills + 1):
            victim = dice.choice(up)
            side.workers.kill(victim)
            side.start(victim)
            killed += 1
        elif time.monotonic() - last_progress > max(quiet, 60):
            break
        time.sleep(0.02)
    missing = side.runs.await_effects(missing, quiet)
    return {
        "tasks": len(tasks),
        "kills": killed,
        "lost": len(missing),
        "begun again": side.runs.begun(tasks) - len(tasks) + len(missing),
        "work done twice": side.runs.twice(tasks),
        "seconds": round(time.monotonic() - began),
        "ids": tasks,
        "missing": missing,
    }


def kill_child(side: Side, quiet: float) -> Figures:
    """The child of a prefork pool that runs a task is killed, the worker is not."""
    side.start("forked", "prefork")
    await_ready(side, "forked")
    (task,) = side.send(1, 1.5, "prefork")
    first = running(side, task)
    os.kill(first.pid, signal.SIGKILL)
    killed = time.monotonic()
    missing = side.runs.await_effects([task], quiet)
    runs = side.runs.of(task)
    return {
        "runs": len(runs),
        "lost": len(missing),
        "again after s": round(runs[1].begun - killed, 1) if len(runs) > 1 else None,
        "ids": [task],
    }


def redeliver(side: Side, seconds: float, quiet: float) -> Figures:
    """All connections are cut in the middle of a task that outlasts the visibility."""
    for name in ("one", "two"):
        side.start(name)
    await_ready(side, "one", "two")
    (task,) = side.send(1, seconds)
    first = running(side, task)
    side.broker.cut_connections()
    until(lambda: side.runs.is_over(first), seconds + 20)
    # What was delivered meanwhile ends too, so that it is seen.
    until(lambda: all(run.over for run in side.runs.of(task)), quiet)
    return {
        "runs": len(side.runs.of(task)),
        "live at once": side.runs.max_at_once(task),
        "effects": side.runs.effects(task),
        "ids": [task],
    }


def stall(side: Side, quiet: float) -> Figures:
    """A worker is stopped for longer than anyone waits for it, and then goes on."""
    for name in ("one", "two"):
        side.start(name)
    await_ready(side, "one", "two")
    (task,) = side.send(1, 2.0)
    first = running(side, task)
    holder = next(n for n, found in side.workers.running.items() if found.pid == first.pid)
    side.workers.signal(holder, signal.SIGSTOP)
    taken = until(lambda: len(side.runs.of(task)) > 1, quiet)
    side.workers.signal(holder, signal.SIGCONT)
    until(lambda: all(run.over for run in side.runs.of(task)), 30)
    return {
        "taken over": taken,
        "effects": side.runs.effects(task),
        "the first wrote": first.done,
        "ids": [task],
    }


@dataclass
class Load:
    """A thread that sends all the while, and keeps what was acknowledged."""

    side: Side
    seconds: float
    pause: float
    acknowledged: list[str] = field(default_factory=list)
    refused: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join(timeout=60)

    def _send(self) -> None:
        while not self._ended.wait(self.pause):
            try:
                self.acknowledged += self.side.send(1, self.seconds)
            except Exception as error:
                self.refused.append(error)
                # Written all the same, and told: as good as acknowledged.
                self.acknowledged += getattr(error, "submitted", ())


def kill_valkey(side: Side, kills: int, quiet: float) -> Figures:
    """Valkey is killed under load, and started again on what it has on disk."""
    for name in ("one", "two"):
        side.start(name)
    await_ready(side, "one", "two")
    load = Load(side, 0.2, 0.02)
    try:
        for number in range(1, kills + 1):
            enough = 50 * number
            assert until(lambda: len(load.acknowledged) >= enough, 60)  # noqa: B023
            side.broker.kill()
            refused = len(load.refused)
            until(lambda: len(load.refused) > refused, 20)  # noqa: B023
            side.broker.start_again()
            back = time.monotonic()
            beyond = len(load.acknowledged) + 20
            until(lambda: len(load.acknowledged) >= beyond, 60)  # noqa: B023
    finally:
        load.end()
    missing = side.runs.await_effects(load.acknowledged, quiet)
    overs = [run.over or 0.0 for task in load.acknowledged for run in side.runs.of(task)]
    return {
        "acknowledged": len(load.acknowledged),
        "kills": kills,
        "lost": len(missing),
        "work done twice": side.runs.twice(load.acknowledged),
        "drained after s": None if missing else round(max(overs) - back, 1),
        "refused": sorted({type(error).__name__ for error in load.refused}),
        "ids": load.acknowledged,
        "missing": missing,
    }


def valkey_away_at_the_end(side: Side, count: int, away: float, quiet: float) -> Figures:
    """Valkey is killed under tasks that have a callback and an error callback, and is away when
    they end, for longer than a lease lasts. None of them fails by itself."""
    dice = Random(5)
    for name in ("one", "two"):
        side.start(name)
    await_ready(side, "one", "two")
    tasks = [side.send_followed(dice.uniform(0.5, 2.5)) for _ in range(count)]
    assert until(lambda: side.runs.begun(tasks) >= min(count, 8), 40)
    side.broker.kill()
    gone = time.monotonic()
    until(lambda: time.monotonic() - gone > away, away + 5)
    side.broker.start_again()
    missing = side.runs.await_effects(tasks, quiet)
    called = await_followers(side.broker.client, tasks, quiet)
    return {
        "tasks": count,
        "lost": len(missing),
        "error callback run": sum("else" in each for each in called.values()),
        "both": sum({"then", "else"} <= set(each) for each in called.values()),
        "callback twice": sum(each.count("then") > 1 for each in called.values()),
        "neither": sum(not each for each in called.values()),
        "ids": tasks,
        "missing": missing,
    }


def running(side: Side, task: str) -> Run:
    """The first run of a task, once it has begun."""
    if not until(lambda: side.runs.of(task), 40):
        pytest.fail(f"{task} did not begin")
    return side.runs.of(task)[0]


def shown(row: str, side: Side, figures: Figures) -> str:
    told = {k: v for k, v in figures.items() if k not in ("ids", "missing")}
    return f"| {row} | {side.name} | {', '.join(f'{k} {v}' for k, v in told.items())} |"
