"""Dead letters: what fails for good is kept, found, retried as another task, or dropped."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import redis
from processes import at_once
from typer.testing import CliRunner

from fleet import Fleet
from fleet.cli.main import app
from fleet.errors import InvalidRequest, OverBudget, TaskNotFound
from fleet.ledger.verification import verify
from fleet.policy.rules import LimitKey
from fleet.policy.store import AuditActor
from fleet.redis.scripts import text
from fleet.settings import Settings
from fleet.tasks.connection import Connection
from fleet.tasks.dead_letters import retry_id
from fleet.tasks.kept_messages import payload_of, readdressed
from fleet.tasks.reaper import reap, retain
from fleet.tasks.store import Lease

CONFIG = "[limits]\ndead_letters = 3\n"
PAYLOAD = {"instruction": "add"}
NUMBERS = itertools.count(1)


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Fleet:
    found = Fleet(settings_of(CONFIG))
    found._connection.routing.agents.register(
        "codegen-1", "codegen", 10, {"host": "here", "pid": "1"}
    )
    return found


@pytest.fixture
def state(fleet: Fleet) -> Connection:
    return fleet._connection


def error(kind: str) -> dict[str, str]:
    return {"error": json.dumps({"type": kind, "message": "it is broken"})}


def claim(state: Connection, task_id: str, seconds: float = 30) -> Lease:
    name = f"{task_id}-{seconds}-{state.tasks.records.read(task_id).fence}"
    lease = state.tasks.records.claim(task_id, "codegen-1", "codegen", seconds, name, "default", "")
    assert isinstance(lease, Lease)
    state.tasks.records.begin(lease)
    return lease


def fail(fleet: Fleet, kind: str = "TaskFailed", tenant: str = "acme") -> str:
    """A task that failed for good."""
    task_id = fleet.submit("code_generation", PAYLOAD, tenant=tenant, complexity=0.25).id
    lease = claim(fleet._connection, task_id)
    state = fleet._connection
    state.tasks.records.finish(lease, "codegen", "failed", 60, error(kind), dead="permanent")
    # Two may fail in the same millisecond.
    state.client.zadd(state.keys.dead, {task_id: next(NUMBERS)})
    return task_id


def fleet_dead(*arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["dead", *arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout


def test_what_crashed_three_times_is_a_dead_letter_with_why(
    fleet: Fleet, state: Connection
) -> None:
    task_id = fleet.submit("code_generation", PAYLOAD).id
    for number in range(1, 4):
        claim(state, task_id, seconds=0)
        done = reap(state)
        assert done["requeued" if number < 3 else "failed"] == [task_id]
    (letter,) = fleet.dead()
    assert (letter.id, letter.dead, letter.crashes, letter.attempts) == (task_id, "crashes", 3, 3)
    moves = state.tasks.records.read(task_id).history
    assert [(move.state, move.attempt, move.by) for move in moves] == [
        ("queued", 0, "submit"),
        *(("running", 1, "codegen-1"), ("queued", 1, "reaper")),
        *(("running", 2, "codegen-1"), ("queued", 2, "reaper")),
        *(("running", 3, "codegen-1"), ("failed", 3, "reaper")),
    ]
    assert [move.why for move in moves][2::2] == [f"crash {n}: its lease ended" for n in (1, 2, 3)]
    assert [move.at for move in moves] == sorted(move.at for move in moves)


def test_no_redelivery_gives_a_task_a_fourth_worker_to_kill(
    fleet: Fleet, state: Connection
) -> None:
    task_id = fleet.submit("code_generation", PAYLOAD).id
    for _ in range(3):
        claim(state, task_id, seconds=0)
    claimed = state.tasks.records.claim(task_id, "codegen-1", "codegen", 30, "x", "default", "")
    assert claimed == "spent"
    assert reap(state)["failed"] == [task_id]


def test_a_dead_letter_is_retried_as_a_task_of_its_own_and_each_names_the_other(
    fleet: Fleet, state: Connection, client: redis.Redis
) -> None:
    old = fail(fleet)
    new = fleet.retry_dead(old)
    assert new.id == retry_id(old) != old
    record = new.record()
    assert (record.state, record.retry_of, record.tenant) == ("queued", old, "acme")
    assert record.complexity == 0.25
    before = state.tasks.records.read(old)
    assert (before.state, before.retried_as) == ("failed", new.id)
    assert fleet.dead() == []
    message = text(client.hget(state.keys.task(new.id), "message"))
    assert payload_of(message) == PAYLOAD
    assert json.loads(message)["headers"]["id"] == new.id
    assert old not in message
    assert verify(state.ledger).differences == ()


def test_a_retry_is_under_its_budget_and_what_is_refused_stays(
    fleet: Fleet, state: Connection
) -> None:
    old = fail(fleet)
    free = LimitKey("tenant:acme", "month", "requests")
    state.policy.store.set_limits({free: 1}, AuditActor("ann", "test"))
    fleet.submit("code_generation", PAYLOAD, tenant="acme")
    with pytest.raises(OverBudget):
        fleet.retry_dead(old)
    assert [each.id for each in fleet.dead()] == [old]
    state.policy.store.set_limits({free: 2}, AuditActor("ann", "test"))
    fleet.retry_dead(old)
    assert state.budgets.usage.scope_usage(["tenant:acme"])["tenant:acme"].held.requests == 2


def _retry(ready: Any, settings: Settings, task_id: str) -> str:
    other = Fleet(settings)
    ready.wait()
    try:
        return other.retry_dead(task_id).id
    except TaskNotFound:
        return "none"


def test_however_many_retry_it_at_once_there_is_one_new_task(
    fleet: Fleet, client: redis.Redis, state: Connection
) -> None:
    old = fail(fleet)
    answers = set(at_once(4, _retry, fleet.settings, old))
    assert answers - {"none"} == {retry_id(old)}
    assert client.llen("{fleet}.codegen") == 2
    assert client.hgetall(state.keys.waiting) == {b"acme": b"1"}


def test_a_crash_between_the_submission_and_its_note_makes_no_second_task(
    fleet: Fleet, state: Connection, client: redis.Redis
) -> None:
    old = fail(fleet)
    kept = client.hget(state.keys.task(old), "message")
    new = fleet.retry_dead(old).id
    # As if the process had died before it took the letter off the list.
    client.hset(state.keys.task(old), "message", kept)
    client.zadd(state.keys.dead, {old: 1})
    assert fleet.retry_dead(old).id == new
    assert client.hgetall(state.keys.waiting) == {b"acme": b"1"}


def test_what_keeps_no_message_is_not_retried(
    fleet: Fleet, state: Connection, client: redis.Redis
) -> None:
    old = fail(fleet)
    client.hdel(state.keys.task(old), "message")
    with pytest.raises(InvalidRequest, match="submit the request again"):
        fleet.retry_dead(old)


def test_a_dropped_letter_is_forgotten(fleet: Fleet, state: Connection) -> None:
    old = fail(fleet)
    fleet.drop_dead(old)
    assert fleet.dead() == []
    assert state.tasks.records.read(old).state == "failed"
    for act in (fleet.drop_dead, fleet.retry_dead):
        with pytest.raises(TaskNotFound, match="not a dead letter"):
            act(old)


def test_letters_are_found_by_tenant_type_error_and_age(
    fleet: Fleet, state: Connection, client: redis.Redis
) -> None:
    first, second = fail(fleet, "TaskTimedOut", "acme"), fail(fleet, "TaskFailed", "globex")
    ended = state.tasks.dead_letters.now() - 7200
    client.hset(state.keys.task(first), "ended", round(ended * 1000))
    for wanted, found in (
        ({}, [second, first]),
        ({"tenant": "acme"}, [first]),
        ({"error": "TaskFailed"}, [second]),
        ({"request_type": "code_generation"}, [second, first]),
        ({"request_type": "security_analysis"}, []),
        ({"older_than": 3600}, [first]),
        ({"newer_than": 3600}, [second]),
        ({"tenant": "acme", "newer_than": 3600}, []),
    ):
        assert [each.id for each in fleet.dead(**wanted)] == found, wanted  # type: ignore[arg-type]


def test_there_are_no_more_letters_than_may_be_and_the_oldest_go(
    fleet: Fleet, state: Connection, client: redis.Redis
) -> None:
    ids = [fail(fleet) for _ in range(5)]
    assert retain(state)["dead letters"] == 2
    assert [each.id for each in fleet.dead()] == ids[:1:-1]
    assert not client.hexists(state.keys.task(ids[0]), "message")
    assert 0 < client.ttl(state.keys.task(ids[0])) <= 86_400 < client.ttl(state.keys.task(ids[4]))


def test_celerys_own_messages_are_read_and_keep_what_follows_them() -> None:
    body = "W1t7Imluc3RydWN0aW9uIjogImFkZCJ9XSwge30sIHsiY2hhaW4iOiBbIngiXX1d"
    sent = {
        "body": body,
        "headers": {"id": "a", "root_id": "r", "expires": "2020-01-01", "retries": 2},
        "properties": {"correlation_id": "a", "delivery_tag": "t", "body_encoding": "base64"},
    }
    assert payload_of(json.dumps(sent)) == PAYLOAD
    moved = json.loads(readdressed(json.dumps(sent), "b"))
    assert moved["body"] == body
    assert moved["headers"] == {
        **{"id": "b", "root_id": "r", "expires": None, "retries": 0, "eta": None}
    }
    assert moved["properties"]["correlation_id"] == "b"
    with pytest.raises(InvalidRequest, match="cannot be read"):
        payload_of("{}")


def test_the_command_lists_shows_retries_and_drops(fleet: Fleet, state: Connection) -> None:
    kinds = ("TaskFailed", "OverBudget", "OverBudget")
    first, second, third = (fail(fleet, kind) for kind in kinds)
    code, shown = fleet_dead("list", "--json")
    assert code == 0
    assert [each["id"] for each in json.loads(shown)] == [third, second, first]
    assert "the error is permanent" in fleet_dead("list")[1]
    code, shown = fleet_dead("show", first[:8], "--json")
    told = json.loads(shown)
    assert [move["state"] for move in told["history"]] == ["queued", "running", "failed"]
    assert told["dead"] == "permanent"
    assert "the error is permanent" in fleet_dead("show", first)[1]

    code, shown = fleet_dead("retry", "--all", "--error", "OverBudget")
    assert (code, "2 of 2 dead letters retried" in shown) == (0, True)
    assert f"{second} is retried as {retry_id(second)}" in shown
    assert [each.id for each in fleet.dead()] == [first]
    assert fleet_dead("drop", first) == (0, f"{first} is dropped\n")
    assert fleet_dead("retry", "--all", "--json") == (0, "[]\n")

    links = [(second, "retried as", retry_id(second)), (retry_id(second), "retry of", second)]
    for task_id, name, other in links:
        assert re.search(rf"{name} +{other}", CliRunner().invoke(app, ["task", task_id]).stdout)


def test_a_bulk_retry_goes_on_where_one_is_refused_and_says_so(
    fleet: Fleet, state: Connection, client: redis.Redis
) -> None:
    first, second = fail(fleet), fail(fleet)
    client.hdel(state.keys.task(first), "message")
    code, shown = fleet_dead("retry", "--all", "--json")
    assert code == 1
    refused, retried = json.loads(shown)
    assert (refused["id"], refused["retried"]) == (first, None)
    assert "submit the request again" in refused["refused"]
    assert retried == {"id": second, "retried": retry_id(second), "refused": None}
    assert [each.id for each in fleet.dead()] == [first]


@pytest.mark.parametrize("arguments", [["retry"], ["drop"], ["retry", "abc", "--all"]])
def test_nobody_retries_or_drops_all_by_mistake(fleet: Fleet, arguments: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="or --all, not both"):
        fleet_dead(*arguments)


def test_an_id_that_is_no_letter_is_an_error_before_anything_is_done(fleet: Fleet) -> None:
    old = fail(fleet)
    with pytest.raises(TaskNotFound, match="no dead letter begins with 'zzz'"):
        fleet_dead("drop", old, "zzz")
    assert [each.id for each in fleet.dead()] == [old]
