"""What the end-to-end tests hold in their hands: processes, a crew, and patience."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from acl_users import environment_of
from commands import run_fleet

from fleet import Fleet, Task
from fleet.access.access import Guard
from fleet.tasks.connection import Connection

ROOT = Path(__file__).parents[2]
ROLES_OF = {"worker": "worker", "beat": "beat", "flower": "flower", "ops": "exporter"}
"""The Redis roles of the services."""
STOP_SECONDS = 60.0
"""A worker ends within 25 s of SIGTERM, by itself or by the kernel."""


def eventually(condition: Callable[[], object], seconds: float = 60.0, what: str = "") -> None:
    """Wait until a condition holds, and fail with what was awaited if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what or condition}")
        time.sleep(0.05)


def task_of(connection: Connection, task_id: str) -> Task:
    """A task that plain Celery has sent."""
    token = connection.settings.environment.token
    return Task(connection, Guard(connection.access, token), task_id)


@dataclass
class Processes:
    """The processes of a fleet, each in a group of its own, with their logs."""

    folder: Path
    environment: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    url_of: Callable[[str], str] | None = None
    """Gives the broker's address for a Redis role, where each process has a user of its own."""

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{name}.log").open("ab")
        self.running[name] = subprocess.Popen(
            [sys.executable, "-m", "fleet", "service", *arguments],
            cwd=self.folder,
            env=environment_of(self.environment, ROLES_OF.get(arguments[0]), self.url_of),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self.running[name]

    def fleet(
        self, *arguments: str, variables: Mapping[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run `fleet ...` beside them, in this process, with some more variables where given."""
        environment = {**self.environment, **(variables or {})}
        return run_fleet(*arguments, folder=self.folder, environment=environment, stdin=stdin)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def signal(self, name: str, number: signal.Signals) -> None:
        os.killpg(self.running[name].pid, number)

    def stop(self, name: str) -> int:
        process = self.running.pop(name)
        if process.poll() is None:
            process.terminate()
        try:
            return process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # Celery writes down where each thread stands.
            process.send_signal(signal.SIGUSR1)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2)
            pytest.fail(f"{name} did not end {STOP_SECONDS:g} s after SIGTERM; {self.log(name)}")
        finally:
            # As a rule all of the group has ended by itself.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def stop_all(self) -> None:
        for process in self.running.values():
            process.terminate()
        for name in list(self.running):
            self.stop(name)


@dataclass(frozen=True)
class Crew:
    """A running fleet, its client, and what a test does to its processes."""

    fleet: Fleet
    processes: Processes

    def agent(self, pool: str) -> str:
        """The live agent of a pool."""
        (found,) = [a.id for a in self.fleet.agents() if a.pool == pool and a.status != "failed"]
        return found

    def start_worker(self, pool: str) -> None:
        self.processes.start(pool, "worker", pool)
        self.await_pool(pool)

    def await_pool(self, pool: str) -> None:
        def alive() -> bool:
            return any(each.name == pool and each.live_agents for each in self.fleet.pools())

        eventually(alive, 40, f"an agent in {pool}; its log:\n{self.processes.log(pool)}")
