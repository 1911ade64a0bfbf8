"""The places of calls with a key in Redis: the same rules as in Python, for all workers at once."""

from __future__ import annotations

import math
import re
from dataclasses import astuple
from importlib.resources import files
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as tests
from hypothesis import strategies as st

from fleet.models.rules.concurrency import NEW, Pace, answered, begun, is_closed, refused, wait_ms

FACTS, CALLS, QUEUE = "{fleet}:key:k", "{fleet}:key:k:calls", "{fleet}:key:k:queue:m"
PLACE_MS = 1_000_000
DRIVER = """
local facts, calls, queue = unpack(KEYS)
local now, event, call, retry_ms, began = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
{parts}
free_lost_places(facts, calls, 'd20261201')
local answer = 0
if event == 'ask' then
  answer = wait_for_place(facts, queue, 'm', call, '', '0')
  if answer <= 0 then
    take_place(facts, calls, queue, 'm', call, place_of('m', '7', call), {place_ms})
  end
else
  if event == 'answer' then
    note_answer(facts, 'm', tonumber(began), '')
  else
    answer = note_key_refusal(facts, 'm', tonumber(began), tonumber(retry_ms)) and 1 or 0
  end
  free_place(facts, calls, place_of('m', '7', call), {place_ms})
end
return {{string.format('%.6f', answer), redis.call('HGET', facts, 'pace|m') or '',
  redis.call('HGET', facts, 'n|m') or '0', redis.call('HGET', facts, 'held') or '0'}}
"""


def driver() -> str:
    """A script that does one event at a given time."""
    folder = files("fleet.redis").joinpath("lua", "parts")
    parts = "\n".join(folder.joinpath(f"{name}.lua").read_text() for name in ("key_places",))
    return DRIVER.format(parts=parts, place_ms=PLACE_MS)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "answer", "refuse"]),
        st.integers(1, 3000),
        st.sampled_from([0, 0, 300, 1000, 9000]),
    ),
    min_size=1,
    max_size=80,
)


@given(EVENTS)
@tests(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_script_keeps_the_rules(
    client: redis.Redis, events: list[tuple[str, int, int]]
) -> None:
    client.delete(FACTS, CALLS, QUEUE)
    run = client.register_script(driver())
    pace, now, flights = NEW, 1_000_000, []
    for number, (event, later, retry_ms) in enumerate(events):
        now += later
        if event == "ask":
            call, began = f"t {number}", now
        elif flights:
            call, began = flights.pop(0)
        else:
            continue
        in_flight = len(flights) + (event != "ask")
        told: Any = run(keys=[FACTS, CALLS, QUEUE], args=[now, event, call, retry_ms, began])
        if event == "ask":
            wait = wait_ms(pace, in_flight, 0, now)
            assert float(told[0]) == pytest.approx(wait, abs=0.01)
            if not wait:
                pace = begun(pace, now)
                flights.append((call, began))
        elif event == "answer":
            pace = answered(pace, began, in_flight, now)
        else:
            assert float(told[0]) == is_closed(pace, retry_ms, now)
            pace = refused(pace, began, in_flight, retry_ms, now)
        assert _pace(told[1]) == pytest.approx(astuple(pace), rel=1e-4, abs=0.01)
        assert (int(told[2]), int(told[3])) == (len(flights), 7 * len(flights))


def _pace(packed: bytes) -> tuple[float, ...]:
    return tuple(map(float, packed.split(b","))) if packed else astuple(Pace())


def test_a_lost_workers_place_ends_and_counts_as_spent(client: redis.Redis) -> None:
    run = client.register_script(driver())
    keys = [FACTS, CALLS, QUEUE]
    run(keys=keys, args=[1_000, "ask", "t 1", 0, 0])
    told: Any = run(keys=keys, args=[1_000 + PLACE_MS, "ask", "t 2", 0, 0])
    assert [int(told[2]), int(told[3])] == [1, 7]
    assert client.hmget(FACTS, "day", "spent") == [b"d20261201", b"7"]


def test_calls_that_wait_begin_in_the_order_in_which_they_came(client: redis.Redis) -> None:
    source = driver().replace("call, '', '0')", "call, '4', '1')")
    waiting = client.register_script(source)
    keys = [FACTS, CALLS, QUEUE]
    asked = [[1_000 + number, "ask", f"t {number}", 0, 0] for number in range(7)]
    waits = [waiting(keys=keys, args=each) for each in asked]
    assert [float(told[0]) > 0 for told in waits] == [False] * 4 + [True] * 3
    waiting(keys=keys, args=[1_500, "refuse", "t 0", 0, 1_000])
    # Two may be in flight for now: the limit is cut, and nothing begins during the pause.
    waiting(keys=keys, args=[1_900, "refuse", "t 1", 0, 1_000])
    newcomer: Any = waiting(keys=keys, args=[2_500, "ask", "t 9", 0, 0])
    assert float(newcomer[0]) > 0
    first: Any = waiting(keys=keys, args=[2_501, "ask", "t 4", 0, 0])
    assert float(first[0]) <= 0
    assert math.isclose(int(first[2]), 3)


def test_the_numbers_of_the_script_are_those_of_the_rules() -> None:
    from fleet.models.rules import concurrency

    text = files("fleet.redis").joinpath("lua", "parts", "key_places.lua").read_text()
    found: dict[str, float] = {}
    for names, values in re.findall(r"^local ([\w, ]+) = ([\d., ]+)$", text, re.MULTILINE):
        found |= zip(names.split(", "), map(float, values.split(", ")), strict=True)
    assert len(found) >= 15
    for name in set(found) - {"max_queued_ms"}:
        assert found[name] == getattr(concurrency, name.upper()), name
