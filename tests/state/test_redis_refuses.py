"""A Redis that answers, and takes nothing: typed errors, and loops that outlive them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
from full_disk import full_disk

from fleet import Fleet, Submission
from fleet.beat.scheduler import LeasedScheduler
from fleet.broker.app import Role, make_app
from fleet.broker.schedule import ScheduleWatch
from fleet.errors import FleetError, NoAgentAvailable, Unavailable
from fleet.settings import Settings, load_settings
from fleet.tasks.background_loops import FailureStreak, repeat
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.leases.renewal import LeaseKeeper
from fleet.worker.agent import Heartbeat

ROLE = Role("codegen", "codegen-1")
CONFIG = "[leases]\nheartbeat_seconds = 0.6\ndead_after_seconds = 2\nreap_seconds = 1\n"
ASK = {"instruction": "add"}


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(settings_of(CONFIG))


def live(fleet: Connection) -> int:
    return fleet.routing.pools.counts(["codegen"])["codegen"].live_agents


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def refusal(call: Callable[[], object]) -> FleetError:
    with pytest.raises(FleetError) as told:
        call()
    return told.value


def test_a_full_disk_is_unavailable_also_once_no_agent_can_beat(
    fleet: Connection, client: redis.Redis
) -> None:
    heartbeat, found = Heartbeat(fleet, ROLE), Fleet(load_settings())
    celery = make_app(load_settings())
    heartbeat.start()
    assert live(fleet) == 1
    with full_disk(client):
        assert "MISCONF" in str(refusal(lambda: found.submit("code_generation", ASK)))
        wait_until(lambda: live(fleet) == 0)
        told = refusal(lambda: found.submit("code_generation", ASK))
        assert type(told) is Unavailable
        assert "could not save to its disk" in str(told)
        sent = refusal(lambda: celery.send_task("agents.code_generator", args=[ASK]))
        assert type(sent) is Unavailable
        many = refusal(lambda: found.submit_many([Submission("code_generation", ASK)] * 2))
        assert type(many) is Unavailable
    # The same threads go on, within seconds.
    wait_until(lambda: live(fleet) == 1, 5)
    assert found.submit("code_generation", ASK).state() == "queued"
    heartbeat.stop()
    assert type(refusal(lambda: found.submit("code_generation", ASK))) is NoAgentAvailable


def test_an_agent_that_starts_on_a_full_disk_becomes_one_later(
    fleet: Connection, client: redis.Redis
) -> None:
    heartbeat = Heartbeat(fleet, ROLE)
    with full_disk(client):
        heartbeat.start()
        assert live(fleet) == 0
    wait_until(lambda: live(fleet) == 1, 5)
    heartbeat.stop()


@pytest.mark.parametrize("gone", ["agent", "agents", "pool"])
def test_an_agent_whose_entry_is_deleted_becomes_one_again(
    fleet: Connection, client: redis.Redis, gone: str
) -> None:
    heartbeat, keys = Heartbeat(fleet, ROLE), fleet.keys
    heartbeat.start()
    deleted = {
        "agent": keys.agent(ROLE.agent),
        "agents": keys.agents,
        "pool": keys.pool(ROLE.pool).agents,
    }
    client.delete(deleted[gone])
    wait_until(lambda: live(fleet) == 1 and [a.id for a in fleet.routing.agents.agents()], 5)
    heartbeat.stop()


def refuses(client: redis.Redis, name: str, value: str) -> bool:
    """Set one of the server's settings. Returns whether it was too busy."""
    try:
        client.config_set(name, value)
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


@contextmanager
def busy(client: redis.Redis, seconds: float) -> Iterator[threading.Thread]:
    """A script that runs for about so long, on a server that calls that too long."""
    script = "local x = 0 for i = 1, ARGV[1] do x = x + i % 7 end return x"
    began = time.monotonic()
    client.eval(script, 0, 1_000_000)
    rounds = int(seconds / (time.monotonic() - began) * 1_000_000)
    kept = client.config_get("lua-time-limit")["lua-time-limit"]
    client.config_set("lua-time-limit", 50)
    thread = threading.Thread(target=client.eval, args=(script, 0, rounds))
    thread.start()
    try:
        yield thread
    finally:
        thread.join()
        # The client of the thread may have given up before the script has ended.
        wait_until(lambda: not refuses(client, "lua-time-limit", kept), 60)


def test_a_busy_redis_is_unavailable_and_the_agent_stays_one(
    fleet: Connection, client: redis.Redis
) -> None:
    heartbeat, found = Heartbeat(fleet, ROLE), Fleet(load_settings())
    heartbeat.start()
    said = set()
    with busy(client, 2.0) as script:
        while script.is_alive():
            try:
                found.agents()
            except FleetError as error:
                said.add((type(error), "BUSY" in str(error)))
    assert (Unavailable, True) in said
    assert {kind for kind, _ in said} == {Unavailable}
    wait_until(lambda: live(fleet) == 1, 5)
    assert found.submit("code_generation", ASK).state() == "queued"
    heartbeat.stop()


class Odd(Exception):
    """An error that no part of Fleet knows."""


def test_a_loop_outlives_any_error_and_waits_longer_each_time() -> None:
    calls: list[float] = []
    ended = threading.Event()

    def do() -> None:
        calls.append(time.monotonic())
        if len(calls) < 5:
            raise Odd
        ended.set()

    thread = repeat("test", do, 0.01, 0.05, ended)
    thread.start()
    thread.join(10)
    assert len(calls) == 5
    troubles = FailureStreak("test")
    waits = []
    for _ in range(5):
        waits.append(troubles.seconds(0.5, 3.0))
        troubles.failed(Odd())
    assert waits == [0.5, 0.5, 1.0, 2.0, 3.0]
    troubles.succeeded()
    assert troubles.seconds(0.5, 3.0) == 0.5


def test_every_loop_of_a_worker_is_such_a_loop(
    fleet: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each meets an error that nobody knows, and is there afterwards."""
    heartbeat, watch = Heartbeat(fleet, ROLE), ScheduleWatch(fleet)
    keeper = LeaseKeeper(fleet.tasks.records, 30, 10)
    met = {"heartbeat": 0, "schedule": 0, "keeper": 0}

    def fails(name: str) -> Callable[..., object]:
        def fail(*_: object) -> object:
            met[name] += 1
            raise Odd

        return fail

    monkeypatch.setattr(heartbeat.registry, "register", fails("heartbeat"))
    monkeypatch.setattr("fleet.tasks.waiting.schedule_store.Schedule.due", fails("schedule"))
    monkeypatch.setattr(keeper, "_look_at", fails("keeper"))
    monkeypatch.setattr(keeper, "_all", lambda: [None])
    heartbeat.start()
    watch.start()
    keeper.start()
    wait_until(lambda: all(count >= 2 for count in met.values()))
    heartbeat.stop()
    watch.stop()


def test_beat_outlives_any_error_of_a_tick_and_of_its_end(
    fleet: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(load_settings())
    beat = LeasedScheduler(app, lazy=True)
    assert beat.tick() > 0
    assert beat.held

    def fail(*_: object) -> object:
        raise Odd

    for part in ("hold", "runs", "release"):
        monkeypatch.setattr(beat.lease, part, fail)
    assert 0 < beat.tick() <= beat.tick_seconds
    assert not beat.held
    beat.close()
    monkeypatch.undo()
    assert beat.tick() > 0
    assert beat.held
    beat.close()
