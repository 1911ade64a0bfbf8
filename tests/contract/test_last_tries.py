"""Tasks that one more crash would end: in a process one of them runs at a time, the others stand
aside, so that none of them ends for the crash of another."""

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
from fleet.errors import LeaseLost, TaskCancelled
from fleet.runtime.messages import message_encoder
from fleet.services.claims import Delivery
from fleet.services.connection import Connection, open_connection
from fleet.services.giving_back import GivenBack
from fleet.services.requests import Submission
from fleet.settings import Settings

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
            self.fleet.tasks.claim(task_id, "codegen-1", "codegen", 0, str(name), "default", "")
            record = self.fleet.tasks.read(task_id)
            assert self.fleet.tasks.requeue(record, QUEUE, 3) == "requeued"
        return task_id

    def run(self, task_id: str) -> Future[Any]:
        delivery = Delivery(task_id, {"instruction": "add"}, "default", lambda: "")
        return self.threads.submit(self.runner.run, "code_generator", delivery)

    def stands_aside(self, task_id: str) -> bool:
        held = task_id in self.runner.keeper._held
        return held and bool(self.fleet.client.hexists(self.fleet.keys.task(task_id), "aside"))


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
    fleet.registry.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    made = Crew(fleet, AgentSpec("code_generator", Order, Done, f"{__name__}:Slow"))
    yield made
    Slow.go_on.set()
    made.threads.shutdown()


def test_of_those_on_their_last_try_one_runs_at_a_time(crew: Crew) -> None:
    first, second = crew.task(crashes=2), crew.task(crashes=2)
    runs = [crew.run(first)]
    eventually(lambda: Slow.begun == [first])
    runs.append(crew.run(second))
    eventually(lambda: crew.stands_aside(second))
    assert not crew.stands_aside(first)
    assert Slow.begun == [first]
    Slow.go_on.set()
    for run in runs:
        run.result(timeout=30)
    assert Slow.begun == [first, second]
    assert [crew.fleet.tasks.state(task) for task in (first, second)] == ["succeeded"] * 2


def test_all_others_run_beside_one_on_its_last_try(crew: Crew) -> None:
    tasks = [crew.task(crashes) for crashes in (2, 0, 1)]
    for number, task in enumerate(tasks, 1):
        crew.run(task)
        eventually(lambda: len(Slow.begun) == number)  # noqa: B023
    assert Slow.begun == tasks


def test_one_that_stands_aside_ends_where_it_is_cancelled(crew: Crew) -> None:
    first, second = crew.task(crashes=2), crew.task(crashes=2)
    crew.run(first)
    eventually(lambda: Slow.begun == [first])
    run = crew.run(second)
    eventually(lambda: crew.stands_aside(second))
    crew.fleet.tasks.cancel(second, 60)
    crew.runner.keeper.look()
    with pytest.raises(TaskCancelled):
        run.result(timeout=30)
    assert crew.fleet.tasks.state(second) == "cancelled"
    assert Slow.begun == [first]


def test_one_that_stands_aside_is_given_back_with_the_others(crew: Crew) -> None:
    first, second = crew.task(crashes=2), crew.task(crashes=2)
    runs = [crew.run(first)]
    eventually(lambda: Slow.begun == [first])
    runs.append(crew.run(second))
    eventually(lambda: crew.stands_aside(second))
    crew.runner.keeper.give_back()
    for run in runs:
        with pytest.raises(GivenBack):
            run.result(timeout=30)
    assert [crew.fleet.tasks.state(task) for task in (first, second)] == ["queued"] * 2
    assert Slow.begun == [first]


def test_one_whose_lease_has_passed_on_while_it_stood_aside_does_not_run(crew: Crew) -> None:
    first, second = crew.task(crashes=2), crew.task(crashes=2)
    crew.run(first)
    eventually(lambda: Slow.begun == [first])
    run = crew.run(second)
    eventually(lambda: crew.stands_aside(second))
    crew.fleet.client.hset(crew.fleet.keys.task(second), "lease_until", 0)
    crew.fleet.tasks.claim(second, "codegen-2", "codegen", 30, "other", "default", "")
    Slow.go_on.set()
    with pytest.raises(LeaseLost):
        run.result(timeout=30)
    assert Slow.begun == [first]
