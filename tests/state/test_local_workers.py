"""`fleet up` follows the orders: it starts what is missing, and ends what may end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import redis

from fleet.errors import RetryLater
from fleet.local.local_workers import LocalWorkers
from fleet.redis.client import connect
from fleet.redis.scripts import Scripts
from fleet.scaling.actuators import scaling_store
from fleet.scaling.orders_store import Orders
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection

HERE = socket.gethostname()


@dataclass
class Told:
    """What a supervisor is told. Its workers run as this process, or are about to."""

    running: dict[str, int | None] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)

    def workers(self) -> dict[str, int | None]:
        return dict(self.running)

    def start_worker(self, name: str) -> None:
        self.running[name] = None

    def end_worker(self, name: str) -> None:
        self.ended.append(name)


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(settings_of(""))


def supervisor(fleet: Connection, told: Told, name: str = "here:1") -> LocalWorkers:
    orders = Orders(fleet.client, fleet.keys, Scripts(fleet.client), name)
    return LocalWorkers(orders, told, ["codegen", "scanner"])


def register(fleet: Connection, agent: str, host: str = HERE) -> None:
    facts = {"host": host, "pid": str(os.getpid())}
    fleet.routing.agents.register(agent, "codegen", 10, facts)


def order(fleet: Connection, workers: int) -> None:
    scaling_store(fleet).order("codegen", workers)


def test_nothing_is_started_before_the_first_decision(fleet: Connection) -> None:
    told = Told()
    supervisor(fleet, told).follow()
    assert told.running == {}


def test_missing_workers_are_started_once_while_they_start(fleet: Connection) -> None:
    told = Told({"codegen.2": None, "beat": 1})
    found = supervisor(fleet, told)
    order(fleet, 3)
    found.follow()
    assert set(told.running) == {"codegen.1", "codegen.2", "codegen.3", "beat"}
    found.follow()
    assert len(told.running) == 4
    reported = fleet.client.hget(fleet.keys.pool("codegen").starting, "here:1")
    assert reported and reported.startswith(b"3,")


def test_a_worker_that_has_registered_is_no_longer_starting(fleet: Connection) -> None:
    told = Told({"codegen.1": os.getpgid(0)})
    found = supervisor(fleet, told)
    order(fleet, 1)
    register(fleet, "codegen-a")
    found.follow()
    found.follow()
    assert fleet.client.exists(fleet.keys.pool("codegen").starting) == 0
    assert set(told.running) == {"codegen.1"}


def test_only_the_own_worker_that_may_end_is_ended_and_no_longer_counted(
    fleet: Connection,
) -> None:
    told = Told({"codegen.1": os.getpgid(0)})
    found = supervisor(fleet, told)
    register(fleet, "codegen-a")
    register(fleet, "codegen-b", host="elsewhere")
    order(fleet, 2)
    for agent in ("codegen-a", "codegen-b"):
        fleet.client.hset(fleet.keys.agent(agent), "leaving", "drained")
    found.follow()
    assert told.ended == []
    for agent in ("codegen-a", "codegen-b"):
        fleet.client.hset(fleet.keys.agent(agent), "leaving", "ending")
    found.follow()
    found.follow()
    assert told.ended == ["codegen.1"]


def test_of_two_supervisors_one_starts_the_workers(fleet: Connection) -> None:
    first, second = Told(), Told()
    order(fleet, 2)
    supervisor(fleet, first).follow()
    supervisor(fleet, second, "there:2").follow()
    assert (len(first.running), len(second.running)) == (2, 0)
    fleet.client.delete(fleet.keys.pool("codegen").starter)
    supervisor(fleet, second, "there:2").follow()
    assert len(second.running) == 2


def test_without_redis_what_runs_goes_on(fleet: Connection) -> None:
    told = Told({"codegen.1": 1})
    client = connect("redis://127.0.0.1:1/0", 0.2)
    orders = Orders(client, fleet.keys, Scripts(client), "here:1")
    with pytest.raises(RetryLater):
        LocalWorkers(orders, told, ["codegen"]).follow()
    assert (told.running, told.ended) == ({"codegen.1": 1}, [])
