"""What plain Celery revokes is kept in Redis, and told to whichever worker takes the message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
import redis
from celery import Celery
from celery.worker import state as worker_state
from kombu import Connection as KombuConnection
from kombu import Consumer, Exchange, Queue

from fleet.broker.app import make_app
from fleet.broker.revocations import Revoked
from fleet.errors import Unavailable
from fleet.settings import Settings
from fleet.tasks import revocations_store as revocations
from fleet.tasks.connection import Connection

JOBS = "{fleet}.jobs"


@pytest.fixture
def app(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Celery:
    return make_app(settings_of(""))


@pytest.fixture
def state(app: Celery) -> Connection:
    found: Connection = app.fleet
    return found


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    """The memory of a worker that has just started."""
    worker_state.revoked.clear()
    worker_state.revoked_stamps.clear()
    yield
    worker_state.revoked.clear()
    worker_state.revoked_stamps.clear()


def take(app: Celery, most: int = 10) -> list[str]:
    """The ids of the tasks that a worker without a past takes out of the default queue."""
    got: list[str] = []
    with KombuConnection(
        app.conf.broker_url, transport_options=app.conf.broker_transport_options
    ) as broker:
        channel = broker.default_channel
        queues = [Queue(JOBS, Exchange(""), routing_key=JOBS)]
        consumer = Consumer(channel, queues, accept=["json"])
        consumer.register_callback(lambda body, message: got.append(message.headers["id"]))
        consumer.qos(prefetch_count=most)
        consumer.consume()
        channel._fetch([JOBS])
    return got


def test_an_id_that_was_revoked_while_no_worker_ran_is_told_with_its_message(app: Celery) -> None:
    first, second, other = (app.send_task("shop.mail", args=[n]) for n in range(3))
    app.control.revoke([first.id, second.id])
    assert take(app) == [first.id, second.id, other.id]
    assert set(worker_state.revoked) == {first.id, second.id}


def test_a_message_that_waited_for_its_time_is_told_of_too(
    app: Celery, state: Connection, client: redis.Redis
) -> None:
    sent = app.send_task("shop.mail", args=[1], countdown=3600)
    sent.revoke()
    client.zadd(state.keys.deferred, {client.zrange(state.keys.deferred, 0, 0)[0]: 0})
    (message,) = state.tasks.schedule.due().messages
    state.tasks.schedule.deliver(message)
    assert take(app) == [sent.id]
    assert sent.id in worker_state.revoked


def test_stamps_that_were_revoked_are_told_once_and_new_ones_with_the_next_message(
    app: Celery,
) -> None:
    app.send_task("shop.mail", args=[1])
    app.control.revoke_by_stamped_headers({"visit": ["a", "b"], "tenant": "acme"})
    take(app)
    assert worker_state.revoked_stamps == {"visit": ["a", "b"], "tenant": ["acme"]}


def test_a_worker_asks_for_the_stamps_alone_that_it_does_not_know(
    app: Celery, state: Connection
) -> None:
    known = Revoked()
    state.tasks.revocations.add_stamps({"visit": ["a"]})
    known.note([], [part for row in state.tasks.revocations.stamps() for part in row])
    assert known.stamps_until == state.tasks.revocations.stamps()[0][1]
    state.tasks.revocations.add_stamps({"visit": ["b"]})
    places = [int(place) for _, place in state.tasks.revocations.stamps()]
    assert places[1] > int(known.stamps_until) == places[0]


def test_no_more_is_kept_than_celery_keeps_and_the_newest_of_it(
    state: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "MAX_REVOKED", 3)
    for name in "abcde":
        state.tasks.revocations.add([name])
    assert state.tasks.revocations.ids() == ["c", "d", "e"]


def test_what_is_old_is_dropped_but_not_while_a_message_waits_for_its_time(
    app: Celery, state: Connection, client: redis.Redis
) -> None:
    app.send_task("shop.mail", args=[1], countdown=86_400)
    client.zadd(state.keys.revoked, {"old": 1})
    state.tasks.revocations.add(["new"])
    assert state.tasks.revocations.ids() == ["old", "new"]
    # Kept until the message is due, and some hours more.
    assert client.ttl(state.keys.revoked) > 86_400
    client.delete(state.keys.deferred)
    state.tasks.revocations.add(["newer"])
    assert state.tasks.revocations.ids() == ["new", "newer"]
    assert client.ttl(state.keys.revoked) <= revocations.KEEP_MS / 1000


def test_no_worker_is_told_of_what_could_not_be_kept(
    app: Celery, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(app.control, "broadcast", lambda *args, **_: told.append(args[0]))
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(Unavailable):
            app.control.revoke(str(uuid4()))
        assert told == []
    finally:
        client.config_set("maxmemory", 0)
    app.control.revoke(str(uuid4()))
    assert told == ["revoke"]
