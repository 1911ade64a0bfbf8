"""Tasks that were fetched ahead of their slots: they wait for them, and are given back in time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from task_runs import runner_of

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result
from fleet.broker.messages import message_encoder
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.leases.requeue import Requeued
from fleet.tasks.run import leased_run
from fleet.tasks.run.runner import AgentRunner
from fleet.tasks.submission.checks import Submission

ONE_SLOT = '[pools.codegen]\nagent_type = "code_generator"\nslots = 1'
PATIENCE_SECONDS = 30.0


class Order(Payload):
    instruction: str = "add"
    number: int


class Done(Result):
    number: int


class Gated:
    """Runs until it is let go; notes how many of it run at once."""

    running = 0
    most = 0
    begun: threading.Event
    gate: threading.Event

    async def run(self, payload: Order, context: AgentContext) -> Outcome:
        Gated.running += 1
        Gated.most = max(Gated.most, Gated.running)
        Gated.begun.set()
        await asyncio.to_thread(Gated.gate.wait, PATIENCE_SECONDS)
        Gated.running -= 1
        return Outcome("succeeded", Done(number=payload.number), "done")


SPEC = AgentSpec("code_generator", Order, Done, f"{__name__}:Gated")


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    Gated.running = Gated.most = 0
    Gated.begun, Gated.gate = threading.Event(), threading.Event()
    found = open_connection(settings_of(ONE_SLOT))
    found.routing.agents.register("codegen-1", "codegen", 1, {})
    return found


def submit(fleet: Connection, count: int) -> list[str]:
    asked = [Submission("code_generation", {"instruction": "add"})] * count
    return [each.task_id for each in fleet.submitter(message_encoder()).submit_many(asked)]


def run(
    runner: AgentRunner, task_id: str, number: int, ended: Callable[[], None] = lambda: None
) -> dict[str, Any] | None:
    order = {"number": number}
    delivery = Delivery(task_id, order, "default", lambda: "", agent_ended=ended)
    return runner.run("code_generator", delivery)


def test_no_more_agents_run_at_once_than_there_are_slots(
    fleet: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leased_run, "SLOT_SECONDS", PATIENCE_SECONDS)
    runner, ids = runner_of(fleet, SPEC), submit(fleet, 4)
    Gated.gate.set()
    with ThreadPoolExecutor(4) as threads:
        numbers = range(len(ids))
        results = list(threads.map(lambda n: run(runner, ids[n], n), numbers))
    assert [result and result["number"] for result in results] == list(numbers)
    assert Gated.most == 1


def test_a_task_whose_slot_does_not_come_free_is_given_back(fleet: Connection) -> None:
    runner, (first, second) = runner_of(fleet, SPEC), submit(fleet, 2)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run, runner, first, 1)
        assert Gated.begun.wait(PATIENCE_SECONDS)
        with pytest.raises(Requeued) as given:
            run(runner, second, 2)
        record = fleet.tasks.records.read(second)
        Gated.gate.set()
        assert running.result(PATIENCE_SECONDS)
    assert given.value.is_queued
    assert (record.state, record.crashes, record.history[-1].why) == ("queued", 0, "given back")
    assert Gated.most == 1


def test_the_end_of_an_agent_is_told_before_it_is_written(fleet: Connection) -> None:
    runner, (task_id,) = runner_of(fleet, SPEC), submit(fleet, 1)
    Gated.gate.set()
    states: list[str] = []
    run(runner, task_id, 1, lambda: states.append(fleet.tasks.records.state(task_id)))
    assert states == ["running"]
