"""The health of a simulated pool moves as that of a real one does in Redis."""

from __future__ import annotations

from pathlib import Path

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.redis import scripts
from fleet.routing.pools_store import eject_arguments
from fleet.routing.rules.health import HealthPolicy
from fleet.simulation.rules.pools import PoolState, SimulatedPool

LUA = Path(scripts.__file__).parent / "lua"
SLOTS = 7
POLICY = HealthPolicy(
    eject_seconds=10.0, most_eject_seconds=40.0, probes=2, good_probes=3, ramp_seconds=20.0
)
HALF_LIFE = 600.0
START = 1_000_000


def part(name: str) -> str:
    return (LUA / "parts" / f"{name}.lua").read_text()


def with_parts(script: str) -> str:
    """A script of the fleet with its parts, and the time from an argument in place of the clock."""
    lines = [
        part(line.removeprefix("-- include ")) if line.startswith("-- include ") else line
        for line in (LUA / script).read_text().splitlines()
    ]
    clock = "local now = tonumber(ARGV[8])"
    return "\n".join(lines).replace(part("time").rstrip("\n"), clock)


COUNT = f"""
{part("health")}
{part("outcome")}
local state = ARGV[1] == '1' and 'succeeded' or 'failed'
count_outcome(KEYS[1], 'nap', state, 1.5, tonumber(ARGV[2]), 100, {HALF_LIFE * 1000:.0f})
"""
LOOK = f"""
{part("health")}
local open, standing = openings({SLOTS}, false, redis.call('HGET', KEYS[1], 'health'),
  tonumber(ARGV[1]))
return {{open, standing, redis.call('HGET', KEYS[1], 'stat') or ''}}
"""
steps = st.lists(
    st.tuples(st.sampled_from(["good", "bad", "eject"]), st.integers(0, 30_000)), max_size=40
)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps)
def test_a_simulated_pool_goes_the_same_way_round(
    client: redis.Redis, done: list[tuple[str, int]]
) -> None:
    client.flushall()
    client.hset("peer", "slots", 5)
    eject = with_parts("eject.lua")
    state = PoolState(0, SimulatedPool("a", "napper", SLOTS), HALF_LIFE, POLICY)
    ms = START
    for what, pause in done:
        ms += pause
        client.zadd("peer-agents", {"b": ms})
        if what == "eject":
            arguments = eject_arguments(60_000, POLICY, "it fails")
            client.eval(eject, 3, "facts", "peer", "peer-agents", *arguments, ms)
            if state.health.standing(ms / 1000, POLICY) in ("in", "returning"):
                state.health = state.health.ejected(ms / 1000, POLICY)
        else:
            client.eval(COUNT, 1, "facts", int(what == "good"), ms)
            state.count("nap", what == "good", 1.5, ms / 1000)
        open_slots, standing, packed = client.eval(LOOK, 1, "facts", ms)
        assert standing.decode() == state.health.standing(ms / 1000, POLICY)
        assert open_slots == state.open_slots(ms / 1000)
        if packed:
            _, outcomes, successes, _, failures, _ = packed.decode().split(",")
            seen = state.overall.statistic(ms / 1000)
            assert (int(outcomes), int(successes)) == (seen.outcomes, seen.successes)
            assert int(failures) == seen.failures_in_row
