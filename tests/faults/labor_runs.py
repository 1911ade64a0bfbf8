"""What became of the work, read from the diary that the workers of a side write."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Run:
    """One run of a task. Moments are seconds of the machine's monotonic clock."""

    task: str
    pid: int
    begun: float
    over: float | None = None
    done: bool = False


class Runs:
    """All runs of a side so far; `look` reads on where the diary was left."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.path = path
        self.all: dict[str, Run] = {}
        self.by_task: dict[str, list[Run]] = defaultdict(list)
        self._read = 0

    def look(self) -> None:
        with self.path.open("rb") as file:
            file.seek(self._read)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(end)
        for line in whole.decode().splitlines():
            self._note(*line.split())

    def _note(self, event: str, task: str, run: str, pid: str, moment: str) -> None:
        if event == "begun":
            self.all[run] = Run(task, int(pid), float(moment))
            self.by_task[task].append(self.all[run])
        else:
            self.all[run].over, self.all[run].done = float(moment), event == "done"

    def of(self, task: str) -> list[Run]:
        self.look()
        return list(self.by_task.get(task, ()))

    def is_over(self, run: Run) -> bool:
        self.look()
        return run.over is not None

    def effects(self, task: str) -> int:
        self.look()
        return self._effects(task)

    def _effects(self, task: str) -> int:
        return sum(run.done for run in self.by_task.get(task, ()))

    def without_effect(self, tasks: Iterable[str]) -> set[str]:
        self.look()
        return {task for task in tasks if not self._effects(task)}

    def twice(self, tasks: Iterable[str]) -> int:
        """How many tasks have had their effect more than once."""
        self.look()
        return sum(self._effects(task) > 1 for task in tasks)

    def begun(self, tasks: Iterable[str]) -> int:
        self.look()
        return sum(len(self.by_task.get(task, ())) for task in tasks)

    def max_at_once(self, task: str) -> int:
        """The most runs of a task that were under way at one moment. One that did not say that it
        was over was killed: it does not count."""
        turns = [(run.begun, 1) for run in self.of(task) if run.over]
        turns += [(run.over, -1) for run in self.of(task) if run.over]
        most = now = 0
        for _, turn in sorted(turns):
            now += turn
            most = max(most, now)
        return most

    def await_effects(
        self, tasks: Collection[str], seconds: float, tick: Callable[[], object] = lambda: None
    ) -> set[str]:
        """Wait until each task has had its effect, or none has for so long; those that have not."""
        missing = self.without_effect(tasks)
        give_up = time.monotonic() + seconds
        while missing and time.monotonic() < give_up:
            time.sleep(0.05)
            tick()
            if (left := self.without_effect(missing)) != missing:
                missing, give_up = left, time.monotonic() + seconds
        return missing
