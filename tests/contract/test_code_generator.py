"""The code generator with the real local model, ruff and sandbox."""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import replace
from typing import Any

import pytest
from context import LocalContext
from pydantic import ValidationError
from pydantic_ai.exceptions import ModelAPIError

from fleet.agent import Outcome
from fleet.errors import InvalidRequest
from fleet.sandbox import isolation_for
from workers.code_generator import SPEC, verification
from workers.code_generator.agent import TEMPERATURES
from workers.code_generator.models import CodeGenerationPayload, CodeGenerationResult
from workers.code_generator.verification import CheckVerdict, verify

ADD = "def add(a, b):\n    return a + b\n"
ADD_TESTS = "assert add(1, 2) == 3\nassert add(-1, 1) == 0"
# The small model likes to go on after its function.
SHORT = 128
IS_EVEN = "Write a function is_even(n) that returns True if n is even and False otherwise."


def generate(context: LocalContext, **payload: Any) -> Outcome:
    return asyncio.run(SPEC.make().run(SPEC.payload(**payload), context))


def result_of(outcome: Outcome) -> CodeGenerationResult:
    assert isinstance(outcome.result, CodeGenerationResult)
    return outcome.result


def checked(code: str | None, tests: str = ADD_TESTS, **payload: Any) -> CheckVerdict:
    wanted = CodeGenerationPayload(instruction="Add.", tests=tests, **payload)
    return asyncio.run(verify(code, wanted, "auto"))


def test_code_that_passes_its_tests_is_a_success(local_model_url: str) -> None:
    context = LocalContext(local_model_url)
    tests = "assert is_even(4)\nassert not is_even(7)\nassert is_even(0)"
    outcome = generate(context, instruction=IS_EVEN, tests=tests, max_tokens=SHORT)
    result = result_of(outcome)
    assert (outcome.state, result.verified, result.tests_run) == ("succeeded", True, True)
    assert result.asserts_passed == 3
    assert result.isolation == isolation_for("auto")
    assert "def is_even" in result.code
    assert "3 asserts passed" in outcome.summary
    assert len(context.reports) == len(result.attempts)
    last = result.attempts[-1]
    assert (last.stage, last.passed, last.code) == ("tests", True, result.code)
    assert last.tokens > 0


def test_code_that_fails_its_tests_is_unverified_after_all_attempts(local_model_url: str) -> None:
    context = LocalContext(local_model_url)
    outcome = generate(
        context, instruction=IS_EVEN, tests="assert False", max_attempts=2, max_tokens=SHORT
    )
    result = result_of(outcome)
    assert (outcome.state, result.verified) == ("unverified", False)
    assert [attempt.number for attempt in result.attempts] == [1, 2]
    assert [attempt.temperature for attempt in result.attempts] == list(TEMPERATURES[:2])
    assert not any(attempt.passed for attempt in result.attempts)
    assert outcome.summary.startswith("not verified after 2 attempts")
    # The second question tells what was wrong with the first answer.
    assert result.attempts[0].message in context.prompts[1]
    assert result.attempts[0].message not in context.prompts[0]


def test_without_tests_parsing_and_linting_are_the_check_and_the_summary_says_so(
    local_model_url: str,
) -> None:
    context = LocalContext(local_model_url)
    outcome = generate(context, instruction=IS_EVEN, function="is_even", max_tokens=SHORT)
    result = result_of(outcome)
    assert (outcome.state, result.verified, result.tests_run) == ("succeeded", True, False)
    assert result.isolation == ""
    assert "no tests were given" in outcome.summary


def test_a_model_that_does_not_answer_ends_the_run_with_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(ModelAPIError):
            generate(LocalContext(nobody), instruction=IS_EVEN)


@pytest.mark.parametrize(
    ("tests", "message"),
    [("assert (", "the tests are no Python code"), ("print('assert')", "hold no assert")],
)
def test_tests_that_cannot_prove_anything_are_refused_before_the_model_is_asked(
    tests: str, message: str
) -> None:
    context = LocalContext()
    with pytest.raises(InvalidRequest, match=message):
        generate(context, instruction=IS_EVEN, tests=tests)
    assert context.prompts == []


def test_a_cancelled_run_stops_asking(local_model_url: str) -> None:
    context = LocalContext(local_model_url)

    async def cancel_at_the_first_report() -> None:
        async def cancel(progress: str) -> None:
            context.reports.append(progress)
            running.cancel()
            await asyncio.sleep(0)

        context.report = cancel  # type: ignore[method-assign]
        payload = SPEC.payload(instruction=IS_EVEN, tests="assert False", max_tokens=60)
        running = asyncio.create_task(SPEC.make().run(payload, context))
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(cancel_at_the_first_report())
    assert len(context.prompts) == len(context.reports) == 1


def test_right_code_passes_every_stage() -> None:
    verdict = checked(ADD)
    assert (verdict.stage, verdict.passed, verdict.asserts_passed) == ("tests", True, 2)


@pytest.mark.parametrize(
    ("code", "stage", "message"),
    [
        (None, "extract", "no Python code"),
        ("def add(a, b:\n    return a\n", "parse", "was never closed"),
        ("def plus(a, b):\n    return a + b\n", "parse", "does not define add"),
        ("def add(a, b):\n    return a + c\n", "lint", "Undefined name `c`"),
        ("def add(a, b):\n    return a is 3\n", "lint", "F632"),
        ("def add(a, b):\n    return a - b\n", "tests", "the left side is -1, the right side is 3"),
        ("def add(a, b):\n    return a + str(b)\n", "tests", "TypeError"),
        ("raise OSError('no')\ndef add(a, b): ...\n", "tests", "does not load: OSError: no"),
    ],
)
def test_wrong_code_fails_at_its_stage_with_a_message_that_helps(
    code: str | None, stage: str, message: str
) -> None:
    verdict = checked(code, function="add")
    assert (verdict.stage, verdict.passed) == (stage, False)
    assert message in verdict.message


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("import sys; sys.exit(0)", r"called exit\(0\)"),
        ("import os; os._exit(0)", "exit status 0"),
        ("print('2 asserts passed'); raise SystemExit", r"called exit\(None\)"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
        ("while True: pass", "CPU time|still running"),
        ("import time; time.sleep(60)", "still running"),
    ],
)
def test_code_that_ends_or_stalls_the_process_has_not_passed_its_tests(
    ending: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sooner = replace(verification.TEST_LIMITS, cpu_seconds=1, wall_seconds=4)
    monkeypatch.setattr(verification, "TEST_LIMITS", sooner)
    verdict = checked(f"def add(a, b):\n    {ending}\n    return a + b\n")
    assert not verdict.passed
    assert re.search(message, verdict.message)


@pytest.mark.parametrize(
    ("tests", "count"),
    [
        ("from solution import add\nassert add(1, 1) == 2", 1),
        (
            "def test_add():\n    assert add(1, 1) == 2\n"
            "def test_more():\n    assert add(2, 2) == 4\n",
            2,
        ),
        ("for n in range(5):\n    assert add(n, 0) == n", 5),
        ("assert add(1, 1) == 2, 'a message'", 1),
        ("if __name__ == 'tests':\n    assert 1 < add(1, 1) < 3 and add(0, 0) is not None", 1),
    ],
)
def test_every_assert_that_held_is_counted(tests: str, count: int) -> None:
    verdict = checked(ADD, tests)
    assert (verdict.passed, verdict.asserts_passed) == (True, count), verdict.message


def test_tests_whose_asserts_are_never_reached_prove_nothing() -> None:
    verdict = checked(ADD, "def helper():\n    assert add(1, 1) == 2")
    assert (verdict.passed, verdict.message) == (False, "no assert was reached")


def test_the_asserts_before_the_failing_one_are_counted() -> None:
    verdict = checked(ADD, "assert add(1, 1) == 2\nassert add(1, 1) == 3")
    assert (verdict.passed, verdict.asserts_passed) == (False, 1)
    assert "assert add(1, 1) == 3" in verdict.message


def test_what_the_code_prints_does_not_mix_with_the_report() -> None:
    code = f"import os\nprint('loud', flush=True)\nos.write(1, b'louder')\n{ADD}"
    assert checked(code).passed


def test_the_module_may_have_a_name_of_its_own() -> None:
    verdict = checked(ADD, "import sums\nassert sums.add(1, 1) == 2", module="sums")
    assert verdict.passed, verdict.message


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"instruction": "  "}, "at least 1 character"),
        ({"instruction": "x" * 20_001}, "at most 20000"),
        ({"instruction": "x", "tests": "print(1)"}, "hold no assert"),
        ({"instruction": "x", "function": "not a name"}, "is no Python name"),
        ({"instruction": "x", "module": "json"}, "would hide a module"),
        ({"instruction": "x", "max_attempts": 4}, "less than or equal to 3"),
        ({"instruction": "x", "prompt": "y"}, "Extra inputs are not permitted"),
    ],
)
def test_a_bad_payload_is_refused_with_a_reason(payload: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SPEC.payload(**payload)
