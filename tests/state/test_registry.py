"""Agents come, beat, are drained, go silent and leave."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from fleet.errors import InvalidRequest
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection

AGENT = "codegen-1"


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of(""))
    found.routing.agents.register(AGENT, "codegen", 10, {"host": "here", "pid": "7"})
    return found


def capacity(fleet: Connection) -> int:
    return fleet.routing.pools.counts(["codegen"])["codegen"].capacity


def status(fleet: Connection) -> str:
    (agent,) = fleet.routing.agents.agents()
    return agent.status


def make_silent(fleet: Connection, seconds: int) -> None:
    """Set the clock of its last heartbeat back."""
    key = fleet.keys.agent(AGENT)
    before = int(fleet.client.hget(key, "heartbeat") or 0) - seconds * 1000
    fleet.client.hset(key, "heartbeat", before)
    fleet.client.zadd(fleet.keys.pool("codegen").agents, {AGENT: before})


def test_an_agent_is_idle_then_busy_as_its_heartbeat_says(fleet: Connection) -> None:
    assert status(fleet) == "idle"
    assert fleet.routing.agents.heartbeat(AGENT, "codegen", 3, 10) == "busy"
    assert (status(fleet), fleet.routing.agents.agents()[0].running) == ("busy", 3)


def test_a_pools_capacity_is_the_sum_of_its_live_agents_slots(fleet: Connection) -> None:
    fleet.routing.agents.register("codegen-2", "codegen", 10, {})
    assert capacity(fleet) == 20
    fleet.routing.agents.leave("codegen-2", "codegen")
    assert capacity(fleet) == 10


def test_a_drained_agent_is_no_capacity_though_it_beats_on(fleet: Connection) -> None:
    fleet.routing.agents.drain(AGENT)
    assert fleet.routing.agents.heartbeat(AGENT, "codegen", 1, 10) == "maintenance"
    assert (status(fleet), capacity(fleet)) == ("maintenance", 0)
    fleet.routing.agents.resume(AGENT)
    assert (status(fleet), capacity(fleet)) == ("idle", 10)


def test_draining_an_unknown_agent_is_refused(fleet: Connection) -> None:
    with pytest.raises(InvalidRequest, match="nobody"):
        fleet.routing.agents.drain("nobody")


def test_a_silent_agent_is_no_capacity_even_before_it_is_reaped(fleet: Connection) -> None:
    make_silent(fleet, 61)
    assert capacity(fleet) == 0


def test_a_silent_agent_is_reaped_once_and_shown_as_failed(fleet: Connection) -> None:
    make_silent(fleet, 59)
    assert fleet.routing.agents.reap(60) == []
    make_silent(fleet, 2)
    assert fleet.routing.agents.reap(60) == [AGENT]
    assert fleet.routing.agents.reap(60) == []
    assert status(fleet) == "failed"


def test_an_agent_that_was_taken_for_dead_is_told_to_register_again(fleet: Connection) -> None:
    make_silent(fleet, 61)
    fleet.routing.agents.reap(60)
    assert fleet.routing.agents.heartbeat(AGENT, "codegen", 0, 10) == "unknown"


def test_the_registry_forgets_an_agent_whose_record_has_expired(fleet: Connection) -> None:
    fleet.client.delete(fleet.keys.agent(AGENT))
    fleet.routing.agents.reap(60)
    assert fleet.routing.agents.agents() == []
