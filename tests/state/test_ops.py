"""The ops endpoint: what is known is exact, and what is not known is an error, never a zero."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from starlette.testclient import TestClient
from tcp_proxy import Proxy

from fleet.errors import InvalidConfig, RetryLater
from fleet.redis.keys import lists
from fleet.scaling.service import Scaler
from fleet.settings import Environment, Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.web.metrics import STATUSES
from fleet.web.ops import make_ops, serve_ops

AGENT = "codegen-1"
TWO_POOLS = """
[pools.codegen]
agent_type = "code_generator"
slots = 10
max = 3
[pools.spare]
agent_type = "code_generator"
slots = 10
max = 1
"""


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of(TWO_POOLS))
    found.routing.agents.register(AGENT, "codegen", 10, {})
    Scaler(found).scale()
    return found


@pytest.fixture
def ops(fleet: Connection) -> TestClient:
    return client_of(fleet)


def client_of(fleet: Connection) -> TestClient:
    return TestClient(make_ops(fleet), raise_server_exceptions=False)


def behind(fleet: Connection, port: int) -> TestClient:
    """A client of an endpoint that reaches Redis at a port of this machine."""
    url = SecretStr(f"redis://127.0.0.1:{port}/0")
    changes = {"broker_url": url, "socket_timeout": 0.2}
    environment = fleet.settings.environment.model_copy(update=changes)
    return client_of(open_connection(replace(fleet.settings, environment=environment)))


def samples(ops: TestClient) -> dict[tuple[str, ...], float]:
    """Each sample by its metric's name and its labels' values, in the order of the labels."""
    answer = ops.get("/metrics")
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def wait_in(fleet: Connection, queue: str, *counts: int) -> None:
    """Put messages into the lists of a queue, by priority."""
    for each, count in zip(lists(queue), counts, strict=False):
        for _ in range(count):
            fleet.client.lpush(each, "{}")


def make_old(fleet: Connection, pool: str, seconds: int) -> None:
    """Make the last decision on a pool's size older."""
    fleet.client.hincrby(fleet.keys.pool(pool).scaling, "at", -1000 * seconds)


def test_the_queue_of_a_pool_counts_all_priorities_and_its_share_of_the_overflow(
    fleet: Connection, ops: TestClient
) -> None:
    wait_in(fleet, fleet.settings.queue("codegen"), 3, 2, 0, 1)
    wait_in(fleet, fleet.settings.overflow_queue("code_generator"), 2, 2)
    found = samples(ops)
    assert found["ai_agent_queue_length", "codegen"] == 6 + 3
    assert found["ai_agent_queue_length", "spare"] == 0 + 1
    assert found["fleet_overflow_queue_length", "code_generator"] == 4
    assert ops.get("/scale/codegen").json()["queued"] == 9
    fleet.routing.pools.maintain("spare", True)
    assert ops.get("/scale/codegen").json()["queued"] == 10


def test_agents_are_counted_by_type_and_status(fleet: Connection, ops: TestClient) -> None:
    for name in ("codegen-2", "codegen-3"):
        fleet.routing.agents.register(name, "codegen", 10, {})
    fleet.routing.agents.heartbeat("codegen-2", "codegen", 4, 10)
    fleet.routing.agents.drain("codegen-3")
    found = samples(ops)
    by_status = {status: found["ai_agents", status, "code_generator"] for status in STATUSES}
    assert by_status == {"idle": 1, "busy": 1, "maintenance": 1, "failed": 0}
    assert found["ai_agents", "idle", "security_scanner"] == 0
    assert found["ai_agent_load", "codegen-2"] == 0.4
    assert found["fleet_slots", "codegen"] == 20


def test_a_pool_is_shown_with_the_workers_that_it_should_have(
    fleet: Connection, ops: TestClient
) -> None:
    assert ops.get("/scale/codegen").json() == {
        "pool": "codegen",
        "queued": 0,
        "running": 0,
        "desired": 1,
        "oldest_seconds": 0,
    }
    wait_in(fleet, fleet.settings.queue("codegen"), 50)
    Scaler(fleet).scale()
    assert ops.get("/scale/codegen").json()["desired"] == 3
    assert samples(ops)["fleet_desired_workers", "codegen"] == 3


def test_what_a_worker_holds_is_running(fleet: Connection, ops: TestClient) -> None:
    fleet.client.hset(fleet.keys.pool("codegen").unacked, mapping={"a": "{}", "b": "{}"})
    assert samples(ops)["fleet_running_tasks", "codegen"] == 2
    assert ops.get("/scale/codegen").json()["running"] == 2


def test_a_scrape_is_one_round_trip_once_the_agents_are_known(
    fleet: Connection, ops: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples(ops)
    trips: list[str] = []
    for kind in (redis.client.Pipeline, redis.Redis):
        name = "execute" if kind is redis.client.Pipeline else "execute_command"
        whole = getattr(kind, name)

        def counted(self: Any, *args: Any, whole: Any = whole, **options: Any) -> Any:
            if type(self) is redis.Redis or not args:
                trips.append(str(args))
            return whole(self, *args, **options)

        monkeypatch.setattr(kind, name, counted)
    assert samples(ops)["ai_agents", "idle", "code_generator"] == 1
    assert len(trips) == 1
    fleet.routing.agents.register("codegen-2", "codegen", 10, {})
    trips.clear()
    assert samples(ops)["ai_agents", "idle", "code_generator"] == 2
    assert len(trips) == 2


def test_an_agent_that_left_is_not_counted_any_more(fleet: Connection, ops: TestClient) -> None:
    assert samples(ops)["ai_agents", "idle", "code_generator"] == 1
    fleet.routing.agents.leave(AGENT, "codegen")
    assert samples(ops)["ai_agents", "idle", "code_generator"] == 0


def test_an_unknown_pool_is_named_with_the_known_ones(ops: TestClient) -> None:
    answer = ops.get("/scale/codgen")
    assert answer.status_code == 404
    assert answer.json()["error"] == "no pool is called 'codgen'; use one of: codegen, spare"


def test_without_redis_the_process_is_alive_and_nothing_is_known(
    fleet: Connection, proxy: Proxy
) -> None:
    ops = behind(fleet, proxy.port)
    assert ops.get("/ready").status_code == 200
    proxy.cut()
    assert ops.get("/health").status_code == 200
    for path in ("/ready", "/metrics", "/scale/codegen"):
        answer = ops.get(path)
        assert answer.status_code == 503
        assert f"Redis at 127.0.0.1:{proxy.port} does not answer" in answer.text
    proxy.heal()
    assert ops.get("/ready").status_code == 200
    assert ops.get("/scale/codegen").status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/scale/codegen"])
def test_figures_are_not_known_while_beat_is_away(
    fleet: Connection, ops: TestClient, path: str
) -> None:
    make_old(fleet, "codegen", 40)
    assert ops.get(path).status_code == 200
    make_old(fleet, "codegen", 40)
    answer = ops.get(path)
    assert answer.status_code == 503
    assert "beat last decided on the size of codegen" in answer.text


@pytest.mark.parametrize("path", ["/metrics", "/scale/codegen"])
def test_a_redis_that_has_lost_its_data_is_not_read_as_an_idle_fleet(
    fleet: Connection, ops: TestClient, path: str
) -> None:
    fleet.client.flushall()
    answer = ops.get(path)
    assert answer.status_code == 503
    assert "beat has not decided on the size of codegen yet" in answer.text
    assert ops.get("/ready").status_code == 200


def test_a_host_that_is_none_is_named_with_its_variable(fleet: Connection) -> None:
    environment = Environment().model_copy(update={"ops_host": "nowhere.invalid"})
    with pytest.raises(InvalidConfig, match=r"FLEET_OPS_HOST: nowhere\.invalid is no address"):
        serve_ops(replace(fleet.settings, environment=environment))


def test_a_port_in_use_is_named_with_its_variable(fleet: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        changes = {"ops_port": taken.getsockname()[1]}
        environment = Environment().model_copy(update=changes)
        with pytest.raises(RetryLater, match="FLEET_OPS_PORT"):
            serve_ops(replace(fleet.settings, environment=environment))


def test_figures_need_the_token_and_health_needs_none(fleet: Connection) -> None:
    environment = fleet.settings.environment.model_copy(update={"ops_token": SecretStr("s3cret")})
    closed = client_of(open_connection(replace(fleet.settings, environment=environment)))
    for path in ("/health", "/ready"):
        assert closed.get(path).status_code == 200
    for path in ("/metrics", "/scale/codegen", "/scale/nobody"):
        for given in ("", "Bearer", "Bearer wrong", "s3cret", "Basic s3cret"):
            answer = closed.get(path, headers={"Authorization": given} if given else {})
            assert (path, given, answer.status_code) == (path, given, 401)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        answer = closed.get(path, headers={"Authorization": "Bearer s3cret"})
        assert answer.status_code == (404 if path.endswith("nobody") else 200)
