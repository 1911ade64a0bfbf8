"""Fleet's side: an agent that waits as long as it is told, or not at all."""

from __future__ import annotations

import asyncio

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result
from idler.tally import mark


class Idle(Payload):
    seconds: float


class Idled(Result):
    seconds: float


class Idler:
    async def run(self, payload: Idle, context: AgentContext) -> Outcome:
        if payload.seconds:
            await asyncio.sleep(payload.seconds)
        mark()
        return Outcome("succeeded", Idled(seconds=payload.seconds), "idled")


SPEC = AgentSpec("idler", Idle, Idled, "idler.agent:Idler")
