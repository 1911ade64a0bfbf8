"""Lists of the command line: what waits, tasks by their state, and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from commands import run_fleet

from fleet import Fleet
from fleet.redis.keys import line, lists
from fleet.settings import Settings
from fleet.tasks import store
from fleet.tasks.waiting.queue_index_store import Waiting

PAYLOAD = {"instruction": "add"}


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Fleet:
    found = Fleet(settings_of(""))
    facts = {"host": "here", "pid": "1"}
    found._connection.routing.agents.register("codegen-1", "codegen", 10, facts)
    return found


def submit(fleet: Fleet, count: int, tenant: str = "acme") -> list[str]:
    """Tasks that were submitted in different milliseconds, so that their order is known."""
    asked = []
    for _ in range(count):
        asked.append(fleet.submit("code_generation", PAYLOAD, tenant=tenant).id)
        submitted = milliseconds(fleet)
        while milliseconds(fleet) == submitted:
            pass
    return asked


def milliseconds(fleet: Fleet) -> int:
    """The time of Redis."""
    seconds, us = fleet._connection.client.time()
    return int(seconds) * 1000 + us // 1000


def aged(fleet: Fleet, queue: str, task_id: str, seconds: int, *, in_front: bool = False) -> None:
    """Have a task come to its queue earlier, or come back to its front."""
    clock_seconds, us = fleet._connection.client.time()
    came = (clock_seconds - seconds) * 1_000_000 + us
    fleet._connection.client.zadd(line(queue), {task_id: -came if in_front else came})


def test_what_waits_is_counted_with_the_age_of_the_oldest(fleet: Fleet) -> None:
    queue = fleet.settings.queue("codegen")
    assert fleet.waiting()[queue] == Waiting(0, None)
    first, second, third = submit(fleet, 3)
    aged(fleet, queue, first, 100)
    found = fleet.waiting()[queue]
    assert found.messages == 3
    assert found.oldest_seconds == pytest.approx(100, abs=20)
    aged(fleet, queue, second, 500, in_front=True)
    aged(fleet, queue, third, 30, in_front=True)
    assert fleet.waiting()[queue].oldest_seconds == pytest.approx(500, abs=20)


def test_messages_of_every_priority_and_of_plain_tasks_are_counted(
    fleet: Fleet, client: redis.Redis
) -> None:
    queue = fleet.settings.queue("codegen")
    for each in lists(queue):
        client.lpush(each, "a message of plain Celery")
    assert fleet.waiting()[queue] == Waiting(4, None)


def test_the_pools_are_listed_with_what_waits(fleet: Fleet, tmp_path: Path) -> None:
    queue = fleet.settings.queue("codegen")
    overflow = fleet.settings.overflow_queue("code_generator")
    aged(fleet, queue, submit(fleet, 2)[0], 75)
    fleet._connection.client.lpush(overflow, "a message of plain Celery")
    told = json.loads(run_fleet("pools", "--json", folder=tmp_path).stdout)
    codegen = next(each for each in told if each["name"] == "codegen")
    assert codegen["waiting"] == 2
    assert codegen["oldest_waiting_seconds"] == pytest.approx(75, abs=20)
    assert (codegen["overflow_waiting"], codegen["oldest_overflow_seconds"]) == (1, None)
    shown = run_fleet("pools", folder=tmp_path).stdout
    assert "waiting" in shown
    assert f"overflow queue {overflow}: 1 waiting" in shown


def test_tasks_of_a_state_are_found_among_all(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(store, "PAGE", 3)
    oldest, second = submit(fleet, 2, "other")
    newer = submit(fleet, 7)
    for task_id in (oldest, second, newer[1]):
        fleet.task(task_id).cancel()
    assert [each.id for each in fleet.tasks(50, "cancelled")] == [newer[1], second, oldest]
    assert [each.id for each in fleet.tasks(2, "cancelled")] == [newer[1], second]
    assert [each.id for each in fleet.tasks(50, "cancelled", "other")] == [second, oldest]
    assert [each.id for each in fleet.tasks(4, tenant="other")] == [second, oldest]
    assert [each.id for each in fleet.tasks(3)] == list(reversed(newer))[:3]
    told = run_fleet("tasks", "--state", "cancelled", "--limit", "1", "--json", folder=tmp_path)
    assert [each["id"] for each in json.loads(told.stdout)] == [newer[1]]


def test_expired_records_hide_no_task_from_the_search(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PAGE", 2)
    oldest, *newer = submit(fleet, 6)
    fleet.task(oldest).cancel()
    for task_id in newer[1:4]:
        fleet._connection.client.delete(fleet._connection.keys.task(task_id))
    assert [each.id for each in fleet.tasks(9, "cancelled")] == [oldest]
    assert {each.id for each in fleet.tasks(9)} == {oldest, newer[0], newer[4]}


def test_a_list_is_printed_as_csv_with_the_keys_of_its_json(fleet: Fleet, tmp_path: Path) -> None:
    submit(fleet, 2)
    as_json = json.loads(run_fleet("tasks", "--json", folder=tmp_path).stdout)
    printed = run_fleet("tasks", "--csv", folder=tmp_path).stdout
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [list(row) for row in rows] == [list(row) for row in as_json]
    assert [row["id"] for row in rows] == [row["id"] for row in as_json]
    assert json.loads(rows[0]["history"]) == as_json[0]["history"]
    assert run_fleet("tasks", "--csv", "--state", "failed", folder=tmp_path).stdout == ""
