"""A fleet without beat whose workers also run a user's plain tasks; each test starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from acl_users import environment_of
from celery import Celery
from harness import ROOT, Processes, eventually, task_of

from fleet.broker.app import make_app
from fleet.client import Task
from fleet.settings import load_settings
from fleet.tasks.connection import Connection

HERE = Path(__file__).parent
GRACE_SECONDS = 3.0
BOUND = 5
"""Tasks of the tenant `bounded` that there may be at once."""
DEAD_SECONDS = 2
PATIENCE = 90.0

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
lease_seconds = 6
renew_seconds = 1
heartbeat_seconds = 1
dead_after_seconds = {DEAD_SECONDS}

[workers]
grace_seconds = {GRACE_SECONDS}

[rates.scopes."tenant:bounded"]
concurrent_tasks = {BOUND}
"""


@dataclass
class Yard:
    """A fleet whose workers also run the shop's tasks; no beat."""

    app: Celery
    processes: Processes
    diary: redis.Redis
    name: str = "Fleet"

    @property
    def state(self) -> Connection:
        found: Connection = self.app.fleet
        return found

    @property
    def data_dir(self) -> Path:
        return Path(self.state.settings.environment.data_dir)

    def start(self, name: str, pool: str, **more: str) -> subprocess.Popen[bytes]:
        arguments = ["worker", "-P", pool, "-c", "4", "-n", f"{name}@yard", "-l", "INFO"]
        arguments += ["-Q", f"{{fleet}}.jobs,{{fleet}}.{pool},{{fleet}}.overflow.napper"]
        with (self.processes.folder / f"{name}.log").open("ab") as log:
            found = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "fleet_shop", *arguments],
                cwd=self.processes.folder,
                env=environment_of(
                    {**self.processes.environment, "FLEET_POOL": pool, **more}, "worker"
                ),
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
        task = task_of(self.state, sent.id)
        eventually(lambda: task.record().progress == "asleep", PATIENCE, "the nap to begin")
        return task


@contextmanager
def open_yard(port: int, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Yard]:
    """A yard on an empty Valkey. All its processes are killed in the end."""
    (folder / "fleet.toml").write_text(CONFIG)
    url = f"redis://127.0.0.1:{port}/0"
    variables = {
        "FLEET_CONFIG": str(folder / "fleet.toml"),
        "FLEET_DATA_DIR": str(folder / "data"),
        "FLEET_BROKER_URL": url,
        "FLEET_MODEL_URL": "http://127.0.0.1:1/v1",
        "SHOP_DIARY": f"{url[:-1]}1",
        "SHOP_RESULTS": f"file://{folder}",
        "SHOP_TABLE": f"sqlite:///{folder / 'results.db'}",
    }
    for name, value in variables.items():
        patch.setenv(name, value)
    paths = [str(HERE / "shop"), str(HERE / "napper")]
    patch.setattr(sys, "path", [*paths, *sys.path])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((*paths, str(ROOT)))}
    processes = Processes(folder, environment)
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
