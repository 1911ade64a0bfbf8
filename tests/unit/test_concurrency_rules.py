"""How many calls at once a provider allows: the rules, and whether they settle at its limit."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.models.rules.concurrency import (
    LEAST_LIMIT,
    LEAST_PAUSE_MS,
    MAX_LIMIT,
    MAX_PAUSE_MS,
    NEW,
    Pace,
    answered,
    begun,
    is_closed,
    places,
    refused,
    wait_ms,
)

times = st.floats(1.0, 1e9)
paces = st.builds(
    Pace,
    limit=st.floats(LEAST_LIMIT, MAX_LIMIT),
    cut_ms=st.one_of(st.just(0.0), times),
    answers=st.integers(0, 10**6),
    mean_ms=st.floats(1.0, 1e6),
    total=st.integers(1, 10**6),
    answered_ms=times,
    pause_ms=times,
    asked_ms=st.floats(LEAST_PAUSE_MS, MAX_PAUSE_MS),
    next_ms=times,
)


@given(paces, st.integers(1, 10_000), st.floats(0.0, 1e6), times)
def test_an_answer_lets_the_limit_grow_by_one_at_most(
    pace: Pace, in_flight: int, took: float, now: float
) -> None:
    after = answered(pace, now - took, in_flight, now)
    assert pace.limit <= after.limit <= min(MAX_LIMIT, pace.limit + 1.0 / min(pace.limit, 1.0))
    assert after.total == pace.total + 1


@given(paces, st.floats(0.0, 1e6), st.integers(1, 10_000), st.floats(0.0, 1e7), times)
def test_a_refusal_never_lets_it_grow_and_a_call_is_always_allowed_in_the_end(
    pace: Pace, took: float, in_flight: int, retry_after: float, now: float
) -> None:
    after = refused(pace, now - took, in_flight, retry_after, now)
    assert LEAST_LIMIT <= after.limit <= pace.limit
    assert after.pause_ms >= now + LEAST_PAUSE_MS
    assert places(after) >= 1
    later = max(after.pause_ms, after.next_ms)
    assert wait_ms(after, 0, 0, later) == 0.0


@given(paces, times, st.floats(0.0, 1e6))
def test_refusals_of_calls_from_before_the_decrease_show_nothing_new(
    pace: Pace, now: float, later: float
) -> None:
    cut = refused(replace(pace, cut_ms=0.0), now, 9, 0.0, now)
    assert refused(cut, now - 1.0, 9, 0.0, now + later).limit == cut.limit


@given(paces, st.integers(0, 20_000), st.integers(0, 100), times, st.integers(1, 100))
def test_no_more_calls_are_in_flight_than_the_key_may_have(
    pace: Pace, in_flight: int, ahead: int, now: float, most: int
) -> None:
    allowed = wait_ms(pace, in_flight, ahead, now, most) == 0.0
    assert not allowed or in_flight + ahead < min(most, math.ceil(pace.limit))


def test_a_wait_is_honoured_and_a_long_one_closes() -> None:
    served = answered(NEW, 0.0, 1, 100.0)
    after = refused(served, 100.0, 9, 1500.0, 200.0)
    assert wait_ms(after, 0, 0, 200.0) == 1500.0
    assert not is_closed(served, 1500.0, 200.0)
    assert is_closed(served, MAX_PAUSE_MS + 1, 200.0)


def test_a_provider_that_answers_nothing_is_closed() -> None:
    assert is_closed(NEW, 0.0, 1.0)
    served = answered(NEW, 0.0, 1, 100.0)
    assert not is_closed(served, 0.0, 900.0)
    assert is_closed(served, 0.0, 901.0)


def test_before_the_first_refusal_nothing_is_held_back_but_by_the_keys_own_bound() -> None:
    pace = NEW
    for in_flight in range(500):
        assert wait_ms(pace, in_flight, 0, 5.0) == 0.0
        pace = begun(pace, 5.0)
    assert wait_ms(pace, 20, 0, 5.0, 20) > 0.0


def test_the_first_refusal_sets_the_limit_under_the_calls_in_flight() -> None:
    assert refused(NEW, 5.0, 100, 0.0, 10.0).limit == 85.0


def test_after_a_refusal_calls_begin_at_the_pace_of_the_limit() -> None:
    pace = Pace(limit=4.0, cut_ms=1.0, mean_ms=1000.0, total=9)
    begins, now = 0, 10_000.0
    while now < 20_000.0:
        wait = wait_ms(pace, 0, 0, now)
        if wait:
            now += wait
        else:
            pace, begins = begun(pace, now), begins + 1
    assert begins == pytest.approx(40, abs=3)


@dataclass(slots=True)
class Fleet:
    """Callers that keep to the rules, against a provider. The clock is simulated.

    A `bucket` gets `rate` tokens a second and holds `size` of them; `places` refuses a call while
    `size` others are in flight. An answer takes a second in the mean.
    """

    kind: Literal["bucket", "places"]
    size: float
    rate: float = 20.0
    retry_after_ms: float = 0.0
    callers: int = 50
    rng: random.Random = field(default_factory=lambda: random.Random(3))
    pace: Pace = NEW
    now: float = 0.0
    in_flight: int = 0
    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    each: dict[int, int] = field(default_factory=dict)

    def run(self, seconds: float) -> None:
        """Run until then. The calls of an earlier run are over."""
        self.in_flight = 0
        tokens, at, busy = self.size, self.now, 0
        queue: list[int] = []
        events = [(self.now, caller, "ask", 0.0) for caller in range(self.callers)]
        while events[0][0] < seconds:
            self.now, caller, event, began = heapq.heappop(events)
            now_ms = self.now * 1000
            if event == "ask":
                ahead = queue.index(caller) if caller in queue else len(queue)
                wait = wait_ms(self.pace, self.in_flight, ahead, now_ms)
                if wait:
                    queue += [] if caller in queue else [caller]
                    heapq.heappush(events, (self.now + wait / 1000, caller, "ask", 0.0))
                    continue
                queue = [each for each in queue if each != caller]
                self.pace, self.in_flight = begun(self.pace, now_ms), self.in_flight + 1
                tokens, at = min(self.size, tokens + (self.now - at) * self.rate), self.now
                if tokens >= 1 if self.kind == "bucket" else busy < self.size:
                    tokens, busy = tokens - 1, busy + 1
                    took = self.rng.lognormvariate(-0.125, 0.5)
                    heapq.heappush(events, (self.now + took, caller, "answer", self.now))
                else:
                    heapq.heappush(events, (self.now + 0.003, caller, "refuse", self.now))
                continue
            if event == "answer":
                self.pace = answered(self.pace, began * 1000, self.in_flight, now_ms)
                self.served.append(self.now)
                self.each[caller] = self.each.get(caller, 0) + 1
                busy -= 1
            else:
                self.pace = refused(
                    self.pace, began * 1000, self.in_flight, self.retry_after_ms, now_ms
                )
                self.refused.append(self.now)
            self.in_flight -= 1
            heapq.heappush(events, (self.now + 0.003, caller, "ask", 0.0))

    def shares(self, since: float, capacity: float) -> tuple[float, float]:
        """The share of the capacity that is used, and of the calls that are refused."""
        served = sum(each >= since for each in self.served)
        refusals = sum(each >= since for each in self.refused)
        return served / (capacity * (self.now - since)), refusals / (served + refusals)


@pytest.mark.parametrize("retry_after_ms", [0.0, 1000.0], ids=["silent", "a-second"])
@pytest.mark.parametrize("size", [20.0, 200.0], ids=["one-second", "ten-seconds"])
def test_the_fleet_settles_at_the_rate_of_a_token_bucket(
    size: float, retry_after_ms: float
) -> None:
    fleet = Fleet("bucket", size, retry_after_ms=retry_after_ms)
    fleet.run(160.0)
    used, share_refused = fleet.shares(40.0, 20.0)
    assert used >= 0.95
    assert share_refused < 0.02


def test_the_fleet_settles_under_a_limit_of_calls_at_once() -> None:
    fleet = Fleet("places", 20)
    fleet.run(160.0)
    used, share_refused = fleet.shares(40.0, 20.0)
    assert used >= 0.85
    assert share_refused < 0.02


def test_no_caller_starves() -> None:
    fleet = Fleet("bucket", 20.0)
    fleet.run(100.0)
    assert len(fleet.each) == fleet.callers
    assert max(fleet.each.values()) <= 1.5 * min(fleet.each.values())


def test_the_fleet_follows_a_provider_that_allows_less_and_then_more() -> None:
    fleet = Fleet("bucket", 20.0)
    fleet.run(60.0)
    fleet.rate = 5.0
    fleet.run(180.0)
    slow, share_refused = fleet.shares(120.0, 5.0)
    assert slow >= 0.9
    assert share_refused < 0.05
    fleet.rate = 20.0
    fleet.run(600.0)
    assert fleet.shares(500.0, 20.0)[0] >= 0.9
