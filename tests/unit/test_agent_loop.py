"""The loop in which agents run: what comes out of it is what came out of the coroutine."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError
from contextvars import ContextVar

import pytest

from fleet.worker.event_loop import LoopThread

PATIENCE_SECONDS = 30.0
NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


@pytest.fixture(scope="module")
def loop() -> LoopThread:
    return LoopThread()


async def twice(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def test_each_coroutine_gives_its_own_result(loop: LoopThread) -> None:
    futures = [loop.submit(twice(number)) for number in range(50)]
    assert [each.result(PATIENCE_SECONDS) for each in futures] == [2 * n for n in range(50)]


def test_an_error_comes_out(loop: LoopThread) -> None:
    async def fails() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        loop.submit(fails()).result(PATIENCE_SECONDS)


def test_a_cancelled_future_cancels_its_coroutine(loop: LoopThread) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def waits() -> None:
        begun.set()
        try:
            await asyncio.sleep(PATIENCE_SECONDS)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    future = loop.submit(waits())
    assert begun.wait(PATIENCE_SECONDS)
    assert future.cancel()
    assert cancelled.wait(PATIENCE_SECONDS)
    with pytest.raises(CancelledError):
        future.result(PATIENCE_SECONDS)


def test_a_coroutine_that_ends_by_its_own_cancellation_is_a_cancelled_future(
    loop: LoopThread,
) -> None:
    async def gives_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(CancelledError):
        loop.submit(gives_up()).result(PATIENCE_SECONDS)


def test_a_coroutine_sees_the_context_of_who_submits_it(loop: LoopThread) -> None:
    async def name() -> str:
        return NAME.get()

    NAME.set("caller")
    assert loop.submit(name()).result(PATIENCE_SECONDS) == "caller"
