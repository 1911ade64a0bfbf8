"""Without Redis: a typed error that says what to do, within a bounded time."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest
import redis

from fleet import Fleet
from fleet.errors import NotAllowed, Unavailable
from fleet.settings import load_settings


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield server.getsockname()[1]


def fleet(patch: pytest.MonkeyPatch, url: str) -> Fleet:
    patch.setenv("FLEET_BROKER_URL", url)
    patch.setenv("FLEET_SOCKET_TIMEOUT", "0.5")
    return Fleet(load_settings())


def test_a_server_that_is_not_there_is_an_error_at_once(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://:hunter2@127.0.0.1:{unused.getsockname()[1]}/0"
        with pytest.raises(Unavailable, match="does not answer; start it with") as told:
            fleet(clean_environment, url).submit("code_generation", {"instruction": "x"})
    assert "hunter2" not in str(told.value)


def test_a_server_that_hangs_is_an_error_after_a_bounded_wait(
    clean_environment: pytest.MonkeyPatch, silent_port: int
) -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable):
        fleet(clean_environment, f"redis://127.0.0.1:{silent_port}/0").tasks()
    assert time.monotonic() - started < 30


def test_a_wrong_password_is_not_called_an_outage(
    clean_environment: pytest.MonkeyPatch, valkey_url: str, client: redis.Redis
) -> None:
    client.acl_setuser("guest", enabled=True, passwords=["+right"], keys=["*"], commands=["+@all"])
    url = valkey_url.replace("redis://", "redis://guest:wrong@")
    with pytest.raises(NotAllowed, match="check FLEET_BROKER_URL"):
        fleet(clean_environment, url).agents()


def test_a_full_server_is_a_loud_error_and_nothing_is_written(
    clean_environment: pytest.MonkeyPatch, valkey_url: str, client: redis.Redis
) -> None:
    found = fleet(clean_environment, valkey_url)
    found._connection.routing.agents.register("codegen-1", "codegen", 10, {})
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(Unavailable, match="cannot take the call now"):
            found.submit("code_generation", {"instruction": "x"})
    finally:
        client.config_set("maxmemory", 0)
    assert found.tasks() == []


def test_a_server_that_fills_up_loses_nothing_that_was_acknowledged(
    clean_environment: pytest.MonkeyPatch, valkey_url: str, client: redis.Redis
) -> None:
    found = fleet(clean_environment, valkey_url)
    state = found._connection
    state.routing.agents.register("codegen-1", "codegen", 10, {})
    acknowledged: list[str] = []
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 2_000_000)
    try:
        with pytest.raises(Unavailable, match="cannot take the call now") as told:
            for _ in range(10_000):
                each = found.submit("code_generation", {"instruction": "x" * 2000}, delay=0)
                acknowledged.append(each.id)
        with pytest.raises(Unavailable, match="cannot take the call now"):
            found.submit("code_generation", {"instruction": "x" * 2000}, delay=60)
    finally:
        client.config_set("maxmemory", 0)
    assert told.value.retry_after > 0
    assert len(acknowledged) > 10
    queues = ("{fleet}.codegen", "{fleet}.overflow.code_generator")
    waiting = [json.loads(text) for queue in queues for text in client.lrange(queue, 0, -1)]
    assert sorted(each["headers"]["id"] for each in waiting) == sorted(acknowledged)
    assert client.zcard("{fleet}:tasks") == len(acknowledged)
    assert client.zcard("{fleet}:delayed") == 0
    assert len(state.budgets.usage.reserved().tasks) == len(acknowledged)
    assert state.tasks.queue_index.missing() == []
