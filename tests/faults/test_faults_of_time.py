"""Clocks that are wrong, beat that runs twice or not at all, and a long while of everything."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from fault_rows import shown
from fleet_side import FleetSide
from sides import FULL, HERE, await_ready, resident_bytes, sized, until

from fleet.errors import RetryLater
from fleet.runtime.app import make_app

SKEW_SECONDS = 90
REAP_SECONDS = 1.0


@pytest.fixture(scope="session")
def skewed_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that shifts the clock of whoever loads it first."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, which makes the library that shifts a worker's clock")
    made = tmp_path_factory.mktemp("clock") / "skewed_clock.so"
    source = HERE / "skewed_clock.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True)
    return made


def test_clocks_that_are_wrong_take_nothing_over_early(
    side: FleetSide, skewed_clock: Path
) -> None:
    for name, seconds in (("ahead", SKEW_SECONDS), ("behind", -SKEW_SECONDS)):
        skew = {"LD_PRELOAD": str(skewed_clock), "SKEW_SECONDS": str(seconds)}
        environment = {**os.environ, **skew}
        shifted = subprocess.check_output(["date", "+%s"], env=environment)
        assert abs(int(shifted) - time.time() - seconds) < 5
        side.start(name, pool="apart", **skew)
    await_ready(side, "ahead", "behind")
    # Longer than a lease, and than an agent may be silent.
    tasks = side.send_to("apart", 8, seconds=sized(8, 60))
    side.await_ends(tasks, 120)
    ran = {run.pid for task in tasks for run in side.runs.of(task)}
    takeovers = side.runs.begun(tasks) - len(tasks)
    print(shown("clock skew", side, {"tasks": len(tasks), "early takeovers": takeovers}))
    assert ran == {side.workers.running[name].pid for name in ("ahead", "behind")}
    assert takeovers == 0
    side.check(tasks)


class Jobs:
    """The jobs that workers got, by name, at which moment: read from Celery's own events."""

    def __init__(self, side: FleetSide) -> None:
        self.received: dict[str, list[float]] = defaultdict(list)
        self._ended = False
        self._app = make_app(side.state.settings)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def of(self, name: str) -> list[float]:
        return list(self.received[name])

    def end(self) -> None:
        self._ended = True
        self._thread.join(timeout=5)

    def _note(self, event: dict[str, Any]) -> None:
        self.received[event["name"]].append(time.monotonic())

    def _listen(self) -> None:
        with self._app.connection_for_read() as connection:
            receiver = self._app.events.Receiver(connection, {"task-received": self._note})
            while not self._ended:
                try:
                    receiver.capture(timeout=0.5, wakeup=False)
                except TimeoutError:
                    continue


@contextmanager
def jobs_heard(side: FleetSide) -> Iterator[Jobs]:
    jobs = Jobs(side)
    try:
        yield jobs
    finally:
        jobs.end()


def test_two_beats_send_each_job_once_and_a_killed_one_is_replaced(side: FleetSide) -> None:
    side.start("one")
    await_ready(side, "one")
    side.start_beat("second")
    stands_by = "another beat sends the jobs"
    with jobs_heard(side) as jobs:
        assert until(lambda: stands_by in side.workers.log("second"), 40)
        assert until(lambda: len(jobs.of("fleet.reap")) > 2, 30)
        began, before = time.monotonic(), len(jobs.of("fleet.reap"))
        periods = int(sized(5, 60))
        assert until(lambda: len(jobs.of("fleet.reap")) - before >= periods, 5 * periods)
        took = time.monotonic() - began
        side.workers.kill("beat")
        killed = time.monotonic()
        if not FULL:
            # What the death of its holder does to the lease in time.
            side.state.client.delete(side.state.keys.beat)
        count = len(jobs.of("fleet.reap"))
        assert until(lambda: len(jobs.of("fleet.reap")) > count + 1, 60)
        away = time.monotonic() - killed
    side.workers.running["beat"] = side.workers.running.pop("second")
    print(shown("beat twice", side, {"jobs a period": round(periods * REAP_SECONDS / took, 2)}))
    print(shown("beat killed", side, {"jobs again after s": round(away, 1)}))
    assert periods * REAP_SECONDS / took < 1.3


def test_a_while_of_everything_adds_up_and_grows_nothing(side: FleetSide) -> None:
    """Mixed work under random faults; `one` is never broken, and is looked at for its memory."""
    dice, tasks, refused = Random(11), [], 0
    for name in ("one", "two"):
        side.start(name)
    side.start("forked", "prefork")
    await_ready(side, "one", "two", "forked")
    seconds, began = sized(10, 1200), time.monotonic()
    faults = [began + at for at in (range(20, 1180, 20) if FULL else (3, 6))]
    memory: list[int] = []
    while time.monotonic() - began < seconds:
        try:
            tasks += side.send(4, dice.choice([0.0, 0.05, 0.3]), ask=True)
            tasks += side.send(1, 0.05, fails=True)
            tasks += side.send(1, 0.2, "prefork")
            if dice.random() < 0.1:
                side.fleet.task(tasks[-1]).cancel()
        except RetryLater:
            refused += 1
        if faults and time.monotonic() > faults[0]:
            faults.pop(0)
            break_something(side, dice)
        if side.broker.client.llen(side.state.settings.queue("threads")) > 200:
            until(lambda: side.broker.client.llen(side.state.settings.queue("threads")) < 50, 60)
        memory.append(resident_bytes(side.workers.running["one"].pid))
        # The pace of the load; nothing is hoped of it.
        time.sleep(0.15)
    side.await_ends(tasks, 120, "after the soak")
    warm, last = memory[len(memory) // 4], max(memory[-len(memory) // 10 :])
    told = {"tasks": len(tasks), "refused": refused, **side.states(tasks)}
    print(shown("soak", side, told | {"MB": f"{warm / 1e6:.0f} to {last / 1e6:.0f}"}))
    side.check(tasks)
    assert last < warm * 1.3


def break_something(side: FleetSide, dice: Random) -> None:
    fault = dice.choice(["worker", "connections", "child"])
    if fault == "worker":
        side.workers.kill("two")
        side.start("two")
    elif fault == "connections":
        side.broker.cut_connections()
    else:
        for child in psutil.Process(side.workers.running["forked"].pid).children()[:1]:
            child.kill()
