"""Memory stays flat: what names a record goes when the record has expired."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from beat_schedules.schedule import schedule
from fleet.broker.known_tasks import RETAIN
from fleet.broker.messages import message_encoder
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.reaper import retain
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

ASK = Submission("code_generation", {"instruction": "add"})
ROUNDS, EACH = 5, 40


def opened(settings: Settings) -> Connection:
    fleet = open_connection(settings)
    fleet.routing.agents.register("codegen-1", "codegen", 100, {})
    return fleet


def run(fleet: Connection, count: int, state: str = "succeeded") -> list[str]:
    """Submit tasks and end them."""
    submitter = fleet.submitter(message_encoder())
    ids = [each.task_id for each in submitter.submit_many([ASK] * count)]
    for task_id in ids:
        lease = fleet.tasks.records.claim(
            task_id, "codegen-1", "codegen", 30, task_id, "default", ""
        )
        assert isinstance(lease, Lease)
        assert fleet.tasks.records.finish(lease, "codegen", state, 600, {"result": "{}"}).kept
    # A worker takes its message from the queue.
    fleet.client.delete("{fleet}.codegen", "{fleet}.overflow.code_generator")
    return ids


def expire(fleet: Connection, ids: list[str]) -> None:
    """Let their time go by: it is Redis that drops the records."""
    for task_id in ids:
        assert fleet.client.ttl(fleet.keys.task(task_id)) > 0
        fleet.client.pexpire(fleet.keys.task(task_id), 0)


def test_what_is_kept_does_not_grow_with_what_has_run(
    client: redis.Redis, settings_of: Callable[[str], Settings]
) -> None:
    fleet = opened(settings_of("[limits]\ndead_letters = 5\n"))
    sizes = []
    for _ in range(ROUNDS):
        expire(fleet, run(fleet, EACH) + run(fleet, EACH, "failed"))
        retain(fleet)
        members = sum(client.zcard(key) for key in (fleet.keys.tasks, fleet.keys.dead))
        waiting = client.hlen(fleet.keys.waiting)
        sizes.append((client.dbsize(), members, waiting, client.hlen(fleet.keys.reservations)))
    assert sizes == [sizes[0]] * ROUNDS
    assert sizes[0][1:] == (0, 0, 0)


def test_dead_letters_are_kept_to_their_bound_however_many_fail(
    client: redis.Redis, settings_of: Callable[[str], Settings]
) -> None:
    fleet = opened(settings_of("[limits]\ndead_letters = 5\n"))
    for _ in range(3):
        run(fleet, 20, "failed")
        retain(fleet)
        assert client.zcard(fleet.keys.dead) == 5


def test_an_index_of_several_pages_loses_just_the_expired(
    client: redis.Redis, settings_of: Callable[[str], Settings]
) -> None:
    fleet = opened(settings_of(""))
    kept = run(fleet, 7)
    gone = {f"gone-{number}": number for number in range(1203)}
    client.zadd(fleet.keys.tasks, gone)  # type: ignore[arg-type]
    assert retain(fleet)["expired"] == 1203
    assert {i.decode() for i in client.zrange(fleet.keys.tasks, 0, -1)} == set(kept)
    assert retain(fleet)["expired"] == 0


def test_beat_sees_to_it(settings_of: Callable[[str], Settings]) -> None:
    jobs = {job["task"]: job["schedule"] for job in schedule(settings_of("")).values()}
    assert jobs[RETAIN] == 300


def test_who_is_counted_as_waiting_and_is_gone_is_forgotten_when_nobody_waits(
    client: redis.Redis, settings_of: Callable[[str], Settings]
) -> None:
    fleet = opened(settings_of(""))
    submitter = fleet.submitter(message_encoder())
    gone, waits = (each.task_id for each in submitter.submit_many([ASK] * 2))
    client.delete(fleet.keys.task(gone))
    retain(fleet)
    assert client.hgetall(fleet.keys.waiting) == {b"default": b"2"}
    # Its message is taken, and its slot freed.
    client.lpop("{fleet}.codegen", 2)
    client.delete("{fleet}.codegen:line")
    client.srem(fleet.keys.pool("codegen").in_flight, gone)
    # The other one was fetched, and holds its slot alone.
    retain(fleet)
    assert client.hgetall(fleet.keys.waiting) == {b"default": b"2"}
    fleet.tasks.records.cancel(waits, 600)
    assert client.hgetall(fleet.keys.waiting) == {b"default": b"1"}
    retain(fleet)
    assert client.hgetall(fleet.keys.waiting) == {}


@pytest.mark.parametrize("place", ["delayed", "parked"])
def test_who_waits_without_a_queue_stays_counted(
    place: str, client: redis.Redis, settings_of: Callable[[str], Settings]
) -> None:
    fleet = opened(settings_of(""))
    client.hset(fleet.keys.waiting, "default", 1)
    client.zadd(getattr(fleet.keys, place), {"one-that-waits": 1})
    retain(fleet)
    assert client.hlen(fleet.keys.waiting) == 1
    client.delete(getattr(fleet.keys, place))
    retain(fleet)
    assert client.hlen(fleet.keys.waiting) == 0
