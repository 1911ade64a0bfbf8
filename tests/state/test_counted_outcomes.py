"""The count of outcomes in Python says the same as the one in Redis."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.redis import scripts
from fleet.routing.pools_store import parse_counts
from fleet.routing.rules.statistics import NO_WINDOW, counted

PARTS = Path(scripts.__file__).parent / "lua" / "parts"
HALF_LIFE = 60.0
MOST = 10
COUNT = "\n".join(
    [
        (PARTS / "health.lua").read_text(),
        (PARTS / "outcome.lua").read_text(),
        "local state = ARGV[1] == '1' and 'succeeded' or 'failed'",
        "count_outcome(KEYS[1], 'nap', state, tonumber(ARGV[2]), tonumber(ARGV[3]), ",
        f"  {MOST}, {HALF_LIFE * 1000:.0f})",
    ]
)
READ = "\n".join(
    [
        (PARTS / "health.lua").read_text(),
        (PARTS / "pool_counts.lua").read_text(),
        "local t = {'stat:nap'}",
        "return packed_counts(read_pool(KEYS[1], KEYS[2], KEYS[3], t, tonumber(ARGV[1]), 60000))",
    ]
)
outcomes = st.lists(
    st.tuples(st.booleans(), st.floats(0, 100), st.integers(0, 200_000)), min_size=1, max_size=40
)


@settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(outcomes, st.integers(0, 200_000))
def test_python_counts_outcomes_as_redis_does(
    client: redis.Redis, ends: list[tuple[bool, float, int]], later: int
) -> None:
    client.flushall()
    window, now = NO_WINDOW, 1_000_000
    for good, seconds, pause in ends:
        now += pause
        client.eval(COUNT, 1, "facts", int(good), seconds, now)
        window = counted(window, good, seconds, now / 1000, HALF_LIFE, MOST)
    packed = client.eval(READ, 3, "facts", "agents", "in_flight", now + later)
    (row,) = parse_counts(packed.decode(), ("nap",))
    expected = window.statistic((now + later) / 1000)
    assert row.by_request["nap"] == row.overall
    told = {"response_seconds": 0.0, "age_seconds": 0.0, "typical_seconds": 0.0}
    assert row.overall._replace(**told) == expected._replace(**told)
    # Redis writes six decimals of the response times each time it counts.
    assert row.overall.response_seconds == pytest.approx(expected.response_seconds, abs=1e-5)
    assert row.overall.typical_seconds == pytest.approx(expected.typical_seconds, rel=2e-2)
    assert row.overall.age_seconds == pytest.approx(expected.age_seconds, abs=1e-3)
