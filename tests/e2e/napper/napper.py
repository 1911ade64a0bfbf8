"""An agent of a user's own, for the tests: it sleeps, and then does as it was told."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result
from fleet.errors import NotAllowed


class Nap(Payload):
    seconds: float = 0.0
    end: Literal["well", "unverified", "refused", "broken"] = "well"
    note: str = ""
    diary: str = ""
    counted: str = ""
    """The page of the shop's diary on which to count how many run at once."""
    deaf: bool = False
    """Sleep so that nobody can wake it."""


class Rested(Result):
    note: str


def _write(payload: Nap) -> None:
    with Path(payload.diary).open("a") as diary:
        diary.write(f"{payload.note}\n")


def _counted(page: str) -> AbstractContextManager[None]:
    if not page:
        return nullcontext()
    from shop_tasks import counted

    return counted(page)


class Napper:
    async def run(self, payload: Nap, context: AgentContext) -> Outcome:
        await context.report("asleep")
        if payload.diary:
            _write(payload)
        if payload.deaf:
            time.sleep(payload.seconds)  # noqa: ASYNC251 - as bad agents do
        with _counted(payload.counted):
            await asyncio.sleep(payload.seconds)
        if payload.end == "refused":
            raise NotAllowed("no naps here; sleep at home")
        if payload.end == "broken":
            raise ZeroDivisionError("fell out of bed")
        state: Literal["succeeded", "unverified"] = (
            "succeeded" if payload.end == "well" else "unverified"
        )
        return Outcome(state, Rested(note=payload.note), f"slept {payload.seconds:g} s")


SPEC = AgentSpec("napper", Nap, Rested, "napper:Napper")
