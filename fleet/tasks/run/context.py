"""The context of a running agent: its models, its progress, its checkpoints, its bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from fleet.agent import ModelReply
from fleet.tasks.run.billing import Question
from fleet.tasks.run.model_session import ModelSession
from fleet.tasks.run.tools import RunTools
from fleet.tasks.store import Lease, Tasks
from fleet.text import made_whole
from fleet.untrusted import RULE, Tool, Untrusted, marked_prompt


class RunContext:
    """Implements `fleet.agent.AgentContext` for one run."""

    def __init__(
        self,
        lease: Lease,
        tasks: Tasks,
        session: ModelSession,
        read_roots: tuple[Path, ...],
        sandbox: Literal["auto", "bubblewrap", "landlock", "rlimits"],
        tools: Mapping[str, Tool] = MappingProxyType({}),
    ) -> None:
        self.task_id = lease.task_id
        self.tenant = lease.tenant
        self.request_type = lease.request_type
        self.complexity = lease.complexity
        self.read_roots = read_roots
        self.sandbox: Literal["auto", "bubblewrap", "landlock", "rlimits"] = sandbox
        self._lease = lease
        self._tasks = tasks
        self._session = session
        self._checkpoints = session.checkpoints
        self._tools = RunTools(tools, lease.grants, session.checkpoints)

    async def ask(
        self,
        prompt: str,
        *,
        instructions: str = "",
        max_tokens: int = 1024,
        temperature: float = 0.0,
        save_as: str = "",
        untrusted: Sequence[Untrusted] = (),
    ) -> ModelReply:
        """Ask the task's model, or the next best if it fails. Every call is charged to the task."""
        if untrusted:
            await self._tools.note_read([text.source for text in untrusted])
            prompt = marked_prompt(prompt, untrusted)
            instructions = f"{instructions} {RULE}".strip()
        asked = made_whole(prompt), made_whole(instructions)
        question = Question(*asked, max_tokens, temperature)
        return await self._session.ask(question, save_as)

    async def escalate(self, reason: str, score: float = 0.0) -> bool:
        """Switch to the next stronger model; False if there is none."""
        return await self._session.escalate(made_whole(reason), score)

    async def use(self, tool: str, **arguments: Any) -> Any:
        """Use a tool, if the task may use it now. Raises `NotAllowed`."""
        return await self._tools.use(tool, arguments)

    async def report(self, progress: str) -> None:
        """Show a line of progress with the task. Raises `LeaseLost` if another run has the task."""
        await asyncio.to_thread(self._tasks.report, self._lease, progress=made_whole(progress))

    async def save(self, name: str, value: Any) -> None:
        """Save a value for the next run of the task."""
        await asyncio.to_thread(self._checkpoints.save, name, value)

    def saved(self, name: str, default: Any = None) -> Any:
        """The value that this run or an earlier one saved under a name, or the default."""
        return self._checkpoints.get(name, default)

    async def once(self, name: str, make: Callable[[], Awaitable[Any]]) -> Any:
        """The value saved under a name; if there is none, make it and save it now."""
        if name not in self._checkpoints:
            await self.save(name, await make())
        return self.saved(name)
