"""A spend report as a plot: the days stacked by model, and the days to come with their interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.cli.plots import new_figure, save
from fleet.cli.spend_view import money, written
from fleet.money import NANODOLLARS
from fleet.text.plain_text import plain_label

if TYPE_CHECKING:
    from fleet.ledger.rules.projection import Projection
    from fleet.ledger.spend import SpendReport

INCHES = (11.0, 4.5)
MAX_MODELS = 8
"""The dearest have a colour of their own, the others share one."""
MAX_LABELS = 16


def write_plot(report: SpendReport, path: Path) -> None:
    """Draw the report. Raises `InvalidRequest` where the file cannot be written."""
    figure = new_figure(*INCHES)
    axes = figure.subplots()
    days = report.analysis.days
    shown = tuple(dict.fromkeys((*days, *report.projection.days)))
    places = {day: place for place, day in enumerate(shown)}
    _draw_models(axes, [places[day] for day in days], stacked(report.analysis.daily_by_model))
    _draw_projection(axes, places, report.projection)
    axes.axhline(
        report.limits.daily / NANODOLLARS, color="black", linestyle=":", label="daily limit"
    )
    _label(axes, shown)
    axes.set_title(plain_label(_title(report.projection)))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    save(figure, path)


def stacked(by_model: dict[str, tuple[int, ...]]) -> dict[str, list[float]]:
    """Dollars a day of each model, the dearest first; those after the eighth summed up."""
    rows = {name or "-": [x / NANODOLLARS for x in row] for name, row in by_model.items()}
    named = dict(list(rows.items())[:MAX_MODELS])
    others = list(rows.values())[MAX_MODELS:]
    if others:
        named[f"{len(others)} others"] = [sum(day) for day in zip(*others, strict=True)]
    return named


def _draw_models(axes: Any, places: Sequence[int], models: dict[str, list[float]]) -> None:
    under = [0.0] * len(places)
    for number, (name, row) in enumerate(models.items()):
        axes.bar(places, row, bottom=under, label=plain_label(name), color=f"C{number}")
        under = [low + high for low, high in zip(under, row, strict=True)]


def _draw_projection(axes: Any, places: dict[str, int], projection: Projection) -> None:
    if not projection.days:
        return
    at = [places[day] for day in projection.days]
    low, middle, high = (
        [getattr(day, bound) / NANODOLLARS for day in projection.daily]
        for bound in ("low", "estimate", "high")
    )
    confidence = projection.daily[0].confidence
    axes.fill_between(at, low, high, color="grey", alpha=0.3, label=f"{confidence:.0%} of days")
    axes.plot(at, middle, "o-", color="dimgrey", markersize=3, label="projected")


def _label(axes: Any, days: Sequence[str]) -> None:
    """A label every few days, so that none runs into the next."""
    step = -(-len(days) // MAX_LABELS)
    labels = [written(day) for day in days[::step]]
    axes.set_xticks(range(0, len(days), step), labels, rotation=30, ha="right")
    axes.set_ylabel("US dollars a day (UTC)")
    axes.grid(axis="y", alpha=0.3)


def _title(projection: Projection) -> str:
    month = written(f"{projection.month}01")[:7]
    if projection.total is None:
        return f"{month}: {money(projection.spent)} so far"
    total = projection.total
    bounds = f"{total.confidence:.0%}: {money(total.low)} to {money(total.high)}"
    return f"{month}: {money(total.estimate)} projected ({bounds})"
