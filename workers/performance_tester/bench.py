"""Compares the variants' results, or times one variant with pyperf.

This file is not imported. The agent runs its text in the sandbox, once per measuring process, with
the order on stdin. Its answers are JSON lines on the original stdout. The variants' prints go to
stderr.
"""

from __future__ import annotations

import ast
import json
import os
import random
import sys
from collections.abc import Iterator
from typing import Any

Namespace = dict[str, Any]
NOTHING = object()


def prepared(setup: str, variant: dict[str, str]) -> Namespace:
    """The fresh names for a call, with the same random seed for every variant."""
    random.seed(0)
    names: Namespace = {"__name__": "benchmark"}
    # This process is in the sandbox: here and below, it runs the code of the task.
    exec(compile(setup, "<setup>", "exec"), names)  # noqa: S102  # nosec B102
    exec(compile(variant["code"], "<code>", "exec"), names)  # noqa: S102  # nosec B102
    return names


def value_of(call: str, names: Namespace) -> object:
    """The value of a call that is an expression; NOTHING after running statements."""
    tree = ast.parse(call)
    if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
        expression = compile(ast.Expression(tree.body[0].value), "<call>", "eval")
        return eval(expression, names)  # noqa: S307  # nosec B307
    exec(compile(tree, "<call>", "exec"), names)  # noqa: S102  # nosec B102
    return NOTHING


def comparable(value: object) -> bool:
    """Whether a value has its own equality; a generator or a plain instance has none."""
    return value is not NOTHING and type(value).__eq__ is not object.__eq__


def equal(one: object, other: object) -> bool:
    answer: Any = one == other
    return bool(answer.all()) if hasattr(answer, "all") else bool(answer)


def compare(order: dict[str, Any]) -> Iterator[dict[str, Any]]:
    values = []
    for variant in order["variants"]:
        yield {"started": variant["name"]}
        try:
            values.append(value_of(variant["call"], prepared(order["setup"], variant)))
        except BaseException as error:
            yield {"failed": variant["name"], "message": f"{type(error).__name__}: {error}"[:500]}
            return
    if len(values) < 2 or not all(comparable(value) for value in values):
        yield {"same_result": None}
    else:
        yield {"same_result": all(equal(value, values[0]) for value in values[1:])}


def measure(order: dict[str, Any], answers: int) -> None:
    """Time the variant with pyperf's worker, which writes its benchmark as JSON to `answers`."""
    import pyperf

    variant = order["variants"][0]
    names = prepared(order["setup"], variant)
    runner = pyperf.Runner()
    runner.parse_args(["--worker", "--pipe", str(answers), *order["options"]])
    runner.timeit(variant["name"], variant["call"], globals=names)


def main() -> None:
    order = json.loads(sys.stdin.read())
    answers = os.dup(1)
    os.dup2(2, 1)
    # An error's traceback, on stderr, must follow the output printed before it.
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    if order["options"]:
        measure(order, answers)
        return
    for answer in compare(order):
        os.write(answers, (json.dumps(answer) + "\n").encode())


if __name__ == "__main__":
    main()
