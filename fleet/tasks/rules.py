"""The rules of tasks: states and moves, retries, the filter of dead letters, back-pressure.

    state        the task
    queued       waits in a queue; its money is reserved
    delayed      waits for the time that its submission named; it is in no queue and holds nothing
    parked       is on hold: it waits for room under a limit, or for its next retry; it is in no
                 queue and holds nothing
    running      a worker holds its lease, or held the lease when the task ended
    succeeded    gave an answer that passed its checks
    unverified   gave an answer that failed its checks
    failed       gave no answer; it is a dead letter until a user retries or drops it
    cancelled    was cancelled

An ended task never changes: a dead letter is retried as a new task. Each script in
`fleet/redis/lua` makes one move, and a test checks every script against `MOVES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol, Self

from fleet.errors import FleetError, OverLimit, RetryLater
from fleet.settings.retries import RetryPolicy

NEW = "new"
"""The state of a task that has no record yet."""

ENDED = frozenset({"succeeded", "unverified", "failed", "cancelled"})

MOVES: Mapping[str, frozenset[str]] = {
    NEW: frozenset({"queued", "delayed", "parked"}),
    # Queued to failed: its message was lost too often.
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
"""Moves that a record keeps: the first one and the newest. `lua/parts/moves.lua` has the same
number."""


class Move(NamedTuple):
    """One move of a task, as its record keeps it.

    `at` is in seconds since 1970 by Redis's clock. `attempt` is 0 before the first attempt. `by` is
    an agent's id, the user who cancelled, or `submit`, `schedule` or `reaper`. `why` may be empty.
    """

    at: float
    state: str
    attempt: int
    by: str
    why: str


def parse_history(packed: str) -> tuple[Move, ...]:
    """The moves of a record, oldest first, one a line: `MS STATE ATTEMPT BY WHY`.

    Malformed lines are skipped: a reason that a user gave may contain a line break.
    """
    lines = [line.split(" ", 4) for line in packed.split("\n")]
    return tuple(_move(*each) for each in lines if _is_move(each))


def _is_move(parts: list[str]) -> bool:
    return len(parts) == 5 and parts[0].isdecimal() and parts[2].isdecimal()


def _move(ms: str, state: str, attempt: str, by: str, why: str) -> Move:
    return Move(int(ms) / 1000, state, int(attempt), by, why)


MAX_CRASHES = 3
"""After this many crashed workers a task is a poison message: no further worker gets it. Crashes
are counted apart from retries: they say something about the task, not about a service."""

Death = Literal["permanent", "retries", "age", "crashes", "lost"]
"""Why a task is a dead letter: a permanent error; its retries, the time for them, or its crashes
are used up; or workers took its message and dropped it each time."""

DEATHS: tuple[Death, ...] = ("permanent", "retries", "age", "crashes", "lost")


class Retry(NamedTuple):
    """Try again after `seconds`."""

    seconds: float


class GiveUp(NamedTuple):
    """Do not try again; `why` says what kind of dead letter the task is."""

    why: Death


class Draws(Protocol):
    """A source of random numbers, such as `random.Random`."""

    def uniform(self, a: float, b: float) -> float: ...


def is_retried(error: FleetError) -> bool:
    """Whether a run that ended with this error is tried again.

    It is for a `RetryLater` other than `OverLimit`: for a limit the task is on hold, or was
    refused.
    """
    return isinstance(error, RetryLater) and not isinstance(error, OverLimit)


def decide_retry(
    error: FleetError, retries: int, age_seconds: float, policy: RetryPolicy, rng: Draws
) -> Retry | GiveUp:
    """Whether to try a task again whose run ended with an error, and when.

    The task was retried `retries` times before and first failed `age_seconds` ago. The wait is the
    error's `retry_after` plus a random part, uniform from 0 to base x 2^retries and at most the
    cap, so that tasks that failed together do not return together: the "full jitter" of M. Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. A wait that would end after the
    policy's age is not begun.
    """
    if not isinstance(error, RetryLater) or not is_retried(error):
        return GiveUp("permanent")
    if retries >= policy.most:
        return GiveUp("retries")
    # A float would overflow from 2^1024 on; the cap is reached long before.
    most = min(policy.cap_seconds, policy.base_seconds * 2.0 ** min(retries, 1000))
    wait = max(0.0, error.retry_after) + rng.uniform(0, most)
    if age_seconds + wait > policy.most_age_seconds:
        return GiveUp("age")
    return Retry(wait)


class DeadFilter(NamedTuple):
    """Selects dead letters by tenant, request type, class of the error, and age in seconds; '' and
    None select any."""

    tenant: str = ""
    request_type: str = ""
    error: str = ""
    older_than: float | None = None
    newer_than: float | None = None

    def fits(self, tenant: str, request_type: str, error: str, age_seconds: float) -> bool:
        """Whether the filter selects a dead letter that failed `age_seconds` ago."""
        return (
            self.tenant in ("", tenant)
            and self.request_type in ("", request_type)
            and self.error in ("", error)
            and (self.older_than is None or age_seconds > self.older_than)
            and (self.newer_than is None or age_seconds < self.newer_than)
        )


QUEUE_SCOPE = "queue"
"""The scope of a bound on the tasks that wait in one queue; any other scope is a tenant's."""

RETURN_SHARE = 0.1
"""A refused client should return when workers have taken this share of the queue: sooner, most
clients would be refused again."""
MIN_RETURN_SECONDS = 1.0
MAX_RETURN_SECONDS = 300.0


class FullQueue(NamedTuple):
    """A bound on waiting tasks that is reached: its scope, how many wait, and how many may wait."""

    scope: str
    waiting: int
    most: int

    @classmethod
    def parse(cls, packed: str) -> Self:
        """Parse the answer of `submit.lua`, such as `tenant:acme|1000|1000`."""
        scope, waiting, most = packed.rsplit("|", 2)
        return cls(scope, int(waiting), int(most))


def retry_after(waiting: int, slots: int, response_seconds: float) -> float:
    """Seconds until `slots` slots have taken a tenth of the waiting tasks, 1 to 300.

    `response_seconds` is the duration of a run. Without a slot the answer is 300.
    """
    if slots <= 0:
        return MAX_RETURN_SECONDS
    seconds = RETURN_SHARE * waiting * response_seconds / slots
    return min(MAX_RETURN_SECONDS, max(MIN_RETURN_SECONDS, seconds))
