"""The code generator: ask the model, check the code, report failures, ask again."""

from __future__ import annotations

import ast
import asyncio
import time
from dataclasses import dataclass, field, replace

from fleet.agent import AgentContext, ModelReply, Outcome
from fleet.errors import (
    ContextWindowExceeded,
    FleetError,
    InvalidRequest,
    ModelRefused,
    OverBudget,
    OverLimit,
    Unavailable,
)
from fleet.sandbox import isolation_for
from workers.code_generator.blocks import names_of_tests
from workers.code_generator.extraction import extract_code
from workers.code_generator.models import (
    Attempt,
    CodeGenerationPayload,
    CodeGenerationResult,
    TestIsolation,
)
from workers.code_generator.prompts import INSTRUCTIONS, first_prompt, next_prompt
from workers.code_generator.verification import CheckVerdict, verify

# The first answer is the model's best. Later answers must differ from it.
TEMPERATURES = (0.0, 0.5, 0.9)
STAGES = ("extract", "parse", "lint", "tests")
NO_ANSWER = (Unavailable, OverBudget, OverLimit, ModelRefused, ContextWindowExceeded)


@dataclass(slots=True)
class Tries:
    """All attempts so far, the isolation of the tests, and why there was no further answer."""

    attempts: list[Attempt] = field(default_factory=list)
    isolation: TestIsolation = ""
    no_answer: FleetError | None = None


def _check_tests(tests: str) -> None:
    """Refuse tests that cannot run before the model is paid for an answer."""
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidRequest(f"the tests are no Python code: {error}; correct them") from error
    if tests and not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        raise InvalidRequest("the tests hold no assert statement; add one, or leave the tests out")


class CodeGenerator:
    """Writes code with the task's model until a version passes its checks.

    When a model has used up its attempts, the next stronger model that the task may use starts
    again. If no model answers any more, or the limit is reached, the best attempt so far is the
    result. Each paid answer is checkpointed: a later run of the task checks it again and asks for
    the next one.
    """

    async def run(self, payload: CodeGenerationPayload, context: AgentContext) -> Outcome:
        _check_tests(payload.tests)
        if payload.tests:
            # Before a model is paid for code that could not be tested here.
            await asyncio.to_thread(isolation_for, context.sandbox)
        tries = Tries()
        try:
            await self._try_models(tries, payload, context)
        except NO_ANSWER as error:
            if not tries.attempts:
                raise
            tries.no_answer = error
        return _outcome(payload, tries)

    async def _try_models(
        self, tries: Tries, payload: CodeGenerationPayload, context: AgentContext
    ) -> None:
        """Add attempts until one passes or there is no stronger model."""
        while True:
            await self._try_one_model(tries, payload, context)
            last = tries.attempts[-1]
            if last.passed:
                return
            stronger = await context.escalate(
                f"{last.model} failed at {last.stage}", _quality(tries.attempts, payload.tests)
            )
            # An answer that an earlier run paid for is checked, whatever model is available now.
            if not stronger and context.saved(_answer(tries)) is None:
                return

    async def _try_one_model(
        self, tries: Tries, payload: CodeGenerationPayload, context: AgentContext
    ) -> None:
        """Add attempts until one passes or all are used up."""
        before: list[Attempt] = []
        for number in range(payload.max_attempts):
            attempt, verdict = await self._attempt(
                tries, TEMPERATURES[number], before, payload, context
            )
            tries.attempts.append(attempt)
            before.append(attempt)
            tries.isolation = verdict.isolation or tries.isolation
            word = "passed" if attempt.passed else f"failed at {attempt.stage}"
            await context.report(
                f"attempt {number + 1} of {payload.max_attempts} with {attempt.model} {word}: "
                f"{attempt.message}"
            )
            if attempt.passed:
                return

    async def _attempt(
        self,
        tries: Tries,
        temperature: float,
        before: list[Attempt],
        payload: CodeGenerationPayload,
        context: AgentContext,
    ) -> tuple[Attempt, CheckVerdict]:
        started = time.monotonic()
        reply = await context.ask(
            next_prompt(payload, before[-1]) if before else first_prompt(payload),
            instructions=INSTRUCTIONS,
            max_tokens=payload.max_tokens,
            temperature=temperature,
            save_as=_answer(tries),
        )
        # Parsing a long answer takes long: not on the event loop of all tasks.
        code = await asyncio.to_thread(extract_code, reply.text, _asked_for(payload))
        verdict = await verify(code, payload, context.sandbox)
        verdict = _of_a_cut_answer(verdict, reply, code, payload)
        attempt = Attempt(
            number=len(tries.attempts) + 1,
            temperature=temperature,
            code=code or "",
            stage=verdict.stage,
            passed=verdict.passed,
            message=verdict.message,
            asserts_passed=verdict.asserts_passed,
            model=reply.model,
            tokens=reply.input_tokens + reply.output_tokens,
            cost_nanodollars=reply.cost_nanodollars,
            seconds=time.monotonic() - started,
        )
        return attempt, verdict


def _of_a_cut_answer(
    verdict: CheckVerdict, reply: ModelReply, code: str | None, payload: CodeGenerationPayload
) -> CheckVerdict:
    """The verdict on code that may lack its end, because its answer was cut at its limit.

    Code that passes tests is complete enough. Without tests, code counts as cut if the answer ends
    in it.
    """
    if reply.finish_reason != "length":
        return verdict
    ends_in_code = bool(code) and reply.text.rstrip().endswith((code or "").rstrip()[-40:])
    if verdict.passed and (payload.tests or not ends_in_code):
        return verdict
    cut = f"the answer was cut at its limit of {payload.max_tokens} tokens"
    return replace(verdict, passed=False, message=f"{cut}; {verdict.message}; write less")


def _asked_for(payload: CodeGenerationPayload) -> set[str]:
    named = {payload.function} if payload.function else set()
    return named | names_of_tests(payload.tests, payload.module)


def _answer(tries: Tries) -> str:
    """The checkpoint name of the next answer."""
    return f"answer-{len(tries.attempts) + 1}"


def _quality(attempts: list[Attempt], tests: str) -> float:
    """The quality of the last model's best answer: the share of the tests' asserts that held.

    The number of asserts counts statements: an assert in a loop holds many times.
    """
    model = attempts[-1].model
    if attempts[-1].passed:
        return 1.0
    held = max(attempt.asserts_passed for attempt in attempts if attempt.model == model)
    statements = sum(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(tests)))
    # At least one did not hold.
    return held / max(statements, held + 1)


def _outcome(payload: CodeGenerationPayload, tries: Tries) -> Outcome:
    attempts = tries.attempts
    best = max(
        attempts, key=lambda a: (a.passed, STAGES.index(a.stage), a.asserts_passed, a.number)
    )
    result = CodeGenerationResult(
        code=best.code,
        verified=best.passed,
        tests_run=any(attempt.stage == "tests" for attempt in attempts),
        asserts_passed=best.asserts_passed,
        attempts=tuple(attempts),
        isolation=tries.isolation,
        model=best.model,
    )
    count = f"{len(attempts)} attempt{'s' if len(attempts) > 1 else ''}"
    quality = _quality(attempts, payload.tests)
    if best.passed:
        return Outcome("succeeded", result, f"{best.message} ({count})", quality, best.model)
    summary = f"not verified after {count}: {best.message}"
    if tries.no_answer is not None:
        summary += f". No further attempt: {tries.no_answer}"
    return Outcome("unverified", result, summary, quality, best.model)
