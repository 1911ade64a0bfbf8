"""One round: send every task at its moment, wait for the last to end, read the diary."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from balancing_parts.load import Arrival
from balancing_parts.sides import Send
from balancing_parts.waits import Run

LOOK_SECONDS = 0.1
MAX_SILENCE_SECONDS = 60.0


class Stuck(Exception):
    """Tasks did not end, or a worker did; says what is known of it."""


class Diary:
    """The file that the workers of one side append to, read on from where it was left."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._read = 0

    def new_lines(self) -> list[list[str]]:
        """The fields of each line that was written since; a half-written one is for later."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(end)
        return [line.split() for line in whole.decode().splitlines()]


def play(
    tasks: Sequence[Arrival], first: int, send: Send, diary: Diary, fallen: Callable[[], str]
) -> list[Run]:
    """Send the tasks, numbered from `first`, and give what became of each.

    Raises `Stuck` where a worker ends by itself, or no task has ended for a long time.
    """
    sent = _send_all(tasks, first, send)
    patience = MAX_SILENCE_SECONDS + max(task.work for task in tasks)
    give_up = time.monotonic() + patience
    runs: dict[int, Run] = {}
    while len(runs) < len(tasks):
        for number, pool, started, ended in diary.new_lines():
            place = int(number)
            runs[place] = Run(sent[place], float(started), float(ended), pool)
            give_up = time.monotonic() + patience
        if problem := fallen():
            raise Stuck(problem)
        if time.monotonic() > give_up:
            raise Stuck(f"{len(tasks) - len(runs)} of {len(tasks)} tasks have not ended")
        time.sleep(LOOK_SECONDS)
    return list(runs.values())


def _send_all(tasks: Sequence[Arrival], first: int, send: Send) -> dict[int, float]:
    """Send each when it is due, or as soon after as the one before has been sent."""
    sent: dict[int, float] = {}
    start = time.monotonic()
    for number, task in enumerate(tasks, first):
        time.sleep(max(0.0, start + task.at - time.monotonic()))
        sent[number] = time.time()
        send(number, task.work)
    return sent
