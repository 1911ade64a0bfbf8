"""Finds the code in a language model's answer, without changing it.

It uses no Markdown parser: they turn tabs into spaces, and end a block at a fence within a
docstring. Lines end only at a newline, as in Python: `str.splitlines` also splits at characters
that may be in a literal.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from workers.code_generator.blocks import Block, chosen, parsed

CONTAINER = r"(?:[ \t]*(?:>|[-*+](?=[ \t])|\d{1,9}[.)](?=[ \t])))*[ \t]*"
THOUGHTS_END = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.I)
OPENING = re.compile(
    rf"(?:[^\n]*{THOUGHTS_END.pattern})?({CONTAINER})(`{{3,}}|~{{3,}})([^\n]*)", re.I
)
CLOSING = re.compile(r"[ \t>]*(`{3,}|~{3,})[ \t]*")
PYTHON = re.compile(r"(?:i?python|py)[\d.]*", re.I)
THOUGHTS_START = re.compile(r"\s*<(?:think|thinking|thought|reasoning)>", re.I)
CODE_START = re.compile(r"(?:async def|def|class|import|from)\b|@")
STATEMENTS = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
    *(ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign),
)
# The bounds of the search, because a model controls the answer: its characters, its blocks, and the
# trials in the whole answer to find the ends of blocks.
READ_CHARACTERS = 60_000
BLOCKS_AT_MOST = 40
TRIALS_AT_MOST = 60


@dataclass(frozen=True, slots=True)
class Found:
    """A fenced block and its lines, fences included."""

    first: int
    end: int
    block: Block
    python: bool


def extract_code(answer: str, wanted: Collection[str] = ()) -> str | None:
    """The Python code of the answer, ending in a newline, or None if there is none.

    The text is unchanged, except that CRLF becomes LF (Python treats both alike), and that blank
    lines around a block and the common indentation of a block are removed. Thoughts before the
    answer are ignored. Of several blocks, `blocks.chosen` selects the code: `wanted` are the names
    that it must define. Without a fence the code is the text, or the parts of it that are code.
    """
    text = answer[:READ_CHARACTERS].replace("\r\n", "\n")
    found = list(_fenced(text.split("\n")))
    after = _after_thoughts(text, found)
    if after != text:
        found = list(_fenced(after.split("\n")))
    blocks = [each.block for each in found if each.python and each.block.text.strip()]
    if blocks:
        return chosen(blocks, wanted)
    return chosen(list(_amid_prose(after.split("\n"))), wanted)


def _after_thoughts(text: str, found: list[Found]) -> str:
    """The text after the last end of thoughts outside of blocks with working code."""
    if not found and Block(text).definitions:
        return text  # bare code, with such a tag in a literal
    in_code = [each for each in found if each.block.tree and each.block.closed]
    for end in reversed(list(THOUGHTS_END.finditer(text))):
        line = text.count("\n", 0, end.start())
        if not any(each.first < line < each.end for each in in_code):
            return text[end.end() :]
    return "" if THOUGHTS_START.match(text) and not THOUGHTS_END.search(text) else text


def _fenced(lines: list[str]) -> Iterator[Found]:
    at, blocks, trials = 0, 0, iter(range(TRIALS_AT_MOST))
    while at < len(lines) and blocks < BLOCKS_AT_MOST:
        opening = OPENING.fullmatch(lines[at])
        if opening is None or ("`" in opening[2] and "`" in opening[3]):
            at += 1
            continue
        found = _block(lines, at, opening, trials)
        yield found
        at, blocks = found.end, blocks + 1


def _block(lines: list[str], at: int, opening: re.Match[str], trials: Iterator[int]) -> Found:
    """The block that opens here.

    It ends at the first closing fence after which it is valid Python: a fence within Python can
    only be in a literal. A block that is no Python ends at its first fence of any kind.
    """
    label = (opening[3].strip(" \t{.").split() or [""])[0].rstrip("},")
    python = not label or bool(PYTHON.fullmatch(label))
    # The block of a fence after a list marker has the same indentation.
    margin = re.sub(r"[^ \t>]", " ", opening[1])
    closings = {
        number: None
        for number in range(at + 1, len(lines))
        if (closing := CLOSING.fullmatch(lines[number])) and closing[1].startswith(opening[2])
    }
    for end, _ in zip(closings if python else (), trials, strict=False):
        text = _without_margin(lines[at + 1 : end], margin)
        if parsed(text) is not None:
            return Found(at, end + 1, Block(text, labelled=bool(label)), python)
    fences = (n for n in range(at + 1, len(lines)) if n in closings or _opens(lines[n], opening))
    end = next(fences, len(lines))
    text = _without_margin(lines[at + 1 : end], margin)
    following = end + 1 if end in closings else end
    return Found(at, following, Block(text, end in closings, bool(label)), python)


def _opens(line: str, outer: re.Match[str]) -> bool:
    """Whether a new block with a label begins here, so that the previous one was never closed."""
    inner = OPENING.fullmatch(line)
    return bool(inner and inner[3].strip() and inner[2] == outer[2] and inner[1] == outer[1])


def _without_margin(lines: list[str], margin: str) -> str:
    """The lines without blank ones around them, with less indentation if Python requires it."""
    kept = _trimmed(lines)
    first = kept[0] if kept else ""
    indent = first[: len(first) - len(first.lstrip(" \t"))]
    text = "\n".join(kept) + "\n"
    for prefix in (margin, indent):
        if prefix and parsed(text) is None:
            moved = "\n".join(_moved(line, prefix) for line in kept) + "\n"
            if parsed(moved) is not None or prefix == indent:
                return moved
    return text


def _moved(line: str, prefix: str) -> str:
    shared = 0
    while shared < min(len(line), len(prefix)) and line[shared] == prefix[shared]:
        shared += 1
    return line[shared:]


def _trimmed(lines: list[str]) -> list[str]:
    first, end = 0, len(lines)
    while first < end and not lines[first].strip(" \t"):
        first += 1
    while end > first and not lines[end - 1].strip(" \t"):
        end -= 1
    return lines[first:end]


def _amid_prose(lines: list[str]) -> Iterator[Block]:
    """The parts of a text without fences that are code."""
    end = 0
    for start in (0, *(n for n, line in enumerate(lines) if n and CODE_START.match(line))):
        length = _code_length(lines[start:]) if start >= end else 0
        if length:
            end = start + length
            yield Block("\n".join(_trimmed(lines[start:end])) + "\n")


def _code_length(lines: list[str]) -> int:
    """The number of lines, from the first on, that are Python with a definition; 0 if none."""
    end = len(lines)
    while end > 0:
        try:
            body = ast.parse("\n".join(lines[:end]) + "\n").body
        except SyntaxError as error:
            # No longer beginning of the text can be Python: it would have the same error.
            end = min(end - 1, (error.lineno or 1) - 1)
        except (ValueError, RecursionError, MemoryError):
            return 0
        else:
            while body and _is_prose(body[-1]):
                end = body.pop().lineno - 1
            return end if any(isinstance(node, STATEMENTS) for node in body) else 0
    return 0


def _is_prose(node: ast.stmt) -> bool:
    """A word, or `Note: it works`, which happen to be Python."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Name)
    return isinstance(node, ast.AnnAssign) and node.value is None
