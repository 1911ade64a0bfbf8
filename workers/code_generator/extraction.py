"""Finds the code in a language model's answer, and changes nothing in it.

No Markdown parser is used: each turns tabs into spaces, and ends a block at a fence within a
docstring. Lines end at a newline alone, as they do for Python: `str.splitlines` also cuts at
characters that may stand in a literal.
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
# A longer answer, one of more blocks, or one full of fences is not worth more time: all of it is a
# model's to choose. The trials, to see where a block ends, are those of the whole answer.
READ_CHARACTERS = 60_000
BLOCKS_AT_MOST = 40
TRIALS_AT_MOST = 60


@dataclass(frozen=True, slots=True)
class Found:
    """A fenced block and the lines that it takes, fences included."""

    first: int
    end: int
    block: Block
    python: bool


def extract_code(answer: str, wanted: Collection[str] = ()) -> str | None:
    """The Python code of the answer, ending in a newline, or None where there is none.

    The text is the answer's own, except that CRLF becomes LF (Python reads both alike), blank
    lines around a block go, and so does the margin of a block that is indented as a whole. What
    a model thinks before it answers is no answer. Of several blocks, `blocks.chosen` tells
    which are the code: `wanted` are the names that it has to define. Without a fence it is the
    text, or what there is of code in it.
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
    """What follows the last end of thoughts that stands in no block of working code."""
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

    It ends at the first closing fence up to which it is Python: a fence within Python can only
    stand in a literal. A block that is no Python ends at its first fence of any kind.
    """
    label = (opening[3].strip(" \t{.").split() or [""])[0].rstrip("},")
    python = not label or bool(PYTHON.fullmatch(label))
    # A fence after a list's marker has its block below it, indented by as much.
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
    """Whether a new block with a label begins here, so that the one before was never closed."""
    inner = OPENING.fullmatch(line)
    return bool(inner and inner[3].strip() and inner[2] == outer[2] and inner[1] == outer[1])


def _without_margin(lines: list[str], margin: str) -> str:
    """The lines without blank ones around them, moved to the left where Python wants that."""
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
    """How many of the lines, from the first on, are Python that defines something; 0 if none."""
    end = len(lines)
    while end > 0:
        try:
            body = ast.parse("\n".join(lines[:end]) + "\n").body
        except SyntaxError as error:
            # No longer beginning of the text can be Python: the error would be in it, too.
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
