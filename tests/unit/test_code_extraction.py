"""Finding the code in what a model answers."""

from __future__ import annotations

import pytest

from workers.code_generator.extraction import extract_code

ADD = "def add(a, b):\n    return a + b\n"


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\n{ADD}```",
        f"Here is the function:\n\n```python\n{ADD}```\n\nIt adds two numbers.",
        f"```\n{ADD}```",
        f"```Python3\n{ADD}```",
        "1. Like this:\n   ```py\n   def add(a, b):\n       return a + b\n   ```\n",
        f"```python\n{ADD}",
        ADD,
        f"Sure, this adds two numbers:\n\n{ADD}\nYou call it as add(1, 2).",
        f"```python\n\n\n{ADD}\n\n```",
        "```python\ndef add(a, b):\n\treturn a + b\n```".replace("\t", "    "),
    ],
)
def test_the_code_is_found_however_it_is_wrapped(answer: str) -> None:
    assert extract_code(answer) == ADD


def test_the_block_that_defines_something_wins_over_one_that_only_uses_it() -> None:
    answer = f"Use it so:\n```python\nprint(add(1, 2))\n```\nwith\n```python\n{ADD}```"
    assert extract_code(answer) == ADD


def test_the_first_of_two_definitions_is_taken() -> None:
    answer = f"```python\n{ADD}```\nor\n```python\ndef add(*n):\n    return sum(n)\n```"
    assert extract_code(answer) == ADD


def test_a_block_that_does_not_parse_is_handed_on_so_that_its_error_is_told() -> None:
    assert extract_code("```python\ndef add(a, b:\n    return a\n```") == (
        "def add(a, b:\n    return a\n"
    )


def test_tabs_become_spaces() -> None:
    assert extract_code("```\ndef add(a, b):\n\treturn a + b\n```") == ADD.replace("    ", " " * 4)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I cannot help with that.",
        "hello",
        "from what I know, no such function exists.",
        "```json\n{}\n```",
        "```bash\npip install add\n```",
    ],
)
def test_an_answer_without_python_code_gives_none(answer: str) -> None:
    assert extract_code(answer) is None
