"""The recent success and response time of a pool, and how old outcomes decay.

A statistic counts the last 100 outcomes exactly, as the reference figures require, and keeps a
moving average of the response time. Without new outcomes it decays with a half-life towards the
assumptions for an untried pool: a success rate of 1 and a response time of 0. So an old failure
does not keep tasks from an idle pool for ever.

A pool has one statistic over all its tasks, and one for each request type that it answered. The
narrower statistic counts in proportion to its outcomes:

    rate = (n x rate of the request type + 10 x rate of the pool) / (n + 10)

With a single request type both are the same, and so is the blend.

Beside the moving average, which the reference figures require, a statistic keeps the typical
response time: the geometric mean, exp(m) with m <- m + a (ln latest - m), where a is 1/n for the
nth outcome and at least 0.02. Run times have heavy tails: with a coefficient of variation of 2 the
standard deviation of a steady pool's moving average is 46 %, and of the typical time 13 %.
Comparisons of pools by time use the typical time.
"""

from __future__ import annotations

from math import exp, log
from typing import NamedTuple

ENOUGH_OUTCOMES = 10
"""With more outcomes, a request type's own statistic counts for more than the pool's."""
OUTCOMES_KEPT = 100
"""A pool's success rate is over its last 100 tasks."""
SUCCESSES_ASSUMED = 10
"""Each pool starts with this many assumed successes: a first failure says little."""
LEAST_SHARE = 0.02
"""The least weight of the newest run in the typical response time."""
SHORTEST_SECONDS = 0.001
"""Redis records times in milliseconds."""


class Estimate(NamedTuple):
    """The expected success of a pool, 0 to 1, and its response time in seconds (0: unknown).

    `response_seconds` is the moving average, `typical_seconds` the geometric mean. `success` is the
    counted rate, `likely_success` the rate to expect: see `SUCCESSES_ASSUMED`.
    """

    success: float = 1.0
    response_seconds: float = 0.0
    typical_seconds: float = 0.0
    likely_success: float = 1.0


UNTRIED = Estimate()


class Statistic(NamedTuple):
    """Counts of the last outcomes, at most 100, as Redis keeps them.

    `response_seconds` is r <- 0.1 x latest + 0.9 x r, starting with the first one.
    `failures_in_row` counts the failures since the last success. `age_seconds` is the time since
    the last outcome. `typical_seconds` is the geometric mean of the response times.
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


class OutcomeWindow(NamedTuple):
    """The last outcomes, as `redis/lua/parts/outcome.lua` keeps them.

    `bits` are the outcomes, 1 for a success, the newest in the lowest bit. `at` is the time of the
    last outcome in seconds, by the clock of the caller of `counted`.
    """

    at: float = 0.0
    outcomes: int = 0
    bits: int = 0
    response_seconds: float = 0.0
    failures_in_row: int = 0
    typical_seconds: float = 0.0

    def statistic(self, now: float) -> Statistic:
        """The statistic in a snapshot at `now`."""
        return Statistic(
            self.outcomes,
            self.bits.bit_count(),
            self.response_seconds,
            self.failures_in_row,
            max(now - self.at, 0.0),
            self.typical_seconds,
        )


NO_WINDOW = OutcomeWindow()


def counted(
    window: OutcomeWindow,
    success: bool,
    seconds: float,
    now: float,
    half_life_seconds: float,
    most: int = OUTCOMES_KEPT,
) -> OutcomeWindow:
    """The window after one more outcome, whose run took `seconds`. Redis counts in the same way.

    Each whole half-life without an outcome halves the window and the weight of the old average, and
    resets the failures in a row.
    """
    left, kept, failures = 1.0, 0, 0
    if window.outcomes:
        left = 0.5 ** (max(0.0, now - window.at) // half_life_seconds)
        kept = min(int(window.outcomes * left), most - 1)
        failures = window.failures_in_row if left == 1.0 else 0
    keep = 0.9 * left if window.outcomes else 0.0
    return OutcomeWindow(
        now,
        kept + 1,
        (window.bits & ((1 << kept) - 1)) << 1 | int(success),
        (1.0 - keep) * seconds + keep * window.response_seconds,
        0 if success else failures + 1,
        _typical(window.typical_seconds, seconds, kept + 1),
    )


def _typical(before: float, seconds: float, outcomes: int) -> float:
    """The geometric mean after one more run, which is number `outcomes` in the window."""
    latest = log(max(seconds, SHORTEST_SECONDS))
    known = log(before) if before else latest
    return exp(known + max(1.0 / outcomes, LEAST_SHARE) * (latest - known))


def fading(age_seconds: float, half_life_seconds: float) -> float:
    """The remaining weight of an outcome of this age: 1 when new, a half after a half-life."""
    return float(0.5 ** (max(age_seconds, 0.0) / half_life_seconds))


def expected(statistic: Statistic, half_life_seconds: float) -> Estimate:
    """The estimate from a statistic now, decayed by its age."""
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
    """The estimate for a request type, blended with the pool's; see the head of this module."""
    own = expected(narrow, half_life_seconds)
    share = narrow.outcomes / (narrow.outcomes + ENOUGH_OUTCOMES)
    return Estimate(
        share * own.success + (1.0 - share) * wide.success,
        share * own.response_seconds + (1.0 - share) * wide.response_seconds,
        share * own.typical_seconds + (1.0 - share) * wide.typical_seconds,
        share * own.likely_success + (1.0 - share) * wide.likely_success,
    )
