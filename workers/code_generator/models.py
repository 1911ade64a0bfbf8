"""What the code generator is asked, and what it answers."""

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
    # Whether they parse is checked by the worker: parsing takes longer than a submission may.
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
    `unittest.TestCase`; it sees every name of the generated module and may import it as
    `module`. Without tests, code that parses and holds no error that ruff can see is accepted.
    `function` is a name that the code must define. `max_attempts` are made with each model: when
    they are used up, the next stronger model that the task may use begins afresh. `max_tokens`
    bounds one answer of a model.
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
    """One answer of the model and how far it came.

    `stage` is the last check that was made: the code was found in the answer, it parses, ruff
    sees no error, its tests pass. `message` says what failed, or what was proved.
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
    """The best attempt's code. `verified` only where it passed every check that applies.

    `asserts_passed` counts assert statements each time one held. `isolation` is how the tests
    were kept apart from the worker; empty where none ran.
    """

    code: str
    verified: bool
    tests_run: bool
    asserts_passed: int
    attempts: tuple[Attempt, ...]
    isolation: TestIsolation
    model: str
