"""The slots that agents and plain tasks of a process share."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from threading import Event

import pytest

from fleet.tasks.leases.slots import TaskSlots
from fleet.worker.slot_threads import SlotThreads

PATIENCE_SECONDS = 30.0
AGENT_TASKS = frozenset({"agents.napper"})


def plain(slots: SlotThreads, work):  # type: ignore[no-untyped-def]
    """A plain task, as Celery's pool hands it over."""
    return slots.submit(lambda target, arguments: target(), work, ("shop.add", "id"))


def agents(slots: SlotThreads, work):  # type: ignore[no-untyped-def]
    return slots.submit(lambda target, arguments: target(), work, ("agents.napper", "id"))


class Asked:
    """Who asks for slots, and whether they are its own now."""

    def __init__(self, slots: TaskSlots, wanted: int = 1) -> None:
        self.has_them = False
        self.request = slots.request(self.granted, wanted)

    def granted(self) -> None:
        self.has_them = True


def test_who_has_asked_first_gets_the_next_slot() -> None:
    slots = TaskSlots(1)
    held, first, second = Asked(slots), Asked(slots), Asked(slots)
    slots.release()
    assert (held.has_them, first.has_them, second.has_them) == (True, True, False)


def test_who_wants_none_any_more_is_passed_over() -> None:
    slots = TaskSlots(1)
    _, first, second = Asked(slots), Asked(slots), Asked(slots)
    slots.withdraw(first.request)
    slots.release()
    assert (first.has_them, second.has_them) == (False, True)
    slots.withdraw(second.request)
    assert Asked(slots).has_them


def test_who_asks_for_all_waits_until_all_others_have_ended_and_nobody_begins_before() -> None:
    slots = TaskSlots(3)
    Asked(slots), Asked(slots)
    alone, later = Asked(slots, wanted=3), Asked(slots)
    slots.release()
    assert not alone.has_them
    slots.release()
    assert (alone.has_them, later.has_them) == (True, False)
    slots.release(3)
    assert later.has_them


def test_those_behind_one_that_wanted_all_begin_when_it_does_not_any_more() -> None:
    slots = TaskSlots(3)
    Asked(slots)
    alone, later, last = Asked(slots, wanted=3), Asked(slots), Asked(slots)
    slots.withdraw(alone.request)
    assert (later.has_them, last.has_them) == (True, True)
    assert not Asked(slots).has_them


def test_an_agent_that_has_waited_too_long_leaves_the_slot_to_others() -> None:
    slots = TaskSlots(1)
    Asked(slots)
    with pytest.raises(TimeoutError):
        asyncio.run(slots.take(timeout_seconds=0.01))
    slots.release()
    assert Asked(slots).has_them


def test_a_slot_that_is_given_to_an_agent_as_it_is_stopped_is_not_lost() -> None:
    slots = TaskSlots(1)

    async def stopped_as_it_is_given() -> None:
        Asked(slots)
        waits = asyncio.create_task(slots.take(timeout_seconds=PATIENCE_SECONDS))
        await asyncio.sleep(0)
        slots.release()
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits

    asyncio.run(stopped_as_it_is_given())
    assert Asked(slots).has_them


def test_a_thread_notifies_an_agent_in_its_loop() -> None:
    slots = TaskSlots(1)

    async def told() -> None:
        await slots.take()
        waits = asyncio.create_task(slots.take(timeout_seconds=PATIENCE_SECONDS))
        await asyncio.sleep(0)
        await asyncio.to_thread(slots.release)
        await waits

    asyncio.run(told())


def test_an_agent_gets_the_slot_of_a_plain_task_that_ends() -> None:
    slots = TaskSlots(1)
    with SlotThreads(2, slots, AGENT_TASKS) as threads:
        goes_on, begun = Event(), Event()

        def work() -> None:
            begun.set()
            goes_on.wait(PATIENCE_SECONDS)

        running = plain(threads, work)
        assert begun.wait(PATIENCE_SECONDS)
        with pytest.raises(TimeoutError):
            asyncio.run(slots.take(timeout_seconds=0.01))
        goes_on.set()
        running.result(PATIENCE_SECONDS)
        asyncio.run(slots.take(timeout_seconds=0.01))


def test_an_agents_task_has_its_thread_without_a_slot_and_a_plain_one_begins_with_one() -> None:
    slots = TaskSlots(1)
    Asked(slots)
    with SlotThreads(2, slots, AGENT_TASKS) as threads:
        waiting = plain(threads, lambda: "plain")
        assert agents(threads, lambda: "agent's").result(PATIENCE_SECONDS) == "agent's"
        assert not waiting.done()
        slots.release()
        assert waiting.result(PATIENCE_SECONDS) == "plain"


def test_a_plain_task_that_fails_gives_its_slot_back() -> None:
    slots = TaskSlots(1)
    with SlotThreads(1, slots, AGENT_TASKS) as threads:
        with pytest.raises(ZeroDivisionError):
            plain(threads, lambda: 1 // 0).result(PATIENCE_SECONDS)
        assert Asked(slots).has_them


def test_a_plain_task_that_waits_for_a_slot_does_not_begin_when_its_worker_ends() -> None:
    slots = TaskSlots(1)
    Asked(slots)
    threads, begun = SlotThreads(1, slots, AGENT_TASKS), []
    waiting = [plain(threads, lambda: begun.append(1)) for _ in range(2)]
    threads.shutdown(cancel_futures=True)
    slots.release()
    for each in waiting:
        with pytest.raises(CancelledError):
            each.result(PATIENCE_SECONDS)
    assert not begun


def test_slots_can_be_limited() -> None:
    slots = TaskSlots(4)
    slots.limit_to(9)
    slots.limit_to(2)
    assert [Asked(slots).has_them for _ in range(3)] == [True, True, False]
