"""Fleet's side of what is broken: its processes, and the equations that hold whatever breaks."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from fake_provider import FakeProvider
from followers import followed
from harness import ROOT, eventually
from labor_runs import Runs
from redis.exceptions import RedisError
from sides import LABORER, Broker, Execution, Workers, await_ready, sized

from fleet import Fleet, Submission
from fleet.broker.app import make_app
from fleet.ledger.rules.entries import CORRECTION
from fleet.ledger.verification import verify
from fleet.settings import load_settings
from fleet.tasks.connection import Connection
from fleet.tasks.record import ENDED
from fleet.tasks.rules import parse_history

LEASE_SECONDS = int(sized(3, 6))
VISIBILITY_SECONDS = int(sized(4, 6))
"""How long an agent may be silent, and a message unacknowledged. A server that is started again has
to have taken their signs of life by then."""
BEAT_SECONDS = int(sized(3, 30))

CONFIG = """
[agent_types.laborer]

[pools.threads]
agent_type = "laborer"
slots = 8

[pools.prefork]
agent_type = "laborer"
slots = 2
execution = "prefork"

[pools.apart]
agent_type = "laborer"
slots = 4

[pools.wards]
agent_type = "laborer"
slots = 4

[pools.lonely]
agent_type = "laborer"
slots = 1
execution = "prefork"

[request_types.labor]
agent_type = "laborer"

[models]
escalate = false

[providers.fake]
base_url = "{url}"
key_variable = "FAKE_API_KEY"

[catalogue.dear]
provider = "fake"
quality = 0.9
speed = 0.9
input_price = 0.001
output_price = 0.002

# Of a server that ignores the limit of an answer; for one tenant alone, whose money is short.
[providers.heedless]
base_url = "{url}"
key_variable = "FAKE_API_KEY"
stream = false

[catalogue.heedless]
provider = "heedless"
quality = 0.5
speed = 0.5
input_price = 0.00001
output_price = 0.01
tenants = ["heedful"]

[budgets]
daily_usd = 1000000
monthly_usd = 1000000

[budgets.scopes."tenant:heedful"]
daily_usd = 0.20

[rates.scopes."tenant:bounded"]
concurrent_tasks = {bound}

[leases]
lease_seconds = {lease}
renew_seconds = 1
heartbeat_seconds = 1
dead_after_seconds = {visibility}
reap_seconds = 1
beat_seconds = {beat}

# Work fails here on purpose, and its pools are not to blame.
[health]
failures_in_row = 1000
least_success = 0
slow_factor = 1000
"""

BOUND = int(sized(60, 200))
"""Tasks of the tenant `bounded` that there may be at once, waiting ones too."""

SHARED = ("beat", "second", "one", "two", "forked")
"""Two beats, two workers of threads and one of prefork, used by many tests."""


class FleetSide:
    """One fleet for all: each test starts again what it has broken, where it needs it."""

    name = "Fleet"

    def __init__(
        self,
        folder: Path,
        fake: FakeProvider,
        patch: pytest.MonkeyPatch,
        broker: Any = None,
    ) -> None:
        self.fake = fake
        self.broker = broker or Broker(folder)
        self.runs = Runs(folder / "diary")
        figures = {"bound": BOUND, "lease": LEASE_SECONDS, "visibility": VISIBILITY_SECONDS}
        text = CONFIG.format(url=fake.base_url, beat=BEAT_SECONDS, **figures)
        (folder / "fleet.toml").write_text(text)
        for name in list(os.environ):
            if name.startswith("FLEET_") or name.endswith("_API_KEY"):
                patch.delenv(name)
        added = {
            "FLEET_CONFIG": str(folder / "fleet.toml"),
            "FLEET_DATA_DIR": str(folder / "data"),
            "FLEET_BROKER_URL": self.broker.url,
            "FAKE_API_KEY": "sk-secret",
            "LABOR_DIARY": str(self.runs.path),
            "PYTHONPATH": os.pathsep.join((str(LABORER), str(ROOT))),
        }
        for name, value in added.items():
            patch.setenv(name, value)
        patch.syspath_prepend(str(LABORER))
        self.workers = Workers(folder, dict(os.environ))
        self.fleet = Fleet.from_env()
        self.celery = make_app(load_settings())
        self.ends = Ends(self.state)
        self.start_shared()

    @property
    def state(self) -> Connection:
        return self.fleet._connection

    # Processes

    def start_shared(self) -> None:
        """Those of threads first, which most tests need; the others become ready meanwhile."""
        for name in ("one", "two"):
            self.start(name)
        await_ready(self, "one", "two")
        self.start("forked", "prefork")
        for name in ("beat", "second"):
            self.start_beat(name)

    def start_beat(self, name: str) -> None:
        data = {"FLEET_DATA_DIR": str(self.workers.folder / name)}
        self.workers.spawn(name, [sys.executable, "-m", "fleet", "service", "beat"], data)

    def start(
        self, name: str, execution: Execution = "threads", pool: str = "", **more: str
    ) -> None:
        """Where it does not run already: the tests share what they have not broken."""
        if name in self.workers.running and name not in self.workers.fallen():
            return
        command = [sys.executable, "-m", "fleet", "service", "worker", pool or execution]
        self.workers.spawn(name, command, more)

    def ready(self, name: str) -> bool:
        return self.agent(name) != ""

    def agent(self, name: str) -> str:
        """The id of a worker, once it takes tasks. A silent one does not, also while nobody has
        declared it dead."""
        pid = self.workers.running[name].pid
        heard = [a for a in self.fleet.agents() if a.heartbeat_age < VISIBILITY_SECONDS]
        return next((a.id for a in heard if a.pid == pid and a.status != "failed"), "")

    # Work

    def send(
        self, count: int, seconds: float, execution: Execution = "threads", **payload: Any
    ) -> list[str]:
        return self.send_to(execution, count, seconds=seconds, **payload)

    def send_followed(self, seconds: float) -> str:
        options = followed(self.celery)
        return str(self.celery.send_task("agents.laborer", args=[{"seconds": seconds}], **options))

    def send_to(self, pool: str, count: int, tenant: str = "default", **payload: Any) -> list[str]:
        asked = Submission("labor", payload, tenant, pool=pool, complexity=0.5)
        ids: list[str] = []
        while len(ids) < count:
            batch = [asked] * min(500, count - len(ids))
            ids += [task.id for task in self.fleet.submit_many(batch)]
        return ids

    def fields(self, task: str, *names: str) -> list[str]:
        found = self.state.client.hmget(self.state.keys.task(task), names)
        return [value.decode() if value is not None else "" for value in found]

    def states(self, tasks: Collection[str]) -> Counter[str]:
        return Counter(state for state, _, _ in self.brief(tasks).values())

    def brief(self, tasks: Collection[str]) -> dict[str, tuple[str, int, int]]:
        """State, attempts and cost of each task."""
        pipeline = self.state.client.pipeline(transaction=False)
        for task in tasks:
            pipeline.hmget(self.state.keys.task(task), "state", "attempts", "cost_nanodollars")
        rows = pipeline.execute()
        return {
            task: ((state or b"").decode(), int(attempts or 0), int(cost or 0))
            for task, (state, attempts, cost) in zip(tasks, rows, strict=True)
        }

    def ends_written(self, tasks: Collection[str]) -> dict[str, int]:
        """How many ends the history of each task has."""
        pipeline = self.state.client.pipeline(transaction=False)
        for task in tasks:
            pipeline.hget(self.state.keys.task(task), "history")
        histories = [parse_history(found.decode()) for found in pipeline.execute()]
        ends = [sum(move.state in ENDED for move in history) for history in histories]
        return dict(zip(tasks, ends, strict=True))

    def unended(self, tasks: Collection[str]) -> list[str]:
        return [task for task, row in self.brief(tasks).items() if row[0] not in ENDED]

    def await_ends(self, tasks: Collection[str], seconds: float, what: str = "") -> None:
        """Wait until all have ended; with `what` it says of what the rest is left."""
        left = list(tasks)

        def ended() -> bool:
            left[:] = self.unended(left)
            return not left

        eventually(ended, seconds, f"all of {len(tasks)} tasks to end {what}")

    # What holds whatever happened

    def check(self, tasks: Collection[str]) -> None:
        """All has ended, told once; every call is charged once; nothing is left behind."""
        rows = self.brief(tasks)
        assert {state for state, _, _ in rows.values()} <= ENDED
        assert [task for task in tasks if self.ends.count(task) > 1] == []
        assert [task for task, count in self.ends_written(tasks).items() if count != 1] == []
        charged, calls = Counter[str](), Counter[tuple[str, str]]()
        for entry in self.entries():
            charged[entry.task] += entry.amount
            if entry.kind != CORRECTION:
                calls[entry.task, entry.call] += 1
        assert [call for call, count in calls.items() if count > 1] == []
        assert [task for task, row in rows.items() if row[2] != charged[task]] == []
        eventually(lambda: not self.in_flight(), 30, "every slot to be given back")
        eventually(self.nothing_is_held, 30, "nothing to be held")
        assert verify(self.state.ledger).differences == ()

    def entries(self) -> list[Any]:
        found, cursor = [], "0-0"
        while True:
            page = self.state.ledger.entries.page(cursor).entries
            if not page:
                return found
            found += page
            cursor = page[-1].id

    def in_flight(self) -> int:
        return sum(pool.in_flight for pool in self.fleet.pools())

    def nothing_is_held(self) -> bool:
        reserved, book = self.state.budgets.usage.reserved(), self.state.budgets.usage.read()
        return not any((*reserved.all, *(each for held in book.held.values() for each in held)))

    def stop(self) -> None:
        self.ends.stop()
        self.workers.kill_all()
        self.broker.stop()


class Ends:
    """How often each task was said to have ended: what scripts publish in the step
    in which they write the end. What is said while Valkey is away is not heard."""

    def __init__(self, state: Connection) -> None:
        self.prefix = state.keys.done("")
        self.client = state.client
        self.counts: Counter[str] = Counter()
        self._stopped = threading.Event()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert self._listens.wait(10)

    def count(self, task: str) -> int:
        return self.counts[task]

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=5)

    def _listen(self) -> None:
        while not self._stopped.is_set():
            try:
                with self.client.pubsub(ignore_subscribe_messages=True) as heard:
                    heard.psubscribe(self.prefix + "*")
                    while not self._stopped.is_set():
                        message = heard.get_message(timeout=0.5)
                        self._listens.set()
                        if message:
                            self.counts[message["channel"].decode().removeprefix(self.prefix)] += 1
            except RedisError:
                self._stopped.wait(0.2)
