"""What the runs of a task have saved, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from fleet.cli.output import moment
from fleet.cli.tables import headed

if TYPE_CHECKING:
    from fleet.tasks.checkpoints_store import Saved


def saved_view(saved: Sequence[Saved]) -> Iterator[Text | Table]:
    """Names, sizes and times under an empty line; nothing where nothing is saved."""
    if not saved:
        return
    yield Text()
    table = headed(("saved",), ("bytes", "at"))
    for each in saved:
        table.add_row(each.name, f"{each.size:,}", moment(each.at))
    yield table


def saved_json(saved: Sequence[Saved]) -> list[dict[str, Any]]:
    """The same, without the values: they may be large."""
    return [{"name": each.name, "bytes": each.size, "at": each.at} for each in saved]
