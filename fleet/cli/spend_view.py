"""A spend report as tables, and as a plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleet.cli.output import new_figure, save
from fleet.cli.rows import Column, figure, table
from fleet.ledger.rules.spend import WEEK
from fleet.ledger.rules.spend_advice import limit_words
from fleet.money import NANODOLLARS
from fleet.settings.names import ALL
from fleet.text import plain_label

if TYPE_CHECKING:
    from fleet.ledger.rules.intervals import Interval
    from fleet.ledger.rules.projection import Projection
    from fleet.ledger.rules.spend import Analysis, Dimension, SpendShare, Totals
    from fleet.ledger.spend import SpendReport

USUAL: tuple[Dimension, ...] = ("model", "tenant", "agent_type")
STYLES = {
    "healthy": "green",
    "warning": "bold yellow",
    "critical": "bold red",
    "high": "bold yellow",
    "medium": "yellow",
}
CENT = Decimal("0.01")
INCHES = (11.0, 4.5)
MAX_MODELS = 8
"""The most expensive models have a colour each; the others share one."""
MAX_LABELS = 16


def money(nanodollars: float) -> str:
    """Dollars to the cent. Below a cent, two significant digits: never `$0` for an amount."""
    exact = Decimal(round(nanodollars)) / NANODOLLARS
    if abs(exact) < CENT and exact:
        return f"{'-' if exact < 0 else ''}${Decimal(f'{abs(exact):.2g}'):f}"
    return f"{'-' if exact < 0 else ''}${abs(exact):,.2f}"


def written(day: str) -> str:
    """A day YYYYMMDD as YYYY-MM-DD."""
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"


def report_view(report: SpendReport, by: Dimension | None) -> Group:
    """The figures, the shares by one dimension or by the usual three, and the suggestions."""
    analysis = report.analysis
    whose = f", tenant {report.tenant}" if report.tenant else ""
    days = f"{written(analysis.days[0])} to {written(analysis.days[-1])}, {len(analysis.days)} days"
    parts: list[RenderableType] = [Text(f"Spend of {days} (UTC){whose}", style="bold")]
    parts += [_figures(report), *_doubts(analysis.totals)]
    for dimension in [by] if by else USUAL:
        heading = dimension.replace("_", " ")
        columns = (Column(heading, lambda part: part.name or "-"), *SHARES)
        parts += [Text(), table(analysis.breakdowns[dimension], columns)]
    return Group(*parts, Text(), *_suggestions(analysis))


def _figures(report: SpendReport) -> Table:
    analysis = report.analysis
    facts = Table.grid(padding=(0, 2))
    facts.add_row("total", f"{money(analysis.totals.amount)} in {analysis.totals.requests} calls")
    facts.add_row("daily mean", money(analysis.daily_mean))
    facts.add_row("weekly trend", _trend(analysis, report.open_day))
    facts.add_row("burn rate", _burned(report))
    last = "today so far" if report.open_day else written(analysis.days[-1])
    facts.add_row(last, _last_day(report))
    facts.add_row(f"month {_month(report.projection)}", _projected(report.projection))
    return facts


def _trend(analysis: Analysis, open_day: bool) -> str:
    if len(analysis.days) - open_day < WEEK:
        return f"needs a period of {WEEK} whole days"
    direction = "falls" if analysis.trend < 0 else "rises"
    return f"{direction} by {money(abs(analysis.trend))} a day" if analysis.trend else "level"


def _burned(report: SpendReport) -> str:
    """The spend as a share of the monthly limit, and of that limit for the period's days."""
    analysis, limits = report.analysis, report.limits
    whose = _whose(report, limits.monthly_scope)
    of = limit_words(analysis.burn_limit, limits.monthly, len(analysis.days))
    joined = " of" if analysis.burn_limit == limits.monthly else ","
    burned = f"{analysis.burn_rate:.1%} of {of}{joined} {money(analysis.burn_limit)}{whose}"
    days, allowed = len(analysis.days), analysis.days_limit
    if days == 1 or allowed >= analysis.burn_limit:
        return burned
    share = analysis.totals.amount / allowed
    return f"{burned}; {share:.1%} of its {money(allowed)} for {days} days"


def _last_day(report: SpendReport) -> Text:
    analysis, limits = report.analysis, report.limits
    whose = _whose(report, limits.daily_scope)
    limit = f"the daily limit of {money(limits.daily)}{whose}"
    spent = Text(f"{money(analysis.daily[-1])} of {limit}: ")
    return spent.append(analysis.verdict, STYLES[analysis.verdict])


def _whose(report: SpendReport, scope: str) -> str:
    """The owner of the limit. Empty unless the report is about one tenant."""
    if report.tenant is None:
        return ""
    return " of all tenants" if scope == ALL else f" of {report.tenant}"


def _month(projection: Projection) -> str:
    return f"{projection.month[:4]}-{projection.month[4:]}"


def _projected(projection: Projection) -> str:
    if projection.total is None:
        return f"{money(projection.spent)} so far; {projection.note}"
    so_far = f"{money(projection.spent)} so far, " if projection.days else ""
    note = f"; {projection.note}" if projection.note else ""
    return f"{so_far}{_between(projection.total)}{note}"


def _between(interval: Interval) -> str:
    if interval.low == interval.high:
        return f"{money(interval.estimate)} in total"
    bounds = f"{money(interval.low)} to {money(interval.high)}"
    return f"about {money(interval.estimate)} in total ({interval.confidence:.0%}: {bounds})"


def _doubts(totals: Totals) -> list[Text]:
    """A sentence for each kind of uncertain amount in the total."""
    found = []
    if totals.uncertain_steps or totals.uncertain:
        found.append(
            f"uncertain: {money(totals.uncertain)} of {totals.uncertain_steps} model calls with "
            "unknown usage"
        )
    if totals.missing:
        found.append(f"missing: {totals.missing} model calls whose provider reported no tokens")
    if totals.contradictory:
        found.append(
            f"contradictory: {totals.contradictory} model calls whose provider reported counts "
            "that do not add up; the largest interpretation is charged"
        )
    if totals.unpriced:
        found.append(f"unpriced: {totals.unpriced} calls of models without a known price")
    return [Text(sentence, style="yellow") for sentence in found]


def _count(of: Callable[[Totals], int]) -> Callable[[SpendShare], str]:
    return lambda part: f"{of(part.totals):,}"


def _suggestions(analysis: Analysis) -> list[Text]:
    if not analysis.suggestions:
        return [Text("No suggestions.", style="dim")]
    return [
        Text().append(each.priority, STYLES[each.priority])
        + f": {each.action}; saves about {money(each.saves)}"
        for each in analysis.suggestions
    ]


def write_plot(report: SpendReport, path: Path) -> None:
    """Draw the days stacked by model, and the projected days with their interval, as PNG.

    Raises `InvalidRequest` if the file cannot be written.
    """
    drawing = new_figure(*INCHES)
    axes = drawing.subplots()
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
    drawing.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    save(drawing, path)


def stacked(by_model: dict[str, tuple[int, ...]]) -> dict[str, list[float]]:
    """Dollars per day of each model, the most expensive first, the ninth and later summed."""
    rows = {name or "-": [x / NANODOLLARS for x in row] for name, row in by_model.items()}
    named = dict(list(rows.items())[:MAX_MODELS])
    others = list(rows.values())[MAX_MODELS:]
    if others:
        named[f"{len(others)} others"] = [sum(day) for day in zip(*others, strict=True)]
    return named


def _draw_models(axes: Any, places: Sequence[int], models: dict[str, list[float]]) -> None:
    bottom = [0.0] * len(places)
    for number, (name, row) in enumerate(models.items()):
        axes.bar(places, row, bottom=bottom, label=plain_label(name), color=f"C{number}")
        bottom = [low + high for low, high in zip(bottom, row, strict=True)]


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
    """A label every few days, so that labels do not overlap."""
    step = -(-len(days) // MAX_LABELS)
    labels = [written(day) for day in days[::step]]
    axes.set_xticks(range(0, len(days), step), labels, rotation=30, ha="right")
    axes.set_ylabel("US dollars per day (UTC)")
    axes.grid(axis="y", alpha=0.3)


def _title(projection: Projection) -> str:
    month = written(f"{projection.month}01")[:7]
    if projection.total is None:
        return f"{month}: {money(projection.spent)} so far"
    total = projection.total
    bounds = f"{total.confidence:.0%}: {money(total.low)} to {money(total.high)}"
    return f"{month}: {money(total.estimate)} projected ({bounds})"


SHARES: tuple[Column[SpendShare], ...] = (
    figure("amount", lambda part: money(part.totals.amount)),
    figure("share", lambda part: f"{part.share:.1%}"),
    figure("calls", _count(lambda totals: totals.requests)),
    figure("tokens in", _count(lambda totals: totals.input_tokens)),
    figure("cached", _count(lambda totals: totals.cached_tokens)),
    figure("out", _count(lambda totals: totals.output_tokens)),
    figure("reasoning", _count(lambda totals: totals.reasoning_tokens)),
    figure("uncertain", lambda part: money(part.totals.uncertain)),
    figure("missing", _count(lambda totals: totals.missing)),
    figure("contradictory", _count(lambda totals: totals.contradictory)),
    figure("unpriced", _count(lambda totals: totals.unpriced)),
)
