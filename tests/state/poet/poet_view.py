"""How a poem is shown and exported."""

from __future__ import annotations

from poet import Poem
from rich.text import Text


def poem_view(poem: Poem, max_rows: int | None = None) -> Text:
    return Text("\n".join(f"~ {line} ~" for line in poem.lines[:max_rows]))


def verse(poem: Poem) -> str:
    return " / ".join(poem.lines) + "\n"


def pdf(poem: Poem) -> bytes:
    return b"%PDF " + str(len(poem.lines)).encode()
