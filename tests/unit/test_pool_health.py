"""Who is an outlier among the pools of an agent type, and who is not."""

from __future__ import annotations

import pytest

from fleet.routing.rules.health import HealthPolicy, PoolHealth, describe_health, judge
from fleet.routing.rules.pools import PoolCounts, PoolFacts, PoolTable
from fleet.routing.rules.routing import RouteRequest, decide, rank
from fleet.routing.rules.statistics import Statistic

POLICY = HealthPolicy()


def pool(name: str, health_state: str = "in", live_agents: int = 1, **figures: float) -> PoolHealth:
    """A pool of 50 outcomes, all good within a second, unless told otherwise."""
    statistic = Statistic(
        int(figures.get("outcomes", 50)),
        int(figures.get("successes", 50)),
        figures.get("response", 1.0),
        int(figures.get("in_row", 0)),
        typical_seconds=figures.get("response", 1.0),
    )
    return PoolHealth(name, live_agents, health_state, statistic)


def ejected(*pools: PoolHealth, policy: HealthPolicy = POLICY) -> dict[str, str]:
    return dict(judge(pools, policy))


def test_failures_in_a_row_take_a_pool_out() -> None:
    assert ejected(pool("bad", in_row=5), pool("good")) == {"bad": "5 failures in a row"}
    assert ejected(pool("bad", in_row=4), pool("good")) == {}


def test_where_all_fail_alike_no_pool_is_to_blame() -> None:
    assert ejected(pool("a", in_row=7), pool("b", in_row=5)) == {}


def test_a_low_success_rate_counts_only_beside_better_peers() -> None:
    bad = pool("bad", successes=25)
    reason = "success rate 50% while its peers have 100%"
    assert ejected(bad, pool("good"), pool("fine")) == {"bad": reason}
    # the median of the peers is 60 %: not 20 points better
    assert ejected(bad, pool("poor", successes=30), pool("so-so", successes=30)) == {}
    assert ejected(pool("new", outcomes=19, successes=0), pool("good")) == {}


def test_a_slow_pool_is_compared_with_its_peers() -> None:
    slow = pool("slow", response=5.5)
    reason = "response time 5.5 s while its peers have 1.0 s"
    assert ejected(slow, pool("a"), pool("b")) == {"slow": reason}
    assert ejected(slow, pool("a", response=3.0), pool("b", response=1.5)) == {}


def test_the_last_pool_stays_whatever_it_does() -> None:
    assert ejected(pool("only", in_row=50, successes=0)) == {}
    out = pool("out", health_state="ejected")
    dead = pool("dead", live_agents=0)
    assert ejected(pool("left", in_row=50), out, dead) == {}


def test_at_most_half_are_out_and_the_worst_go_first() -> None:
    pools = [pool(f"p{n}", in_row=9, successes=n) for n in range(3)]
    good = [pool("good"), pool("fine")]
    assert list(ejected(*pools, *good)) == ["p0", "p1"]
    assert list(ejected(*pools, *good, pool("out", health_state="probation"))) == ["p0", "p1"]


def test_a_pool_on_its_way_back_may_be_taken_out_again() -> None:
    assert list(ejected(pool("back", health_state="returning", in_row=5), pool("good"))) == ["back"]


@pytest.mark.parametrize(
    ("health_state", "phrase"),
    [
        ("maintenance", "in maintenance"),
        ("own_work", "has tasks of its own waiting, which come before spillover"),
        ("probation", "on probation with 2 at a time: it was slow"),
        ("returning", "returning to rotation, with 2 slots open: it was slow"),
        ("ejected", "ejected: it was slow"),
    ],
)
def test_a_pool_that_its_health_closes_is_rejected_with_the_reason(
    health_state: str, phrase: str
) -> None:
    assert describe_health(health_state, "it was slow", 2) == phrase
    facts = PoolFacts("gen", "code_generator", "gen", 5, frozenset(), 1, 10, 0)
    ranking = rank("soonest", RouteRequest("any", "code_generator"), PoolTable.of([facts]))
    closed = decide(ranking, {"gen": PoolCounts(1, 2, 10, 2, health_state, "it was slow")})
    assert closed.pool is None
    assert closed.rejected[-1].reason == phrase
    assert (
        decide(ranking, {"gen": PoolCounts(1, 1, 10, 2, health_state, "it was slow")}).pool == "gen"
    )
