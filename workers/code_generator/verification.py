"""Checks generated code, cheapest check first: it parses, ruff finds no error, its tests pass."""

from __future__ import annotations

import ast
import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruff import find_ruff_bin

from fleet.agent import to_the_end
from fleet.errors import Unavailable
from fleet.sandbox import (
    Mode,
    SandboxLimits,
    SandboxResult,
    StdioChannel,
    channels,
    run_python,
)
from workers.code_generator.models import CodeGenerationPayload, Stage, TestIsolation

HERE = Path(__file__).parent
HARNESS, SERVER = HERE / "harness.py", HERE / "code_server.py"
BOTH_SIDES = ("wire.py", "operations.py")
# Only errors, no style: syntax, comparisons that cannot hold, misplaced statements, undefined
# names.
RUFF_RULES = "E9,F63,F7,F82"
RUFF_SECONDS = 20
TEST_LIMITS = SandboxLimits(wall_seconds=10, cpu_seconds=5, processes=8)
# How long a process may take to exit after its output has ended.
ENDING_SECONDS = 3
MESSAGE_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class CheckVerdict:
    """The last check of the code, and its outcome."""

    stage: Stage
    passed: bool
    message: str
    asserts_passed: int = 0
    isolation: TestIsolation = ""


async def verify(code: str | None, payload: CodeGenerationPayload, mode: Mode) -> CheckVerdict:
    """Run every check that applies, up to the first failure."""
    if code is None:
        return CheckVerdict("extract", False, "there is no Python code in the answer")
    if failure := parse_failure(code, payload.function):
        return CheckVerdict("parse", False, failure)
    if failure := await lint_failure(code):
        return CheckVerdict("lint", False, failure)
    if not payload.tests:
        return CheckVerdict(
            "lint", True, "the code parses and ruff finds no error; no tests were given"
        )
    return await run_tests(code, payload, mode)


def parse_failure(code: str, function: str) -> str:
    """Why this is no module that defines `function` (if one is wanted); empty if it is."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"the code does not parse: {error}"
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = {node.name for node in tree.body if isinstance(node, definitions)}
    if function and function not in names:
        return f"the code does not define {function}"
    return ""


async def lint_failure(code: str) -> str:
    """The errors that ruff finds, one per line; empty if there are none."""
    options = ["--isolated", "--no-cache", "--select", RUFF_RULES, "--output-format", "concise"]
    process = await asyncio.create_subprocess_exec(
        *(find_ruff_bin(), "check", "--quiet", *options, "-"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
    )
    try:
        async with asyncio.timeout(RUFF_SECONDS):
            found, error = await process.communicate(code.encode())
    except TimeoutError as slow:
        raise Unavailable(f"ruff did not answer within {RUFF_SECONDS} s; try again") from slow
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        process._transport.close()  # type: ignore[attr-defined]  # or the loop may end before it
    if process.returncode not in (0, 1):
        raise Unavailable(f"ruff failed ({error.decode(errors='replace').strip()}); reinstall it")
    return found.decode(errors="replace").replace("-:", "line ").strip()[:MESSAGE_CHARACTERS]


class TestReport(BaseModel):
    """The report of the process that ran the tests. `broke_off`: the code stopped answering."""

    model_config = ConfigDict(extra="forbid", strict=True)

    passed: Annotated[int, Field(ge=0)]
    failure: str
    broke_off: bool = False


async def run_tests(code: str, payload: CodeGenerationPayload, mode: Mode) -> CheckVerdict:
    """Run the payload's tests in one sandbox and the code in another.

    Asserts are decided on the tests' side. The code only returns values, and has no other influence
    on the verdict. An invalid report makes the code unverified.
    """
    with channels() as (of_tests, of_code):
        code_run = asyncio.create_task(_run_code(code, payload, mode, of_code))
        try:
            ended = await _run_tests(payload, mode, of_tests)
            report = _report(ended)
            if report and report.broke_off:
                # The code's process has ended, or is about to be killed.
                await asyncio.wait((code_run,), timeout=ENDING_SECONDS)
        finally:
            code_run.cancel()
            await to_the_end(asyncio.wait((code_run,)))
    return _verdict(ended, report, _result(code_run))


def _on_both_sides() -> dict[str, str]:
    return {name: (HERE / name).read_text(encoding="utf-8") for name in BOTH_SIDES}


async def _run_code(
    code: str, payload: CodeGenerationPayload, mode: Mode, channel: StdioChannel
) -> SandboxResult:
    files = {
        f"{payload.module}.py": code,
        **_on_both_sides(),
        "order.json": json.dumps({"module": payload.module}),
    }
    program = SERVER.read_text(encoding="utf-8")
    try:
        return await run_python(
            program, files=files, limits=TEST_LIMITS, mode=mode, channel=channel
        )
    finally:
        channel.close()  # even if the run did not start: the tests must not wait for it


async def _run_tests(
    payload: CodeGenerationPayload, mode: Mode, channel: StdioChannel
) -> SandboxResult:
    order = {"module": payload.module, "tests": payload.tests, "function": payload.function}
    return await run_python(
        HARNESS.read_text(encoding="utf-8"),
        files={**_on_both_sides(), "order.json": json.dumps(order)},
        limits=TEST_LIMITS,
        mode=mode,
        channel=channel,
    )


def _result(code_run: asyncio.Task[SandboxResult]) -> SandboxResult | None:
    """How the code's process exited by itself; None if it was killed after the tests."""
    return None if code_run.cancelled() else code_run.result()


def _report(ended: SandboxResult) -> TestReport | None:
    try:
        return TestReport.model_validate_json(ended.stderr) if ended.exit_code == 0 else None
    except ValidationError:
        return None


def _verdict(
    ended: SandboxResult, report: TestReport | None, code: SandboxResult | None
) -> CheckVerdict:
    isolation = ended.isolation
    if report is None:
        message = "the tests gave no report" if ended.exit_code == 0 else unfinished(ended)
        return CheckVerdict("tests", False, message, isolation=isolation)
    failure = report.failure
    if report.broke_off and code is not None:
        failure = unfinished(code)
    message = failure[:MESSAGE_CHARACTERS] or f"{report.passed} asserts passed"
    passed = not failure and not report.broke_off and report.passed > 0
    return CheckVerdict("tests", passed, message, report.passed, isolation)


def unfinished(ended: SandboxResult) -> str:
    """Why the tests did not finish."""
    match ended.killed_by:
        case "time":
            return f"the tests were still running after {TEST_LIMITS.wall_seconds:g} s"
        case "cpu":
            return f"the tests used more than {TEST_LIMITS.cpu_seconds} s of CPU time"
        case "memory" | "disk" | "files":
            return f"the tests used more {ended.killed_by} than they may"
        case "signal":
            return f"the code ended the process (signal {-ended.exit_code}) during the tests"
    return f"the code ended the process (exit status {ended.exit_code}) during the tests"
