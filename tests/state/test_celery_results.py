"""Celery's `AsyncResult` of a task that `Fleet.submit` has sent, and that asks for no result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as NotInTime
from celery.result import AsyncResult, ResultSet

from fleet import Fleet
from fleet.broker.app import make_app
from fleet.errors import TaskFailed, TaskUnverified
from fleet.settings import Settings
from fleet.tasks.connection import Connection
from fleet.tasks.store import Lease

RESULT = {"code": "def add(a, b): return a + b"}


@pytest.fixture
def app(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Iterator[Celery]:
    with make_app(settings_of(""), set_as_current=False) as found:
        found.fleet.routing.agents.register("codegen-1", "codegen", 10, {})
        yield found


@pytest.fixture
def submit(app: Celery) -> Callable[[], str]:
    fleet = Fleet(app.fleet.settings)
    return lambda: fleet.submit("code_generation", {"instruction": "add"}).id


def begin(app: Celery, task_id: str) -> Lease:
    tasks = app.fleet.tasks.records
    lease: Lease = tasks.claim(task_id, "codegen-1", "codegen", 30, "a", "acme", "")
    return lease


def finish(connection: Connection, lease: Lease, state: str = "succeeded", error: str = "") -> None:
    fields = {"result": json.dumps(RESULT)}
    if error:
        fields = {"error": json.dumps({"type": error, "message": "it did not"})}
    connection.tasks.records.finish(lease, "codegen", state, 60, fields)


def test_it_has_the_state_and_the_result_of_the_task(
    app: Celery, submit: Callable[[], str]
) -> None:
    result: AsyncResult[Any] = app.AsyncResult(submit())
    assert (result.state, result.ready()) == ("PENDING", False)
    lease = begin(app, result.id)
    assert (result.state, result.ready()) == ("STARTED", False)
    finish(app.fleet, lease)
    assert (result.state, result.get(timeout=30), result.successful()) == ("SUCCESS", RESULT, True)


@pytest.mark.parametrize(
    ("state", "error", "raised"),
    [("failed", "TaskFailed", TaskFailed), ("unverified", "TaskUnverified", TaskUnverified)],
)
def test_it_raises_what_the_task_ended_with(
    app: Celery, submit: Callable[[], str], state: str, error: str, raised: type[Exception]
) -> None:
    result: AsyncResult[Any] = app.AsyncResult(submit())
    finish(app.fleet, begin(app, result.id), state, error)
    assert result.failed()
    with pytest.raises(raised, match="it did not"):
        result.get(timeout=30)


def test_a_cancelled_one_is_revoked(app: Celery, submit: Callable[[], str]) -> None:
    result: AsyncResult[Any] = app.AsyncResult(submit())
    Fleet(app.fleet.settings).task(result.id).cancel()
    assert result.state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        result.get(timeout=30)


def test_one_that_waits_for_it_hears_of_its_end(app: Celery, submit: Callable[[], str]) -> None:
    results = [app.AsyncResult(submit()) for _ in range(3)]
    with pytest.raises(NotInTime):
        results[0].get(timeout=0.3)
    leases = [begin(app, each.id) for each in results]
    asks = app.backend.result_consumer.drain_events

    def drain_events(timeout: float | None = None) -> None:
        # The task ends while it is waited for.
        if leases:
            finish(app.fleet, leases.pop(0))
        asks(timeout)

    app.backend.result_consumer.drain_events = drain_events
    assert results[0].get(timeout=20) == RESULT
    assert ResultSet(results[1:], app=app).join_native(timeout=20) == [RESULT] * 2


def test_an_id_that_nobody_knows_is_pending_and_costs_no_wait(app: Celery) -> None:
    result: AsyncResult[Any] = app.AsyncResult("nobody")
    assert result.state == "PENDING"
    began = time.monotonic()
    with pytest.raises(NotInTime):
        result.get(timeout=0.2)
    assert time.monotonic() - began < 30


def test_an_end_that_celery_is_to_tell_is_left_to_it(
    app: Celery, submit: Callable[[], str]
) -> None:
    """Celery's word has more than the record, such as the tasks that follow."""
    result: AsyncResult[Any] = app.AsyncResult(submit())
    lease = begin(app, result.id)
    app.backend.mark_as_started(result.id)
    finish(app.fleet, lease)
    assert result.state == "STARTED"
    with pytest.raises(NotInTime):
        result.get(timeout=0.5)
    app.backend.mark_as_done(result.id, RESULT)
    assert result.get(timeout=30) == RESULT


def test_what_celery_keeps_is_what_counts(app: Celery, submit: Callable[[], str]) -> None:
    """Also for the store itself: an end in the record keeps no result from being kept."""
    task_id = submit()
    finish(app.fleet, begin(app, task_id))
    app.backend.mark_as_done(task_id, {"kept": "by Celery"})
    assert app.AsyncResult(task_id).get(timeout=30) == {"kept": "by Celery"}


def test_the_bare_result_class_uses_the_application_that_was_made(
    app: Celery, submit: Callable[[], str]
) -> None:
    task_id = submit()
    finish(app.fleet, begin(app, task_id))
    app.set_current()
    try:
        assert AsyncResult[Any](task_id).get(timeout=30) == RESULT
    finally:
        from celery import _state

        _state._set_current_app(None)
