"""An agent whose errors repeat the provider's key."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest
from task_runs import Run, runner_of

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result
from fleet.errors import InvalidRequest, TaskFailed
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.reaper import reap

KEY = "sk-secret"


class Order(Payload):
    fails: str


class Talkative:
    async def run(self, payload: Order, context: AgentContext) -> Outcome:
        text = f"GET /v1?key={KEY} failed"
        if payload.fails == "on-purpose":
            raise InvalidRequest(text)
        if payload.fails == "by-exit":
            raise SystemExit(text)
        raise LookupError(text)


SPEC = AgentSpec("code_generator", Order, Result, f"{__name__}:Talkative")


@pytest.mark.parametrize("fails", ["on-purpose", "by-mistake", "by-exit"])
def test_the_key_is_in_no_error_that_is_stored_or_raised(
    start: Callable[..., Run], fails: str
) -> None:
    run = start()
    assert run.fleet.tasks.records.renew(run.lease, 0)
    reap(run.fleet)
    delivery = Delivery(run.lease.task_id, {"fails": fails}, "default", lambda: "")

    with pytest.raises((InvalidRequest, TaskFailed)) as caught:
        runner_of(run.fleet, SPEC).run("code_generator", delivery)

    assert "GET /v1?key=*** failed" in run.record.summary
    assert KEY not in "".join(traceback.format_exception(caught.value))
    stored = run.fleet.client.hgetall(run.fleet.keys.task(run.lease.task_id))
    assert KEY not in str(stored)
