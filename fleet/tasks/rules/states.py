"""The states of a task, and every move between them that there is.

    state        the task
    queued       waits in a queue, with its money held
    delayed      waits for the time that its submission named, in no queue, and holds nothing
    parked       waits for a time in no queue, and holds nothing: for room under a limit, or to be
                 tried again
    running      somebody holds its lease, or held it when it ended
    succeeded    gave an answer that passed its checks
    unverified   gave an answer that did not
    failed       gave none; it is a dead letter until somebody retries or drops it
    cancelled    was not wanted any more

A task that has ended stays as it is: a dead letter is retried as a task of its own. The scripts in
`fleet/redis/lua` make the moves, one each, and a test holds every one of them to this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

NEW = "new"
"""No state: the task has no record yet."""

ENDED = frozenset({"succeeded", "unverified", "failed", "cancelled"})

MOVES: Mapping[str, frozenset[str]] = {
    NEW: frozenset({"queued", "delayed", "parked"}),
    # Queued to failed: its message was lost again and again.
    "queued": frozenset({"running", "failed", "cancelled"}),
    # Delayed to failed: when its time came, no limit had room for it.
    "delayed": frozenset({"queued", "parked", "failed", "cancelled"}),
    "parked": frozenset({"queued", "cancelled"}),
    # Running to running: a redelivery takes over from a worker whose lease has ended.
    "running": frozenset({"running", "queued", "parked", *ENDED}),
    **{state: frozenset[str]() for state in ENDED},
}

STATES = ("queued", "delayed", "parked", "running", *sorted(ENDED))

HISTORY_KEPT = 20
"""Moves that a record keeps: the first one and the newest. `lua/parts/moves.lua` has it too."""


class Move(NamedTuple):
    """A move as the record keeps it: to which state, when (seconds since 1970 by Redis's clock), in
    which attempt (0 before the first), by whom, and why, where there is more to say.

    `by` is an agent's id, the user of whoever cancelled, or `submit`, `schedule` or `reaper`.
    """

    at: float
    state: str
    attempt: int
    by: str
    why: str


def parse_history(packed: str) -> tuple[Move, ...]:
    """The moves of a record, oldest first, one a line: `MS STATE ATTEMPT BY WHY`.

    A line that is none is left out: a reason of others may have had a break in it.
    """
    lines = [line.split(" ", 4) for line in packed.split("\n")]
    return tuple(_move(*each) for each in lines if _is_move(each))


def _is_move(parts: list[str]) -> bool:
    return len(parts) == 5 and parts[0].isdecimal() and parts[2].isdecimal()


def _move(ms: str, state: str, attempt: str, by: str, why: str) -> Move:
    return Move(int(ms) / 1000, state, int(attempt), by, why)
