"""The tools of one run: which it may use, and whether it has read text of strangers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.agent import named
from fleet.errors import NotAllowed
from fleet.tasks.run.checkpoints import Checkpoints
from fleet.telemetry.logger import get_logger
from fleet.untrusted import Grants, Tool, Untrusted, needs_memory, refusal_to_use

MEMORY = "fleet:untrusted"
"""The checkpoint by which a later run of the task knows what an earlier one has read."""

log = get_logger(__name__)


class RunTools:
    """Every use of a tool, and every text of strangers, passes here."""

    def __init__(
        self, tools: Mapping[str, Tool], grants: Grants, checkpoints: Checkpoints
    ) -> None:
        self.tools = tools
        self.grants = grants
        self.has_read_untrusted = grants.untrusted or MEMORY in checkpoints
        self._checkpoints = checkpoints
        self._is_noted = self.has_read_untrusted or not needs_memory(tools, grants)
        self._noting = asyncio.Lock()

    async def note_read(self, sources: Sequence[str]) -> None:
        """Note that the run is about to read text of strangers. From now on no outward tool begins
        without approval, in this run and in later runs of the task."""
        self.has_read_untrusted = True
        async with self._noting:
            if not self._is_noted:
                await asyncio.to_thread(self._checkpoints.save, MEMORY, list(sources))
                self._is_noted = True

    async def use(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Use a tool. Raises `NotAllowed`."""
        task = self._checkpoints.lease.task_id
        reason = refusal_to_use(name, self.tools, self.grants, self.has_read_untrusted)
        if reason:
            log.warning("the use of a tool was refused", task=task, tool=name, reason=reason)
            raise NotAllowed(reason)
        tool = self.tools[name]
        if tool.is_outward:
            by = self.grants.by if name in self.grants.approved else ""
            log.info("an outward tool is used", task=task, tool=name, approved_by=by)
        if tool.reads_untrusted:
            await self.note_read([f"tool {name}"])
        found = await named(tool.implementation)(**arguments)
        if tool.reads_untrusted and isinstance(found, str):
            return Untrusted(found, f"tool {name}")
        return found
