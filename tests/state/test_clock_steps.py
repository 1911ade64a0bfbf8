"""Redis's clock is set, or a replica takes over whose clock is another: nobody is dead of that.

A step by so many seconds is made in two parts: what is stored is moved by as much into the past, as
a step leaves it behind, and so is what the process has seen of the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import redis
from structlog.testing import capture_logs

from fleet.broker.messages import message_encoder
from fleet.settings import Settings, load_settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.reaper import reap, requeue_expired
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission
from fleet.tasks.waiting.release import release_due

HOUR = 3600
LEASE_SECONDS = 1.5
CONFIG = f"""
[leases]
lease_seconds = {LEASE_SECONDS}
renew_seconds = 0.5
heartbeat_seconds = 0.5
dead_after_seconds = 2
reap_seconds = 1
"""
AGENT = "codegen-1"


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of(CONFIG))
    found.routing.agents.register(AGENT, "codegen", 10, {"host": "here", "pid": "1"})
    found.clock.look()
    return found


def submit(fleet: Connection) -> str:
    asked = Submission("code_generation", {"instruction": "add"})
    return fleet.submitter(message_encoder()).submit(asked).task_id


def claimed(fleet: Connection, task_id: str = "") -> Lease:
    found = claim(fleet, task_id or submit(fleet), "first")
    assert isinstance(found, Lease)
    return found


def claim(fleet: Connection, task_id: str, name: str) -> Lease | str:
    return fleet.tasks.records.claim(task_id, AGENT, "codegen", LEASE_SECONDS, name, "acme", "")


def step(fleet: Connection, seconds: float, *, was_seen: bool = True) -> None:
    """Set the clock by so many seconds. `was_seen` says whether this process had looked at it."""
    client, keys, ms = fleet.client, fleet.keys, int(seconds * 1000)
    for task_id in fleet.tasks.records.running():
        client.hincrby(keys.task(task_id), "lease_until", -ms)
        client.zincrby(keys.leases, -ms, task_id)
    pool = keys.pool("codegen")
    for agent in client.zrange(pool.agents, 0, -1):
        client.zincrby(pool.agents, -ms, agent)
    for agent in client.smembers(keys.agents):
        client.hincrby(keys.agent(agent.decode()), "heartbeat", -ms)
    for tag in client.zrange(pool.unacked_index, 0, -1):
        client.zincrby(pool.unacked_index, -seconds, tag)
    if fleet.clock._seen is not None:
        now_ms, asked_at = fleet.clock._seen
        fleet.clock._seen = (now_ms - ms, asked_at) if was_seen else None


def live(fleet: Connection) -> int:
    return fleet.routing.pools.counts(["codegen"])["codegen"].live_agents


def until_the_hold_is_over(fleet: Connection) -> None:
    deadline = time.monotonic() + 20
    while fleet.clock.look().is_held:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("seconds", [10, HOUR, -HOUR])
def test_a_step_ends_no_lease_and_counts_no_crash(fleet: Connection, seconds: float) -> None:
    lease = claimed(fleet)
    step(fleet, seconds)
    release_due(fleet)
    reap(fleet)
    assert claim(fleet, lease.task_id, "redelivered") == "held"
    record = fleet.tasks.records.read(lease.task_id)
    assert (record.state, record.crashes, record.attempts) == ("running", 0, 1)
    # Its worker lives, renews as ever, and writes its end.
    assert fleet.tasks.records.renew(lease, LEASE_SECONDS)
    until_the_hold_is_over(fleet)
    assert fleet.tasks.records.renew(lease, LEASE_SECONDS)
    assert fleet.tasks.records.finish(lease, "codegen", "succeeded", 60, {"result": "{}"}).kept


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_the_lease_of_a_dead_worker_ends_when_the_hold_is_over(
    fleet: Connection, seconds: float
) -> None:
    lease = claimed(fleet)
    step(fleet, seconds)
    release_due(fleet)
    deadline = time.monotonic() + 20
    while fleet.tasks.records.state(lease.task_id) == "running":
        assert time.monotonic() < deadline
        release_due(fleet)
        time.sleep(0.05)
    record = fleet.tasks.records.read(lease.task_id)
    assert (record.state, record.crashes) == ("queued", 1)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_step_makes_no_agent_dead_and_moves_no_message(
    fleet: Connection, client: redis.Redis, seconds: float
) -> None:
    task_id, pool = submit(fleet), fleet.keys.pool("codegen")
    client.hset(pool.unacked, "a-tag", '[{"headers": {}}, "", "{fleet}.codegen"]')
    client.zadd(pool.unacked_index, {"a-tag": time.time()})
    step(fleet, seconds)
    done = reap(fleet)
    assert not done.get("dead")
    assert live(fleet) == 1
    assert submit(fleet)
    assert client.llen("{fleet}.codegen") == 2
    assert fleet.tasks.records.read(task_id).pool == "codegen"
    assert client.hlen(pool.unacked) == 1
    assert abs((client.zscore(pool.unacked_index, "a-tag") or 0) - time.time()) < 60


def test_an_agent_that_was_dead_when_the_clock_was_set_back_is_found_in_time(
    fleet: Connection,
) -> None:
    step(fleet, -HOUR)
    reap(fleet)
    deadline = time.monotonic() + 20
    while not reap(fleet).get("dead"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert live(fleet) == 0


def test_whoever_has_not_looked_itself_heeds_the_hold_of_another(
    fleet: Connection,
) -> None:
    other, lease = open_connection(load_settings()), claimed(fleet)
    step(fleet, HOUR)
    release_due(fleet)
    assert other.clock._seen is None
    assert requeue_expired(other, [lease.task_id])["requeued"] == []
    assert claim(other, lease.task_id, "redelivered") == "held"
    assert other.tasks.records.read(lease.task_id).crashes == 0


@pytest.mark.parametrize("first", ["requeue", "claim"])
def test_the_first_to_end_a_lease_after_the_step_notices_it_itself(
    fleet: Connection, first: str
) -> None:
    lease = claimed(fleet)
    step(fleet, HOUR)
    if first == "requeue":
        assert requeue_expired(fleet, [lease.task_id])["requeued"] == []
    else:
        assert claim(fleet, lease.task_id, "redelivered") == "held"
    assert fleet.tasks.records.read(lease.task_id).crashes == 0
    # From now on it is known to those too who have seen nothing of the clock.
    other = open_connection(load_settings())
    assert claim(other, lease.task_id, "again") == "held"


def test_without_a_step_a_lease_ends_in_time_however_long_nobody_has_looked(
    fleet: Connection,
) -> None:
    lease = claimed(fleet)
    step(fleet, HOUR, was_seen=False)
    release_due(fleet)
    assert fleet.tasks.records.state(lease.task_id) == "queued"


def test_what_was_seen_long_ago_is_no_evidence(fleet: Connection) -> None:
    """Else a child that was forked before a step would take each look for a new one."""
    assert fleet.clock._seen is not None
    now_ms, asked_at = fleet.clock._seen
    fleet.clock._seen = now_ms - HOUR * 1000, asked_at - 60
    assert fleet.clock.evidence()[0] == ""
    assert fleet.clock.look() == (0, False)


def test_a_step_is_told_once(fleet: Connection) -> None:
    step(fleet, HOUR)
    with capture_logs() as logs:
        for _ in range(3):
            release_due(fleet)
    (told,) = [each for each in logs if "clock was set" in each["event"]]
    assert abs(told["step_seconds"] - HOUR) < 5
