"""Redis, and the way to it: connections cut, Valkey killed or full, packets dropped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import fault_rows
import pytest
from fault_rows import shown
from fleet_side import LEASE_SECONDS, VISIBILITY_SECONDS, FleetSide
from full_disk import full_disk
from sides import await_ready, sized, until
from tcp_proxy import Proxy

from fleet.errors import FleetError, RetryLater, Unavailable

QUIET = 40.0
MAX_SECONDS_TO_RESUME = 30.0
MORE_BYTES = 1024 * 1024


def test_of_a_redelivered_task_one_run_is_alive(side: FleetSide) -> None:
    found = fault_rows.redeliver(side, sized(VISIBILITY_SECONDS + 0.5, 16), QUIET)
    print(shown("redelivery", side, found))
    assert found["runs"] == 1
    assert found["effects"] == 1
    side.await_ends(found["ids"], 20)
    side.check(found["ids"])


def test_what_was_acknowledged_outlives_valkey(side: FleetSide) -> None:
    found = fault_rows.kill_valkey(side, int(sized(1, 5)), QUIET)
    print(shown("Valkey killed", side, found))
    assert not found["missing"]
    assert found["drained after s"] <= MAX_SECONDS_TO_RESUME
    # The agents are taken for dead for a moment where the restart outlasts their silence.
    refused, of_the_kill = set(found["refused"]), {"Unavailable", "PartlySubmitted"}
    assert refused & of_the_kill
    assert refused <= {*of_the_kill, "NoAgentAvailable"}
    assert side.workers.fallen() == []
    tasks = found["ids"]
    side.await_ends(tasks, 30)
    assert side.states(tasks) == {"succeeded": len(tasks)}
    side.check(tasks)


def test_celery_is_told_once_of_tasks_that_end_while_valkey_is_away(side: FleetSide) -> None:
    away = LEASE_SECONDS + sized(2, 20)
    found = fault_rows.valkey_away_at_the_end(side, int(sized(24, 200)), away, QUIET)
    print(shown("Valkey away at the end", side, found))
    tasks = found["ids"]
    side.await_ends(tasks, 40)
    assert side.states(tasks) == {"succeeded": len(tasks)}
    for key in ("lost", "error callback run", "both", "callback twice", "neither"):
        assert found[key] == 0, found
    results = [side.celery.AsyncResult(task) for task in tasks]
    assert all(result.get(timeout=20)["run"] for result in results)
    assert {result.state for result in results} == {"SUCCESS"}
    assert side.workers.fallen() == []
    side.check(tasks)


@contextmanager
def cut_off(side: FleetSide) -> Iterator[tuple[Proxy, str]]:
    """A pool of two workers, of which one speaks to Redis through a network of its own; that, and
    a task that runs there."""
    with Proxy(side.broker.port) as proxy:
        far = side.broker.url.replace(str(side.broker.port), str(proxy.port))
        side.start("far", pool="apart", FLEET_BROKER_URL=far)
        side.start("near", pool="apart")
        await_ready(side, "far", "near")
        near = side.agent("near")
        side.fleet.drain(near)
        (task,) = side.send_to("apart", 1, seconds=sized(4, 30))
        assert until(lambda: side.runs.of(task), 30)
        side.fleet.resume(near)
        yield proxy, task


def test_a_worker_resumes_after_a_partition_and_nothing_is_done_twice(side: FleetSide) -> None:
    with cut_off(side) as (proxy, task):
        proxy.drop_packets()
        cut = time.monotonic()
        assert until(lambda: len(side.runs.of(task)) > 1, QUIET), "no other took the task"
        first, second = side.runs.of(task)[:2]
        until(lambda: time.monotonic() - cut > sized(0, 60), 70)
        proxy.heal()
        healed = time.monotonic()
        pid = side.workers.running["far"].pid

        def resumed() -> bool:
            more = side.send_to("apart", 4, seconds=0.1)
            side.await_ends(more, 30)
            return any(run.pid == pid for each in more for run in side.runs.of(each))

        assert until(resumed, MAX_SECONDS_TO_RESUME)
        took = time.monotonic() - healed
        side.await_ends([task], 60)
        assert side.runs.is_over(first)
        effects = side.runs.effects(task)
        told = {"resumed after s": round(took, 1), "effects": effects}
        told["stopped before the next began, s"] = round(second.begun - (first.over or 0), 2)
        print(shown("partition", side, told))
        assert took <= MAX_SECONDS_TO_RESUME
        assert effects == 1
        assert side.runs.max_at_once(task) == 1
        side.check([task])


def test_a_full_valkey_is_loud_and_loses_nothing(side: FleetSide) -> None:
    side.start("one")
    await_ready(side, "one")
    client, acknowledged = side.broker.client, []
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory", used + MORE_BYTES)
    try:
        with pytest.raises(Unavailable, match="Redis cannot take the call now"):
            while True:
                acknowledged += side.send(1, 0.1)
        # What runs meets the bound too, and is not lost for it.
        until(lambda: not side.in_flight(), 3)
    finally:
        client.config_set("maxmemory", 0)
    began = time.monotonic()
    side.await_ends(acknowledged, max(60, len(acknowledged) / 4))
    took = round(time.monotonic() - began, 1)
    told = {"acknowledged": len(acknowledged), **side.states(acknowledged), "drained after s": took}
    print(shown("out of memory", side, told))
    assert side.states(acknowledged) == {"succeeded": len(acknowledged)}
    side.check(acknowledged)


def test_a_fleet_outlives_a_full_disk_without_a_restart(side: FleetSide) -> None:
    """It lasts longer than an agent may be silent, so that none is left in the registry."""
    for name in ("one", "two"):
        side.start(name)
    side.start("forked", "prefork")
    await_ready(side, "one", "two", "forked")
    pids = {name: process.pid for name, process in side.workers.running.items()}
    before = side.send(8, VISIBILITY_SECONDS / 2)
    said = set()
    with full_disk(side.broker.client):
        # Some workers miss their record too, as where it has been deleted.
        side.broker.client.config_set("save", "")
        side.state.client.delete(side.state.keys.agent(side.agent("one")))
        side.broker.client.config_set("save", "3600 1")
        ends = time.monotonic() + VISIBILITY_SECONDS + sized(2, 10)
        while time.monotonic() < ends:
            with pytest.raises(FleetError) as told:
                side.send(1, 0.0)
            said.add(type(told.value))
            # The pace of the caller; nothing is hoped of it.
            time.sleep(0.2)
    healed = time.monotonic()
    assert said == {Unavailable}
    assert until(lambda: all(map(side.ready, ("one", "two", "forked"))), 10)
    after = side.send(8, 0.0) + side.send(2, 0.0, "prefork")
    took = round(time.monotonic() - healed, 1)
    side.await_ends(before + after, 40)
    print(shown("full disk", side, {"submits again after s": took}))
    assert side.workers.fallen() == []
    assert {name: process.pid for name, process in side.workers.running.items()} == pids
    assert side.states(after) == {"succeeded": len(after)}
    side.check(before + after)


def test_ten_times_the_load_is_refused_with_a_type_and_leaves_nothing(side: FleetSide) -> None:
    """Of a tenant that may have a bounded number of tasks at once."""
    for name in ("one", "two"):
        side.start(name)
    await_ready(side, "one", "two")
    client, acknowledged, refused = side.broker.client, [], 0
    used, most = client.info("memory")["used_memory"], 0
    seconds = sized(2, 60)
    # Sixteen slots do 40 tasks of 0.4 s in a second.
    began = time.monotonic()
    # A slow machine takes longer until there are too many.
    while (now := time.monotonic() - began) < seconds or (not refused and now < 30):
        due = int(now * 400)
        while len(acknowledged) + refused < due:
            try:
                acknowledged += side.send_to("threads", 1, tenant="bounded", seconds=0.4)
            except RetryLater as error:
                assert error.retry_after > 0
                refused += 1
        most = max(most, client.info("memory")["used_memory"])
        until(lambda: time.monotonic() - began > now + 0.05, 1)
    side.await_ends(acknowledged, 120)
    again = side.send_to("threads", 8, tenant="bounded", seconds=0.0)
    side.await_ends(again, 20)
    more = round((most - used) / 1e6, 1)
    told = {"taken": len(acknowledged), "refused": refused, "MB more": more}
    print(shown("10x overload", side, told))
    assert refused > 0
    assert side.states(acknowledged) == {"succeeded": len(acknowledged)}
    assert most - used < 100e6
    side.check([*acknowledged, *again])
