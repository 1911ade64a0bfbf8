"""The one renderer of lists: rows as a table for people, as JSON or as CSV for programs.

A list has columns for people and one function that makes a row's JSON. CSV has the keys of the
JSON as its columns; a value with parts of its own is JSON within its cell.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import typer

from fleet.cli.output import console, print_json

if TYPE_CHECKING:
    from rich.console import OverflowMethod
    from rich.table import Table
    from rich.text import Text

Row = TypeVar("Row")
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV for spreadsheets.")]


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column of a table: its heading, and a row's cell in it. Figures stand to the right, and
    neither they nor a `whole` column are wrapped."""

    heading: str
    cell: Callable[[Row], str | Text]
    is_figure: bool = False
    whole: bool = False
    overflow: OverflowMethod = "ellipsis"


def figure(heading: str, cell: Callable[[Row], str | Text]) -> Column[Row]:
    """A column of figures."""
    return Column(heading, cell, is_figure=True)


def table(rows: Iterable[Row], columns: Sequence[Column[Row]]) -> Table:
    """The rows for people."""
    from rich.table import Table

    found = Table(box=None, pad_edge=False, header_style="bold")
    for each in columns:
        found.add_column(
            each.heading,
            justify="right" if each.is_figure else "left",
            no_wrap=each.is_figure or each.whole,
            overflow=each.overflow,
        )
    for row in rows:
        found.add_row(*(each.cell(row) for each in columns))
    return found


def print_rows(
    rows: Iterable[Row],
    columns: Sequence[Column[Row]],
    to_json: Callable[[Row], Mapping[str, Any]],
    as_json: bool,
    as_csv: bool = False,
) -> None:
    """Print the rows: as JSON, as CSV, or as a table."""
    if as_json:
        print_json([to_json(row) for row in rows])
    elif as_csv:
        print_csv([to_json(row) for row in rows])
    else:
        console().print(table(rows, columns))


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows that have the same keys as CSV, with a line of the keys first; nothing for no rows."""
    if not rows:
        return
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})


def _cell(value: Any) -> Any:
    if isinstance(value, (Mapping, list, tuple, bool)):
        return json.dumps(value, default=str)
    return value
