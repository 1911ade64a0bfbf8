"""How many calls at once a provider allows with one key and model, learned from its refusals.

    answered   the limit grows, by 1 for each round of answers at most
    refused    the limit shrinks, at most once a round, and no call begins until the provider's
               Retry-After has passed; the first refusal sets it to the calls in flight, and then it
               shrinks

This is additive increase and multiplicative decrease (D.-M. Chiu and R. Jain, Analysis of the
increase and decrease algorithms for congestion avoidance, 1989). A round is the mean time of a
call. The limit grows only while most places are taken: else nothing shows that the provider would
allow more.

A refusal costs the call, and the time that the provider asks for. So the limit needs
`CALLS_PER_REFUSAL` answers, and `TIMES_THE_PAUSE` the time asked for, to grow back to where the
provider refused. If nothing is refused there either, it grows faster and faster, because the
provider allows more than before. A provider that refuses again in the next round is far
below the limit, so a larger part is taken off.

Once a provider has refused, calls also keep a distance of the mean time divided by the limit. So
the limit may be a fraction, and calls that end together do not begin together.

`lua/parts/key_places.lua` applies these rules for all workers at once; a test compares the two.
Times are in ms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

LEAST_LIMIT = 0.1
MAX_LIMIT = 10_000.0
"""The limit before the first refusal: nothing is known, so nothing is held back."""

DECREASE = 0.95
LARGE_DECREASE = 0.85

CALLS_PER_REFUSAL = 100
TIMES_THE_PAUSE = 20

FULL = 0.8
"""The limit grows if at least this part of the places is taken."""

MEMORY = 0.02
"""The weight of the newest call in the mean time of a call."""

CREDIT_CALLS = 2
"""So many calls may begin at once after a lull, without the distance."""

LEAST_PAUSE_MS = 200.0
"""The pause after a refusal, if the provider asks for less."""

MAX_PAUSE_MS = 5_000.0
"""If a provider asks for more, its model cools down instead."""

SILENT_ROUNDS = 4
"""A provider that refuses is closed if it has answered nothing for this many rounds."""

LEAST_WAIT_MS = 5.0
MAX_WAIT_MS = 2_000.0


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of a key with a model.

    `limit` is the number of calls at once. `cut_ms` is when it shrank last, 0 for never, and
    `answers` counts the answers since. `mean_ms` is the mean time of the answered calls, of which
    there were `total`, the last at `answered_ms`. No call begins before `pause_ms` and `next_ms`.
    `asked_ms` is the last pause.
    """

    limit: float = MAX_LIMIT
    cut_ms: float = 0.0
    answers: int = 0
    mean_ms: float = 0.0
    total: int = 0
    answered_ms: float = 0.0
    pause_ms: float = 0.0
    asked_ms: float = 0.0
    next_ms: float = 0.0


NEW = Pace()


def places(pace: Pace, most: int | None = None) -> int:
    """How many calls at once are allowed. `most` is the configured bound of the key."""
    learned = ceil(pace.limit)
    return learned if most is None else min(learned, most)


def wait_ms(
    pace: Pace, in_flight: int, ahead: int, now_ms: float, most: int | None = None
) -> float:
    """0 if a call may begin; else the ms after which to ask again.

    `in_flight` calls have a place, and `ahead` others wait before this one.
    """
    if now_ms < pace.pause_ms:
        return max(LEAST_WAIT_MS, pace.pause_ms - now_ms)
    allowed = places(pace, most)
    waits = []
    if in_flight + ahead >= allowed:
        waits.append(pace.mean_ms * (in_flight + ahead + 1 - allowed) / allowed)
    due_ms = pace.next_ms + ahead * _distance_ms(pace) - now_ms
    if due_ms > 0:
        waits.append(due_ms)
    return min(max(LEAST_WAIT_MS, *waits), MAX_WAIT_MS) if waits else 0.0


def begun(pace: Pace, now_ms: float) -> Pace:
    """After a call has begun."""
    distance = _distance_ms(pace)
    next_ms = max(pace.next_ms, now_ms - CREDIT_CALLS * distance) + distance
    return replace(pace, next_ms=next_ms) if pace.cut_ms else pace


def answered(
    pace: Pace, began_ms: float, in_flight: int, now_ms: float, most: int | None = None
) -> Pace:
    """After an answer. `in_flight` are the calls with a place before it, itself included."""
    weight = max(MEMORY, 1.0 / (pace.total + 1))
    mean_ms = pace.mean_ms + weight * (now_ms - began_ms - pace.mean_ms)
    answers = pace.answers + (began_ms >= pace.cut_ms)
    limit = pace.limit
    if pace.cut_ms and in_flight >= FULL * places(pace, most):
        limit = min(MAX_LIMIT, limit + _growth(replace(pace, mean_ms=mean_ms, answers=answers)))
    return replace(
        pace,
        limit=limit,
        mean_ms=mean_ms,
        answers=answers,
        total=pace.total + 1,
        answered_ms=now_ms,
    )


def refused(
    pace: Pace, began_ms: float, in_flight: int, retry_after_ms: float, now_ms: float
) -> Pace:
    """After a refusal. `in_flight` are the calls with a place before it, itself included.
    `retry_after_ms` is what the provider asks for, 0 if it asks for nothing."""
    asked_ms = min(max(retry_after_ms, LEAST_PAUSE_MS), MAX_PAUSE_MS)
    pause_ms = max(pace.pause_ms, now_ms + asked_ms)
    if pace.cut_ms and (began_ms < pace.cut_ms or now_ms - pace.cut_ms < _round_ms(pace)):
        return replace(pace, pause_ms=pause_ms)
    is_repeated = not pace.cut_ms or pace.answers < pace.limit + 4
    decrease = LARGE_DECREASE if is_repeated else DECREASE
    known = pace.limit if pace.cut_ms else min(pace.limit, in_flight)
    limit = max(LEAST_LIMIT, known * decrease)
    return replace(
        pace, limit=limit, cut_ms=now_ms, answers=0, pause_ms=pause_ms, asked_ms=asked_ms
    )


def is_closed(pace: Pace, retry_after_ms: float, now_ms: float) -> bool:
    """Whether a refusal means that the model has to cool down: the provider has answered no call
    for a while, or asks for a long wait."""
    if not pace.total or retry_after_ms > MAX_PAUSE_MS:
        return True
    return now_ms - pace.answered_ms > SILENT_ROUNDS * _round_ms(pace) + pace.asked_ms


def _round_ms(pace: Pace) -> float:
    return max(LEAST_PAUSE_MS, pace.mean_ms)


def _growth(pace: Pace) -> float:
    pause_calls = TIMES_THE_PAUSE * pace.asked_ms * pace.limit / max(1.0, pace.mean_ms)
    cycle = max(CALLS_PER_REFUSAL, pause_calls)
    step = (1.0 - DECREASE) * pace.limit / cycle * max(1.0, pace.answers / cycle)
    return min(1.0 / pace.limit, step)


def _distance_ms(pace: Pace) -> float:
    """The time between the beginnings of two calls."""
    return pace.mean_ms / pace.limit if pace.cut_ms else 0.0
