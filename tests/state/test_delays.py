"""Delayed tasks wait in Redis, and are queued when their time has come by Redis's clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import redis
from celery import Celery

from fleet import Fleet
from fleet.broker import messages as etas
from fleet.broker.app import make_app
from fleet.errors import InvalidRequest, OverBudget, OverLimit
from fleet.policy.rules import LimitKey
from fleet.policy.store import AuditActor
from fleet.settings import Settings
from fleet.tasks.connection import Connection
from fleet.tasks.waiting.release import release_due

OVERFLOW = "{fleet}.overflow.code_generator"
PAYLOAD = {"instruction": "add"}


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Fleet:
    return Fleet(settings_of(""))


@pytest.fixture
def state(fleet: Fleet) -> Connection:
    fleet._connection.routing.agents.register("codegen-1", "codegen", 10, {})
    return fleet._connection


def queued(client: redis.Redis) -> int:
    return sum(client.llen(queue) for queue in (OVERFLOW, "{fleet}.codegen"))


def come(client: redis.Redis, schedule: str) -> None:
    """The time of all that waits has come."""
    client.zunionstore(schedule, {schedule: 0})


def test_a_delayed_task_is_in_no_queue_and_holds_nothing(
    fleet: Fleet, state: Connection, client: redis.Redis
) -> None:
    task = fleet.submit("code_generation", PAYLOAD, delay=3600)
    record = task.record()
    assert record.state == "delayed"
    assert record.not_before is not None and record.submitted is not None
    assert record.not_before - record.submitted == pytest.approx(3600, abs=0.002)
    assert queued(client) == 0
    assert client.hlen(state.keys.reservations) == 0
    assert release_due(state) == []
    assert [each.id for each in fleet.tasks(state="delayed")] == [task.id]


def test_it_needs_no_live_agent_yet(fleet: Fleet) -> None:
    assert fleet.submit("code_generation", PAYLOAD, delay=60).state() == "delayed"


def test_a_due_task_is_queued_once_and_holds_its_money_from_then_on(
    fleet: Fleet, state: Connection, client: redis.Redis
) -> None:
    task = fleet.submit("code_generation", PAYLOAD, delay=3600)
    come(client, state.keys.delayed)
    assert release_due(state) == [task.id]
    assert release_due(state) == []
    assert task.state() == "queued"
    assert queued(client) == 1
    assert client.hkeys(state.keys.reservations) == [task.id.encode()]
    assert client.zcard(state.keys.delayed) == 0


def test_it_is_due_by_the_clock_of_redis_not_earlier_and_in_time(
    fleet: Fleet, state: Connection, client: redis.Redis
) -> None:
    task = fleet.submit("code_generation", PAYLOAD, delay=0.4)
    deadline = time.monotonic() + 30
    while not release_due(state):
        assert time.monotonic() < deadline
    seconds, micros = client.time()
    due = task.record().not_before
    assert due is not None
    assert 0 <= seconds + micros / 1e6 - due < 5


def test_what_one_process_has_taken_another_does_not_get_until_it_seems_dead(
    fleet: Fleet, state: Connection, client: redis.Redis
) -> None:
    task = fleet.submit("code_generation", PAYLOAD, delay=3600)
    come(client, state.keys.delayed)
    before, _ = client.time()
    assert state.tasks.schedule.due().delayed == [task.id]
    after, _ = client.time()
    assert state.tasks.schedule.due().delayed == []
    again = client.zscore(state.keys.delayed, task.id)
    assert again is not None and before + 3 < again / 1000 < after + 6


def test_a_moment_may_be_given_and_one_that_has_passed_is_now(
    fleet: Fleet, state: Connection
) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    task = fleet.submit("code_generation", PAYLOAD, not_before=tomorrow)
    assert task.record().not_before == pytest.approx(tomorrow.timestamp(), abs=0.001)
    late = fleet.submit("code_generation", PAYLOAD, not_before=tomorrow - timedelta(days=2))
    assert late.state() == "queued"
    assert fleet.submit("code_generation", PAYLOAD, delay=0).state() == "queued"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"delay": -1}, "give seconds from 0"),
        ({"delay": float("nan")}, "give seconds from 0"),
        ({"delay": "soon"}, "give a number of seconds"),
        ({"not_before": datetime(2030, 1, 1)}, "with a time zone"),
        ({"delay": 1, "not_before": datetime.now(UTC)}, "give one of them"),
    ],
)
def test_a_bad_delay_is_refused_before_anything_is_written(
    fleet: Fleet, client: redis.Redis, asked: dict[str, object], told: str
) -> None:
    with pytest.raises(InvalidRequest, match=told):
        fleet.submit("code_generation", PAYLOAD, **asked)  # type: ignore[arg-type]
    assert client.exists("{fleet}:tasks", "{fleet}:delayed") == 0


def test_a_delayed_task_can_be_cancelled_and_never_runs(
    fleet: Fleet, state: Connection, client: redis.Redis
) -> None:
    task = fleet.submit("code_generation", PAYLOAD, delay=3600)
    come(client, state.keys.delayed)
    assert state.tasks.schedule.due().delayed == [task.id]
    assert task.cancel() == "delayed"
    assert task.state() == "cancelled"
    come(client, state.keys.delayed)
    assert release_due(state) == []
    assert queued(client) == 0


def test_a_repeated_key_gives_the_delayed_task(fleet: Fleet, client: redis.Redis) -> None:
    first = fleet.submit("code_generation", PAYLOAD, delay=60, idempotency_key="a")
    again = fleet.submit("code_generation", PAYLOAD, delay=59, idempotency_key="a")
    assert first.id == again.id
    assert client.zcard("{fleet}:delayed") == 1


@pytest.mark.parametrize(("over", "becomes"), [("refuse", "failed"), ("wait", "parked")])
def test_a_due_task_that_fits_no_limit_ends_or_is_parked_as_the_policy_says(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    over: str,
    becomes: str,
) -> None:
    budget = f'[budgets]\nover = "{over}"\nhourly_requests = 1\n'
    fleet = Fleet(settings_of(budget))
    state = fleet._connection
    state.routing.agents.register("codegen-1", "codegen", 10, {})
    fleet.submit("code_generation", PAYLOAD)
    task = fleet.submit("code_generation", PAYLOAD, delay=3600)
    come(client, state.keys.delayed)
    assert release_due(state) == []
    assert task.state() == becomes
    assert client.zcard(state.keys.delayed) == 0
    if becomes == "failed":
        with pytest.raises((OverBudget, OverLimit), match="per UTC hour"):
            task.result(timeout=30)


def test_a_due_task_that_was_refused_is_a_dead_letter_and_can_be_retried(
    client: redis.Redis, settings_of: Callable[[str], Settings]
) -> None:
    fleet = Fleet(settings_of("[budgets]\nhourly_requests = 1\n"))
    state = fleet._connection
    state.routing.agents.register("codegen-1", "codegen", 10, {})
    fleet.submit("code_generation", PAYLOAD)
    task = fleet.submit("code_generation", PAYLOAD, delay=3600)
    come(client, state.keys.delayed)
    release_due(state)
    (letter,) = fleet.dead()
    assert (letter.id, letter.dead) == (task.id, "permanent")
    state.policy.store.set_limits(
        {LimitKey("all", "hour", "requests"): 9}, AuditActor("ann", "test")
    )
    again = fleet.retry_dead(task.id)
    assert (again.state(), again.record().retry_of) == ("queued", task.id)
    assert fleet.dead() == []


def test_every_move_of_a_delayed_task_stands_in_its_history_and_counts_who_waits(
    client: redis.Redis, settings_of: Callable[[str], Settings]
) -> None:
    fleet = Fleet(settings_of('[budgets]\nover = "wait"\nhourly_requests = 1\n'))
    state = fleet._connection
    state.routing.agents.register("codegen-1", "codegen", 10, {})
    first, parked, dropped = (
        fleet.submit("code_generation", PAYLOAD, delay=3600 + more) for more in (0, 1, 2)
    )
    assert client.hgetall(state.keys.waiting) == {b"default": b"3"}
    dropped.cancel()
    assert client.hgetall(state.keys.waiting) == {b"default": b"2"}
    client.zadd(state.keys.delayed, {first.id: 0, parked.id: 1})
    assert release_due(state) == [first.id]
    moves = {
        task.id: [(move.state, move.by) for move in task.record().history]
        for task in (first, parked)
    }
    assert moves == {
        first.id: [("delayed", "submit"), ("queued", "schedule")],
        parked.id: [("delayed", "submit"), ("parked", "schedule")],
    }
    assert client.hgetall(state.keys.waiting) == {b"default": b"2"}


# Plain Celery


@pytest.fixture
def app(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Celery:
    return make_app(settings_of(""))


def test_a_countdown_of_plain_celery_waits_in_the_schedule_and_carries_no_eta(
    app: Celery, client: redis.Redis
) -> None:
    state: Connection = app.fleet
    state.routing.agents.register("codegen-1", "codegen", 10, {})
    sent = app.send_task("agents.code_generator", args=[PAYLOAD], countdown=30)
    record = state.tasks.records.read(sent.id)
    assert record.state == "delayed"
    assert record.not_before is not None and record.submitted is not None
    assert record.not_before - record.submitted == pytest.approx(30, abs=0.5)
    come(client, state.keys.delayed)
    assert release_due(state) == [sent.id]
    (message,) = client.lrange(OVERFLOW, 0, -1)
    assert b'"eta": null' in message


def test_a_countdown_is_exact_whatever_the_publishers_clock_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Fast(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(UTC) + timedelta(seconds=90)

    monkeypatch.setattr(etas, "datetime", Fast)
    eta = (datetime.now(UTC) + timedelta(seconds=120)).isoformat()
    assert etas.seconds_until_eta({"headers": {"eta": eta}}) == pytest.approx(30, abs=1)


def test_a_task_that_is_not_fleets_waits_there_too_and_is_published_once(
    app: Celery, client: redis.Redis
) -> None:
    state: Connection = app.fleet
    app.send_task("shop.mail", args=[1], countdown=3600)
    assert client.llen("{fleet}.jobs") == 0
    assert client.zcard(state.keys.deferred) == 1
    come(client, state.keys.deferred)
    (message,) = state.tasks.schedule.due().messages
    assert state.tasks.schedule.deliver(message)
    assert not state.tasks.schedule.deliver(message)
    (published,) = client.lrange("{fleet}.jobs", 0, -1)
    assert b'"eta": null' in published
    assert client.zcard(state.keys.deferred) == 0
