"""The one renderer of lists: rows as a table for people, as JSON or CSV for programs.

A list has columns for people and one function that turns a row into JSON. The CSV columns are the
keys of that JSON. A value that is itself a list or an object is written as JSON in its cell.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import typer

from fleet.cli.output import console, print_json

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table
    from rich.text import Text

Row = TypeVar("Row")
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV for spreadsheets.")]
GAP = 2
"""Spaces between two columns."""


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column of a table: its heading, and the cell of a row.

    Figures are aligned to the right. A figure, or a cell of a `whole` column, stays on one line.
    """

    heading: str
    cell: Callable[[Row], str | Text]
    is_figure: bool = False
    whole: bool = False

    @property
    def no_wrap(self) -> bool:
        return self.is_figure or self.whole


def figure(heading: str, cell: Callable[[Row], str | Text]) -> Column[Row]:
    """A column of figures."""
    return Column(heading, cell, is_figure=True)


@dataclass(frozen=True, slots=True)
class RowTable:
    """Rows drawn for people, a sequence of cells for each column.

    A terminal that is too narrow for all columns shows several tables below each other. Each of
    them begins with the first column.
    """

    columns: Sequence[Column[Any]]
    cells: Sequence[Sequence[str | Text]]

    def __rich_console__(self, screen: Console, options: ConsoleOptions) -> Iterator[Table | str]:
        parts = self._parts(options.max_width) if screen.is_terminal else [range(len(self.columns))]
        for number, part in enumerate(parts):
            if number:
                yield ""
            yield self._drawn(part)

    def _parts(self, width: int) -> list[list[int]]:
        """The places of the columns in each table."""
        needed = [self._needed(place, width) for place in range(len(self.columns))]
        parts, used = [[0]], needed[0]
        for place in range(1, len(self.columns)):
            if used + GAP + needed[place] > width and len(parts[-1]) > 1:
                parts.append([0])
                used = needed[0]
            parts[-1].append(place)
            used += GAP + needed[place]
        return parts

    def _needed(self, place: int, width: int) -> int:
        """The characters that keep a column's words whole, of long words up to a fourth of the
        width."""
        from rich.cells import cell_len

        column = self.columns[place]
        texts = [column.heading, *map(str, self.cells[place])]
        if column.no_wrap:
            return max(map(cell_len, texts))
        longest = max((cell_len(word) for text in texts for word in text.split()), default=0)
        return min(longest, width // 4)

    def _drawn(self, places: Iterable[int]) -> Table:
        from rich.table import Table

        drawn = Table(box=None, pad_edge=False, header_style="bold")
        shown = list(places)
        for place in shown:
            column = self.columns[place]
            drawn.add_column(
                column.heading,
                justify="right" if column.is_figure else "left",
                no_wrap=column.no_wrap,
                overflow="ellipsis" if column.no_wrap else "fold",
            )
        for row in zip(*(self.cells[place] for place in shown), strict=True):
            drawn.add_row(*row)
        return drawn


def table(rows: Iterable[Row], columns: Sequence[Column[Row]]) -> RowTable:
    """The rows for people, to be printed on a console."""
    found = list(rows)
    return RowTable(columns, [[column.cell(row) for row in found] for column in columns])


def print_rows(
    rows: Iterable[Row],
    columns: Sequence[Column[Row]],
    to_json: Callable[[Row], Mapping[str, Any]],
    as_json: bool,
    as_csv: bool = False,
) -> None:
    """Print the rows as JSON, as CSV or as a table."""
    if as_json:
        print_json([to_json(row) for row in rows])
    elif as_csv:
        print_csv([to_json(row) for row in rows])
    else:
        console().print(table(rows, columns))


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows with equal keys as CSV. The first line has the keys. No rows give no output."""
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
