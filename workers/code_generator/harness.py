"""Runs tests on generated code, and reports how many asserts held.

This file is not imported: the agent runs its text in the sandbox. The report comes after a
token that arrives on stdin and stands in no file, so code that prints, or that ends the process
with `sys.exit(0)` or `os._exit(0)`, cannot pass for code that passed its tests.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import reprlib
import sys
import traceback
from collections.abc import Callable
from typing import Any

TESTS = "<tests>"
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 120


class AssertCounter(ast.NodeTransformer):
    """Makes each assert note the two sides that it compares, and count itself when it holds."""

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        if isinstance(node.test, ast.Compare) and len(node.test.ops) == 1:
            node.test.left = self._noted("left", node.test.left)
            node.test.comparators = [self._noted("right", node.test.comparators[0])]
        counted = ast.Expr(ast.Call(ast.Name("_assert_held", ast.Load()), [], []))
        return [node, ast.fix_missing_locations(ast.copy_location(counted, node))]

    def _noted(self, side: str, value: ast.expr) -> ast.expr:
        call = ast.Call(ast.Name("_note", ast.Load()), [ast.Constant(side), value], [])
        return ast.fix_missing_locations(ast.copy_location(call, value))


class Tests:
    """The tests' text, run once in the names of the generated module."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.passed = 0
        self._sides: dict[str, object] = {}

    def run(self, names: dict[str, Any]) -> None:
        tree = AssertCounter().visit(ast.parse(self.text, TESTS))
        tools = {"_assert_held": self._assert_held, "_note": self._note, "__name__": "tests"}
        namespace = {**names, **tools}
        exec(compile(tree, TESTS, "exec"), namespace)  # noqa: S102
        for test in self._functions(namespace):
            test()

    def _functions(self, namespace: dict[str, Any]) -> list[Callable[[], None]]:
        definitions = [
            node for node in ast.parse(self.text).body if isinstance(node, ast.FunctionDef)
        ]
        return [namespace[node.name] for node in definitions if node.name.startswith("test_")]

    def _assert_held(self) -> None:
        self.passed += 1
        self._sides.clear()

    def _note(self, side: str, value: object) -> object:
        self._sides[side] = value
        return value

    def failure(self, error: BaseException) -> str:
        """What failed, with the line of the tests and the two sides of a failed comparison."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno or 1 for frame in frames if frame.filename == TESTS]
        where = self.text.splitlines()[(lines or [1])[-1] - 1].strip()
        if not isinstance(error, AssertionError):
            return f"{where}: {describe(error)}"
        sides = [f"the {side} side is {SHORT.repr(value)}" for side, value in self._sides.items()]
        return f"{where}: failed" + (": " if sides else "") + ", ".join(sides)


def describe(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the code called exit({error.code!r})"
    return f"{type(error).__name__}: {str(error)[:300]}"


def check(module: str, text: str) -> dict[str, Any]:
    tests = Tests(text)
    try:
        names = vars(importlib.import_module(module))
    except BaseException as error:
        return {"passed": 0, "failure": f"the code does not load: {describe(error)}"}
    try:
        tests.run(dict(names))
    except BaseException as error:
        return {"passed": tests.passed, "failure": tests.failure(error)}
    return {"passed": tests.passed, "failure": "" if tests.passed else "no assert was reached"}


def main() -> None:
    order = json.loads(sys.stdin.read())
    report_to = os.dup(1)
    os.dup2(2, 1)  # what the code prints must not mix with the report
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    report = check(order["module"], order["tests"])
    os.write(report_to, (order["token"] + json.dumps(report)).encode())
    os._exit(0)  # threads and exit handlers of the code have no say any more


if __name__ == "__main__":
    main()
