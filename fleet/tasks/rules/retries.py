"""Whether a run that failed is tried again, and when.

A run is tried again for errors that time may heal, those of `RetryLater`, but for `OverLimit`: what
is to wait for a limit is parked, and what is not was refused. The wait is what the error asks for
(`retry_after`) and a random part on top, so that all who failed together do not come back together:
uniform from 0 to base x 2^n, and to the cap at most, where n retries were made before. That is the
"full jitter" of M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

Crashes are counted apart: they say something about the task, and not about a service.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from fleet.errors import FleetError, OverLimit, RetryLater
from fleet.settings.retries import RetryPolicy

MAX_CRASHES = 3
"""A task whose worker died so often is poison: it is not given to a fourth."""

Death = Literal["permanent", "retries", "age", "crashes", "lost"]
"""Why a task is a dead letter: an error that no time heals, its retries, their time, or its workers
are used up, or workers took its message and dropped it each time."""

DEATHS: tuple[Death, ...] = ("permanent", "retries", "age", "crashes", "lost")


class Retry(NamedTuple):
    """Try again after so many seconds."""

    seconds: float


class GiveUp(NamedTuple):
    """Do not try again, and why not."""

    why: Death


class Draws(Protocol):
    """Where chance comes from, such as `random.Random`."""

    def uniform(self, a: float, b: float) -> float: ...


def is_retried(error: FleetError) -> bool:
    """Whether time may heal an error that a run has ended with."""
    return isinstance(error, RetryLater) and not isinstance(error, OverLimit)


def decide(
    error: FleetError, retries: int, age_seconds: float, policy: RetryPolicy, rng: Draws
) -> Retry | GiveUp:
    """What becomes of a task whose run ended with an error.

    `retries` were made before, the first failure of them `age_seconds` ago. A wait that would pass
    the policy's age is not begun.
    """
    if not isinstance(error, RetryLater) or not is_retried(error):
        return GiveUp("permanent")
    if retries >= policy.most:
        return GiveUp("retries")
    # From 2^1000 on a float would overflow; the cap is reached long before.
    most = min(policy.cap_seconds, policy.base_seconds * 2.0 ** min(retries, 1000))
    wait = max(0.0, error.retry_after) + rng.uniform(0, most)
    if age_seconds + wait > policy.most_age_seconds:
        return GiveUp("age")
    return Retry(wait)
