"""Whether the fleet can do without the slots of a pool that is out of line."""

from __future__ import annotations

from fleet.routing.rules.health import HealthPolicy, PoolHealth, judge, needed
from fleet.routing.rules.statistics import Statistic

POLICY = HealthPolicy()
UNLUCKY = Statistic(outcomes=100, successes=80, response_seconds=1.0, failures_in_row=5)
HOPELESS = Statistic(outcomes=100, successes=10, response_seconds=1.0, failures_in_row=5)
FINE = Statistic(outcomes=100, successes=99, response_seconds=1.0)


def pool(name: str, statistic: Statistic, in_flight: int, slots: int = 10) -> PoolHealth:
    return PoolHealth(name, 1, "in", statistic, in_flight, slots)


def ejected(*pools: PoolHealth) -> list[str]:
    return [ejection.pool for ejection in judge(pools, POLICY)]


def test_an_outlier_stays_while_the_others_have_too_little_room() -> None:
    assert ejected(pool("odd", UNLUCKY, 4), pool("fine", FINE, 4)) == ["odd"]
    assert ejected(pool("odd", UNLUCKY, 5), pool("fine", FINE, 4)) == []


def test_a_hopeless_pool_goes_however_busy_the_others_are() -> None:
    assert ejected(pool("odd", HOPELESS, 10), pool("fine", FINE, 10)) == ["odd"]


def test_each_pool_that_goes_leaves_the_others_less_room() -> None:
    others = (pool("fine", FINE, 5), pool("good", FINE, 5))
    assert ejected(pool("a", UNLUCKY, 5), pool("b", UNLUCKY, 5), *others) == ["a"]
    assert ejected(pool("a", UNLUCKY, 5), pool("b", UNLUCKY, 5), *others, pool("c", FINE, 0)) == [
        "a",
        "b",
    ]


def test_one_long_run_among_heavy_tailed_ones_takes_no_pool_out() -> None:
    # A run of 300 s where the others take 10: the moving average goes to 0.9 x 10 + 0.1 x 300.
    slow = Statistic(100, 99, 39.0)
    usual = Statistic(100, 99, 10.0)
    assert ejected(pool("odd", slow, 0), pool("a", usual, 0), pool("b", usual, 0)) == []


def out(name: str, statistic: Statistic, standing: str = "ejected") -> PoolHealth:
    return PoolHealth(name, 1, standing, statistic, 0, 0)


def test_a_pool_that_is_out_comes_back_when_its_slots_are_needed() -> None:
    assert needed([out("odd", UNLUCKY), pool("fine", FINE, 10)], 0, POLICY) == []
    assert needed([out("odd", UNLUCKY), pool("fine", FINE, 10)], 1, POLICY) == ["odd"]
    assert needed([out("odd", UNLUCKY, "probation"), pool("fine", FINE, 10)], 1, POLICY) == ["odd"]
    assert needed([pool("fine", FINE, 10), pool("odd", UNLUCKY, 10)], 9, POLICY) == []


def test_a_hopeless_pool_comes_back_only_where_none_is_in() -> None:
    assert needed([out("odd", HOPELESS), pool("fine", FINE, 10)], 9, POLICY) == []
    assert needed([out("odd", HOPELESS), out("fine", FINE)], 0, POLICY) == ["odd", "fine"]
    dead = PoolHealth("dead", 0, "in", FINE)
    assert needed([out("odd", HOPELESS), dead], 0, POLICY) == ["odd"]
