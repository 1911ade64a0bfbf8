"""What becomes of one task: retries, times, expiry, acknowledgement, limits, results.

Each test runs on stock Celery first, which proves the test, and then on Fleet.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from billiard.exceptions import WorkerLostError
from celery import Celery, chain
from celery.exceptions import NotRegistered, TaskRevokedError, TimeLimitExceeded
from shops import PATIENCE, PREFORK_QUEUE, THREADS, THREADS_QUEUE, Shop, until

QUEUES = [None, THREADS_QUEUE, PREFORK_QUEUE]
UNACKED = {"stock": "unacked", "fleet": "{fleet}:pool:threads:unacked"}


@pytest.mark.parametrize("queue", QUEUES)
def test_a_task_is_retried_as_often_as_it_stumbles(shop: Shop, queue: str | None) -> None:
    sent = shop.send("stumble", 2, queue=queue)
    assert sent.get(timeout=PATIENCE) == 2


def test_a_retry_may_wait(shop: Shop) -> None:
    began = time.monotonic()
    assert shop.send("stumble", 1, 0.5).get(timeout=PATIENCE) == 1
    assert time.monotonic() - began >= 0.5


def test_a_task_that_stumbles_too_often_fails_with_its_own_error(shop: Shop) -> None:
    with pytest.raises(ValueError, match="stumbled"):
        shop.send("stumble", 9).get(timeout=PATIENCE)


def test_errors_that_are_retried_by_themselves_back_off(shop: Shop) -> None:
    began = time.monotonic()
    assert shop.send("stumble_by_itself", 1).get(timeout=PATIENCE) == 1
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("queue", QUEUES)
def test_a_countdown_and_an_eta_are_kept(shop: Shop, queue: str | None) -> None:
    began = time.monotonic()
    moment = datetime.now(UTC) + timedelta(seconds=0.6)
    late = [shop.send("add", 1, 1, queue=queue, countdown=0.6)]
    late.append(shop.send("add", 2, 2, queue=queue, eta=moment))
    assert shop.send("add", 3, 3, queue=queue).get(timeout=PATIENCE) == 6
    assert [each.get(timeout=PATIENCE) for each in late] == [2, 4]
    assert time.monotonic() - began >= 0.6


@pytest.mark.parametrize("queue", [None, THREADS_QUEUE])
@pytest.mark.parametrize("task", ["count_me", "count_me_early"])
def test_no_more_tasks_run_at_once_than_a_worker_of_threads_has_slots(
    shop: Shop, queue: str | None, task: str
) -> None:
    page, moment = shop.page(), datetime.now(UTC) + timedelta(seconds=0.5)
    # Those whose time comes at once are in the worker already, however many they are.
    sent = [shop.send(task, page, 0.1, queue=queue, eta=moment) for _ in range(12)]
    sent += [shop.send(task, page, 0.1, queue=queue) for _ in range(12)]
    for each in sent:
        each.get(timeout=PATIENCE)
    assert max(map(int, shop.lines(page))) == THREADS


@pytest.mark.parametrize("queue", QUEUES)
def test_an_expired_task_does_not_run_and_is_revoked(shop: Shop, queue: str | None) -> None:
    page = shop.page()
    sent = shop.send("note", "late", page, queue=queue, expires=-1)
    with pytest.raises(TaskRevokedError, match="expired"):
        sent.get(timeout=PATIENCE)
    assert shop.send("add", 1, 1, queue=queue, expires=60).get(timeout=PATIENCE) == 2
    assert shop.lines(page) == []


@pytest.mark.parametrize("execution", ["threads", "prefork"])
def test_a_task_that_is_revoked_in_its_queue_does_not_run(shop: Shop, execution: str) -> None:
    page, queue = shop.page(), f"shop.{uuid4().hex}"
    sent = shop.send("note", "unwanted", page, queue=queue)
    shop.order(execution, "revoke", task_id=sent.id)
    shop.order(execution, "add_consumer", queue=queue)
    assert shop.send("add", 1, 1, queue=queue).get(timeout=PATIENCE) == 2
    with pytest.raises(TaskRevokedError, match="revoked"):
        sent.get(timeout=PATIENCE)
    assert shop.lines(page) == []
    shop.order(execution, "cancel_consumer", queue=queue)


@pytest.mark.parametrize("queue", [None, THREADS_QUEUE])
def test_a_task_that_is_revoked_before_its_time_does_not_run(
    shop: Shop, queue: str | None
) -> None:
    page = shop.page()
    sent = shop.send("note", "unwanted", page, queue=queue, countdown=1)
    shop.order("threads", "revoke", task_id=sent.id)
    with pytest.raises(TaskRevokedError, match="revoked"):
        sent.get(timeout=PATIENCE)
    assert shop.send("add", 1, 1, queue=queue, countdown=1.1).get(timeout=PATIENCE) == 2
    assert shop.lines(page) == []


def test_a_running_task_can_be_terminated_in_its_process(shop: Shop) -> None:
    page = shop.page()
    sent = shop.send("wait_for", page, queue=PREFORK_QUEUE)
    until(lambda: len(shop.lines(f"{page}:begun")), 1)
    sent.revoke(terminate=True)
    with pytest.raises(TaskRevokedError, match="terminated"):
        sent.get(timeout=PATIENCE)
    assert shop.send("add", 1, 1, queue=PREFORK_QUEUE).get(timeout=PATIENCE) == 2


def stamped(shop: Shop, task: str, page: str, queue: str) -> tuple[Any, str]:
    """A task that bears a stamp, and the stamp."""
    stamp = uuid4().hex
    arguments = ("unwanted", page) if task == "note" else (page,)
    signature = shop.sign(task, *arguments, options={"queue": queue})
    signature.stamp(visit=stamp)
    return signature, stamp


@pytest.mark.parametrize("execution", ["threads", "prefork"])
def test_a_task_that_is_revoked_by_its_stamp_does_not_run(shop: Shop, execution: str) -> None:
    page, queue = shop.page(), f"shop.{uuid4().hex}"
    signature, stamp = stamped(shop, "note", page, queue)
    sent = signature.apply_async()
    shop.order(execution, "revoke_by_stamped_headers", headers={"visit": [stamp]})
    shop.order(execution, "add_consumer", queue=queue)
    with pytest.raises(TaskRevokedError):
        sent.get(timeout=PATIENCE)
    assert shop.lines(page) == []
    shop.order(execution, "cancel_consumer", queue=queue)


def test_a_running_task_can_be_terminated_by_its_stamp(shop: Shop) -> None:
    page = shop.page()
    signature, stamp = stamped(shop, "wait_for", page, PREFORK_QUEUE)
    sent = signature.apply_async()
    until(lambda: len(shop.lines(f"{page}:begun")), 1)
    order = {"headers": {"visit": [stamp]}, "terminate": True}
    shop.order("prefork", "revoke_by_stamped_headers", **order)
    with pytest.raises(TaskRevokedError):
        sent.get(timeout=PATIENCE)


@pytest.mark.parametrize("queue", QUEUES)
def test_a_task_that_rejects_its_message_gets_it_again(shop: Shop, queue: str | None) -> None:
    page = shop.page()
    assert shop.send("rejected_once", page, queue=queue).get(timeout=PATIENCE) is True
    assert len(shop.lines(page)) == 2


@pytest.mark.parametrize("queue", [None, THREADS_QUEUE])
def test_a_task_that_ignores_itself_has_no_result_and_no_message(
    shop: Shop, queue: str | None
) -> None:
    page = shop.page()
    sent = shop.send("ignored", page, queue=queue)
    until(lambda: shop.lines(page), ["ran"])
    until(lambda: shop.client.hlen(UNACKED[shop.name]), 0)
    assert not sent.ready()


def test_a_task_whose_process_is_killed_runs_again_where_it_says_so(shop: Shop) -> None:
    page = shop.page()
    assert shop.send("die_once", page, queue=PREFORK_QUEUE).get(timeout=PATIENCE) == "ran again"
    assert len(shop.lines(page)) == 2


@pytest.mark.parametrize("task", ["die", "die_early"])
def test_a_task_whose_process_is_killed_fails_where_it_does_not(shop: Shop, task: str) -> None:
    page = shop.page()
    with pytest.raises(WorkerLostError):
        shop.send(task, page, queue=PREFORK_QUEUE).get(timeout=PATIENCE)
    assert shop.lines(page) == ["ran"]


@pytest.mark.parametrize("queue", QUEUES)
def test_hooks_signals_and_states_of_ones_own_are_told(shop: Shop, queue: str | None) -> None:
    page = shop.page()
    shop.send("watched", page, queue=queue).get(timeout=PATIENCE)
    told = ["task_prerun", "before_start", "HALFWAY", "on_success", "after_return", "task_postrun"]
    until(lambda: sorted(shop.lines(page)), sorted(told))


def test_soft_and_hard_time_limits_hold_in_processes(shop: Shop) -> None:
    soft = shop.send("overrun", 20, queue=PREFORK_QUEUE, soft_time_limit=1)
    hard = shop.send("overrun", 20, queue=PREFORK_QUEUE, time_limit=1)
    assert soft.get(timeout=PATIENCE) == "stopped softly"
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=PATIENCE)


@pytest.mark.parametrize(("task", "held"), [("wait_for_late", 1), ("wait_for_early", 0)])
@pytest.mark.parametrize("queue", [None, THREADS_QUEUE])
def test_a_task_is_acknowledged_early_or_late_as_it_says(
    shop: Shop, task: str, held: int, queue: str | None
) -> None:
    page = shop.page()
    # What earlier tests left is acknowledged by the worker's next turn.
    until(lambda: shop.client.hlen(UNACKED[shop.name]), 0)
    sent = shop.send(task, page, queue=queue)
    until(lambda: len(shop.lines(f"{page}:begun")), 1)
    until(lambda: shop.client.hlen(UNACKED[shop.name]), held)
    shop.diary.set(f"{page}:go", 1)
    assert sent.get(timeout=PATIENCE) == page
    until(lambda: shop.client.hlen(UNACKED[shop.name]), 0)


def test_a_running_task_says_that_it_has_started(shop: Shop) -> None:
    page = shop.page()
    sent = shop.send("wait_for", page)
    until(lambda: sent.state, "STARTED")
    assert sent.info["hostname"] == shop.worker("threads")
    shop.diary.set(f"{page}:go", 1)
    assert sent.get(timeout=PATIENCE) == page


@pytest.mark.parametrize("queue", QUEUES)
def test_a_task_that_nobody_knows_is_logged_and_discarded(shop: Shop, queue: str | None) -> None:
    name = f"shop.{uuid4().hex}"
    sent = shop.app.send_task(name, queue=queue)
    with pytest.raises(NotRegistered):
        sent.get(timeout=PATIENCE)
    execution = "prefork" if queue == PREFORK_QUEUE else "threads"
    until(lambda: f"unregistered task of type '{name}'" in shop.processes.log(execution), True)
    assert shop.send("add", 1, 1, queue=queue).get(timeout=PATIENCE) == 2
    assert shop.client.llen(queue or shop.default_queue) == 0


def test_dates_and_decimals_travel_as_what_they_are(shop: Shop) -> None:
    values = [datetime.now(UTC), Decimal("0.10"), uuid4(), "text"]
    told = shop.send("kinds", values).get(timeout=PATIENCE)
    assert told == ["datetime", "Decimal", "UUID", "str"]


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"serializer": "backwards"}])
@pytest.mark.parametrize("queue", [None, PREFORK_QUEUE])
def test_messages_may_be_compressed_and_written_by_ones_own_serializer(
    shop: Shop, options: dict[str, str], queue: str | None
) -> None:
    sent = shop.send("echo", "many words " * 100, queue=queue, **options)
    assert sent.get(timeout=PATIENCE) == "many words " * 100


def test_a_result_that_is_ignored_is_not_kept(shop: Shop) -> None:
    ignored = [shop.send("forget_it", 1), shop.send("add", 1, 1, ignore_result=True)]
    assert shop.send("add", 1, 1).get(timeout=PATIENCE) == 2
    until(lambda: shop.client.hlen(UNACKED[shop.name]), 0)
    assert [shop.client.exists(f"celery-task-meta-{each.id}") for each in ignored] == [0, 0]


@pytest.mark.parametrize("queue", [None, PREFORK_QUEUE])
@pytest.mark.parametrize("kept", ["in_files", "in_a_table"])
def test_results_may_be_kept_in_other_places(shop: Shop, kept: str, queue: str | None) -> None:
    if kept == "in_a_table":
        pytest.importorskip("sqlalchemy", reason="the database backend needs SQLAlchemy")
    sent = shop.send(f"kept_{kept}", 21, queue=queue)
    assert sent.get(timeout=PATIENCE, interval=0.05) == 42
    assert shop.client.exists(f"celery-task-meta-{sent.id}") == 0


def test_results_may_come_back_to_the_caller_as_messages(shop: Shop) -> None:
    backend = shop.app.tasks["shop.kept_by_caller"].backend
    with shop.app.producer_pool.acquire(block=True) as producer:
        backend.on_task_call(producer, "any")
    assert shop.send("kept_by_caller", 21).get(timeout=PATIENCE) == 42
    assert shop.send("kept_by_caller", 4, queue=THREADS_QUEUE).get(timeout=PATIENCE) == 8


def test_a_task_may_run_in_the_caller_instead(shop: Shop) -> None:
    assert shop.app.tasks["shop.add"].apply((1, 2)).get() == 3
    shop.app.conf.task_always_eager = True
    try:
        assert chain(shop.sign("add", 1, 2), shop.sign("add", 3))().get() == 6
    finally:
        shop.app.conf.task_always_eager = False


def test_what_is_revoked_while_it_waits_does_not_run_in_a_worker_that_starts_later(
    shop_on_fleet: Shop,
) -> None:
    """Whichever application revoked it, by id or by stamp, and whoever heard of it is gone."""
    shop, page, stamp = shop_on_fleet, shop_on_fleet.page(), uuid4().hex
    with shop.own_app() as app:
        note = app.tasks["shop.note"]
        unwanted = [note.apply_async((f"{n}", page), countdown=1) for n in range(3)]
        signs = [note.s(f"stamped {n}", page) for n in range(2)]
        for each in signs:
            each.stamp(visit=stamp)
        stamped_ones = [each.apply_async(countdown=1) for each in signs]
        # Nobody hears of these two.
        unwanted[0].revoke()
        app.control.revoke([each.id for each in unwanted[1:]])
        with shop.own_worker():
            retried = app.tasks["shop.stumble"].apply_async((9, 2.0))
            until(lambda: retried.state, "RETRY")
            # An application that keeps nothing itself: only this worker hears of it.
            heard = {"reply": True, "timeout": 10, "limit": 1}
            with Celery("stranger", broker=shop.own_url, set_as_current=False) as stranger:
                stranger.control.revoke(retried.id, **heard)
                stranger.control.revoke_by_stamped_headers({"visit": [stamp]}, **heard)
        with shop.own_worker():
            last = note.apply_async(("wanted", page), countdown=2.5)
            last.get(timeout=PATIENCE)
            for each in (*unwanted, *stamped_ones, retried):
                with pytest.raises(TaskRevokedError):
                    each.get(timeout=PATIENCE)
        assert shop.lines(page) == ["wanted"]
