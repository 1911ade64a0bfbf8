"""Workers, and the children of workers, that are killed or stand still."""

from __future__ import annotations

from collections import Counter

import fault_rows
import psutil
import pytest
from fault_rows import shown
from fleet_side import VISIBILITY_SECONDS, FleetSide
from sides import await_ready, sized, until

from fleet.broker.app import RESTORE_SECONDS

QUIET = 40.0
MAX_ATTEMPTS = 3


def test_killed_workers_lose_nothing_and_charge_each_attempt_once(side: FleetSide) -> None:
    count, kills = int(sized(150, 30_000)), int(sized(2, 60))
    before = side.fake.count()

    def send() -> list[str]:
        return side.send(count, 0.02, ask=True)

    found = fault_rows.kill_workers(side, send, kills, QUIET)
    side.await_ends(found["ids"], 60, "after the last kill")
    dead = [task for task, row in side.brief(found["ids"]).items() if row[0] != "succeeded"]
    calls = calls_of(side, before)
    print(shown("worker killed", side, found | {"dead letters": len(dead), "calls": calls.total()}))
    assert found["kills"] == kills
    assert all(row[1] == MAX_ATTEMPTS for row in side.brief(dead).values())
    # A task is lost that has neither its effect nor a dead letter.
    assert found["missing"] <= set(dead)
    every_attempt_is_charged_once(side, found["ids"], calls)
    side.check(found["ids"])


def calls_of(side: FleetSide, before: int) -> Counter[str]:
    """How often the model was asked for each task, as the provider has it; one run asks once."""
    asked = [each.body["messages"][-1]["content"] for each in side.fake.requests()[before:]]
    assert len(set(asked)) == len(asked)
    return Counter(each.split()[0] for each in asked)


def every_attempt_is_charged_once(
    side: FleetSide, tasks: list[str], calls: Counter[str]
) -> None:
    """All that asked the model, and those whose worker died with leave to ask it."""
    rows = side.brief(tasks)
    charged = Counter((e.task, e.attempt) for e in side.entries() if e.task in rows)
    assert set(charged.values()) <= {1}
    entries = Counter(task for task, _ in charged)
    assert [task for task, (_, attempts, _) in rows.items() if entries[task] > attempts] == []
    assert [task for task in rows if calls[task] > entries[task]] == []


def test_a_task_whose_child_is_killed_runs_again(side: FleetSide) -> None:
    found = fault_rows.kill_child(side, QUIET)
    print(shown("pool child killed", side, found))
    assert (found["runs"], found["lost"]) == (2, 0)
    side.await_ends(found["ids"], 20)
    side.check(found["ids"])


def test_a_stalled_holder_is_refused_when_it_comes_back(side: FleetSide) -> None:
    found = fault_rows.stall(side, QUIET)
    print(shown("stalled holder", side, found))
    assert found["taken over"]
    assert not found["the first wrote"]
    assert found["effects"] == 1
    side.await_ends(found["ids"], 20)
    side.check(found["ids"])


def children(side: FleetSide, name: str) -> list[psutil.Process]:
    """The pool children of a worker."""
    return psutil.Process(side.workers.running[name].pid).children()


def test_a_dead_child_is_replaced_at_once(side: FleetSide) -> None:
    """Often enough that Celery looks for some of them a moment too early."""
    side.start("single", pool="lonely")
    await_ready(side, "single")
    # A worker of Celery's whose every child dies before its loop turns gives up.
    side.await_ends(side.send_to("lonely", 1, seconds=0.0), 30, side.workers.log("single")[-2000:])
    for _ in range(8):
        (child,) = children(side, "single")
        child.kill()
        replaced = until(lambda: new_child(side, "single", child), 2)  # noqa: B023
        assert replaced, side.workers.log("single")[-2000:]


def new_child(side: FleetSide, name: str, old: psutil.Process) -> bool:
    found = children(side, name)
    return len(found) == 1 and found[0] != old


@pytest.mark.slow
def test_a_child_that_is_slow_to_start_is_left_to_start(side: FleetSide) -> None:
    side.start("slow", pool="lonely", LABOR_START_SECONDS="6")
    await_ready(side, "slow")
    (child,) = children(side, "slow")
    child.kill()
    assert until(lambda: new_child(side, "slow", child), 10)
    (task,) = side.send_to("lonely", 1, seconds=0.1)
    side.await_ends([task], 30, side.workers.log("slow")[-2000:])
    assert side.states([task]) == {"succeeded": 1}


def test_poison_stops_after_three_runs_and_harms_no_others(side: FleetSide) -> None:
    """In a pool of prefork its child dies, in one of threads the worker with all that it runs."""
    for name in ("one", "two"):
        side.start(name)
    side.start("forked", "prefork")
    await_ready(side, "one", "two", "forked")
    poison, others = {}, {}
    for pool in ("prefork", "threads"):
        # They begin together, and in threads again after each crash.
        others[pool] = side.send_to(pool, 15, seconds=0.5)
        (poison[pool],) = side.send_to(pool, 1, seconds=0.2, deadly=True)
        others[pool] += side.send_to(pool, 5, seconds=0.5)
    tasks = [*poison.values(), *others["prefork"], *others["threads"]]

    def ended() -> bool:
        for name in side.workers.fallen():
            side.workers.kill(name)
            side.start(name)
        return not side.unended(tasks)

    assert until(ended, 120), (side.runs.of(poison["threads"]), side.brief(tasks))
    for pool, task in poison.items():
        crashes = [side.fleet.task(each).record().crashes for each in others[pool]]
        runs, states = len(side.runs.of(task)), side.states(others[pool])
        told = {"runs": runs, "others": dict(states), "their crashes": dict(Counter(crashes))}
        print(shown(f"poison, {pool}", side, told))
        assert runs <= MAX_ATTEMPTS
        assert side.states([task]) == {"failed": 1}
        assert states == {"succeeded": 20}
        assert max(crashes) < MAX_ATTEMPTS
        assert pool == "threads" or max(crashes) == 0
    side.check(tasks)


@pytest.mark.slow
def test_poisons_that_come_one_after_the_other_end_nobody_else(side: FleetSide) -> None:
    """In each of its runs a task that does no harm gets a new poison beside it, in one worker of
    threads. On its last try it runs alone."""
    side.start("ward", pool="wards")
    await_ready(side, "ward")
    (long,) = side.send_to("wards", 1, seconds=4.0)
    poisons: list[str] = []

    def run_begins(number: int) -> bool:
        """And there is a worker for the next poison, or one that comes up."""
        restarted = start_again(side, "ward")
        return not restarted and len(side.runs.of(long)) >= number and side.ready("ward")

    for number in range(1, MAX_ATTEMPTS + 1):
        assert until(lambda: run_begins(number), 60), side.brief([long, *poisons])  # noqa: B023
        poisons += side.send_to("wards", 1, seconds=0.1, deadly=True)
    assert until(lambda: not side.unended([long]), 60), side.brief([long, *poisons])
    record, runs = side.fleet.task(long).record(), len(side.runs.of(long))
    told = {"poisons": len(poisons), "its crashes": record.crashes, "its end": record.state}
    print(shown("poisons one after the other", side, told))
    assert (record.state, record.crashes, runs) == ("succeeded", 2, 3)
    assert not side.runs.of(poisons[-1]) or side.runs.of(poisons[-1])[0].begun > ended(side, long)
    # Nor was it fetched and given back all the while.
    assert side.brief(poisons)[poisons[-1]][1] <= 1
    for poison in poisons:
        side.fleet.task(poison).cancel()
    assert until(lambda: not start_again(side, "ward") and not side.unended(poisons), 60)
    side.check([long, *poisons])


def start_again(side: FleetSide, name: str) -> bool:
    """Whether a worker had to be started again, since it has ended."""
    has_ended = name in side.workers.fallen()
    if has_ended:
        side.workers.kill(name)
        side.start(name, pool="wards")
    return has_ended


def ended(side: FleetSide, task: str) -> float:
    """When its last run was over."""
    return side.runs.of(task)[-1].over or float("inf")


@pytest.mark.slow
def test_a_task_whose_child_stands_still_before_it_claims_goes_to_another(side: FleetSide) -> None:
    """A live worker keeps what it holds, but not what nobody in it begins."""
    side.start("hung", pool="lonely")
    await_ready(side, "hung")
    (child,) = children(side, "hung")
    child.suspend()
    held = side.state.keys.pool("lonely").unacked
    (task,) = side.send_to("lonely", 1, seconds=0.1)
    assert until(lambda: side.state.client.hlen(held) == 1, 20)
    side.start("helping", pool="lonely")
    await_ready(side, "helping")
    waited = until(lambda: side.runs.of(task), VISIBILITY_SECONDS + 2 * RESTORE_SECONDS)
    assert waited, (side.brief([task]), side.workers.log("hung")[-2000:])
    side.await_ends([task], 20)
    child.resume()
    # The delivery that hung is dropped: nothing stays noted, and nothing runs again.
    assert until(lambda: side.state.client.hlen(held) == 0, 20)
    assert len(side.runs.of(task)) == 1
    side.check([task])
