"""Exchanges, and queues that are used without tasks, on stock Celery and on Fleet."""

from __future__ import annotations

from uuid import uuid4

import pytest
from kombu import Exchange, Queue
from shops import PATIENCE, THREADS_QUEUE, Shop, until

BOTH = ["threads", "prefork"]


def take_up(shop: Shop, execution: str, queue: str, exchange: Exchange, key: str) -> None:
    kind = {"exchange": exchange.name, "exchange_type": exchange.type}
    shop.order(execution, "add_consumer", queue=queue, routing_key=key, **kind)


def test_a_task_may_name_an_exchange_and_a_routing_key(shop: Shop) -> None:
    for queue in (THREADS_QUEUE, shop.default_queue):
        sent = shop.send("add", 1, 2, exchange="", routing_key=queue)
        assert sent.get(timeout=PATIENCE) == 3


@pytest.mark.parametrize("execution", BOTH)
def test_a_topic_exchange_brings_tasks_to_the_queues_that_are_bound_to_it(
    shop: Shop, execution: str
) -> None:
    topic = Exchange(f"shop.{uuid4().hex}", type="topic")
    queue = Queue(f"{topic.name}.queue", topic, routing_key="order.#")
    take_up(shop, execution, queue.name, topic, "order.#")
    sent = shop.send("add", 1, 2, queue=queue, routing_key="order.paid.today")
    assert sent.get(timeout=PATIENCE) == 3
    shop.order(execution, "cancel_consumer", queue=queue.name)


@pytest.mark.parametrize("countdown", [None, 0.3])
def test_an_exchange_may_lead_to_the_default_queue(shop: Shop, countdown: float | None) -> None:
    topic = Exchange(f"shop.{uuid4().hex}", type="topic")
    where = {"exchange": topic, "routing_key": "order.paid"}
    with shop.app.producer_pool.acquire(block=True) as producer:
        # The publisher's connection has to know what kind of exchange it is.
        Queue(shop.default_queue, topic, routing_key="order.#")(producer.channel).declare()
        sent = shop.send("add", 1, 2, producer=producer, countdown=countdown, **where)
    assert sent.get(timeout=PATIENCE) == 3


def test_a_fanout_exchange_brings_a_task_to_every_worker(shop: Shop) -> None:
    page, fanout = shop.page(), Exchange(f"shop.{uuid4().hex}", type="fanout")
    queues = {execution: f"{fanout.name}.{execution}" for execution in BOTH}
    for execution, queue in queues.items():
        take_up(shop, execution, queue, fanout, "*")
    with shop.app.producer_pool.acquire(block=True) as producer:
        fanout(producer.channel).declare()
        where = {"exchange": fanout, "routing_key": "any"}

        def reached() -> set[str]:
            shop.send("tell_where", page, producer=producer, **where)
            return set(shop.lines(page))

        # A worker's subscription begins with its next turn.
        until(reached, {shop.worker(execution) for execution in BOTH})
    for execution, queue in queues.items():
        shop.order(execution, "cancel_consumer", queue=queue)


@pytest.mark.parametrize("is_fleets", [False, True])
def test_messages_may_pass_through_a_simple_queue(shop: Shop, is_fleets: bool) -> None:
    name = f"{'{fleet}' if is_fleets else 'shop'}.{uuid4().hex}"
    with shop.app.connection_for_write() as connection:
        queue = connection.SimpleQueue(name)
        for number, priority in ((1, 0), (2, 9), (3, 0)):
            queue.put({"number": number}, priority=priority)
        assert queue.qsize() == 3
        got = [queue.get(timeout=PATIENCE) for _ in range(3)]
        assert [message.payload["number"] for message in got] == [1, 3, 2]
        got[0].ack()
        got[1].reject()
        got[2].requeue()
        assert queue.get(timeout=PATIENCE).payload == {"number": 2}
        queue.close()
    # What was not acknowledged went back when the connection was closed.
    with shop.app.connection_for_write() as connection:
        queue = connection.SimpleQueue(name)
        queue.get(timeout=PATIENCE).ack()
        with pytest.raises(queue.Empty):
            queue.get(timeout=0.2)
        queue.close()


def test_tasks_may_be_published_in_a_batch(shop: Shop) -> None:
    with shop.app.producer_pool.acquire(block=True) as producer, producer.batch(10):
        sent = [shop.send("add", n, n, producer=producer) for n in range(5)]
    assert [each.get(timeout=PATIENCE) for each in sent] == [0, 2, 4, 6, 8]


def test_what_waits_in_a_queue_can_be_counted_and_purged(shop: Shop) -> None:
    # A stock worker whose wait for messages has begun takes one more of a queue that it lets go of.
    queue = shop.default_queue if shop.is_fleet else "shop.unserved"
    shop.order("threads", "cancel_consumer", queue=queue)
    try:
        for number in range(3):
            shop.send("add", number, number, queue=queue)
        with shop.app.connection_for_write() as connection:
            channel = connection.default_channel
            assert channel.queue_declare(queue, passive=True).message_count == 3
            assert channel.queue_purge(queue) == 3
    finally:
        shop.order("threads", "add_consumer", queue=queue)
    assert shop.send("add", 1, 2, queue=queue).get(timeout=PATIENCE) == 3
