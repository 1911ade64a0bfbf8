"""The payload and the result of the code generator."""

from __future__ import annotations

import keyword
import sys
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from fleet.agent import Payload, Result

Stage = Literal["extract", "parse", "lint", "tests"]
TestIsolation = Literal["bubblewrap", "landlock", "rlimits", ""]  # empty: no tests ran
RESERVED_MODULES = {*sys.stdlib_module_names, "program", "wire", "operations", "pyperf", "numpy"}


def _assert_something(text: str) -> str:
    # The worker checks whether they parse: parsing takes too long for a submission.
    if not text.strip():
        return ""
    if "assert" not in text:
        raise ValueError("the tests hold no assert statement; add one, or leave the tests out")
    return text


def _is_name(text: str) -> str:
    if text and (not text.isidentifier() or keyword.iskeyword(text)):
        raise ValueError(f"{text!r} is no Python name; use letters, digits and underscores")
    return text


def _is_module(text: str) -> str:
    if not _is_name(text) or text in RESERVED_MODULES:
        raise ValueError(f"{text!r} would hide a module of that name; choose another")
    return text


class CodeGenerationPayload(Payload):
    """An instruction, and the tests that the code must pass.

    `tests` is Python code with assert statements, at module level, in functions without
    parameters named `test_...` (`async` or not), in methods of classes named `Test...`, or in a
    `unittest.TestCase`. It sees every name of the generated module and may import it as `module`.
    Without tests, code is accepted if it parses and ruff finds no error. `function` is a name that
    the code must define. `max_attempts` is the number of attempts with each model. After them, the
    next stronger model that the task may use starts again. `max_tokens` limits one answer of a
    model.
    """

    instruction: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000)
    ]
    tests: Annotated[str, Field(max_length=100_000), AfterValidator(_assert_something)] = ""
    function: Annotated[str, Field(max_length=100), AfterValidator(_is_name)] = ""
    module: Annotated[str, Field(max_length=100), AfterValidator(_is_module)] = "solution"
    max_attempts: Annotated[int, Field(ge=1, le=3)] = 3
    max_tokens: Annotated[int, Field(ge=16, le=16_384)] = 1024


class Attempt(BaseModel):
    """One answer of the model, and how far its code passed the checks.

    `stage` is the last check: the code was found in the answer, it parses, ruff finds no error, its
    tests pass. `message` says what failed, or what was proved.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    temperature: float
    code: str
    stage: Stage
    passed: bool
    message: str
    asserts_passed: int
    model: str
    tokens: int
    cost_nanodollars: int
    seconds: float


class CodeGenerationResult(Result):
    """The best attempt's code. `verified` only if it passed every check that applies.

    `asserts_passed` counts each time that an assert statement held. `isolation` is the isolation of
    the tests from the worker; empty if none ran.
    """

    code: str
    verified: bool
    tests_run: bool
    asserts_passed: int
    attempts: tuple[Attempt, ...]
    isolation: TestIsolation
    model: str
