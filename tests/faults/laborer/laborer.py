"""An agent whose runs can be counted from outside, for the tests that break things."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

from labor_diary import note

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result
from fleet.errors import RetryLater

AGAIN_SECONDS = 0.2


class Labor(Payload):
    """`ask` calls the model once; `deadly` kills the process that runs the task; `fails` raises."""

    seconds: float = 0.0
    ask: bool = False
    deadly: bool = False
    fails: bool = False


class Labored(Result):
    run: str


class Laborer:
    def __init__(self) -> None:
        time.sleep(float(os.environ.get("LABOR_START_SECONDS", 0)))

    async def run(self, payload: Labor, context: AgentContext) -> Outcome:
        run = uuid4().hex
        note("begun", context.task_id, run)
        try:
            return await self._labor(payload, context, run)
        except BaseException:
            note("stopped", context.task_id, run)
            raise

    async def _labor(self, payload: Labor, context: AgentContext, run: str) -> Outcome:
        if payload.deadly:
            await asyncio.sleep(payload.seconds)
            os.kill(os.getpid(), signal.SIGKILL)
        if payload.ask:
            question = f"{context.task_id} {run}"
            await retry_while_away(lambda: context.ask(question, max_tokens=100))
        await asyncio.sleep(payload.seconds)
        if payload.fails:
            raise ArithmeticError("dropped the hammer")
        # Whoever has lost the task is told so here, before the effect.
        await retry_while_away(lambda: context.report("done"))
        note("done", context.task_id, run)
        return Outcome("succeeded", Labored(run=run), "labored")


async def retry_while_away(call: Callable[[], Awaitable[object]]) -> None:
    """Try for as long as it is somebody else's fault. The lease bounds it."""
    while True:
        try:
            await call()
            return
        except RetryLater:
            await asyncio.sleep(AGAIN_SECONDS)


SPEC = AgentSpec("laborer", Labor, Labored, "laborer:Laborer")
