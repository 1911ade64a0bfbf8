"""The performance tester with the real pyperf in the real sandbox."""

from __future__ import annotations

import asyncio
import base64
from io import BytesIO
from typing import Any

import pytest
from context import LocalContext
from PIL import Image
from pydantic import ValidationError

from fleet.agent import Outcome
from fleet.errors import TaskFailed
from fleet.sandbox import isolation_for
from workers.performance_tester import SPEC
from workers.performance_tester.models import PerformanceTestResult
from workers.performance_tester.statistics import verdict

SETUP = "import random\nnumbers = [random.random() for _ in range(2000)]"
LOOP = {
    "name": "loop",
    "code": "def total(items):\n    t = 0\n    for i in items:\n        t += i\n    return t",
    "call": "round(total(numbers), 6)",
}
BUILT_IN = {"name": "built-in", "call": "round(sum(numbers), 6)"}


def measured(*variants: dict[str, str], **payload: Any) -> Outcome:
    context = LocalContext()
    payload = {"seconds": 3, "variants": variants, **payload}
    return asyncio.run(SPEC.make().run(SPEC.payload(**payload), context))


def result_of(outcome: Outcome) -> PerformanceTestResult:
    assert isinstance(outcome.result, PerformanceTestResult)
    return outcome.result


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """Of two variants that one set-up gives random data."""
    return measured(LOOP, BUILT_IN, setup=SETUP, seconds=5)


def test_the_faster_of_two_variants_is_found_with_its_interval(outcome: Outcome) -> None:
    result = result_of(outcome)
    assert (outcome.state, result.same_result) == ("succeeded", True)
    [held] = result.comparisons
    assert (held.name, held.reference, held.verdict) == ("built-in", "loop", "faster")
    assert held.low <= held.ratio <= held.high < 1
    assert "built-in is faster than loop" in outcome.summary
    assert result.isolation == isolation_for("auto")
    assert result.rounds >= 3


def test_random_data_of_the_set_up_is_the_same_for_every_variant(outcome: Outcome) -> None:
    assert result_of(outcome).same_result is True


def test_each_variant_has_figures_that_fit_together(outcome: Outcome) -> None:
    result = result_of(outcome)
    for timing in result.timings:
        assert 0 < timing.median_low <= timing.median <= timing.median_high
        assert timing.median <= timing.p95
        assert timing.spread >= 0
        assert timing.values >= result.rounds
        assert timing.loops >= 1


def test_the_plot_is_a_png_image_of_a_bounded_size(outcome: Outcome) -> None:
    result = result_of(outcome)
    data = base64.b64decode(result.plot_png_base64, validate=True)
    assert len(data) < 200_000
    with Image.open(BytesIO(data)) as image:
        assert image.format == "PNG"
        assert image.width > 600


def test_variants_with_different_results_are_timed_but_unverified() -> None:
    outcome = measured({"name": "one", "call": "1 + 0"}, {"name": "two", "call": "1 + 1"})
    result = result_of(outcome)
    assert (outcome.state, result.same_result) == ("unverified", False)
    assert outcome.summary.startswith("the variants give different results")
    assert len(result.timings) == 2


@pytest.mark.parametrize("call", ["x = 1 + 1", "iter([1])", "object()"])
def test_results_that_cannot_be_compared_do_not_count_against_the_variants(call: str) -> None:
    outcome = measured({"name": "one", "call": call}, {"name": "two", "call": call}, seconds=1)
    assert (outcome.state, result_of(outcome).same_result) == ("succeeded", None)


def test_what_a_variant_prints_does_not_spoil_the_timing() -> None:
    assert measured({"name": "loud", "call": "print('loud')"}, seconds=1).state == "succeeded"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"call": "1 / 0"}, "variant broken failed: ZeroDivisionError: division by zero"),
        ({"call": "f()", "code": "import nowhere"}, "variant broken failed: ModuleNotFoundError"),
        ({"call": "exit()", "code": "from sys import exit"}, "variant broken failed: SystemExit"),
        ({"call": "end(0)", "code": "from os import _exit as end"}, "variant broken failed"),
        (
            {
                "call": "[os.write(n, b'{1\\n') for n in (3, 4)] and os._exit(0)",
                "code": "import os",
            },
            "variant .* failed",
        ),
    ],
)
def test_a_variant_that_fails_is_named_with_its_error(broken: dict[str, str], message: str) -> None:
    with pytest.raises(TaskFailed, match=message):
        measured(BUILT_IN, {"name": "broken", **broken}, setup=SETUP)


def test_a_variant_that_fails_only_later_is_named_too() -> None:
    code = (
        "calls = []\ndef later():\n    calls.append(1)\n    if len(calls) > 2: raise KeyError('x')"
    )
    with pytest.raises(TaskFailed, match="variant later failed: KeyError"):
        measured({"name": "later", "code": code, "call": "later()"})


def test_a_variant_that_does_not_end_is_named_with_advice() -> None:
    with pytest.raises(TaskFailed, match=r"variant endless was still running .* less data"):
        measured(
            BUILT_IN,
            {"name": "endless", "call": "list(iter(int, 1))[:0]"},
            setup=SETUP + "\nimport itertools",
            seconds=1,
        )


def test_a_cancelled_test_stops() -> None:
    async def cancel_in_the_middle() -> None:
        payload = SPEC.payload(variants=[LOOP], setup=SETUP, seconds=60)
        async with asyncio.timeout(1.5):
            await SPEC.make().run(payload, LocalContext())

    with pytest.raises(TimeoutError):
        asyncio.run(cancel_in_the_middle())


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.5, 0.9, "faster"),
        (1.1, 1.2, "slower"),
        (0.9, 1.1, "no difference found"),
        (1.0, 1.2, "no difference found"),
    ],
)
def test_a_verdict_needs_an_interval_without_one(low: float, high: float, expected: str) -> None:
    assert verdict(low, high) == expected


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"variants": []}, "at least 1 item"),
        ({"variants": [BUILT_IN, BUILT_IN]}, "two variants have one name"),
        ({"variants": [{"name": "x", "call": "("}]}, "no Python code"),
        ({"variants": [{"name": "x", "call": ""}]}, "at least 1 character"),
        ({"variants": [BUILT_IN], "seconds": 121}, "less than or equal to 120"),
        ({"variants": [BUILT_IN], "confidence": 1}, "less than or equal to 0.999"),
        ({"variants": [{"name": f"v{n}", "call": "1"} for n in range(9)]}, "at most 8"),
    ],
)
def test_a_bad_payload_is_refused_with_a_reason(payload: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SPEC.payload(**payload)
