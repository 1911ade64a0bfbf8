"""Agents' tasks for users of Celery: revoked, expired, rate limited, in canvases, after retries."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import TaskRevokedError, TimeLimitExceeded
from harness import eventually, task_of
from shops import PATIENCE, PREFORK_QUEUE, THREADS, THREADS_QUEUE, Shop, listening, until

from fleet.errors import OverLimit, TaskCancelled, TaskTimedOut
from fleet.redis.keys import wake
from fleet.tasks.connection import Connection
from fleet.tasks.reaper import reap
from fleet.tasks.rules import MAX_CRASHES
from fleet.tasks.store import Lease

NAP = "agents.napper"
LEASE_SECONDS = 6


@pytest.fixture
def state(shop_on_fleet: Shop) -> Connection:
    found: Connection = shop_on_fleet.app.fleet
    return found


@pytest.fixture
def shop(shop_on_fleet: Shop) -> Shop:
    return shop_on_fleet


def nap(shop: Shop, note: str = "", seconds: float = 0.0, **options: Any) -> Any:
    return shop.app.send_task(NAP, args=[{"note": note, "seconds": seconds}], **options)


def is_free(state: Connection) -> bool:
    """Whether no task holds a slot, money or a message."""
    pools = [state.keys.pool(name) for name in ("threads", "forked")]
    held = [state.client.scard(pool.in_flight) for pool in pools]
    held += [state.client.hlen(pool.unacked) for pool in pools]
    held += [state.client.hlen(state.keys.reservations), state.client.hlen(state.keys.waiting)]
    return not any(held)


def ends_cancelled(state: Connection, task_id: str, because: str) -> None:
    eventually(lambda: state.tasks.records.state(task_id) == "cancelled", PATIENCE, "the end")
    assert state.tasks.records.read(task_id).history[-1].why == because
    eventually(lambda: is_free(state), PATIENCE, "what it held to be free")
    with pytest.raises(TaskCancelled, match=because):
        task_of(state, task_id).result(timeout=PATIENCE)


@pytest.fixture
def busy(shop: Shop, state: Connection) -> Any:
    """Every slot of the fleet is taken, until the test lets go."""
    naps = [nap(shop, seconds=60) for _ in range(6)]
    eventually(lambda: len(state.tasks.records.running()) == 6, PATIENCE, "six naps")
    yield
    for each in naps:
        task_of(state, each.id).cancel()
    eventually(lambda: is_free(state), PATIENCE, "an empty fleet")


def test_a_revoked_task_that_waits_ends_at_once_and_holds_nothing(
    shop: Shop, state: Connection, busy: None
) -> None:
    sent = nap(shop, "unwanted")
    assert state.tasks.records.state(sent.id) == "queued"
    sent.revoke()
    eventually(lambda: state.tasks.records.state(sent.id) == "cancelled", PATIENCE)
    assert sent.id.encode() not in state.client.hkeys(state.keys.reservations)
    with pytest.raises(TaskRevokedError):
        sent.get(timeout=PATIENCE)


def test_a_revoked_task_that_waits_for_its_time_never_runs(shop: Shop, state: Connection) -> None:
    sent = nap(shop, countdown=600)
    assert state.tasks.records.state(sent.id) == "delayed"
    sent.revoke()
    ends_cancelled(state, sent.id, "revoked through Celery")
    with pytest.raises(TaskRevokedError):
        sent.get(timeout=PATIENCE)


def test_a_running_task_goes_on_where_it_is_revoked_without_termination(
    shop: Shop, state: Connection
) -> None:
    sent = nap(shop, "on", seconds=1)
    eventually(lambda: state.tasks.records.state(sent.id) == "running", PATIENCE)
    shop.order("threads", "revoke", task_id=sent.id)
    shop.order("prefork", "revoke", task_id=sent.id)
    assert sent.get(timeout=PATIENCE) == {"note": "on"}
    assert state.tasks.records.state(sent.id) == "succeeded"


def test_a_waiting_task_that_is_terminated_by_its_command_ends_at_once(
    shop: Shop, state: Connection
) -> None:
    sent = nap(shop, countdown=600)
    shop.order("threads", "terminate", task_id=sent.id, signal="TERM")
    ends_cancelled(state, sent.id, "revoked through Celery")


def test_a_task_that_is_revoked_by_its_stamp_ends_as_cancelled_when_it_is_delivered(
    shop: Shop, state: Connection, busy: None
) -> None:
    stamp = uuid4().hex
    signature = shop.app.signature(NAP, args=({"note": "unwanted"},))
    signature.stamp(visit=stamp)
    sent = signature.apply_async()
    for execution in ("threads", "prefork"):
        order = {"headers": {"visit": [stamp]}}
        shop.order(execution, "revoke_by_stamped_headers", **order)
    assert state.tasks.records.state(sent.id) == "queued"
    task_of(state, state.tasks.records.running()[0]).cancel()
    eventually(lambda: state.tasks.records.state(sent.id) == "cancelled", PATIENCE, "the end")
    with pytest.raises(TaskRevokedError):
        sent.get(timeout=PATIENCE)


@pytest.mark.parametrize("pool", ["threads", "forked"])
def test_a_running_task_is_cancelled_by_termination_and_its_process_lives_on(
    shop: Shop, state: Connection, pool: str
) -> None:
    other = "forked" if pool == "threads" else "threads"
    state.routing.pools.maintain(other, True)
    try:
        sent = nap(shop, seconds=60)
        eventually(lambda: state.tasks.records.state(sent.id) == "running", PATIENCE)
        assert state.tasks.records.read(sent.id).pool == pool
        execution = "threads" if pool == "threads" else "prefork"
        before = shop.told(execution, "stats")["pool"]
        with listening(shop.app) as monitor:
            sent.revoke(terminate=True)
            with pytest.raises(TaskRevokedError):
                sent.get(timeout=PATIENCE)
            until(lambda: "revoked" in monitor.heard[sent.id], True)
        assert not monitor.heard[sent.id] & {"failed", "succeeded"}
        eventually(lambda: is_free(state), PATIENCE)
        assert state.tasks.records.state(sent.id) == "cancelled"
        now = shop.told(execution, "stats")["pool"]
        assert now.get("processes") == before.get("processes")
    finally:
        state.routing.pools.maintain(other, False)


def test_an_expired_task_ends_as_cancelled_and_says_why(
    shop: Shop, state: Connection, busy: None
) -> None:
    sent = nap(shop, "late", expires=0.5)
    assert state.tasks.records.state(sent.id) == "queued"
    time.sleep(0.6)
    task_of(state, state.tasks.records.running()[0]).cancel()
    eventually(lambda: state.tasks.records.state(sent.id) == "cancelled", PATIENCE, "the end")
    assert state.tasks.records.read(sent.id).history[-1].why == "it had expired before it ran"
    with pytest.raises(TaskRevokedError, match="expired"):
        sent.get(timeout=PATIENCE)
    with pytest.raises(TaskCancelled, match="expired"):
        task_of(state, sent.id).result(timeout=PATIENCE)


def test_an_expired_task_without_a_record_leaves_no_slot_taken(
    shop: Shop, state: Connection
) -> None:
    with Celery("stranger", broker=state.settings.broker_url, set_as_current=False) as stranger:
        sent = stranger.send_task(
            NAP, args=[{"note": "late"}], queue="{fleet}.overflow.napper", expires=-1
        )
    with pytest.raises(TaskRevokedError, match="expired"):
        shop.app.AsyncResult(sent.id).get(timeout=PATIENCE)
    eventually(lambda: is_free(state), PATIENCE, "a free slot")
    assert not state.client.exists(state.keys.task(sent.id))


def test_a_task_that_fleet_has_cancelled_is_revoked_for_celery(
    shop: Shop, state: Connection, busy: None
) -> None:
    sent = nap(shop, "unwanted")
    task_of(state, sent.id).cancel()
    task_of(state, state.tasks.records.running()[0]).cancel()
    with pytest.raises(TaskRevokedError):
        sent.get(timeout=PATIENCE)


def test_a_delayed_task_that_fleet_has_cancelled_is_revoked_for_celery(
    shop: Shop, state: Connection
) -> None:
    sent = nap(shop, "unwanted", countdown=600)
    assert task_of(state, sent.id).cancel() == "delayed"
    with pytest.raises(TaskRevokedError):
        sent.get(timeout=PATIENCE)


def test_an_end_that_its_worker_could_not_tell_is_told_by_another_and_the_chain_goes_on(
    shop: Shop, state: Connection, busy: None
) -> None:
    agent = shop.app.signature(NAP, args=({"note": "lost"},))
    sent = chain(agent, shop.sign("echo"))()
    lease = claimed(state, sent.parent.id, seconds=60)
    message = state.client.hget(state.keys.task(lease.task_id), "message")
    result = {"result": '{"note": "written"}'}
    assert state.tasks.records.finish(lease, "threads", "succeeded", 600, result).kept
    # As the reaper puts back what a dead worker has not acknowledged.
    queue = state.settings.overflow_queue("napper")
    state.client.rpush(queue, message)
    state.client.lpush(wake(queue), "1")
    for nap_of_another in state.tasks.records.running():
        task_of(state, nap_of_another).cancel()
    assert sent.get(timeout=PATIENCE) == {"note": "written"}
    assert sent.parent.get(timeout=PATIENCE) == {"note": "written"}


def test_a_late_delivery_of_a_task_that_has_failed_tells_nobody_twice(
    shop: Shop, state: Connection
) -> None:
    page = shop.page()
    agent = shop.app.signature(NAP, args=({"end": "refused"},))
    sent = agent.apply_async(link_error=shop.sign("on_error", page))
    with pytest.raises(Exception, match="sleep at home"):
        sent.get(timeout=PATIENCE)
    eventually(lambda: shop.lines(page), PATIENCE, "the error callback")
    message = state.client.hget(state.keys.task(sent.id), "message")
    queue = state.settings.overflow_queue("napper")
    state.client.rpush(queue, message)
    state.client.lpush(wake(queue), "1")
    eventually(lambda: is_free(state) and not state.client.llen(queue), PATIENCE, "its delivery")
    assert nap(shop, "after").get(timeout=PATIENCE) == {"note": "after"}
    assert sent.state == "FAILURE"
    assert len(shop.lines(page)) == 1


def test_a_task_that_kills_its_workers_has_failed_for_celery_too(
    shop: Shop, state: Connection, busy: None
) -> None:
    sent = chord([poison(shop), shop.sign("add", 1, 1)], shop.sign("echo"))()
    agent = sent.parent.results[0]
    eventually(lambda: state.client.exists(state.keys.task(agent.id)), PATIENCE)
    for _ in range(MAX_CRASHES):
        state.tasks.records.begin(claimed(state, agent.id, seconds=0))
        reap(state)
    assert state.tasks.records.state(agent.id) == "failed"
    task_of(state, state.tasks.records.running()[0]).cancel()
    with pytest.raises(Exception, match="its worker died in 3 attempts"):
        agent.get(timeout=PATIENCE)
    until(lambda: sent.state, "FAILURE")


def test_a_task_whose_process_is_killed_runs_again_at_once_and_nothing_has_failed_for_celery(
    shop: Shop, state: Connection
) -> None:
    with only(state, "forked"), listening(shop.app) as monitor:
        sent = nap(shop, "again", seconds=2)
        kill_the_process_of(shop, state, sent.id)
        killed = time.monotonic()
        eventually(
            lambda: state.tasks.records.read(sent.id).attempts == 2, PATIENCE, "the second run"
        )
        # Its lease was renewed within the last second.
        assert time.monotonic() - killed < LEASE_SECONDS - 1.5
        assert sent.get(timeout=PATIENCE) == {"note": "again"}
        until(lambda: "succeeded" in monitor.heard[sent.id], True)
    assert "failed" not in monitor.heard[sent.id]
    record = state.tasks.records.read(sent.id)
    assert (record.state, record.attempts, record.crashes) == ("succeeded", 2, 1)
    eventually(lambda: is_free(state), PATIENCE)


def test_a_hard_time_limit_ends_an_agents_task(shop: Shop, state: Connection) -> None:
    with only(state, "forked"):
        sent = nap(shop, seconds=60, time_limit=1)
        with pytest.raises(TimeLimitExceeded):
            sent.get(timeout=PATIENCE)
        eventually(lambda: state.tasks.records.state(sent.id) == "failed", PATIENCE, "the end")
        with pytest.raises(TaskTimedOut, match="hard time limit of 1 s"):
            task_of(state, sent.id).result(timeout=PATIENCE)
        eventually(lambda: is_free(state), PATIENCE)
        assert nap(shop, "next").get(timeout=PATIENCE) == {"note": "next"}


def test_a_soft_time_limit_stops_an_agent(shop: Shop, state: Connection) -> None:
    with only(state, "forked"):
        # As many as would take the slots of both processes for good.
        stopped = [nap(shop, seconds=60, soft_time_limit=1) for _ in range(4)]
        for each in stopped:
            with pytest.raises(Exception, match="SoftTimeLimitExceeded"):
                each.get(timeout=PATIENCE)
            assert state.tasks.records.state(each.id) == "failed"
        assert [nap(shop, str(n)).get(timeout=PATIENCE)["note"] for n in range(4)] == list("0123")


@contextmanager
def only(state: Connection, pool: str) -> Iterator[None]:
    """No other pool takes anything meanwhile."""
    other = "forked" if pool == "threads" else "threads"
    state.routing.pools.maintain(other, True)
    try:
        yield
    finally:
        state.routing.pools.maintain(other, False)


def kill_the_process_of(shop: Shop, state: Connection, task_id: str) -> None:
    eventually(lambda: state.tasks.records.state(task_id) == "running", PATIENCE)
    (process,) = (each["worker_pid"] for each in shop.told("prefork", "active"))
    os.kill(process, signal.SIGKILL)


def poison(shop: Shop) -> Any:
    return shop.app.signature(NAP, args=({"note": "poison"},))


def claimed(state: Connection, task_id: str, seconds: float) -> Lease:
    """The lease of a worker that says no more."""
    found: list[Lease | str] = []

    def is_claimed() -> bool:
        name = f"{task_id} {time.monotonic()}"
        found.append(
            state.tasks.records.claim(task_id, "gone", "threads", seconds, name, "default", "")
        )
        return isinstance(found[-1], Lease)

    # A worker that has fetched it ahead of a slot holds it for a moment.
    eventually(is_claimed, PATIENCE, "the lease")
    lease = found[-1]
    assert isinstance(lease, Lease)
    return lease


def test_a_rate_limited_task_waits_in_its_worker_and_runs_once(
    shop: Shop, state: Connection
) -> None:
    for execution in ("threads", "prefork"):
        shop.order(execution, "rate_limit", task_name=NAP, rate_limit="2/s")
    began = time.monotonic()
    try:
        # More than the fleet has slots, so that each worker holds some back for seconds.
        sent = [nap(shop, str(n)) for n in range(8)]
        # What a worker holds back is not taken for lost.
        done = reap(state)
        assert not any(done[what] for what in ("republished", "dropped"))
        assert [each.get(timeout=PATIENCE)["note"] for each in sent] == [str(n) for n in range(8)]
    finally:
        for execution in ("threads", "prefork"):
            shop.order(execution, "rate_limit", task_name=NAP, rate_limit=0)
    assert time.monotonic() - began > 1
    records = [state.tasks.records.read(each.id) for each in sent]
    assert [record.attempts for record in records] == [1] * 8
    eventually(lambda: is_free(state), PATIENCE)


@pytest.mark.parametrize("queue", [None, THREADS_QUEUE])
def test_agents_and_plain_tasks_share_the_slots_of_a_worker(
    shop: Shop, state: Connection, queue: str | None
) -> None:
    page = shop.page()
    state.routing.pools.maintain("forked", True)
    try:
        agents = {"note": "", "seconds": 0.03, "counted": page}
        sent = []
        for task in ["count_me", "count_me_early"] * 30:
            sent.append(shop.app.send_task(NAP, args=[agents]))
            sent.append(shop.send(task, page, 0.03, queue=queue))
        for each in sent:
            each.get(timeout=PATIENCE)
    finally:
        state.routing.pools.maintain("forked", False)
    assert 2 <= max(map(int, shop.lines(page))) <= THREADS


def test_a_chord_of_agents_hands_their_results_to_its_callback(
    shop: Shop, state: Connection
) -> None:
    header = [
        shop.app.signature(NAP, args=({"note": str(n)},), kwargs={"tenant": "acme"})
        for n in range(4)
    ]
    sent = chord(header, shop.sign("echo"))()
    assert sent.get(timeout=PATIENCE) == [{"note": str(n)} for n in range(4)]
    for each in sent.parent.results:
        record = state.tasks.records.read(each.id)
        assert (record.state, record.tenant) == ("succeeded", "acme")
        assert record.ranking is not None


@pytest.mark.parametrize("queue", [None, THREADS_QUEUE, PREFORK_QUEUE])
def test_a_step_of_a_chain_that_is_an_agents_is_routed_by_fleet(
    shop: Shop, state: Connection, queue: str | None
) -> None:
    agent = shop.app.signature(NAP, args=({"note": "second"},), immutable=True)
    options = {"options": {"queue": queue}} if queue else {}
    sent = chain(shop.sign("add", 1, 1, **options), agent, shop.sign("echo"))()
    assert sent.get(timeout=PATIENCE) == {"note": "second"}
    record = state.tasks.records.read(sent.parent.id)
    assert record.ranking is not None
    assert record.routed in ("threads", "forked")


@pytest.mark.parametrize("queue", [None, PREFORK_QUEUE])
def test_a_plain_task_may_be_replaced_by_an_agents(
    shop: Shop, state: Connection, queue: str | None
) -> None:
    sent = shop.send("ask_an_agent", "replaced", queue=queue)
    assert sent.get(timeout=PATIENCE) == {"note": "replaced"}
    assert state.tasks.records.read(sent.id).ranking is not None


def bounded(shop: Shop, count: int) -> list[Any]:
    """Agents' tasks of a tenant that may have two at once."""
    sign = shop.app.signature
    return [sign(NAP, args=({},), kwargs={"tenant": "bounded"}, immutable=True)] * count


def test_a_chord_of_agents_that_fits_no_limit_as_a_whole_is_not_sent(
    shop: Shop, state: Connection
) -> None:
    newest = [record.id for record in state.tasks.records.newest(1)]
    with pytest.raises(OverLimit, match="tenant bounded"):
        chord(bounded(shop, 4), shop.sign("echo"))()
    assert [record.id for record in state.tasks.records.newest(1)] == newest
    assert chord(bounded(shop, 2), shop.sign("echo"))().get(timeout=PATIENCE)


@pytest.mark.parametrize("kind", ["chord", "group", "callback", "replacement", "after an agent"])
def test_a_later_step_that_fits_no_limit_fails_its_chain_and_calls_its_error_back(
    shop: Shop, state: Connection, kind: str
) -> None:
    page, newest = shop.page(), [record.id for record in state.tasks.records.newest(1)]
    told, first = shop.sign("on_error", page), shop.sign("add", 1, 1)
    if kind == "chord":
        sent = chain(first, group(bounded(shop, 4)), shop.sign("echo"))
    elif kind == "group":
        sent = chain(first, group(bounded(shop, 4)))
    elif kind == "after an agent":
        sent = chain(poison(shop), group(bounded(shop, 4)), shop.sign("echo"))
        newest = []
    elif kind == "callback":
        sent = first.clone()
        sent.link(group(bounded(shop, 4)))
    else:
        sent = shop.sign("replaced_by", group(bounded(shop, 4)))
    result = sent.on_error(told).apply_async()
    eventually(lambda: shop.lines(page), PATIENCE, "the error callback")
    assert "tenant bounded" in shop.lines(page)[0]
    until(lambda: bool(result.ready()), True)
    with pytest.raises(Exception, match="tenant bounded"):
        result.get(timeout=PATIENCE)
    sent_all_the_same = [r.id for r in state.tasks.records.newest(1) if r.tenant == "bounded"]
    assert not set(sent_all_the_same) - set(newest)


@pytest.mark.parametrize("reason", ["one argument", "encoder"])
@pytest.mark.parametrize("kind", ["chord", "group"])
def test_a_later_step_that_can_be_sent_at_no_time_fails_its_chain(
    shop: Shop, kind: str, reason: str
) -> None:
    if reason == "encoder":
        bad = shop.sign("echo", 1, serializer="none-such").set(immutable=True)
    else:
        # The answer of the step before it makes an argument too many.
        bad = shop.app.signature(NAP, args=({},))
    steps = [shop.sign("add", 1, 1), group([*bounded(shop, 1), bad])]
    sent = chain(*steps, *([shop.sign("echo")] if kind == "chord" else []))()
    until(lambda: bool(sent.ready()), True)
    with pytest.raises(Exception, match=reason):
        sent.get(timeout=PATIENCE)


def test_a_cancelled_agent_fails_its_chord_with_a_word(shop: Shop, state: Connection) -> None:
    header = [shop.app.signature(NAP, args=({"seconds": 60},)), shop.sign("add", 1, 1)]
    sent = chord(header, shop.sign("echo"))()
    agent = sent.parent.results[0].id
    eventually(lambda: state.client.exists(state.keys.task(agent)), PATIENCE)
    eventually(lambda: state.tasks.records.state(agent) == "running", PATIENCE)
    task_of(state, agent).cancel()
    until(lambda: sent.state, "FAILURE")
    assert "cancelled" in str(sent.result)


def test_an_agents_task_may_be_a_callback(shop: Shop, state: Connection) -> None:
    agent = shop.app.signature(NAP, args=({"note": "called"},), immutable=True)
    sent = shop.send("add", 1, 1, link=agent)
    assert sent.get(timeout=PATIENCE) == 2
    eventually(lambda: sent.children, PATIENCE)
    assert sent.children[0].get(timeout=PATIENCE) == {"note": "called"}
    assert state.tasks.records.read(sent.children[0].id).ranking is not None


def test_a_group_of_agents_gives_its_results_in_order(shop: Shop) -> None:
    naps = group(shop.app.signature(NAP, args=({"note": str(n)},)) for n in range(3))()
    assert naps.get(timeout=PATIENCE) == [{"note": str(n)} for n in range(3)]
