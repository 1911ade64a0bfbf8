"""When a provider wants to be asked again, in every form in which providers say it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.models.calls.retry_after import seconds_to_wait

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
TIMES = {
    "2": 2.0,
    "2.5": 2.5,
    "0.25": 0.25,
    "Sun, 01 Mar 2026 12:00:30 GMT": 30.0,
    "Sun Mar  1 12:00:30 2026": 30.0,
}
RESETS = {
    "6m0s": 360.0,
    "120ms": 0.12,
    "1h2m3.5s": 3723.5,
    "7.66s": 7.66,
    "1d2h": 93_600.0,
    "59": 59.0,
    str(NOW.timestamp() + 20): 20.0,
    str(int(NOW.timestamp() * 1000) + 20_000): 20.0,
    "2026-03-01T12:00:45Z": 45.0,
}


@pytest.mark.parametrize(("text", "seconds"), TIMES.items())
def test_seconds_need_not_be_whole_and_may_be_a_date(text: str, seconds: float) -> None:
    assert seconds_to_wait({"retry-after": text}, NOW, limited=False) == pytest.approx(seconds)


def test_milliseconds_are_more_exact() -> None:
    headers = {"retry-after": "7", "retry-after-ms": "250.5"}
    assert seconds_to_wait(headers, NOW, limited=False) == pytest.approx(0.2505)


@pytest.mark.parametrize(
    "text", ["", "soon", "0", "-3", "nan", "inf", "1e999", "Sun, 01 Mar 2026 11:00:00 GMT"]
)
def test_what_says_nothing_is_left_to_what_comes_next(text: str) -> None:
    assert seconds_to_wait({"retry-after": text}, NOW, limited=True) is None
    headers = {"retry-after": text, "x-ratelimit-reset-requests": "3s"}
    assert seconds_to_wait(headers, NOW, limited=True) == 3


@pytest.mark.parametrize(("text", "seconds"), RESETS.items())
@pytest.mark.parametrize(
    "name", ["x-ratelimit-reset", "x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset"]
)
def test_a_limit_says_when_it_resets(name: str, text: str, seconds: float) -> None:
    found = seconds_to_wait({name: text}, NOW, limited=True)
    assert found == pytest.approx(seconds, abs=0.001)
    # Some send it with every answer: of an outage it says nothing.
    assert seconds_to_wait({name: text}, NOW, limited=False) is None


def test_of_several_limits_those_count_that_have_nothing_left() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "2s",
        "x-ratelimit-remaining-tokens": "149000",
        "x-ratelimit-reset-tokens": "6m",
    }
    assert seconds_to_wait(headers, NOW, limited=True) == 2
    headers["x-ratelimit-remaining-tokens"] = "0"
    assert seconds_to_wait(headers, NOW, limited=True) == 360
    headers["x-ratelimit-remaining-requests"] = headers["x-ratelimit-remaining-tokens"] = "1"
    assert seconds_to_wait(headers, NOW, limited=True) == 2


NAMES = st.sampled_from(
    ["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-remaining", "other"]
)


@given(st.dictionaries(NAMES, st.text()), st.booleans())
def test_any_text_is_a_wait_or_none(headers: dict[str, str], limited: bool) -> None:
    found = seconds_to_wait(headers, NOW, limited=limited)
    assert found is None or found > 0
