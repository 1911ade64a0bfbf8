"""Clocks that are wrong, beat that runs twice or not at all, and a long while of everything."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from random import Random

import psutil
import pytest
from fault_rows import shown
from fleet_side import BEAT_SECONDS, VISIBILITY_SECONDS, FleetSide
from sides import FULL, HERE, await_ready, resident_bytes, sized, until

from beat_schedules.schedule import schedule
from fleet.beat.store import BeatLease
from fleet.errors import PartlySubmitted, RetryLater

SKEW_SECONDS = 90
REAP_SECONDS = 1.0


def test_clocks_that_are_wrong_take_nothing_over_early(side: FleetSide) -> None:
    path = os.pathsep.join((str(HERE / "skewed_clock"), os.environ["PYTHONPATH"]))
    for name, seconds in (("ahead", SKEW_SECONDS), ("behind", -SKEW_SECONDS)):
        skew = {"PYTHONPATH": path, "SKEW_SECONDS": str(seconds)}
        side.start(name, pool="apart", **skew)
        assert abs(told_time(skew) - time.time() - seconds) < 20
    await_ready(side, "ahead", "behind")
    # Longer than a lease, and than an agent may be silent.
    tasks = side.send_to("apart", 8, seconds=sized(VISIBILITY_SECONDS + 0.5, 60))
    side.await_ends(tasks, 120)
    ran = {run.pid for task in tasks for run in side.runs.of(task)}
    takeovers = side.runs.begun(tasks) - len(tasks)
    print(shown("clock skew", side, {"tasks": len(tasks), "early takeovers": takeovers}))
    assert ran == {side.workers.running[name].pid for name in ("ahead", "behind")}
    assert takeovers == 0
    side.check(tasks)


def told_time(skew: dict[str, str]) -> float:
    """What time it is to a Python process."""
    ask = "import datetime; print(datetime.datetime.now().timestamp())"
    command = [sys.executable, "-S", "-c", "import sitecustomize; " + ask]
    return float(subprocess.check_output(command, env={**os.environ, **skew}))


class Jobs:
    """When each job began, by Redis's clock: the beat that begins one writes it down."""

    def __init__(self, side: FleetSide) -> None:
        self.begun: dict[str, list[float]] = defaultdict(list)
        self._lease = BeatLease(side.state.client, side.state.keys, "nobody", 1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def between(self, job: str, start: float, end: float) -> list[float]:
        return [at for at in list(self.begun[job]) if start <= at < end]

    def end(self) -> None:
        self._ended.set()
        self._thread.join(timeout=5)

    def _look(self) -> None:
        # Often enough to see every run of a job of one second.
        while not self._ended.wait(0.1):
            for job, run in self._lease.runs().items():
                at = int(run.name) / 1000
                if at not in self.begun[job]:
                    self.begun[job].append(at)


@pytest.fixture
def jobs(side: FleetSide) -> Iterator[Jobs]:
    found = Jobs(side)
    yield found
    found.end()


def redis_now(side: FleetSide) -> float:
    seconds, micros = side.state.client.time()
    return float(seconds + micros / 1e6)


def test_two_beats_run_each_job_once_a_period_also_where_one_is_killed(
    side: FleetSide, jobs: Jobs
) -> None:
    assert until(lambda: all(STANDS[held] in both_logs(side) for held in (True, False)), 60)
    assert until(lambda: jobs.begun["reap-the-dead"], 60)
    began, seconds = redis_now(side), sized(4, 60)
    until(lambda: redis_now(side) >= began + seconds, seconds + 10)
    plan = schedule(side.state.settings)
    periods = {job: each["schedule"] for job, each in plan.items()}
    every = {job: p for job, p in periods.items() if isinstance(p, int | float) and p <= seconds}
    counts = {job: len(jobs.between(job, began, began + seconds)) for job in every}
    side.workers.kill(holder(side))
    killed = redis_now(side)
    # Its lease has to run out first.
    assert until(lambda: jobs.between("reap-the-dead", killed, float("inf")), 90)
    away = jobs.between("reap-the-dead", killed, float("inf"))[0] - killed
    print(shown("beat twice", side, {f"runs in {seconds:g} s": counts}))
    print(shown("beat killed", side, {"jobs again after s": round(away, 1)}))
    assert all(abs(counts[job] - seconds / period) <= 1 for job, period in every.items()), counts
    begun = sorted(jobs.begun["reap-the-dead"])
    # Between the runs of one beat, and of two, lies a period; beat's own looks are 10 ms early.
    assert min(b - a for a, b in pairwise(begun)) > 0.9 * REAP_SECONDS
    assert away <= BEAT_SECONDS * 1.5 + 5


STANDS = {True: "this beat runs the jobs", False: "another beat runs the jobs"}


def both_logs(side: FleetSide) -> str:
    return side.workers.log("beat") + side.workers.log("second")


def holder(side: FleetSide) -> str:
    """The beat that has the lease."""
    pid = int(side.state.client.get(side.state.keys.beat).decode().rpartition(":")[2])
    return next(n for n in ("beat", "second") if side.workers.running[n].pid == pid)


def test_a_while_of_everything_adds_up_and_grows_nothing(side: FleetSide) -> None:
    """Mixed work under random faults; `one` is never broken, and is looked at for its memory."""
    dice, tasks, refused = Random(11), [], 0
    for name in ("one", "two"):
        side.start(name)
    side.start("forked", "prefork")
    await_ready(side, "one", "two", "forked")
    seconds, began = sized(5, 1200), time.monotonic()
    faults = [began + at for at in (range(20, 1180, 20) if FULL else (2, 4))]
    memory: list[int] = []
    while time.monotonic() - began < seconds:
        try:
            tasks += side.send(4, dice.choice([0.0, 0.05, 0.3]), ask=True)
            tasks += side.send(1, 0.05, fails=True)
            tasks += side.send(1, 0.2, "prefork")
            if dice.random() < 0.1:
                side.fleet.task(tasks[-1]).cancel()
        except PartlySubmitted as error:
            tasks += error.submitted
            refused += 1
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
    assert last < warm * sized(1.3, 1.1)


def break_something(side: FleetSide, dice: Random) -> None:
    fault = dice.choice(["worker", "connections", "child", "valkey"])
    if fault == "worker":
        side.workers.kill("two")
        side.start("two")
    elif fault == "connections":
        side.broker.cut_connections()
    elif fault == "valkey":
        side.broker.kill()
        side.broker.start_again()
    else:
        for child in psutil.Process(side.workers.running["forked"].pid).children()[:1]:
            child.kill()
