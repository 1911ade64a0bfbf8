"""What a running agent is handed: its model, its progress, and the bounds it works in."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from typing import Literal

from fleet.adapters.model_calls import ModelCaller
from fleet.agent import ModelReply
from fleet.errors import Unavailable
from fleet.state.tasks import Lease, Tasks


class RunContext:
    """The context of one run, see `fleet.agent.AgentContext`."""

    def __init__(
        self,
        lease: Lease,
        tasks: Tasks,
        caller: ModelCaller | None,
        read_roots: tuple[Path, ...],
        sandbox: Literal["auto", "bubblewrap", "rlimits"],
    ) -> None:
        self.task_id = lease.task_id
        self.tenant = lease.tenant
        self.request_type = lease.request_type
        self.complexity = lease.complexity
        self.read_roots = read_roots
        self.sandbox: Literal["auto", "bubblewrap", "rlimits"] = sandbox
        self._model = lease.model
        self._lease = lease
        self._tasks = tasks
        self._caller = caller
        self._calls = count(1)

    async def ask(
        self,
        prompt: str,
        *,
        instructions: str = "",
        max_tokens: int = 1024,
        temperature: float = 0.0,
    ) -> ModelReply:
        """Ask the task's model; what it takes is charged to the task, also if it is cut short."""
        caller = self._reachable()
        call = next(self._calls)
        try:
            reply = await caller.ask(prompt, instructions, max_tokens, temperature)
        except BaseException:
            # The prompt was sent, and what came of it was never seen.
            await self._charge(call, (0, 0), 0, uncertain=True)
            raise
        tokens = (reply.input_tokens, reply.output_tokens)
        await self._charge(call, tokens, reply.cost_nanodollars, uncertain=False)
        return reply

    def _reachable(self) -> ModelCaller:
        if self._caller is None:
            raise Unavailable(
                f"this worker cannot reach model {self._model}: set FLEET_MODEL_URL for a local "
                "one, or its provider's key, for workers and applications alike"
            )
        return self._caller

    async def report(self, progress: str) -> None:
        """Show a line with the task. Raises `LeaseLost` where another run has it now."""
        await asyncio.to_thread(self._tasks.report, self._lease, progress=progress)

    async def _charge(
        self, call: int, tokens: tuple[int, int], cost: int, uncertain: bool
    ) -> None:
        charge = asyncio.to_thread(
            self._tasks.add_usage, self._lease, call, tokens, cost, uncertain
        )
        # A cancellation must not keep the charge from being written.
        await asyncio.shield(asyncio.ensure_future(charge))
