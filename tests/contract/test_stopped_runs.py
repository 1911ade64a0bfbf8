"""Runs that are told to stop are cancelled until they have ended; no end is written before."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs
from task_runs import eventually, runner_of

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result, to_the_end
from fleet.broker.messages import message_encoder
from fleet.errors import FleetError, LeaseLost, TaskCancelled, TaskFailed, TaskTimedOut
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.leases.requeue import Requeued
from fleet.tasks.run import stopping
from fleet.tasks.run.runner import AgentRunner
from fleet.tasks.run.stopping import StoppableRun, Stopped
from fleet.tasks.submission.checks import Submission
from fleet.worker.event_loop import LoopThread

PATIENCE_SECONDS = 30.0
SECONDS = 0.02


class Order(Payload):
    """`swallows` so many cancellations; -1 is all, until it is let go. `kind` says how it does."""

    instruction: str = "add"
    swallows: int = 0
    kind: str = "sleeps"


class Done(Result):
    pass


class Stubborn:
    begun: threading.Event
    let_go: threading.Event
    cancelled = 0
    ended = False

    async def run(self, payload: Order, context: AgentContext) -> Outcome:
        Stubborn.begun.set()
        try:
            await self._work(payload)
        finally:
            Stubborn.ended = True
        return Outcome("succeeded", Done(), "done")

    async def _work(self, payload: Order) -> None:
        if payload.kind == "exits":
            raise SystemExit(3)
        if payload.kind == "blocks":
            Stubborn.let_go.wait(PATIENCE_SECONDS)
        while not Stubborn.let_go.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                Stubborn.cancelled += 1
                if payload.swallows >= 0 and Stubborn.cancelled > payload.swallows:
                    raise


SPEC = AgentSpec("code_generator", Order, Done, f"{__name__}:Stubborn")


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "CANCEL_SECONDS", SECONDS)


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    Stubborn.begun, Stubborn.let_go = threading.Event(), threading.Event()
    Stubborn.cancelled, Stubborn.ended = 0, False
    found = open_connection(settings_of(""))
    found.routing.agents.register("codegen-1", "codegen", 4, {})
    return found


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as found:
        yield found
        Stubborn.let_go.set()


class Started:
    """One task whose agent runs, in a thread of its own."""

    def __init__(self, fleet: Connection, thread: ThreadPoolExecutor, **order: Any) -> None:
        self.fleet = fleet
        self.runner: AgentRunner = runner_of(fleet, SPEC)
        limit = order.pop("limit", None)
        if limit is not None:
            self.runner.limits = self.runner.limits.model_copy(update={"task_seconds": limit})
        asked = Submission("code_generation", {"instruction": "add"})
        self.id = fleet.submitter(message_encoder()).submit(asked).task_id
        self.ends: list[FleetError] = []
        delivery = Delivery(self.id, order, "default", lambda: "", ended=self.ends.append)
        self.run: Future[Any] = thread.submit(self.runner.run, "code_generator", delivery)
        assert Stubborn.begun.wait(PATIENCE_SECONDS)

    @property
    def state(self) -> str:
        return self.fleet.tasks.records.state(self.id)

    def cancel(self) -> None:
        self.fleet.tasks.records.cancel(self.id, 60)
        self.runner.process.keeper.look()

    def error(self) -> BaseException | None:
        return self.run.exception(PATIENCE_SECONDS)


@pytest.mark.parametrize("swallows", [0, 1, 5])
def test_a_cancelled_run_is_cancelled_until_it_has_ended(
    fleet: Connection, thread: ThreadPoolExecutor, swallows: int
) -> None:
    task = Started(fleet, thread, swallows=swallows)
    task.cancel()
    error = task.error()
    assert isinstance(error, TaskCancelled)
    assert task.ends == [error]
    assert Stubborn.cancelled == swallows + 1
    assert task.state == "cancelled"


@pytest.mark.parametrize("swallows", [0, 3])
def test_a_run_over_its_time_limit_is_cancelled_until_it_has_ended(
    fleet: Connection, thread: ThreadPoolExecutor, swallows: int
) -> None:
    task = Started(fleet, thread, swallows=swallows, limit=0.05)
    assert isinstance(task.error(), TaskTimedOut)
    assert Stubborn.cancelled == swallows + 1
    assert task.state == "failed"


def test_a_run_that_swallows_all_and_ends_well_is_over_its_limit_all_the_same(
    fleet: Connection, thread: ThreadPoolExecutor
) -> None:
    task = Started(fleet, thread, swallows=-1, limit=0.05)
    eventually(lambda: Stubborn.cancelled > 2)
    Stubborn.let_go.set()
    assert isinstance(task.error(), TaskTimedOut)


def test_a_run_that_is_to_be_given_back_is_so_when_it_has_ended(
    fleet: Connection, thread: ThreadPoolExecutor
) -> None:
    task = Started(fleet, thread, swallows=2)
    task.runner.process.keeper.requeue_all()
    assert isinstance(task.error(), Requeued)
    assert (task.state, Stubborn.cancelled) == ("queued", 3)


def test_a_run_that_ends_well_while_it_is_to_be_given_back_has_ended_well(
    fleet: Connection, thread: ThreadPoolExecutor
) -> None:
    task = Started(fleet, thread, swallows=-1)
    task.runner.process.keeper.requeue_all()
    eventually(lambda: Stubborn.cancelled > 2)
    Stubborn.let_go.set()
    assert task.run.result(PATIENCE_SECONDS) == {}
    assert task.state == "succeeded"


def test_a_run_that_has_lost_its_lease_stops_and_writes_nothing(
    fleet: Connection, thread: ThreadPoolExecutor
) -> None:
    task = Started(fleet, thread, swallows=2)
    fleet.client.hset(fleet.keys.task(task.id), "fence", 1)
    task.runner.process.keeper.look()
    assert isinstance(task.error(), LeaseLost)
    assert task.ends == []
    assert Stubborn.ended
    assert task.state == "running"


def test_while_a_run_does_not_stop_its_lease_and_slot_stay_taken_and_the_log_says_where(
    fleet: Connection, thread: ThreadPoolExecutor
) -> None:
    with capture_logs() as logs:
        task = Started(fleet, thread, swallows=-1)
        task.cancel()
        eventually(lambda: len(told(logs)) >= 2)
    assert (task.state, Stubborn.ended) == ("running", False)
    assert task.runner.process.keeper._held.keys() == {task.id}
    assert fleet.routing.pools.counts(["codegen"])["codegen"].in_flight == 1
    assert not task.run.done()
    first, second = told(logs)[:2]
    assert first["task"] == task.id
    assert "in _work" in first["where"] or "in sleep" in first["where"]
    assert second["cancelled_times"] == 2 * first["cancelled_times"]
    Stubborn.let_go.set()
    assert isinstance(task.error(), TaskCancelled)
    assert task.state == "cancelled"
    assert task.runner.process.keeper._held == {}


def test_a_run_that_holds_up_the_loop_is_told_of_too(
    fleet: Connection, thread: ThreadPoolExecutor
) -> None:
    with capture_logs() as logs:
        task = Started(fleet, thread, kind="blocks")
        task.cancel()
        eventually(lambda: told(logs))
    assert " in wait" in told(logs)[0]["where"]
    Stubborn.let_go.set()
    assert isinstance(task.error(), TaskCancelled)


def test_an_agent_that_exits_ends_itself_alone(
    fleet: Connection, thread: ThreadPoolExecutor
) -> None:
    task = Started(fleet, thread, kind="exits")
    assert isinstance(task.error(), TaskFailed)
    Stubborn.let_go.set()
    # The loop is there for the next one.
    order = {"instruction": "add"}
    asked = Submission("code_generation", order)
    other = fleet.submitter(message_encoder()).submit(asked).task_id
    assert task.runner.run("code_generator", Delivery(other, order, "default", lambda: "")) == {}


def told(logs: list[Any]) -> list[Any]:
    return [each for each in logs if "does not stop" in each["event"]]


class Raised(Exception):
    """As Celery's soft time limit is, in the thread that waits."""


@pytest.mark.parametrize("part", ["_wait", "_cancel_until_ended"])
def test_an_error_from_outside_is_raised_when_the_run_has_ended(
    monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    begun, ended = threading.Event(), []
    run = StoppableRun[None]("a-task", 30)
    real, errors = getattr(run, part), iter([Raised()])

    async def work() -> None:
        swallowed = False
        begun.set()
        while True:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                if swallowed:
                    ended.append(True)
                    raise
                swallowed = True

    def fail(future: Future[None]) -> None:
        assert begun.wait(PATIENCE_SECONDS)
        for error in errors:
            run.stop()
            raise error
        real(future)

    monkeypatch.setattr(run, part, fail)
    if part == "_cancel_until_ended":
        run.begin()
        run.limit_seconds = 0.01
        wait = run._wait

        def wait_from_its_beginning(future: Future[None]) -> None:
            assert begun.wait(PATIENCE_SECONDS)
            wait(future)

        monkeypatch.setattr(run, "_wait", wait_from_its_beginning)
    with pytest.raises(Raised):
        run.result(work(), LoopThread().submit)
    assert ended == [True]


def test_a_run_that_is_stopped_before_it_begins_does_not_begin() -> None:
    run, begun = StoppableRun[None]("a-task", 30), []

    async def work() -> None:
        begun.append(True)

    run.stop()
    with pytest.raises(Stopped):
        run.result(work(), LoopThread().submit)
    assert begun == []


def test_what_is_done_to_the_end_is_not_cut_by_any_number_of_cancellations() -> None:
    done: list[int] = []

    async def clean_up() -> None:
        for step in range(20):
            await asyncio.sleep(0.005)
            done.append(step)

    async def works() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await to_the_end(clean_up())

    run = StoppableRun[None]("a-task", 0.01)
    run.begin()
    with pytest.raises(Stopped):
        run.result(works(), LoopThread().submit)
    assert run.timed_out
    assert done == list(range(20))
