"""The keeper of a worker's leases: it renews, and stops a run that must end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from queue import SimpleQueue

import pytest
import redis

from fleet.runtime.messages import message_encoder
from fleet.services.connection import Connection, open_connection
from fleet.services.lease_keeper import LeaseKeeper
from fleet.services.requests import Submission
from fleet.settings import Settings
from fleet.state.tasks import Lease


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of(""))
    found.registry.register("codegen-1", "codegen", 10, {})
    return found


@pytest.fixture
def lease(fleet: Connection) -> Lease:
    asked = Submission("code_generation", {"instruction": "add"})
    task_id = fleet.submitter(message_encoder()).submit(asked).task_id
    found = fleet.tasks.claim(task_id, "codegen-1", "codegen", 30, "first", "acme", "")
    assert isinstance(found, Lease)
    return found


def keeper(fleet: Connection, lease: Lease, seconds: float, renew: float) -> list[str]:
    """One look at a lease; the verdicts that its run was given."""
    verdicts: list[str] = []
    found = LeaseKeeper(fleet.tasks, lease_seconds=seconds, renew_seconds=renew)
    found.hold(lease, verdicts.append)
    found.look()
    return verdicts


def lease_until(fleet: Connection, lease: Lease) -> int:
    return int(fleet.client.hget(fleet.keys.task(lease.task_id), "lease_until") or 0)


def test_a_lease_that_is_due_is_renewed(fleet: Connection, lease: Lease) -> None:
    before = lease_until(fleet, lease)
    assert keeper(fleet, lease, seconds=90, renew=0) == []
    assert lease_until(fleet, lease) > before + 50_000


def test_a_lease_that_is_not_due_is_left_alone(fleet: Connection, lease: Lease) -> None:
    before = lease_until(fleet, lease)
    assert keeper(fleet, lease, seconds=90, renew=10) == []
    assert lease_until(fleet, lease) == before


def test_a_run_whose_lease_passed_on_is_told_that_it_lost(
    fleet: Connection, lease: Lease
) -> None:
    fleet.client.hset(fleet.keys.task(lease.task_id), "lease_until", 0)
    fleet.tasks.claim(lease.task_id, "codegen-2", "codegen", 30, "second", "acme", "")
    assert keeper(fleet, lease, seconds=90, renew=0) == ["lost"]


def test_a_cancelled_run_is_told(fleet: Connection, lease: Lease) -> None:
    fleet.tasks.cancel(lease.task_id, 60)
    assert keeper(fleet, lease, seconds=90, renew=10) == ["cancelled"]


def test_a_run_whose_redis_hangs_stops_before_another_may_start(
    fleet: Connection, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = SimpleQueue[tuple[str, float]]()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hangs = redis.Redis(port=silent.getsockname()[1], retry=None, socket_timeout=60)
        monkeypatch.setattr(fleet.tasks, "client", hangs)
        found = LeaseKeeper(fleet.tasks, lease_seconds=5, renew_seconds=0)
        held = time.monotonic()
        found.hold(lease, lambda verdict: told.put((verdict, time.monotonic())))
        found.start()
        verdict, at = told.get(timeout=60)
        found.release(lease)
    assert verdict == "lost"
    assert 4 < at - held < 5


def test_a_run_is_left_alone_while_its_lease_lasts(fleet: Connection, lease: Lease) -> None:
    told: list[str] = []
    found = LeaseKeeper(fleet.tasks, lease_seconds=30, renew_seconds=10)
    found.hold(lease, told.append)
    found.stop_overdue()
    assert told == []
