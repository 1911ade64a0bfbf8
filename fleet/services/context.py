"""What a running agent is handed: its models, its progress, and the bounds it works in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

from fleet.agent import ModelReply
from fleet.services.call_ends import Question
from fleet.services.model_steps import ModelSteps
from fleet.state.tasks import Lease, Tasks


class RunContext:
    """The context of one run, see `fleet.agent.AgentContext`."""

    def __init__(
        self,
        lease: Lease,
        tasks: Tasks,
        models: ModelSteps,
        read_roots: tuple[Path, ...],
        sandbox: Literal["auto", "bubblewrap", "rlimits"],
    ) -> None:
        self.task_id = lease.task_id
        self.tenant = lease.tenant
        self.request_type = lease.request_type
        self.complexity = lease.complexity
        self.read_roots = read_roots
        self.sandbox: Literal["auto", "bubblewrap", "rlimits"] = sandbox
        self._lease = lease
        self._tasks = tasks
        self._models = models

    async def ask(
        self,
        prompt: str,
        *,
        instructions: str = "",
        max_tokens: int = 1024,
        temperature: float = 0.0,
    ) -> ModelReply:
        """Ask the task's model, and the next best where it fails; all is charged to the task."""
        return await self._models.ask(Question(prompt, instructions, max_tokens, temperature))

    async def escalate(self, reason: str, score: float = 0.0) -> bool:
        """Go on with the next stronger model, where there is one."""
        return await self._models.escalate(reason, score)

    async def report(self, progress: str) -> None:
        """Show a line with the task. Raises `LeaseLost` where another run has it now."""
        await asyncio.to_thread(self._tasks.report, self._lease, progress=progress)
