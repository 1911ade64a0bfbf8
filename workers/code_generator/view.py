"""A result of the code generator as Rich prints it."""

from __future__ import annotations

from textwrap import indent

from rich.console import Group
from rich.syntax import Syntax
from rich.text import Text

from workers.code_generator.models import CodeGenerationResult


def code_view(result: CodeGenerationResult, max_rows: int | None = None) -> Group:
    """Generated code and the result of its checks. All of the code is shown."""
    # As text, because a `Syntax` pads its lines with spaces.
    code = indent(result.code, "  ").strip("\n")
    coloured = Syntax("", "python", background_color="default").highlight(code)
    coloured.rstrip()
    return Group(coloured, _verdict(result))


def _verdict(result: CodeGenerationResult) -> Text:
    attempts = result.attempts
    tries = f"{len(attempts)} attempt{'' if len(attempts) == 1 else 's'}"
    if not result.verified:
        # The shown code is the best attempt's, which may not be the last one.
        shown = [each.message for each in attempts if each.code == result.code]
        problem = shown[-1] if shown else "there was no answer"
        return Text(f"not verified after {tries}: {problem}", style="bold yellow")
    if result.tests_run:
        passed = f"{result.asserts_passed} asserts held"
        return Text(f"its tests passed ({passed}, {tries})", style="green")
    return Text(f"it parses and has no errors; no tests were given ({tries})", "green")
