"""A simulation's report as a table, and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleet.cli.output import dollars, seconds
from fleet.cli.plots import new_figure, save
from fleet.text.plain_text import plain_label

if TYPE_CHECKING:
    from fleet.simulation.report import Report, Row

INCHES = (11.0, 4.5)
SHORTEST_DRAWN = 1e-3


def report_view(report: Report) -> Group:
    """What happened and what would happen, a line each; then what is known and what is assumed."""
    source = f"{report.tasks} {report.source} tasks"
    left_out = f", {report.left_out} left out that have not ended or were cancelled"
    parts: list[RenderableType] = [
        Text(source + (left_out if report.left_out else ""), style="bold"),
        _figures(report.rows),
        Text(),
        _shares(report.rows),
        Text(),
    ]
    parts += [Text(f"measured: {sentence}", style="dim") for sentence in report.measured]
    parts += [Text(f"assumed: {sentence}", style="dim") for sentence in report.assumed]
    return Group(*parts)


def _figures(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    headings = ("wait mean", "p50", "p99", "answer mean", "p50", "p99", "good", "again")
    for heading in (*headings, "cost", "quality"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        figures = row.figures
        spreads = (figures.wait, figures.answer)
        times = [seconds(x) for each in spreads for x in (each.mean, each.p50, each.p99)]
        table.add_row(
            row.name,
            *(times if len(row.waits) else ["-"] * len(times)),
            f"{figures.good:.1%}",
            f"{figures.again:.1%}",
            "-" if row.cost is None else dollars(row.cost),
            "-" if row.quality is None else f"{row.quality:.2f}",
        )
    return table


def _shares(rows: list[Row]) -> Table:
    """The share of the tasks of each pool and each model."""
    names = dict.fromkeys(name for row in rows for name in (*row.figures.by_pool, *row.models))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("share of the tasks")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        shares = {**row.figures.by_pool, **row.models}
        table.add_row(row.name, *(f"{shares.get(name, 0.0):.0%}" for name in names))
    return table


def write_plot(report: Report, path: Path) -> None:
    """Draw the report. Raises `InvalidRequest` where the file cannot be written."""
    figure = new_figure(*INCHES)
    waits, shares = figure.subplots(1, 2)
    _draw_waits(waits, report.rows)
    _draw_shares(shares, report.rows)
    figure.legend(*shares.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    save(figure, path)


def _draw_waits(axes: Any, rows: list[Row]) -> None:
    """The share of the tasks that waits longer than so many seconds, both on log scales."""
    import numpy as np

    for number, row in enumerate(rows):
        longest_first = np.sort(row.waits)[::-1]
        share = np.arange(1, len(longest_first) + 1) / max(len(longest_first), 1)
        axes.step(np.maximum(longest_first, SHORTEST_DRAWN), share, color=f"C{number}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("wait in seconds")
    axes.set_ylabel("share of the tasks that wait longer")
    axes.grid(alpha=0.3)


def _draw_shares(axes: Any, rows: list[Row]) -> None:
    """The share of the tasks that each pool takes, a bar for each fleet."""
    pools = list(dict.fromkeys(name for row in rows for name in row.figures.by_pool))
    thick = 0.8 / len(rows)
    for number, row in enumerate(rows):
        places = [place + number * thick for place in range(len(pools))]
        heights = [row.figures.by_pool.get(name, 0.0) for name in pools]
        axes.bar(places, heights, thick, label=plain_label(row.name), color=f"C{number}")
    middle = 0.4 - thick / 2
    axes.set_xticks([place + middle for place in range(len(pools))], pools, rotation=30, ha="right")
    axes.set_ylabel("share of the tasks")
    axes.grid(axis="y", alpha=0.3)
