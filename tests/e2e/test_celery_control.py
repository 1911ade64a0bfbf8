"""Remote control, events, priorities, rates and beat, on stock Celery and on Fleet."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from harness import eventually
from shops import PATIENCE, PREFORK_QUEUE, THREADS_QUEUE, Shop, listening, until

BOTH = ["threads", "prefork"]


@pytest.mark.parametrize("execution", BOTH)
def test_workers_tell_what_they_are_and_what_they_serve(shop: Shop, execution: str) -> None:
    name = shop.worker(execution)
    assert shop.inspect(execution).ping() == {name: {"ok": "pong"}}
    stats = shop.told(execution, "stats")
    assert execution.removesuffix("s") in stats["pool"]["implementation"]
    assert "shop.add" in shop.told(execution, "registered")
    served = {queue["name"] for queue in shop.told(execution, "active_queues")}
    plain = {"threads": {shop.default_queue, THREADS_QUEUE}, "prefork": {PREFORK_QUEUE}}
    assert plain[execution] <= served


@pytest.mark.parametrize("queue", [None, THREADS_QUEUE, PREFORK_QUEUE])
def test_workers_tell_what_runs(shop: Shop, queue: str | None) -> None:
    execution = "prefork" if queue == PREFORK_QUEUE else "threads"
    page = shop.page()
    sent = shop.send("wait_for", page, queue=queue)
    until(lambda: len(shop.lines(f"{page}:begun")), 1)
    (told,) = shop.told(execution, "active")
    assert (told["id"], told["name"]) == (sent.id, "shop.wait_for")
    assert told["delivery_info"]["routing_key"] == (queue or shop.default_queue)
    asked = shop.inspect(execution).query_task(sent.id)
    assert asked[shop.worker(execution)][sent.id][0] == "active"
    shop.diary.set(f"{page}:go", 1)
    assert sent.get(timeout=PATIENCE) == page
    until(lambda: shop.told(execution, "active"), [])


def test_a_worker_tells_what_of_a_plain_queue_waits_in_it(shop: Shop) -> None:
    sent = shop.send("add", 1, 1, queue=THREADS_QUEUE, countdown=1)
    eventually(lambda: shop.told("threads", "scheduled"), PATIENCE)
    (told,) = shop.told("threads", "scheduled")
    assert told["request"]["id"] == sent.id
    assert sent.get(timeout=PATIENCE) == 2


@pytest.mark.parametrize("execution", BOTH)
def test_workers_tell_what_is_revoked_and_how_they_are_set_up(shop: Shop, execution: str) -> None:
    revoked = uuid4().hex
    shop.order(execution, "revoke", task_id=revoked)
    assert revoked in shop.told(execution, "revoked")
    assert shop.told(execution, "reserved") == []
    assert shop.told(execution, "conf")["task_acks_late"] is True
    assert "transport" in shop.told(execution, "report")["ok"]


@pytest.mark.parametrize("execution", BOTH)
def test_a_worker_takes_up_a_queue_and_lets_it_go(shop: Shop, execution: str) -> None:
    queue = f"shop.{uuid4().hex}"
    sent = shop.send("add", 1, 1, queue=queue)
    shop.order(execution, "add_consumer", queue=queue)
    assert sent.get(timeout=PATIENCE) == 2
    shop.order(execution, "cancel_consumer", queue=queue)
    shop.send("add", 1, 1, queue=queue)
    # Whoever still listened would have been woken by now.
    named = None if execution == "threads" else PREFORK_QUEUE
    assert shop.send("add", 1, 1, queue=named).get(timeout=PATIENCE) == 2
    assert shop.client.llen(queue) == 1
    shop.client.delete(queue)


def shrink(shop: Shop) -> None:
    """Take a process away, as soon as one is seen to be idle."""
    ask, name = shop.app.control.pool_shrink, shop.worker("prefork")
    eventually(lambda: "ok" in ask(1, [name], reply=True, timeout=60, limit=1)[0][name], PATIENCE)


@contextmanager
def one_process(shop: Shop, queue: str) -> Iterator[None]:
    """The worker of processes has one, and nobody else serves the queue."""
    others = shop.default_queue == queue
    if others:
        shop.order("threads", "cancel_consumer", queue=queue)
    shrink(shop)
    try:
        yield
    finally:
        shop.order("prefork", "pool_grow", n=1)
        if others:
            shop.order("prefork", "cancel_consumer", queue=queue)
            shop.order("threads", "add_consumer", queue=queue)


@pytest.mark.parametrize("is_default", [True, False])
def test_urgent_tasks_overtake_others_in_their_queue(shop: Shop, is_default: bool) -> None:
    page = shop.page()
    queue = shop.default_queue if is_default else f"shop.{uuid4().hex}"
    with one_process(shop, queue):
        sent = [
            shop.send("note", priority, page, queue=queue, priority=priority)
            for priority in (9, 3, 0, 6, 3)
        ]
        shop.order("prefork", "add_consumer", queue=queue)
        for each in sent:
            each.get(timeout=PATIENCE)
    assert shop.lines(page) == ["0", "3", "3", "6", "9"]


@pytest.mark.slow
def test_processes_are_added_as_work_comes_and_replaced_after_so_many_tasks(shop: Shop) -> None:
    queue = f"shop.{uuid4().hex}"
    with shop.short_lived_worker(queue, most=3):
        pages = [shop.page() for _ in range(3)]
        sent = [shop.send("wait_for", page, queue=queue) for page in pages]
        until(lambda: sum(len(shop.lines(f"{page}:begun")) for page in pages), 3)
        for page in pages:
            shop.diary.set(f"{page}:go", 1)
        for each in sent:
            each.get(timeout=PATIENCE)
        sent = [shop.send("process", queue=queue) for _ in range(8)]
        ran = Counter(each.get(timeout=PATIENCE) for each in sent)
    assert max(ran.values()) <= 2


def test_processes_can_be_added_and_taken_away(shop: Shop) -> None:
    def processes() -> int:
        return len(shop.told("prefork", "stats")["pool"]["processes"])

    shop.order("prefork", "pool_grow", n=1)
    until(processes, 3)
    pages = [shop.page() for _ in range(3)]
    sent = [shop.send("wait_for", page, queue=PREFORK_QUEUE) for page in pages]
    for page in pages:
        until(lambda page=page: len(shop.lines(f"{page}:begun")), 1)  # type: ignore[misc]
    for page in pages:
        shop.diary.set(f"{page}:go", 1)
    for each in sent:
        each.get(timeout=PATIENCE)
    shrink(shop)


@pytest.mark.parametrize("queue", [None, PREFORK_QUEUE])
def test_a_rate_can_be_limited_while_workers_run(shop: Shop, queue: str | None) -> None:
    execution = "prefork" if queue == PREFORK_QUEUE else "threads"
    shop.order(execution, "rate_limit", task_name="shop.total", rate_limit="10/s")
    began = time.monotonic()
    try:
        sent = [shop.send("total", [n, n], queue=queue) for n in range(5)]
        assert [each.get(timeout=PATIENCE) for each in sent] == [0, 2, 4, 6, 8]
        assert time.monotonic() - began >= 0.3
    finally:
        shop.order(execution, "rate_limit", task_name="shop.total", rate_limit=0)
    sent = [shop.send("total", [n, n], queue=queue) for n in range(5)]
    assert [each.get(timeout=PATIENCE) for each in sent] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("queue", [None, PREFORK_QUEUE])
def test_events_tell_all_of_a_tasks_life(
    shop: Shop, queue: str | None
) -> None:
    page = shop.page()
    execution = "prefork" if queue == PREFORK_QUEUE else "threads"
    shop.app.conf.task_send_sent_event = True
    try:
        with listening(shop.app) as monitor:
            well = shop.send("add", 1, 1, queue=queue)
            failed = shop.send("fail", "why", queue=queue)
            retried = shop.send("stumble", 1, queue=queue)
            revoked = shop.send("note", "late", page, queue=queue, expires=-1)
            wanted = {
                well.id: {"sent", "received", "started", "succeeded"},
                failed.id: {"sent", "received", "started", "failed"},
                retried.id: {"sent", "received", "started", "retried", "succeeded"},
                revoked.id: {"sent", "revoked"},
            }
            until(lambda: {id: monitor.heard[id] for id in wanted}, wanted)
    finally:
        shop.app.conf.task_send_sent_event = False
    tasks = monitor.state.tasks
    assert (tasks[well.id].name, tasks[well.id].args) == ("shop.add", "(1, 1)")
    assert (tasks[well.id].state, tasks[well.id].result) == ("SUCCESS", "2")
    assert tasks[well.id].worker.hostname == shop.worker(execution)
    assert "ValueError('why')" in tasks[failed.id].exception


def test_beat_sends_a_users_own_entries(shop: Shop) -> None:
    page = shop.page()
    with shop.beat(SHOP_BEAT_PAGE=page):
        eventually(lambda: len(shop.lines(page)) >= 2, PATIENCE, "two ticks of a user's entry")


def test_a_users_own_worker_serves_plain_tasks_alone_and_ends_when_told_from_afar(
    shop_on_fleet: Shop,
) -> None:
    with shop_on_fleet.own_app() as app, shop_on_fleet.own_worker() as process:
        name = "own@fleet"
        inspect = app.control.inspect([name], timeout=10, limit=1)
        (queue,) = inspect.active_queues()[name]
        assert queue["name"] == "{fleet}.jobs"
        add = app.tasks["shop.add"]
        # Nobody else looks into the schedule of this database.
        assert add.apply_async((1, 2), countdown=0.5).get(timeout=PATIENCE) == 3
        app.control.shutdown(destination=[name])
        assert process.wait(timeout=PATIENCE) == 0
