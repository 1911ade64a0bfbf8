"""Whatever way a message takes into a queue of the fleet, it is signed as a worker wants it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery, chain, chord, group
from celery.app.task import Context
from kombu import Consumer, Queue
from signed_messages import HMAC, content, delivered

from fleet import Fleet, Submission
from fleet.broker.app import fleet_of, make_app, task_routes
from fleet.broker.signing import MessageGuard, message_signer
from fleet.errors import InvalidRequest, SecretNotFound
from fleet.redis.scripts import text
from fleet.settings import Settings
from fleet.tasks.connection import Connection
from fleet.tasks.reaper import reap
from fleet.tasks.store import Lease
from fleet.tasks.waiting.release import release_due

NAME, PAYLOAD = "agents.code_generator", {"instruction": "add ☃"}
CONFIG = """
[messages]
signing = "hmac"

[pools.codegen]
agent_type = "code_generator"
slots = 100
"""


@pytest.fixture
def settings(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
) -> Settings:
    clean_environment.setenv("FLEET_SECRET_MESSAGES__SIGNING__KEY", HMAC["key"])
    return settings_of(CONFIG)


@pytest.fixture
def app(settings: Settings) -> Celery:
    found = make_app(settings)
    fleet_of(found).routing.agents.register("codegen-1", "codegen", 100, {})
    return found


@pytest.fixture
def fleet(app: Celery) -> Fleet:
    return Fleet(fleet_of(app).settings)


@pytest.fixture
def guard(app: Celery) -> MessageGuard:
    connection = fleet_of(app)
    return MessageGuard(connection, message_signer(connection))


def waiting(client: redis.Redis) -> list[bytes]:
    """The messages in all queues of the fleet."""
    queues = ("{fleet}.jobs", "{fleet}.codegen", "{fleet}.overflow.code_generator")
    found: list[Any] = [each for queue in queues for each in client.lrange(queue, 0, -1)]
    return found


def pass_all(client: redis.Redis, guard: MessageGuard, count: int) -> list[dict[str, Any]]:
    """Check that so many messages wait and that a worker accepts each; the messages."""
    raw = waiting(client)
    assert len(raw) == count
    assert [guard.refusal(delivered(each)) for each in raw] == [""] * count
    return [json.loads(each) for each in raw]


def test_submissions(client: redis.Redis, fleet: Fleet, guard: MessageGuard) -> None:
    fleet.submit("code_generation", PAYLOAD, tenant="acme", priority=2, quality=0.5, speed=0.4)
    fleet.submit_many([Submission("code_generation", PAYLOAD)] * 3)
    pass_all(client, guard, 4)


def test_tasks_of_celery(client: redis.Redis, app: Celery, guard: MessageGuard) -> None:
    app.send_task(NAME, args=[PAYLOAD], kwargs={"tenant": "acme"}, expires=600)
    app.tasks[NAME].apply_async([PAYLOAD], priority=3)
    app.send_task("shop.bill", args=[{1: "x"}, (1, 2)], headers={"mine": {10: "a", 9: "b"}})
    app.send_task("fleet.reap")
    pass_all(client, guard, 4)


def test_what_celery_builds_of_tasks(client: redis.Redis, app: Celery, guard: MessageGuard) -> None:
    one = app.signature(NAME, args=[PAYLOAD])
    chain(one, app.signature("shop.bill"), app=app).apply_async()
    group([one, one, app.signature("shop.bill")], app=app).apply_async()
    chord([one, one], app.signature("shop.sum"), app=app).apply_async()
    pass_all(client, guard, 6)


def test_delayed_tasks_and_messages(
    client: redis.Redis, fleet: Fleet, app: Celery, guard: MessageGuard
) -> None:
    app.send_task(NAME, args=[PAYLOAD], countdown=0.3)
    app.send_task("shop.bill", countdown=0.3)
    fleet.submit("code_generation", PAYLOAD, delay=0.3)
    assert waiting(client) == []
    until = time.monotonic() + 20
    while len(waiting(client)) < 3 and time.monotonic() < until:
        release_due(fleet_of(app))
    pass_all(client, guard, 3)


def test_republished_messages(client: redis.Redis, fleet: Fleet, guard: MessageGuard) -> None:
    fleet.submit("code_generation", PAYLOAD)
    fleet.submit("code_generation", PAYLOAD)
    client.delete("{fleet}.codegen")
    assert len(reap(fleet._connection)["republished"]) == 2
    pass_all(client, guard, 2)


def test_the_retry_of_a_dead_letter(
    client: redis.Redis, fleet: Fleet, guard: MessageGuard
) -> None:
    state = fleet._connection
    task_id = fail(state, fleet.submit("code_generation", PAYLOAD).id)
    client.delete("{fleet}.codegen")
    again = fleet.retry_dead(task_id)
    (message,) = pass_all(client, guard, 1)
    assert message["headers"]["id"] == again.id


def test_a_dead_letter_that_was_altered_is_not_retried(client: redis.Redis, fleet: Fleet) -> None:
    state = fleet._connection
    task_id = fail(state, fleet.submit("code_generation", PAYLOAD, tenant="acme").id)
    kept = text(client.hget(state.keys.task(task_id), "message"))  # type: ignore[arg-type]
    client.hset(state.keys.task(task_id), "message", kept.replace("acme", "evil"))
    with pytest.raises(InvalidRequest, match="submit the request again"):
        fleet.retry_dead(task_id)


def test_a_task_that_a_worker_keeps_for_the_first_time(app: Celery, guard: MessageGuard) -> None:
    request = Context(
        {"task": NAME, "id": "an-id", "root_id": "an-id"},
        args=[PAYLOAD],
        kwargs={},
        delivery_info={"priority": 3},
    )
    kept = app.messages.of_delivery(request)  # type: ignore[attr-defined]
    assert guard.refusal(delivered(kept.encode())) == ""


@pytest.mark.parametrize("broker", ["memory://", "redis"])
def test_an_agents_task_of_an_application_of_its_own(
    fleet: Fleet, settings: Settings, valkey_url: str, guard: MessageGuard, broker: str
) -> None:
    url = valkey_url if broker == "redis" else broker
    with Celery("shop", broker=url, set_as_current=False) as shop:
        shop.conf.task_routes = task_routes(settings)
        shop.send_task(NAME, args=[PAYLOAD], headers={"mine": 1}, priority=3)
        taken = take(shop, "{fleet}.codegen")
        assert guard.refusal(taken) == ""
        shop.send_task("shop.bill", queue="shop")
        assert "not signed" in guard.refusal(take(shop, "shop"))


def test_a_signed_message_is_json_and_not_compressed(app: Celery) -> None:
    with pytest.raises(InvalidRequest, match="JSON"):
        app.send_task("shop.bill", serializer="yaml")
    with pytest.raises(InvalidRequest, match="compress"):
        app.send_task("shop.bill", compression="zlib")


@pytest.mark.parametrize("signing", ["off", "hmac"])
def test_a_message_that_is_too_large_is_not_sent(
    client: redis.Redis, app: Celery, settings_of: Callable[[str], Settings], signing: str
) -> None:
    limits = "max_bytes = 1024\n[limits]\npayload_bytes = 1024\n"
    found = make_app(settings_of(f'[messages]\nsigning = "{signing}"\n{limits}'))
    with pytest.raises(InvalidRequest, match="max_bytes"):
        found.send_task("shop.bill", args=["x" * 70_000])
    assert waiting(client) == []


def test_without_a_key_nothing_is_sent(
    client: redis.Redis, fleet: Fleet, clean_environment: pytest.MonkeyPatch
) -> None:
    clean_environment.delenv("FLEET_SECRET_MESSAGES__SIGNING__KEY")
    with pytest.raises(SecretNotFound, match="messages/signing"):
        fleet.submit("code_generation", PAYLOAD)
    assert waiting(client) == []


def test_the_content_is_the_same_on_both_ways_of_reading_a_message(
    client: redis.Redis, fleet: Fleet
) -> None:
    from fleet.broker.messages import content_of

    fleet.submit("code_generation", PAYLOAD)
    (raw,) = waiting(client)
    assert content_of(json.loads(raw)) == content(json.loads(raw))


def take(app: Celery, queue: str) -> Any:
    """The message in a queue, as Kombu delivers it."""
    got: list[Any] = []
    broker = app.connection_for_read()
    with broker, Consumer(broker, [Queue(queue)], on_message=got.append, no_ack=True):
        while not got:
            broker.drain_events(timeout=30)
    return got[0]


def fail(state: Connection, task_id: str) -> str:
    """Have a task fail."""
    lease = state.tasks.records.claim(
        task_id, "codegen-1", "codegen", 30, f"claim-{task_id}", "default", ""
    )
    assert isinstance(lease, Lease)
    error = json.dumps({"type": "TaskFailed", "message": "it is broken"})
    state.tasks.records.begin(lease)
    state.tasks.records.finish(lease, "codegen", "failed", 60, {"error": error}, dead="permanent")
    return task_id
