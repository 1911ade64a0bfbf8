"""The one way of commands to a terminal: every string is shown as it is, and none of it acts.

Rich reads markup in strings, such as `[red]`, and hands control characters on. Cells, lines and
titles hold text of others. So here no string is markup: what is meant to have a style is a `Text`.
Whatever is drawn, a table, a live view, a bar, loses its control characters on its way out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from fleet.text.plain_text import plain, plain_lines


class PlainConsole(Console):
    """A console without markup, and without control characters but its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; a string may have several lines, one in a table has one."""
        shown = (Text(plain_lines(each)) if isinstance(each, str) else each for each in objects)
        super().print(*shown, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string in a cell."""
        return super().render_str(plain(text), **{**options, "markup": False, "emoji": False})

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        """What is drawn, piece by piece."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(plain_lines(segment.text), segment.style)
