"""An agent of a user's own, for the tests: it handles secrets carelessly."""

from __future__ import annotations

import asyncio
import os
from typing import Literal

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result


class Spill(Payload):
    end: Literal["well", "asked", "raised", "slow"] = "well"


class Spilled(Result):
    text: str


class Spiller:
    async def run(self, payload: Spill, context: AgentContext) -> Outcome:
        password = os.environ["FLEET_FLOWER_PASSWORD"]
        address = os.environ["FLEET_BROKER_URL"]
        reply = await context.ask("hello")
        if payload.end == "raised":
            raise ConnectionError(f"GET {address} with {password}: refused")
        if payload.end == "slow":
            await asyncio.sleep(60)
        return Outcome("succeeded", Spilled(text=reply.text), "asked the model")


SPEC = AgentSpec("spiller", Spill, Spilled, "spiller:Spiller")
