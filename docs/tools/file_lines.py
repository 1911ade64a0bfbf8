"""Writes docs/internals/files.md: each file with the first sentence of its own description.

    python docs/tools/file_lines.py

`tests/unit/test_docs.py` compares the list with the files.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "internals" / "files.md"
BEGIN, END = "<!-- files: begin -->", "<!-- files: end -->"
LONGEST = 160
"""Characters of a line of the list."""
TOPS = ("fleet", "workers", "beat_schedules")


def sentence(head: str) -> str:
    """The first sentence of a docstring or of the comment at the head of a file."""
    paragraph = " ".join(head.strip().split("\n\n")[0].split())
    first = re.split(r"(?<=\.)\s", paragraph, maxsplit=1)[0]
    # A long sentence goes on with a list of fields after its colon.
    return (first.partition(": ")[0] if len(first) > LONGEST else first).rstrip(":.")


def head_of(path: Path) -> str:
    """The docstring of a Python file, the first comment of a Lua script."""
    text = path.read_text()
    if path.suffix == ".py":
        return ast.get_docstring(ast.parse(text)) or ""
    lines = [line[2:].strip() for line in text.splitlines() if line.startswith("--")]
    return "\n".join(lines)


def sources() -> list[Path]:
    """Every file of the packages, by folder."""
    found = [
        path for top in TOPS for kind in ("py", "lua") for path in (ROOT / top).rglob(f"*.{kind}")
    ]
    return sorted(found, key=lambda path: (path.parent.parts, path.name))


def rooms() -> dict[Path, list[Path]]:
    """The files by room: a folder of `fleet`, or a package beside it."""
    by_room: dict[Path, list[Path]] = {}
    for path in sources():
        inside = path.relative_to(ROOT)
        room = Path(
            *inside.parts[: 2 if inside.parts[0] == "fleet" and len(inside.parts) > 2 else 1]
        )
        by_room.setdefault(room, []).append(path)
    return by_room


def lines() -> Iterator[str]:
    """The list: a heading for each room, a line for each file."""
    for room, paths in rooms().items():
        yield f"\n### `{room}/`\n"
        for path in paths:
            name = path.relative_to(ROOT / room)
            said = sentence(head_of(path))
            if name == Path("__init__.py"):
                yield f"{said}.\n"
            elif name.name != "__init__.py" or said:
                yield f"- `{name}`: {said}"


def rendered(page: str) -> str:
    """The page with the list as the files say it."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + "\n".join(lines()) + "\n\n" + END + after


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
