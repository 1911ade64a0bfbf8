"""What the scaling policies want, and what holds for each of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.scaling.rules.demand import arrival_rate, first_wait
from fleet.scaling.rules.policies import MAX_AGE_SECONDS, POLICIES, SQUARE_ROOT, THRESHOLD, decide
from fleet.scaling.rules.values import Arrivals, PoolLoad, ScalingPolicy, ServiceTime, Sized, Wanted

NOW = 1_800_000_000.0
NONE = Arrivals(5.0, NOW, ())
IDLE = PoolLoad(
    pool="codegen",
    now=NOW,
    age=0.0,
    min=0,
    max=100,
    slots=1,
    desired=4,
    history=(),
    ready=4,
    starting=0,
    draining=0,
    running=0,
    queued=0,
    oldest_seconds=0.0,
    on_hold=0,
    recent=NONE,
    long_term=NONE,
    service=ServiceTime(10.0, 100.0, 500),
    start_seconds=5.0,
)


def steady(per_second: float) -> Arrivals:
    """Five minutes of this rate."""
    return Arrivals(5.0, NOW, (round(per_second * 5),) * 60)


def wanting(workers: int, hold: float = 0.0) -> ScalingPolicy:
    return ScalingPolicy("own", "", lambda load: Wanted(workers, ("own",)), lambda load: hold)


@pytest.mark.parametrize(
    ("running", "wanted"), [(0, 3), (7, 3), (8, 4), (16, 4), (32, 4), (33, 5), (40, 5)]
)
def test_threshold_goes_by_the_mean_load(running: int, wanted: int) -> None:
    # 4 workers of 10 slots: 33 of 40 is over 0.8, and 7 of 40 under 0.2.
    decision = decide(replace(IDLE, slots=10, running=running), THRESHOLD)
    assert decision.workers == wanted
    assert f"mean load {running / 40:.2f} of 4 workers" in decision.reasons[0]


def test_threshold_never_goes_under_one() -> None:
    assert decide(replace(IDLE, desired=1, ready=1), THRESHOLD).workers == 1


def test_threshold_acts_once_a_minute() -> None:
    start = NOW - NOW % 60
    load = replace(IDLE, now=start + 55, history=(Sized(start, 4),))
    assert decide(load, THRESHOLD).workers == 4
    assert decide(replace(load, now=start + 60), THRESHOLD).workers == 3


def test_threshold_waits_until_a_worker_is_ready() -> None:
    assert decide(replace(IDLE, ready=0, starting=4), THRESHOLD).workers == 4


def test_square_root_adds_twice_the_root_of_the_offered_load() -> None:
    # 2.4 tasks per second x 10 s = 24 slots, + 2 x 4.9 = 33.8
    decision = decide(replace(IDLE, recent=steady(2.4)), SQUARE_ROOT)
    assert decision.workers == 34
    assert decision.reasons == (
        "2.4 tasks per second (last 300 s) x 10 s = 24.0 slots, + 2 x square root = 33.8",
        "33.8 slots are 34 workers",
    )


def test_square_root_counts_slots_and_answers_in_workers() -> None:
    assert decide(replace(IDLE, recent=steady(2.4), slots=10), SQUARE_ROOT).workers == 4


def test_square_root_gives_each_waiting_task_a_slot_where_workers_start_fast() -> None:
    load = replace(IDLE, recent=steady(2.4), queued=7)
    assert decide(load, SQUARE_ROOT).workers == 41


def test_square_root_clears_a_backlog_slowly_where_workers_start_slowly() -> None:
    # Of 30 waiting tasks of 10 s, one slot runs nine in 90 s: 30 / 9 = 3.3
    load = replace(IDLE, recent=steady(2.4), queued=30, start_seconds=90.0)
    assert decide(load, SQUARE_ROOT).workers == 38


def test_square_root_keeps_what_is_running_where_tasks_take_longer_than_before() -> None:
    assert decide(replace(IDLE, recent=steady(2.4), running=50), SQUARE_ROOT).workers == 50


def test_square_root_goes_by_the_tasks_present_before_any_has_ended() -> None:
    load = replace(IDLE, recent=steady(2.4), service=ServiceTime(0.0, 0.0, 0), running=4, queued=5)
    decision = decide(load, SQUARE_ROOT)
    # 9 + 2 x 3, and a slot for each of the 5 that wait
    assert decision.workers == 20
    assert decision.reasons[0].startswith("no task has ended yet; 9 tasks running or waiting")


def test_an_idle_pool_goes_to_zero() -> None:
    assert decide(IDLE, SQUARE_ROOT).workers == 0


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_the_first_task_starts_a_worker(policy: ScalingPolicy) -> None:
    load = replace(IDLE, desired=0, ready=0, queued=1, service=ServiceTime(0.0, 0.0, 0))
    assert decide(load, policy).workers >= 1


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_stale_figures_hold_the_last_size_and_say_so(policy: ScalingPolicy) -> None:
    load = replace(IDLE, age=MAX_AGE_SECONDS + 1, recent=steady(50.0), queued=99)
    decision = decide(load, policy)
    assert (decision.workers, decision.wanted) == (4, 4)
    assert decision.reasons == (
        "the figures are 31 s old, more than 30 s: the last size of 4 holds",
    )


def test_a_scale_in_waits_for_the_hold_time() -> None:
    load = replace(IDLE, history=(Sized(NOW - 31, 9), Sized(NOW - 29, 3), Sized(NOW - 5, 2)))
    decision = decide(load, wanting(1, hold=30.0))
    assert (decision.workers, decision.wanted) == (3, 1)
    assert decision.reasons == ("own", "3 were wanted in the last 30 s: held, not 1")


def test_the_hold_time_starts_nothing() -> None:
    load = replace(IDLE, history=(Sized(NOW - 5, 9),))
    assert decide(load, wanting(1, hold=30.0)).workers == 4


def test_without_money_there_is_no_scale_up_but_a_scale_in() -> None:
    load = replace(IDLE, out_of_money="Budget exceeded for codegen")
    decision = decide(load, wanting(9))
    assert decision.workers == 4
    assert decision.reasons[-1] == "no scale-up from 4 to 9: Budget exceeded for codegen"
    assert decide(load, wanting(2)).workers == 2


def test_no_more_workers_than_the_provider_lets_work() -> None:
    decision = decide(replace(IDLE, slots=4, provider_slots=9), wanting(9))
    assert decision.workers == 3
    assert "the provider allows 9 calls at once" in decision.reasons[-1]


def test_idle_workers_cost_no_more_than_allowed() -> None:
    # $0.25 an hour pays for two idle workers at $0.12, and 3 are busy.
    load = replace(IDLE, running=3, worker_usd_per_hour=0.12, idle_usd_per_hour=0.25)
    assert decide(load, wanting(9)).workers == 5
    assert decide(replace(load, running=8), wanting(9)).workers == 9


def test_min_and_max_hold_and_say_so() -> None:
    load = replace(IDLE, min=2, max=6)
    assert decide(load, wanting(9)).reasons[-1] == "max of the pool is 6: not 9"
    assert decide(load, wanting(0)).reasons[-1] == "min of the pool is 2: not 0"


counts = st.lists(st.integers(0, 200), max_size=60).map(tuple)
loads = st.builds(
    replace,
    st.just(IDLE),
    age=st.floats(0, 100),
    min=st.integers(0, 5),
    max=st.integers(5, 200),
    slots=st.integers(1, 20),
    desired=st.integers(5, 5),
    history=st.lists(
        st.builds(Sized, st.floats(NOW - 900, NOW), st.integers(0, 300)), max_size=20
    ).map(tuple),
    ready=st.integers(0, 200),
    starting=st.integers(0, 20),
    running=st.integers(0, 4000),
    queued=st.integers(0, 10_000),
    recent=st.builds(Arrivals, st.just(5.0), st.just(NOW), counts),
    service=st.builds(
        ServiceTime, st.floats(0, 1e4), st.floats(0, 1e8), st.sampled_from([0, 1, 500])
    ),
    start_seconds=st.floats(0, 600),
    out_of_money=st.sampled_from(["", "Budget exceeded"]),
    provider_slots=st.none() | st.integers(0, 500),
)


@given(loads, st.sampled_from(list(POLICIES)))
def test_every_decision_is_within_the_bounds_and_has_a_reason(load: PoolLoad, name: str) -> None:
    decision = decide(load, POLICIES[name])
    assert load.min <= decision.workers <= load.max
    assert all(decision.reasons)
    assert not (load.out_of_money and decision.workers > load.desired)
    assert decision == decide(load, POLICIES[name])


def test_a_steady_rate_is_averaged_over_all_of_the_time() -> None:
    rate = arrival_rate(Arrivals(5.0, NOW, (9, 11, 10, 8, 12) * 12))
    assert (rate.per_second, rate.seconds) == (2.0, 300.0)


def test_a_burst_is_noticed_in_one_interval() -> None:
    rate = arrival_rate(Arrivals(5.0, NOW, (9, 11, 10, 8, 12) * 11 + (9, 11, 10, 8, 40)))
    assert (rate.per_second, rate.seconds) == (8.0, 5.0)


def test_the_rate_after_a_burst_is_averaged_from_soon_after_its_end() -> None:
    # Of the 20 intervals since, the newest 16: only powers of two are tried.
    rate = arrival_rate(Arrivals(5.0, NOW, (40,) * 30 + (9, 11, 10, 10) * 5))
    assert (rate.per_second, rate.seconds) == (2.0, 80.0)


@given(counts)
def test_a_rate_lies_between_the_least_and_the_most_of_its_intervals(
    found: tuple[int, ...],
) -> None:
    rate = arrival_rate(Arrivals(5.0, NOW, found))
    assert min(found, default=0) / 5 - 1e-9 <= rate.per_second <= max(found, default=0) / 5 + 1e-9


def test_the_first_task_waits_for_a_decision_and_a_start() -> None:
    assert first_wait(start_seconds=30.0, decision_seconds=5.0, starting=False) == 32.5
    assert first_wait(start_seconds=30.0, decision_seconds=5.0, starting=True) == 30.0


DAY = 24 * 12


def week(days: int, burst: int | None = None, factor: int = 4) -> Arrivals:
    """Days of 2 tasks per second in intervals of 300 s, and an hour more. The interval that comes
    next is the one in which each day had a burst, if `burst` is 0."""
    noise = (590, 610, 600, 585, 615)
    counts = [noise[number % 5] for number in range(days * DAY + 12)]
    for day in range(days):
        if burst is not None:
            counts[day * DAY + 12 + burst] *= factor
    return Arrivals(300.0, NOW, tuple(counts))


SLOW = replace(IDLE, recent=steady(2.0), start_seconds=90.0)


def test_the_forecast_starts_workers_before_a_burst_that_comes_each_day() -> None:
    # The interval after this one has the burst, and a worker started now is ready in it.
    load = replace(SLOW, now=NOW + 250, long_term=week(7, burst=1))
    assert decide(load, SQUARE_ROOT).workers == 29
    decision = decide(load, POLICIES["forecast"])
    assert decision.workers == pytest.approx(4 * 20 + 2 * (4 * 20) ** 0.5, abs=2)
    assert decision.reasons[0].startswith("as on 7 days at this time, 8 tasks per second (+- ")
    assert decision.reasons[1] == "that is more than the rate now needs: 29"


@pytest.mark.parametrize(
    ("past", "now"),
    [
        (week(7), NOW + 250),  # no day had a burst
        (week(7, burst=5), NOW + 250),  # it comes later
        (week(7, burst=0, factor=0), NOW + 10),  # a lull
        (week(2, burst=1), NOW + 250),  # too few days
        (NONE, NOW),
        (Arrivals(301.0, NOW, (600,) * 5000), NOW),  # no whole number in a day
    ],
)
def test_where_the_time_of_day_says_nothing_the_forecast_is_square_root(
    past: Arrivals, now: float
) -> None:
    load = replace(SLOW, now=now, long_term=past)
    assert decide(load, POLICIES["forecast"]).workers == decide(load, SQUARE_ROOT).workers


def test_no_forecast_is_needed_where_workers_start_sooner_than_tasks_end() -> None:
    load = replace(SLOW, now=NOW + 250, long_term=week(7, burst=1), start_seconds=9.0)
    decision = decide(load, POLICIES["forecast"])
    assert decision.workers == decide(load, SQUARE_ROOT).workers
    assert decision.reasons[0] == (
        "a worker starts in 9 s, a task takes 10 s: no forecast is needed"
    )


long_counts = st.lists(st.integers(0, 500), min_size=4 * 24, max_size=9 * 24).map(tuple)


@given(loads, st.builds(Arrivals, st.just(3600.0), st.just(NOW), long_counts))
def test_the_forecast_never_wants_less_than_square_root(load: PoolLoad, past: Arrivals) -> None:
    load = replace(load, long_term=past)
    wanted = decide(load, POLICIES["forecast"]).wanted
    if load.age <= MAX_AGE_SECONDS:
        assert wanted >= decide(load, SQUARE_ROOT).wanted
