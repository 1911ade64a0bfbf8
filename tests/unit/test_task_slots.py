"""The slots that agents and plain tasks of a process share."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from threading import Event

import pytest

from fleet.runtime.slot_threads import SlotThreads
from fleet.services.task_slots import TaskSlots

PATIENCE_SECONDS = 30.0


def plain(slots: SlotThreads, work):  # type: ignore[no-untyped-def]
    """A plain task, as Celery's pool hands it over."""
    return slots.submit(lambda target, arguments: target(), work, ("shop.add", "id"))


def agents(slots: SlotThreads, work):  # type: ignore[no-untyped-def]
    return slots.submit(lambda target, arguments: target(), work, ("agents.napper", "id"))


def test_who_has_asked_first_gets_the_next_slot() -> None:
    slots = TaskSlots(1)
    held, first, second = slots.ask(), slots.ask(), slots.ask()
    slots.give_back()
    assert (held.done(), first.done(), second.done()) == (True, True, False)


def test_who_wants_none_any_more_is_passed_over() -> None:
    slots = TaskSlots(1)
    _, first, second = slots.ask(), slots.ask(), slots.ask()
    first.cancel()
    slots.give_back()
    assert second.done()
    slots.give_back()
    assert slots.ask().done()


def test_an_agent_that_has_waited_too_long_leaves_the_slot_to_others() -> None:
    slots = TaskSlots(1)
    slots.ask()
    with pytest.raises(TimeoutError):
        asyncio.run(slots.take(0.01))
    slots.give_back()
    assert slots.ask().done()


def test_a_slot_that_is_given_to_an_agent_as_it_is_stopped_is_not_lost() -> None:
    slots = TaskSlots(1)

    async def stopped_as_it_is_given() -> None:
        slots.ask()
        waits = asyncio.create_task(slots.take(PATIENCE_SECONDS))
        await asyncio.sleep(0)
        slots.give_back()
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits

    asyncio.run(stopped_as_it_is_given())
    assert slots.ask().done()


def test_an_agent_gets_the_slot_of_a_plain_task_that_ends() -> None:
    slots = TaskSlots(1)
    with SlotThreads(2, slots) as threads:
        goes_on, begun = Event(), Event()

        def work() -> None:
            begun.set()
            goes_on.wait(PATIENCE_SECONDS)

        running = plain(threads, work)
        assert begun.wait(PATIENCE_SECONDS)
        with pytest.raises(TimeoutError):
            asyncio.run(slots.take(0.01))
        goes_on.set()
        running.result(PATIENCE_SECONDS)
        asyncio.run(slots.take(0.01))


def test_an_agents_task_has_its_thread_without_a_slot_and_a_plain_one_begins_with_one() -> None:
    slots = TaskSlots(1)
    slots.ask()
    with SlotThreads(2, slots) as threads:
        waiting = plain(threads, lambda: "plain")
        assert agents(threads, lambda: "agent's").result(PATIENCE_SECONDS) == "agent's"
        assert not waiting.done()
        slots.give_back()
        assert waiting.result(PATIENCE_SECONDS) == "plain"


def test_a_plain_task_that_fails_gives_its_slot_back() -> None:
    slots = TaskSlots(1)
    with SlotThreads(1, slots) as threads:
        with pytest.raises(ZeroDivisionError):
            plain(threads, lambda: 1 // 0).result(PATIENCE_SECONDS)
        assert slots.ask().done()


def test_a_plain_task_that_waits_for_a_slot_does_not_begin_when_its_worker_ends() -> None:
    slots = TaskSlots(1)
    slots.ask()
    threads, begun = SlotThreads(1, slots), []
    waiting = [plain(threads, lambda: begun.append(1)) for _ in range(2)]
    threads.shutdown(cancel_futures=True)
    slots.give_back()
    for each in waiting:
        with pytest.raises(CancelledError):
            each.result(PATIENCE_SECONDS)
    assert not begun


def test_slots_can_be_limited() -> None:
    slots = TaskSlots(4)
    slots.limit_to(9)
    slots.limit_to(2)
    assert [slots.ask().done() for _ in range(3)] == [True, True, False]
