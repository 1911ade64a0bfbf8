"""Text of others as plain text: without what moves a cursor, changes colours or turns lines around.

Names, errors, findings and file names come from models, users and files. On a terminal a control
character among them acts; here it is left out. The C0 and C1 characters go, and those that change
the direction of writing; half a surrogate pair, which no terminal can write, is replaced.
"""

from __future__ import annotations

LINE_BREAK = "\u23ce"
"""Stands for a line break where a text has one line: ⏎."""

_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_BREAKS = (0x0A, 0x0B, 0x0C, 0x85, 0x2028, 0x2029)
_COMMON = {
    **dict.fromkeys(range(0x20)),
    **dict.fromkeys(range(0x7F, 0xA0)),
    **dict.fromkeys(_DIRECTIONS),
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
    0x09: " ",
}
_ONE_LINE = {**_COMMON, **dict.fromkeys(_BREAKS, LINE_BREAK)}
_LINES = {**_COMMON, **dict.fromkeys(_BREAKS, "\n"), 0x09: "\t"}


def plain(text: str) -> str:
    """A text in one line; a break that it had is shown as one."""
    return text if text.isprintable() else text.replace("\r\n", "\n").translate(_ONE_LINE)


def plain_lines(text: str) -> str:
    """A text that may have several lines, with its tabs."""
    return text if text.isprintable() else text.replace("\r\n", "\n").translate(_LINES)


def plain_label(text: str) -> str:
    """A text in a plot, where what stands between two dollar signs would be read as a formula."""
    return plain(text).replace("$", r"\$")
