"""Checks generated code, cheapest check first: it parses, ruff sees no error, its tests pass."""

from __future__ import annotations

import ast
import asyncio
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from ruff import find_ruff_bin

from fleet.adapters.sandbox import Mode, SandboxLimits, SandboxResult, run_python
from fleet.errors import Unavailable
from workers.code_generator.models import CodeGenerationPayload, Isolation, Stage

HARNESS = Path(__file__).with_name("harness.py")
# Errors only, nothing of style: syntax, comparisons that cannot hold, misplaced statements,
# names that nobody defined.
RUFF_RULES = "E9,F63,F7,F82"
RUFF_SECONDS = 20
TEST_LIMITS = SandboxLimits(wall_seconds=10, cpu_seconds=5, processes=8)
MESSAGE_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far the code came, and what it failed or passed last."""

    stage: Stage
    passed: bool
    message: str
    asserts_passed: int = 0
    isolation: Isolation = ""


async def verify(code: str | None, payload: CodeGenerationPayload, mode: Mode) -> Verdict:
    """Make every check that applies, up to the first that fails."""
    if code is None:
        return Verdict("extract", False, "there is no Python code in the answer")
    if failure := parse_failure(code, payload.function):
        return Verdict("parse", False, failure)
    if failure := await lint_failure(code):
        return Verdict("lint", False, failure)
    if not payload.tests:
        return Verdict("lint", True, "the code parses and ruff finds no error; no tests were given")
    return await run_tests(code, payload, mode)


def parse_failure(code: str, function: str) -> str:
    """Why this is no module that defines `function` (if one is wanted); empty where it is."""
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
    """The errors that ruff finds, a line each; empty where it finds none."""
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
    if process.returncode not in (0, 1):
        raise Unavailable(f"ruff failed ({error.decode(errors='replace').strip()}); reinstall it")
    return found.decode(errors="replace").replace("-:", "line ").strip()[:MESSAGE_CHARACTERS]


async def run_tests(code: str, payload: CodeGenerationPayload, mode: Mode) -> Verdict:
    """Run the payload's tests on the code in the sandbox."""
    token = secrets.token_hex(16)
    order = {"token": token, "module": payload.module, "tests": payload.tests}
    ended = await run_python(
        HARNESS.read_text(encoding="utf-8"),
        files={f"{payload.module}.py": code},
        stdin=json.dumps(order),
        limits=TEST_LIMITS,
        mode=mode,
    )
    _, found, report = ended.stdout.rpartition(token)
    if not found:
        return Verdict("tests", False, unfinished(ended), isolation=ended.isolation)
    told = json.loads(report)
    count = int(told["passed"])
    message = told["failure"][:MESSAGE_CHARACTERS] or f"{count} asserts passed"
    return Verdict("tests", not told["failure"], message, count, ended.isolation)


def unfinished(ended: SandboxResult) -> str:
    """Why the tests did not run to their end."""
    match ended.killed_by:
        case "time":
            return f"the tests were still running after {TEST_LIMITS.wall_seconds:g} s"
        case "cpu":
            return f"the tests used more than {TEST_LIMITS.cpu_seconds} s of CPU time"
        case "memory" | "disk" | "files":
            return f"the tests used more {ended.killed_by} than they may"
        case "signal":
            return f"the code ended the process (signal {-ended.exit_code}) amid the tests"
    return f"the code ended the process (exit status {ended.exit_code}) amid the tests"
