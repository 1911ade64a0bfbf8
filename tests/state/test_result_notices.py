"""What Celery's tracer makes of each way in which a delivery of an agent's task comes to an end.

Only the error that the record ended with is a failure. The result store is a real one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery, signature
from celery.exceptions import Reject, SoftTimeLimitExceeded
from kombu.exceptions import OperationalError, SerializerNotInstalled

from fleet.broker.app import Role, make_app
from fleet.errors import (
    LeaseLost,
    NotAllowed,
    OverBudget,
    RetryLater,
    TaskCancelled,
    TaskFailed,
    TaskTimedOut,
    TaskUnverified,
    Unavailable,
)
from fleet.settings import Settings
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.leases.requeue import Requeued
from fleet.worker import agent_tasks, tracing

FOLLOWS = "what-follows"
"""A plain queue that nobody serves: who is called back is seen in it."""

NO_ENDS: list[Exception] = [
    LeaseLost("runs elsewhere"),
    Unavailable("Redis is away"),
    RetryLater("later"),
    NotAllowed("no right to write"),
    TaskFailed("of somebody, and not written"),
    TaskCancelled("the same"),
    redis.ConnectionError("refused"),
    redis.TimeoutError("timed out"),
    redis.ResponseError("MISCONF cannot save"),
    OperationalError("broker"),
    OSError("broken pipe"),
    SoftTimeLimitExceeded(),
    CancelledError(),
    KeyError("a fault of Fleet's own"),
    AssertionError("another"),
    Requeued("id", is_queued=True),
    Requeued("id", is_queued=False),
]
IGNORED = (LeaseLost,)

ENDS: list[Exception] = [
    TaskFailed("it failed"),
    TaskTimedOut("too long"),
    TaskUnverified("no good", None),
    OverBudget("too dear"),
    Unavailable("of a model, retried to the last"),
]


class Runner:
    """In the place of the process's runner: does what the test says."""

    def __init__(self) -> None:
        self.do: Callable[[Delivery], Any] = lambda delivery: {"answer": 42}

    def run(self, agent_type: str, delivery: Delivery) -> Any:
        return self.do(delivery)


class Told:
    """An application with one agent's task, and what Celery has been told of a delivery."""

    def __init__(self, app: Celery, runner: Runner, client: redis.Redis) -> None:
        self.app, self.runner, self.client = app, runner, client
        self.task = app.tasks["agents.code_generator"]
        self.task.__trace__ = None
        self.id = str(uuid4())
        #: Of the callback and the error callback, as the message has them.
        self.options: dict[str, Any] = {}

    def raises(self, error: Exception, *, is_end: bool) -> Any:
        def do(delivery: Delivery) -> Any:
            if is_end:
                delivery.ended(error)  # type: ignore[arg-type]
            raise error

        self.runner.do = do
        return self.trace()

    def trace(self) -> Any:
        """What the tracer says: its state, and what the worker's main process hears."""
        request = {
            "id": self.id,
            "task": "agents.code_generator",
            "ignore_result": False,
            "callbacks": [signature("then", queue=FOLLOWS, app=self.app, **self.options)],
            "errbacks": [signature("else", queue=FOLLOWS, app=self.app, **self.options)],
            "delivery_info": {},
            "properties": {"delivery_tag": "a-tag"},
            "root_id": self.id,
        }
        trace = self.task.__trace__
        return trace(self.id, [{"instruction": "add"}], {}, request)

    def called(self) -> list[str]:
        """Who of the callback and the error callback has been sent, in any order."""
        found = [json.loads(text) for text in self.client.lrange(FOLLOWS, 0, -1)]
        return sorted(each["headers"]["task"] for each in found)

    @property
    def state(self) -> str:
        return str(self.app.AsyncResult(self.id).state)


@pytest.fixture
def told(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> Told:
    runner = Runner()
    monkeypatch.setattr(agent_tasks, "_make_runner", lambda *_: runner)
    monkeypatch.setattr(tracing, "PAUSE_SECONDS", 0.01)
    role = Role("codegen", "codegen-1")
    app = make_app(settings_of(""), role)
    agent_tasks.add_agent_tasks(app, role)
    return Told(app, runner, client)


def goes_back(found: Any) -> bool:
    """Whether the worker's main process hears that the delivery goes back to its queue."""
    heard = found.retval.exception.exc
    return isinstance(heard, Reject) and bool(heard.requeue)


def name(error: Exception) -> str:
    return f"{type(error).__name__}-{error}"


@pytest.mark.parametrize("error", NO_ENDS, ids=name)
def test_what_is_no_end_is_no_failure(told: Told, error: Exception) -> None:
    found = told.raises(error, is_end=False)
    ignored = isinstance(error, IGNORED) or (isinstance(error, Requeued) and error.is_queued)
    assert found.info.state == ("IGNORED" if ignored else "REJECTED")
    assert ignored or goes_back(found)
    assert (told.state, told.called()) == ("PENDING", [])


@pytest.mark.parametrize("error", ENDS, ids=name)
def test_an_end_that_is_written_is_told_once(told: Told, error: Exception) -> None:
    found = told.raises(error, is_end=True)
    assert found.info.state == "FAILURE"
    assert (told.state, told.called()) == ("FAILURE", ["else"])


def test_a_cancelled_task_is_revoked(told: Told) -> None:
    told.raises(TaskCancelled("by somebody"), is_end=True)
    assert (told.state, told.called()) == ("REVOKED", [])


def test_a_success_is_told_once(told: Told) -> None:
    assert told.trace().info is None
    assert (told.state, told.called()) == ("SUCCESS", ["then"])


@pytest.mark.parametrize(
    "error",
    [OperationalError("away"), redis.ConnectionError("away"), Unavailable("MISCONF"), OSError()],
    ids=name,
)
@pytest.mark.parametrize("part", ["send_task", "store_result"])
def test_a_success_that_cannot_be_told_now_is_no_failure(
    told: Told, monkeypatch: pytest.MonkeyPatch, error: Exception, part: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    owner = told.app if part == "send_task" else told.task.backend
    monkeypatch.setattr(owner, part, fail)
    found = told.trace()
    assert goes_back(found)
    monkeypatch.undo()
    assert told.state == "PENDING"
    assert "else" not in told.called()


@pytest.mark.parametrize("part", ["send_task", "store_result"])
def test_a_failure_that_cannot_be_told_at_once_is_told_as_soon_as_it_can(
    told: Told, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    owner = told.app if part == "send_task" else told.task.backend
    real, failures = getattr(owner, part), iter(range(3))

    def fail(*arguments: Any, **options: Any) -> Any:
        if next(failures, None) is not None:
            raise OperationalError("away")
        return real(*arguments, **options)

    monkeypatch.setattr(owner, part, fail)
    assert told.raises(TaskFailed("it failed"), is_end=True).info.state == "FAILURE"
    assert (told.state, told.called()) == ("FAILURE", ["else"])


@pytest.mark.parametrize("error", [None, TaskFailed("it failed")], ids=["succeeds", "fails"])
def test_what_follows_and_can_be_sent_at_no_time_does_not_bring_the_delivery_back(
    told: Told, error: Exception | None
) -> None:
    told.options = {"serializer": "none-such"}
    with pytest.warns(RuntimeWarning), pytest.raises(SerializerNotInstalled):
        if error is None:
            told.trace()
        else:
            told.raises(error, is_end=True)
    assert told.state == "FAILURE"


def test_a_failure_that_cannot_be_told_for_long_goes_back(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(tracing, "NOTIFY_SECONDS", 0.05)
    monkeypatch.setattr(told.task.backend, "store_result", fail)
    found = told.raises(TaskFailed("it failed"), is_end=True)
    assert goes_back(found)
    monkeypatch.undo()
    assert (told.state, told.called()) == ("PENDING", [])


def test_a_fault_in_what_follows_a_success_is_celerys_to_tell(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else would ever tell of it: the same message would fail again."""

    real = told.app.send_task

    def fail(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "then":
            raise TypeError("cannot be sent at any time")
        return real(name, *arguments, **options)

    monkeypatch.setattr(told.app, "send_task", fail)
    with pytest.warns(RuntimeWarning, match="cannot be sent at any time"):
        assert told.trace().info.state == "FAILURE"
    assert told.called() == ["else"]
