"""An agent that leaves has left, whatever its heartbeat was about to do."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
import redis
from tcp_proxy import Proxy

from fleet.broker.app import Role
from fleet.settings import Settings, load_settings
from fleet.tasks.connection import Connection, open_connection
from fleet.worker.agent import Heartbeat

ROLE = Role("codegen", "codegen-1")
CONFIG = "[leases]\nheartbeat_seconds = 0.6\n"


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(settings_of(CONFIG))


def live(fleet: Connection) -> int:
    return fleet.routing.pools.counts(["codegen"])["codegen"].live_agents


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_agent_that_is_not_known_registers_again(fleet: Connection) -> None:
    heartbeat = Heartbeat(fleet, ROLE)
    heartbeat.start()
    fleet.routing.agents.leave(ROLE.agent, ROLE.pool)
    wait_until(lambda: live(fleet) == 1)
    heartbeat.stop()
    assert live(fleet) == 0


def test_an_agent_that_left_does_not_come_back_by_a_call_that_was_under_way(
    fleet: Connection, proxy: Proxy, clean_environment: pytest.MonkeyPatch
) -> None:
    clean_environment.setenv("FLEET_BROKER_URL", f"redis://127.0.0.1:{proxy.port}/0")
    heartbeat = Heartbeat(open_connection(load_settings()), ROLE)
    heartbeat.start()
    proxy.drop_packets()
    # It is told that it is not known, when its answer arrives at last.
    fleet.routing.agents.leave(ROLE.agent, ROLE.pool)
    wait_until(lambda: proxy.held_up() > 0)
    stops = threading.Thread(target=heartbeat.stop)
    stops.start()
    time.sleep(heartbeat.every_seconds + 0.3)
    assert heartbeat._ended.is_set() and heartbeat._thread.is_alive()
    proxy.heal()
    stops.join()
    heartbeat._thread.join()
    assert live(fleet) == 0
    assert fleet.routing.agents.agents() == []


def test_an_agent_that_is_told_to_leave_before_it_enters_stays_outside(fleet: Connection) -> None:
    heartbeat = Heartbeat(fleet, ROLE)
    heartbeat.stop()
    heartbeat.start()
    heartbeat._thread.join()
    assert live(fleet) == 0


def test_a_worker_that_is_idle_for_long_enough_ends_itself_once(
    fleet: Connection, clean_environment: pytest.MonkeyPatch
) -> None:
    clean_environment.setenv("FLEET_IDLE_SECONDS", "5")
    ended: list[tuple[int, int]] = []
    clean_environment.setattr(os, "kill", lambda *what: ended.append(what))
    heartbeat = Heartbeat(open_connection(load_settings()), ROLE)
    began = time.monotonic()
    heartbeat._end_if_idle(running=0, now=began + 4)
    heartbeat._end_if_idle(running=1, now=began + 6)
    heartbeat._end_if_idle(running=0, now=began + 10)
    assert ended == []
    heartbeat._end_if_idle(running=0, now=began + 11)
    heartbeat._end_if_idle(running=0, now=began + 12)
    assert ended == [(os.getpid(), signal.SIGTERM)]
