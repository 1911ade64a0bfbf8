"""Pools that are out come back for tasks that wait, on a real Valkey."""

from __future__ import annotations

from collections.abc import Callable

import redis

from fleet.broker.messages import message_encoder
from fleet.routing.health import look_at_pools
from fleet.routing.rules.health import HealthPolicy
from fleet.settings import Settings
from fleet.tasks.connection import open_connection
from fleet.tasks.submission.checks import Submission

TWO_POOLS = """
[pools.big]
agent_type = "code_generator"
slots = 2

[pools.small]
agent_type = "code_generator"
slots = 1
"""


def test_a_pool_that_is_out_comes_back_when_a_task_waits(
    client: redis.Redis, settings_of: Callable[[str], Settings]
) -> None:
    settings = settings_of(TWO_POOLS)
    fleet = open_connection(settings)
    submitter = fleet.submitter(message_encoder())
    for pool, slots in (("big", 2), ("small", 1)):
        fleet.routing.agents.register(f"{pool}-1", pool, slots, {})
    assert fleet.routing.pools.eject("big", ["small"], "5 failures in a row", HealthPolicy())

    def submitted() -> str:
        asked = Submission("code_generation", {"instruction": "add"})
        return submitter.submit(asked).placed.detail

    assert submitted() == "small"
    nothing = {"ejected": [], "readmitted": []}
    assert look_at_pools(settings, fleet.routing.pools, "code_generator") == nothing
    assert submitted() == ""  # the overflow queue
    looked = look_at_pools(settings, fleet.routing.pools, "code_generator")
    assert looked == {"ejected": [], "readmitted": ["big"]}
    assert fleet.routing.pools.counts(["big"])["big"].open_slots == 2
