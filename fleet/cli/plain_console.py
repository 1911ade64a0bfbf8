"""The console of all commands: it shows strings literally.

Rich reads markup in strings, such as `[red]`, and passes control characters on. Cells, lines and
titles hold text from users and models. On this console no string is markup; styled text is a
`Text`. Tables, live views and bars lose their control characters before they reach the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from fleet.text import plain, plain_lines


class PlainConsole(Console):
    """A console without markup. It prints only its own control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print. A string may have several lines; a string in a table has one."""
        shown = (Text(plain_lines(each)) if isinstance(each, str) else each for each in objects)
        super().print(*shown, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string in a cell."""
        return super().render_str(plain(text), **{**options, "markup": False, "emoji": False})

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        """The segments to draw, without control characters in their text."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(plain_lines(segment.text), segment.style)
