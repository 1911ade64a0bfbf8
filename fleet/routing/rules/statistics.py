"""How well and how quickly a pool answered of late, and how old knowledge fades.

A statistic counts the last 100 outcomes exactly, as the reference figures want, and keeps a
moving average of the response time. While nothing new comes in, what it says fades with a
half-life towards what is assumed of a pool that was never tried: a success rate of 1 and a
response time of 0. So an old failure does not keep tasks from an idle pool for ever.

A pool has one statistic over all its tasks, and one for each request type that it answered.
The narrower one counts as far as it has outcomes:

    rate = (n x rate of the request type + 10 x rate of the pool) / (n + 10)

With a single request type both are the same, and so is the blend.

Beside the moving average, which the reference figures want, a statistic keeps the typical
response time: the geometric mean, exp(m) with m <- m + a (ln latest - m), where a is 1/n for the
nth outcome and at least 0.02. The times of runs have heavy tails: with a coefficient of variation
of 2 the moving average of a steady pool is off by 46 %, one standard deviation, and the typical
time by 13 %. What compares pools by their times goes by the latter.
"""

from __future__ import annotations

from math import exp, log
from typing import NamedTuple

ENOUGH_OUTCOMES = 10
"""From so many outcomes on, a request type's own statistic counts for more than the pool's."""
OUTCOMES_KEPT = 100
"""A pool's success rate is that of its last 100 tasks."""
SUCCESSES_ASSUMED = 10
"""A pool is taken to have so many behind it: a failure as its first outcome says little."""
LEAST_SHARE = 0.02
"""What the newest run counts at least in the typical response time."""
SHORTEST_SECONDS = 0.001
"""Redis tells times by the millisecond."""


class Estimate(NamedTuple):
    """What is expected of a pool: success 0 to 1, response time in seconds (0: not known).

    `response_seconds` is the moving average, `typical_seconds` the geometric mean. `success` is
    what was counted, `likely_success` what that lets expect: see `SUCCESSES_ASSUMED`.
    """

    success: float = 1.0
    response_seconds: float = 0.0
    typical_seconds: float = 0.0
    likely_success: float = 1.0


UNTRIED = Estimate()


class Statistic(NamedTuple):
    """Counts of the last outcomes, at most 100, as Redis keeps them.

    `response_seconds` is r <- 0.1 x latest + 0.9 x r, from the first one on; `failures_in_row`
    are those since the last success, `age_seconds` is the time since the last outcome,
    `typical_seconds` the geometric mean of the response times.
    """

    outcomes: int = 0
    successes: int = 0
    response_seconds: float = 0.0
    failures_in_row: int = 0
    age_seconds: float = 0.0
    typical_seconds: float = 0.0

    @property
    def success_rate(self) -> float:
        """0 to 1, unfaded; 1 before any outcome."""
        return self.successes / self.outcomes if self.outcomes else 1.0


NO_OUTCOMES = Statistic()


class Window(NamedTuple):
    """The last outcomes themselves, as `redis/lua/parts/outcome.lua` keeps them.

    `bits` are the outcomes, 1 for a success, the newest lowest; `at` is the time of the last one
    in seconds, by whatever clock `counted` is given.
    """

    at: float = 0.0
    outcomes: int = 0
    bits: int = 0
    response_seconds: float = 0.0
    failures_in_row: int = 0
    typical_seconds: float = 0.0

    def statistic(self, now: float) -> Statistic:
        """What a snapshot taken at `now` says of it."""
        return Statistic(
            self.outcomes,
            self.bits.bit_count(),
            self.response_seconds,
            self.failures_in_row,
            max(now - self.at, 0.0),
            self.typical_seconds,
        )


NO_WINDOW = Window()


def counted(
    window: Window,
    success: bool,
    seconds: float,
    now: float,
    half_life_seconds: float,
    most: int = OUTCOMES_KEPT,
) -> Window:
    """The window after one more outcome, whose run took `seconds`: the count that Redis does.

    For each whole half-life without an outcome the window is halved, and the old average
    counts half as much; the failures in a row begin anew.
    """
    left, kept, failures = 1.0, 0, 0
    if window.outcomes:
        left = 0.5 ** (max(0.0, now - window.at) // half_life_seconds)
        kept = min(int(window.outcomes * left), most - 1)
        failures = window.failures_in_row if left == 1.0 else 0
    keep = 0.9 * left if window.outcomes else 0.0
    return Window(
        now,
        kept + 1,
        (window.bits & ((1 << kept) - 1)) << 1 | int(success),
        (1.0 - keep) * seconds + keep * window.response_seconds,
        0 if success else failures + 1,
        _typical(window.typical_seconds, seconds, kept + 1),
    )


def _typical(before: float, seconds: float, outcomes: int) -> float:
    """The geometric mean after one more run, the `outcomes`th that counts."""
    latest = log(max(seconds, SHORTEST_SECONDS))
    known = log(before) if before else latest
    return exp(known + max(1.0 / outcomes, LEAST_SHARE) * (latest - known))


def fading(age_seconds: float, half_life_seconds: float) -> float:
    """How much of what was known so long ago still counts: 1 at once, a half after a half-life."""
    return float(0.5 ** (max(age_seconds, 0.0) / half_life_seconds))


def expected(statistic: Statistic, half_life_seconds: float) -> Estimate:
    """What a statistic says now, faded by its age."""
    if not statistic.outcomes:
        return UNTRIED
    left = fading(statistic.age_seconds, half_life_seconds)
    failures = statistic.outcomes - statistic.successes
    return Estimate(
        1.0 - (1.0 - statistic.success_rate) * left,
        statistic.response_seconds * left,
        (statistic.typical_seconds or statistic.response_seconds) * left,
        1.0 - left * failures / (statistic.outcomes + SUCCESSES_ASSUMED),
    )


def blended(narrow: Statistic, wide: Estimate, half_life_seconds: float) -> Estimate:
    """A request type's own statistic, filled up with the pool's; see the head of this module."""
    own = expected(narrow, half_life_seconds)
    share = narrow.outcomes / (narrow.outcomes + ENOUGH_OUTCOMES)
    return Estimate(
        share * own.success + (1.0 - share) * wide.success,
        share * own.response_seconds + (1.0 - share) * wide.response_seconds,
        share * own.typical_seconds + (1.0 - share) * wide.typical_seconds,
        share * own.likely_success + (1.0 - share) * wide.likely_success,
    )
