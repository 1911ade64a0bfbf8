"""Tasks that one more crash would end run alone in their process, so that none of them ends for the
crash of another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import redis
from fake_provider import FakeProvider
from task_runs import CONFIG, eventually, runner_of

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result
from fleet.broker.messages import message_encoder
from fleet.errors import LeaseLost, TaskCancelled
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.leases.requeue import Requeued
from fleet.tasks.submission.checks import Submission

QUEUE = "{fleet}.overflow.code_generator"


class Order(Payload):
    instruction: str = "add"


class Done(Result):
    pass


class Slow:
    """Runs until the test lets it go on."""

    begun: list[str]
    go_on: threading.Event

    async def run(self, payload: Order, context: AgentContext) -> Outcome:
        self.begun.append(context.task_id)
        await asyncio.to_thread(self.go_on.wait, 60)
        return Outcome("succeeded", Done(), "done")


class Crew:
    """One worker process, and its threads."""

    def __init__(self, fleet: Connection, spec: AgentSpec) -> None:
        self.fleet = fleet
        self.runner = runner_of(fleet, spec)
        self.threads = ThreadPoolExecutor(8)

    def task(self, crashes: int) -> str:
        """A task whose workers have died so often."""
        asked = Submission("code_generation", {"instruction": "add"})
        task_id = self.fleet.submitter(message_encoder()).submit(asked).task_id
        for name in range(crashes):
            self.fleet.tasks.records.claim(
                task_id, "codegen-1", "codegen", 0, str(name), "default", ""
            )
            record = self.fleet.tasks.records.read(task_id)
            assert self.fleet.tasks.records.requeue(record, QUEUE, 3) == "requeued"
        return task_id

    def run(self, task_id: str, *told: Callable[[], None]) -> Future[Any]:
        named = dict(zip(("runs_alone", "agent_ended"), told, strict=False))
        delivery = Delivery(task_id, {"instruction": "add"}, "default", lambda: "", **named)
        return self.threads.submit(self.runner.run, "code_generator", delivery)

    def stands_aside(self, task_id: str) -> bool:
        """And waits already for the others to end."""
        waits = task_id in self.runner.process.keeper._held and self.runner.process.slots._requests
        aside = self.fleet.client.hget(self.fleet.keys.task(task_id), "aside")
        return bool(waits) and aside == b"1"


@pytest.fixture
def crew(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
    fake: FakeProvider,
) -> Iterator[Crew]:
    clean_environment.setenv("FAKE_API_KEY", "sk-secret")
    Slow.begun, Slow.go_on = [], threading.Event()
    fleet = open_connection(settings_of(CONFIG.format(url=fake.base_url)))
    fleet.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    made = Crew(fleet, AgentSpec("code_generator", Order, Done, f"{__name__}:Slow"))
    yield made
    Slow.go_on.set()
    made.threads.shutdown()


def test_all_others_run_beside_each_other(crew: Crew) -> None:
    tasks = [crew.task(crashes) for crashes in (1, 0, 1)]
    for number, task in enumerate(tasks, 1):
        crew.run(task)
        eventually(lambda: len(Slow.begun) == number)  # noqa: B023
    assert Slow.begun == tasks


@pytest.mark.parametrize("crashes", [0, 1, 2])
def test_one_on_its_last_try_begins_when_nothing_else_runs(crew: Crew, crashes: int) -> None:
    other, last = crew.task(crashes), crew.task(crashes=2)
    runs = [crew.run(other)]
    eventually(lambda: Slow.begun == [other])
    runs.append(crew.run(last))
    eventually(lambda: crew.stands_aside(last))
    assert not crew.stands_aside(other)
    assert Slow.begun == [other]
    Slow.go_on.set()
    for run in runs:
        run.result(timeout=30)
    assert Slow.begun == [other, last]
    assert [crew.fleet.tasks.records.state(task) for task in (other, last)] == ["succeeded"] * 2


@pytest.mark.parametrize("crashes", [0, 1])
def test_nothing_begins_beside_one_on_its_last_try_or_before_it(crew: Crew, crashes: int) -> None:
    first, last = crew.task(crashes=0), crew.task(crashes=2)
    crew.run(first)
    eventually(lambda: Slow.begun == [first])
    running = crew.run(last)
    eventually(lambda: crew.stands_aside(last))
    with pytest.raises(Requeued):
        crew.run(crew.task(crashes)).result(timeout=30)
    Slow.go_on.set()
    running.result(timeout=30)
    assert Slow.begun == [first, last]
    late = crew.task(crashes)
    crew.run(late).result(timeout=30)
    assert Slow.begun == [first, last, late]


def test_its_process_is_told_to_fetch_nothing_until_it_has_ended(crew: Crew) -> None:
    told: list[str] = []
    last = crew.task(crashes=2)
    run = crew.run(last, lambda: told.append("alone"), lambda: told.append("ended"))
    eventually(lambda: Slow.begun == [last])
    assert told == ["alone"]
    Slow.go_on.set()
    run.result(timeout=30)
    assert told == ["alone", "ended"]


def test_one_that_stands_aside_ends_where_it_is_cancelled(crew: Crew) -> None:
    first, second = crew.task(crashes=2), crew.task(crashes=2)
    crew.run(first)
    eventually(lambda: Slow.begun == [first])
    run = crew.run(second)
    eventually(lambda: crew.stands_aside(second))
    crew.fleet.tasks.records.cancel(second, 60)
    crew.runner.process.keeper.look()
    with pytest.raises(TaskCancelled):
        run.result(timeout=30)
    assert crew.fleet.tasks.records.state(second) == "cancelled"
    assert Slow.begun == [first]


def test_one_that_stands_aside_is_given_back_with_the_others(crew: Crew) -> None:
    first, second = crew.task(crashes=2), crew.task(crashes=2)
    runs = [crew.run(first)]
    eventually(lambda: Slow.begun == [first])
    runs.append(crew.run(second))
    eventually(lambda: crew.stands_aside(second))
    crew.runner.process.keeper.requeue_all()
    for run in runs:
        with pytest.raises(Requeued):
            run.result(timeout=30)
    assert [crew.fleet.tasks.records.state(task) for task in (first, second)] == ["queued"] * 2
    assert Slow.begun == [first]


def test_one_whose_lease_has_passed_on_while_it_stood_aside_does_not_run(crew: Crew) -> None:
    first, second = crew.task(crashes=2), crew.task(crashes=2)
    crew.run(first)
    eventually(lambda: Slow.begun == [first])
    run = crew.run(second)
    eventually(lambda: crew.stands_aside(second))
    crew.fleet.client.hset(crew.fleet.keys.task(second), "lease_until", 0)
    crew.fleet.tasks.records.claim(second, "codegen-2", "codegen", 30, "other", "default", "")
    Slow.go_on.set()
    with pytest.raises(LeaseLost):
        run.result(timeout=30)
    assert Slow.begun == [first]
