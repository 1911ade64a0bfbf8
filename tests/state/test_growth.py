"""The parts of a worker that grows: in the registry, and in its pool of processes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from fleet.broker.app import Role
from fleet.scaling.actuators import scaling_store
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.worker.growth import Growth

ROLE = Role("codegen", "codegen-1@host")
CONFIG = """
[scaling]
actuator = "pool"

[leases]
heartbeat_seconds = 0.5

[pools.codegen]
agent_type = "code_generator"
execution = "prefork"
slots = 2
min = 1
max = 4
"""


class Job(SimpleNamespace):
    """A task in a process, or on its way into one."""

    def accepted(self) -> bool:
        return bool(self.pid)


class Processes:
    """Billiard's pool, as far as a worker that grows uses it."""

    def __init__(self, count: int) -> None:
        self._processes = count
        self._pool = [object() for _ in range(count)]
        self._cache: dict[int, Job] = {}

    def _iterinactive(self) -> list[object]:
        return self._pool[len(self._cache) :]

    def shrink(self, count: int) -> None:
        self._processes -= count


class Consumer:
    """Celery's consumer, with a loop that runs each call at once."""

    def __init__(self, slots: int) -> None:
        self.pool: Any = self
        self.hub = SimpleNamespace(call_soon=lambda call: call())
        self._pool = Processes(slots)
        self.initial_prefetch_count = slots
        self.qos: Any = SimpleNamespace(
            value=slots, increment_eventually=self._more, decrement_eventually=self._less
        )

    @property
    def num_processes(self) -> int:
        return self._pool._processes

    def grow(self, count: int) -> None:
        self._pool._processes += count

    def maintain_pool(self) -> None:
        kept = self._pool._pool[: self.num_processes]
        self._pool._pool = kept + [object()] * (self.num_processes - len(kept))

    def _more(self, count: int) -> None:
        self.qos.value += count

    def _less(self, count: int) -> None:
        self.qos.value -= count


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of(CONFIG))
    found.routing.agents.register(ROLE.agent, ROLE.pool, 2, {"host": "host", "pid": "1"})
    return found


@pytest.fixture
def consumer() -> Consumer:
    return Consumer(2)


@pytest.fixture
def growth(fleet: Connection, consumer: Consumer) -> Growth:
    found = Growth(fleet, ROLE)
    found.serve(consumer)
    return found


def order(fleet: Connection, workers: int) -> None:
    scaling_store(fleet).order(ROLE.pool, workers)


def agents(fleet: Connection) -> dict[str, int]:
    """The running tasks of each live agent, by its id."""
    return {agent.id: agent.running for agent in fleet.routing.agents.agents()}


def test_nothing_is_resized_before_the_first_decision(
    fleet: Connection, growth: Growth, consumer: Consumer
) -> None:
    growth.follow(0, is_drained=False)
    assert (len(agents(fleet)), consumer.num_processes, consumer.qos.value) == (1, 2, 2)


def test_each_part_is_an_agent_with_the_slots_of_a_worker(
    fleet: Connection, growth: Growth, consumer: Consumer
) -> None:
    order(fleet, 3)
    growth.follow(5, is_drained=False)
    growth.follow(5, is_drained=False)
    assert agents(fleet) == {ROLE.agent: 0, "codegen-1.2@host": 2, "codegen-1.3@host": 1}
    assert (consumer.num_processes, consumer.qos.value) == (6, 6)
    assert fleet.routing.pools.counts(["codegen"])["codegen"].live_agents == 3


def test_a_worker_that_a_person_has_drained_gives_its_parts_up(
    fleet: Connection, growth: Growth, consumer: Consumer
) -> None:
    order(fleet, 3)
    growth.follow(0, is_drained=False)
    growth.follow(0, is_drained=True)
    growth.follow(0, is_drained=True)
    assert list(agents(fleet)) == [ROLE.agent]
    assert consumer.num_processes == 2
    growth.follow(0, is_drained=False)
    assert len(agents(fleet)) == 3


def test_a_worker_that_lost_its_connection_goes_on_with_its_parts(
    fleet: Connection, growth: Growth, consumer: Consumer
) -> None:
    order(fleet, 2)
    growth.follow(0, is_drained=False)
    growth.leave()
    assert list(agents(fleet)) == [ROLE.agent]
    growth.serve(consumer)
    growth.follow(0, is_drained=False)
    assert list(agents(fleet)) == ["codegen-1.2@host", ROLE.agent]
    assert consumer.num_processes == 4


def test_no_process_ends_while_a_task_is_on_its_way_into_one(
    fleet: Connection, growth: Growth, consumer: Consumer
) -> None:
    order(fleet, 2)
    growth.follow(0, is_drained=False)
    consumer._pool._cache = {1: Job(pid=0)}
    growth.follow(1, is_drained=True)
    assert consumer.num_processes == 4
    consumer._pool._cache = {1: Job(pid=7)}
    growth.follow(1, is_drained=True)
    assert consumer.num_processes == 2


def test_processes_that_were_ended_are_gone_before_others_end(
    fleet: Connection, growth: Growth, consumer: Consumer
) -> None:
    order(fleet, 2)
    growth.follow(0, is_drained=False)
    consumer._pool._cache = {number: Job(pid=number) for number in (1, 2, 3)}
    growth.follow(3, is_drained=True)
    assert consumer.num_processes == 3
    consumer._pool._cache = {1: Job(pid=1)}
    growth.follow(1, is_drained=True)
    assert consumer.num_processes == 3
    consumer.maintain_pool()
    growth.follow(1, is_drained=True)
    assert consumer.num_processes == 2
