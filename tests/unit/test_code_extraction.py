"""Finding the code in what a model answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.code_generator import extraction
from workers.code_generator.blocks import names_of_tests, parsed
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


def test_a_block_that_does_not_parse_is_handed_on_so_that_its_error_is_told() -> None:
    assert extract_code("```python\ndef add(a, b:\n    return a\n```") == (
        "def add(a, b:\n    return a\n"
    )


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I cannot help with that.",
        "hello",
        "from what I know, no such function exists.",
        "```json\n{}\n```",
        "```bash\npip install add\n```",
        "<think>\n```python\ndef add(a, b):\n    return a - b\n```\nHm, no: if a is",
        "Note: it works.",
    ],
)
def test_an_answer_without_python_code_gives_none(answer: str) -> None:
    assert extract_code(answer) is None


SEPARATORS = "\t\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
FENCES = ("```", "~~~", "````", "~~~~~")
DRAFT = "def add(a, b):\n    return a - b\n"
NODE = "class Node:\n    def __init__(self, value):\n        self.value = value\n"
TREE = "class Tree:\n    def __init__(self):\n        self.root = Node(0)\n"


def fenced(code: str, fence: str = "```", label: str = "python") -> str:
    return f"{fence}{label}\n{code}{fence}\n"


@pytest.mark.parametrize("fence", FENCES)
@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_literal_keeps_every_character(separator: str, fence: str) -> None:
    code = f'def cut(s):\n    return s.split("{separator}")\n'
    for answer in (fenced(code, fence), code, f"Here it is:\n\n{code}"):
        assert extract_code(answer) == code


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00")))
def test_a_string_of_any_characters_comes_back_as_it_was_written(text: str) -> None:
    literal = text.replace("\\", "\\\\").replace('"', '\\"')
    code = f'TEXT = """{literal}"""\n\n\ndef text():\n    return TEXT\n'
    for answer in (fenced(code), f"So:\n{fenced(code, label='')}\nThat is all.", code):
        assert extract_code(answer) == code


def test_indentation_by_tabs_stays() -> None:
    code = "def add(a, b):\n\tif a:\n\t\treturn a + b\n\treturn b\n"
    assert extract_code(fenced(code)) == code


def test_lines_that_end_as_on_windows_end_as_python_reads_them() -> None:
    assert extract_code(f"So:\n{fenced(ADD)}".replace("\n", "\r\n")) == ADD


@pytest.mark.parametrize("inner", FENCES)
@pytest.mark.parametrize("margin", ["", "    "])
def test_a_fence_within_a_docstring_does_not_end_the_block(inner: str, margin: str) -> None:
    example = f"{margin}{inner}python\n{margin}add(1, 2)\n{margin}{inner}\n"
    code = f'def add(a, b):\n    """Adds.\n\n{example}    """\n    return a + b\n'
    assert extract_code(f"Here:\n{fenced(code)}\nDone.\n{fenced('add(1, 2)')}") == code
    module = f'"""Sums.\n\n{example}"""\n\n{ADD}'
    assert extract_code(fenced(module)) == module


def test_a_fence_in_a_comment_or_a_literal_stays() -> None:
    code = f"# ```python\nFENCE = '```'\n# ```\n{ADD}"
    assert extract_code(fenced(code)) == code


@pytest.mark.parametrize(
    "answer",
    [
        fenced(ADD, "~~~"),
        fenced(ADD, "````"),
        fenced(ADD, label="{.python}"),
        fenced(ADD, label='python title="sums.py"'),
        fenced(ADD, label=" Python3.12"),
        "- ```python\n  def add(a, b):\n      return a + b\n  ```\n",
        "> ```python\n> def add(a, b):\n>     return a + b\n> ```\n",
        "\t```python\n\tdef add(a, b):\n\t    return a + b\n\t```\n",
        f"  ```python\n{ADD}  ```\n",
    ],
)
def test_every_kind_of_fence_is_known(answer: str) -> None:
    assert extract_code(answer) == ADD


def test_a_literal_that_leaves_the_margin_of_an_indented_block_stays_whole() -> None:
    answer = '  ```python\n  def text():\n      return """a\nb"""\n  ```\n'
    assert extract_code(answer) == 'def text():\n    return """a\nb"""\n'


@pytest.mark.parametrize(
    "answer",
    [
        f"{fenced(DRAFT)}That is wrong. Fixed:\n{fenced(ADD)}",
        f"{fenced('def add(a, b:')}Oh:\n{fenced(ADD)}",
        f"{fenced(DRAFT)}Fixed:\n{fenced(ADD)}Use it:\n{fenced('print(add(1, 2))')}",
        f"{fenced(ADD)}Test it:\n{fenced('def test_add():' + chr(10) + '    assert add(1, 2)')}",
        f"{fenced(ADD)}{fenced('def main():' + chr(10) + '    print(add(1, 2))')}",
        f"{fenced(ADD)}The shape is\n{fenced('def add(a, b):' + chr(10) + '    ...')}",
        f"{fenced(ADD)}It prints\n{fenced('3' + chr(10), label='')}",
        f"{fenced(ADD)}Or shorter:\n```python\ndef add(a, b):\n    retur",
        f"{fenced(ADD)}Or:\n{fenced('def add(a, b):' + chr(10) + '    return add_all(a, b)')}",
        f"```python\n{DRAFT}\nNo, this is right:\n{fenced(ADD)}",
        f"<think>\n{fenced(DRAFT)}no\n</think>\n{fenced(ADD)}",
        f"{fenced(DRAFT)}no</think>{ADD}",
        f"```python\n{DRAFT}no\n</think>\n{fenced(ADD)}",
        f"<think>one</think>\n{fenced(DRAFT)}<think>\nno\n</think>\n{fenced(ADD)}",
        f"{DRAFT}\nThat is wrong. Fixed:\n\n{ADD}\nNote: it adds.",
        f"from what I know, this is right:\n\n{ADD}\nDone",
    ],
)
def test_the_last_whole_definition_is_the_code(answer: str) -> None:
    assert extract_code(answer) == ADD


def test_the_end_of_thoughts_may_stand_in_the_code() -> None:
    code = (
        'def answer(text):\n    """Cut.\n    </think>\n    """\n    return text.split("</think>")\n'
    )
    assert extract_code(f"<think>so</think>{fenced(code)}") == code


@pytest.mark.parametrize(
    "answer",
    [
        f"{fenced(NODE)}Then the tree:\n{fenced(TREE)}",
        f"{fenced(NODE)}Then:\n{fenced(TREE.replace('0', '1'))}Better:\n{fenced(TREE)}",
        f"{fenced(NODE)}{fenced(TREE)}Use it:\n{fenced('tree = Tree()')}",
    ],
)
def test_blocks_that_need_each_other_are_one_module(answer: str) -> None:
    assert extract_code(answer) == f"{NODE}\n\n{TREE}"
    assert extract_code(answer, {"Tree"}) == f"{NODE}\n\n{TREE}"
    assert extract_code(answer, {"Node"}) == NODE


def test_an_import_in_a_block_of_its_own_is_not_forgotten() -> None:
    code = "def root(n):\n    return math.sqrt(n)\n"
    assert extract_code(f"{fenced('import math' + chr(10))}{fenced(code)}") == (
        f"import math\n\n\n{code}"
    )


def test_what_the_tests_ask_for_decides_between_blocks() -> None:
    both = f"{fenced(ADD)}{fenced('def show(a):' + chr(10) + '    print(add(a, a))')}"
    assert extract_code(both, {"add"}) == ADD
    tests = (
        "import solution as s\nfrom solution import sub\nassert add(1) == s.mul(sub(2), len('x'))"
    )
    assert names_of_tests(tests, "solution") == {"add", "sub", "mul"}


def test_an_answer_of_many_fences_takes_no_time() -> None:
    assert extract_code("```python\n" + '"""\n```\n' * 2001) is not None


@pytest.mark.parametrize("line", ["```\n", "```python\n", "```\n```python\n", "> ```py\n"])
def test_an_answer_that_is_all_fences_is_tried_so_often_and_no_more(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    def counted(text: str) -> Any:
        nonlocal tried
        tried += 1
        return parsed(text)

    monkeypatch.setattr(extraction, "parsed", counted)
    extract_code(line * 20_000)
    assert tried < 1000


def test_an_end_of_thoughts_in_a_docstring_of_bare_code_is_code() -> None:
    code = 'def cut(text):\n    """Strip.\n\n    </think>\n    """\n    return text\n'
    assert extract_code(code) == code
