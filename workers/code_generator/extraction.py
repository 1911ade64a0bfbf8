"""Finds the code in a language model's answer."""

from __future__ import annotations

import ast
import re

# The closing fence is optional: an answer may stop at its token limit.
FENCED = re.compile(r"^[ \t]*```[ \t]*([\w+.-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.S | re.M)
PYTHON_LABELS = {"", "python", "python3", "py", "py3"}
CODE_START = re.compile(r"(?:async def|def|class|import|from|@)\b|@")
MOST_ENDS = 200
"""So many lines at the end may be prose: each is tried, and parsing holds all of a process up."""
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
STATEMENTS = (*DEFINITIONS, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)


def extract_code(answer: str) -> str | None:
    """The Python code of the answer, ending in a newline, or None where there is none.

    Of several fenced blocks the first that parses and defines something is taken, since small
    models like to show the use of their code in a second one. Without a fence it is the whole
    text where that is code, else the longest part of it that is.
    """
    fenced: list[tuple[str, str]] = FENCED.findall(answer)
    bodies = [body for label, body in fenced if label.lower() in PYTHON_LABELS]
    blocks = [_tidy(body) for body in bodies if body.strip()]
    if blocks:
        return next((block for block in blocks if _defines(block, DEFINITIONS)), blocks[0])
    if _defines(answer, STATEMENTS):
        return _tidy(answer)
    return _code_amid_prose(answer.splitlines())


def _code_amid_prose(lines: list[str]) -> str | None:
    start = next((i for i, line in enumerate(lines) if CODE_START.match(line)), None)
    if start is None:
        return None
    for end in range(len(lines), max(start, len(lines) - MOST_ENDS), -1):
        text = "\n".join(lines[start:end])
        if _defines(text, STATEMENTS):
            return _tidy(text)
    return None


def _defines(text: str, kinds: tuple[type[ast.stmt], ...]) -> bool:
    try:
        return any(isinstance(node, kinds) for node in ast.parse(text).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _tidy(text: str) -> str:
    lines = text.expandtabs(4).rstrip().splitlines()
    while lines and not lines[0].strip():
        lines.pop(0)
    indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    margin = min(indents, default=0)
    return "\n".join(line[margin:] for line in lines) + "\n"
