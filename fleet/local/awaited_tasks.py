"""Which tasks a fleet that stops waits for, told when they change."""

from __future__ import annotations

from fleet.errors import RetryLater
from fleet.settings import Settings
from fleet.tasks.connection import open_connection

SHOWN = 5


class AwaitedTasks:
    """The running tasks of a fleet."""

    def __init__(self, settings: Settings) -> None:
        self._tasks = open_connection(settings).tasks.records
        self._told: list[str] = []

    def news(self) -> str:
        """A sentence, where other tasks are running than at the last call; else nothing. The broker
        of a fleet that stops ends too: then there is no more to tell."""
        try:
            running = sorted(self._tasks.running())
        except RetryLater:
            return ""
        if running == self._told:
            return ""
        self._told = running
        if not running:
            return "no task is running any more"
        more = f" and {len(running) - SHOWN} more" if len(running) > SHOWN else ""
        return f"waiting for running tasks: {', '.join(running[:SHOWN])}{more}"
