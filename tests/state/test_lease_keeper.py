"""The keeper of a worker's leases: it renews, and stops a run that must end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import redis
from tcp_proxy import Proxy

from fleet.broker.messages import message_encoder
from fleet.settings import Settings, load_settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.leases.renewal import LeaseKeeper
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of(""))
    found.routing.agents.register("codegen-1", "codegen", 10, {})
    return found


def claimed(fleet: Connection) -> Lease:
    asked = Submission("code_generation", {"instruction": "add"})
    task_id = fleet.submitter(message_encoder()).submit(asked).task_id
    found = fleet.tasks.records.claim(task_id, "codegen-1", "codegen", 30, "first", "acme", "")
    assert isinstance(found, Lease)
    return found


@pytest.fixture
def lease(fleet: Connection) -> Lease:
    return claimed(fleet)


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def keeper(fleet: Connection, lease: Lease, seconds: float, renew: float) -> list[str]:
    """One look at a lease; the verdicts that its run was given."""
    verdicts: list[str] = []
    found = LeaseKeeper(fleet.tasks.records, lease_seconds=seconds, renew_seconds=renew)
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
    fleet.tasks.records.claim(lease.task_id, "codegen-2", "codegen", 30, "second", "acme", "")
    assert keeper(fleet, lease, seconds=90, renew=0) == ["lost"]


def test_a_cancelled_run_is_told(fleet: Connection, lease: Lease) -> None:
    fleet.tasks.records.cancel(lease.task_id, 60)
    assert keeper(fleet, lease, seconds=90, renew=10) == ["cancelled"]


def test_each_is_told_once_and_a_cancelled_run_keeps_its_lease_to_write_its_end(
    fleet: Connection, lease: Lease
) -> None:
    fleet.tasks.records.cancel(lease.task_id, 60)
    before, verdicts = lease_until(fleet, lease), []
    found = LeaseKeeper(fleet.tasks.records, lease_seconds=90, renew_seconds=0)
    found.hold(lease, verdicts.append)
    found.look()
    found.look()
    assert verdicts == ["cancelled"]
    assert lease_until(fleet, lease) > before + 50_000


def test_many_leases_are_looked_at_in_one_call(fleet: Connection) -> None:
    found, verdicts = LeaseKeeper(fleet.tasks.records, lease_seconds=90, renew_seconds=0), []
    held = [claimed(fleet) for _ in range(10)]
    for number, each in enumerate(held):
        found.hold(each, lambda verdict, number=number: verdicts.append((number, verdict)))
    fleet.tasks.records.cancel(held[3].task_id, 60)
    fleet.client.hset(fleet.keys.task(held[7].task_id), "fence", 9)
    before = [lease_until(fleet, each) for each in held]
    calls = calls_of_scripts(fleet)
    found.look()
    assert calls_of_scripts(fleet) == calls + 1
    assert verdicts == [(3, "cancelled"), (7, "lost")]
    after = [lease_until(fleet, each) for each in held]
    assert [b < a for b, a in zip(before, after, strict=True)] == [n != 7 for n in range(10)]


def calls_of_scripts(fleet: Connection) -> int:
    return int(fleet.client.info("commandstats")["cmdstat_evalsha"]["calls"])


def test_a_lease_lasts_from_before_it_was_asked_for(fleet: Connection, lease: Lease) -> None:
    found, verdicts = LeaseKeeper(fleet.tasks.records, lease_seconds=90, renew_seconds=30), []
    found.hold(replace(lease, asked_at=time.monotonic() - 87), verdicts.append)
    found.stop_overdue()
    assert verdicts == []
    found.hold(replace(lease, asked_at=time.monotonic() - 89), verdicts.append)
    found.stop_overdue()
    assert verdicts == ["lost"]


def test_a_run_that_is_cut_off_is_stopped_before_another_may_begin(
    fleet: Connection, lease: Lease, clean_environment: pytest.MonkeyPatch
) -> None:
    """Its calls hang for the socket's time-out, which is longer than the lease."""
    port = fleet.client.connection_pool.connection_kwargs["port"]
    with Proxy(port) as proxy:
        clean_environment.setenv("FLEET_BROKER_URL", f"redis://127.0.0.1:{proxy.port}/0")
        clean_environment.setenv("FLEET_SOCKET_TIMEOUT", "20")
        far = open_connection(load_settings())
        assert far.tasks.records.renew(lease, 3)
        found, told = LeaseKeeper(far.tasks.records, lease_seconds=3, renew_seconds=1), {}
        found.hold(
            replace(lease, asked_at=time.monotonic()),
            lambda verdict: told.setdefault(verdict, time.monotonic()),
        )
        found.start()
        before = lease_until(fleet, lease)
        until(lambda: lease_until(fleet, lease) > before)
        proxy.drop_packets()
        other = ("codegen-2", "codegen", 30, "second", "acme", "")
        until(lambda: fleet.tasks.records.claim(lease.task_id, *other) != "held")
        begun = time.monotonic()
        assert list(told) == ["lost"]
        assert told["lost"] < begun
        found.release(lease)
