"""Fleet's side: an agent that waits as long as it is told."""

from __future__ import annotations

import asyncio
import time

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result
from sleeper.diary import note, seconds_here


class Nap(Payload):
    number: int
    work: float


class Rested(Result):
    number: int


class Sleeper:
    async def run(self, payload: Nap, context: AgentContext) -> Outcome:
        started = time.time()
        await asyncio.sleep(seconds_here(payload.work))
        note(payload.number, started)
        return Outcome("succeeded", Rested(number=payload.number), "slept")


SPEC = AgentSpec("sleeper", Nap, Rested, "sleeper.agent:Sleeper")
