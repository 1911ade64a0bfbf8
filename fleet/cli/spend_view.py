"""A spend report as tables."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleet.ledger.rules.spend import WEEK
from fleet.ledger.rules.spend_advice import limit_words
from fleet.money import NANODOLLARS
from fleet.settings.names import ALL

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


def money(nanodollars: float) -> str:
    """Dollars to the cent; smaller amounts to two digits that say something, so never as $0."""
    exact = Decimal(round(nanodollars)) / NANODOLLARS
    if abs(exact) < CENT and exact:
        return f"{'-' if exact < 0 else ''}${Decimal(f'{abs(exact):.2g}'):f}"
    return f"{'-' if exact < 0 else ''}${abs(exact):,.2f}"


def written(day: str) -> str:
    """A day, YYYYMMDD, as people write it."""
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"


def report_view(report: SpendReport, by: Dimension | None) -> Group:
    """The figures, the shares by one dimension or the usual three, and the suggestions."""
    analysis = report.analysis
    whose = f", tenant {report.tenant}" if report.tenant else ""
    days = f"{written(analysis.days[0])} to {written(analysis.days[-1])}, {len(analysis.days)} days"
    parts: list[RenderableType] = [Text(f"Spend of {days} (UTC){whose}", style="bold")]
    parts += [_figures(report), *_doubts(analysis.totals)]
    for dimension in [by] if by else USUAL:
        parts += [Text(), _shares(dimension, analysis.breakdowns[dimension])]
    return Group(*parts, Text(), *_suggestions(analysis))


def _figures(report: SpendReport) -> Table:
    analysis = report.analysis
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column()
    table.add_row("total", f"{money(analysis.totals.amount)} in {analysis.totals.requests} calls")
    table.add_row("daily mean", money(analysis.daily_mean))
    table.add_row("weekly trend", _trend(analysis, report.open_day))
    table.add_row("burn rate", _burned(report))
    last = "today so far" if report.open_day else written(analysis.days[-1])
    table.add_row(last, _last_day(report))
    table.add_row(f"month {_month(report.projection)}", _projected(report.projection))
    return table


def _trend(analysis: Analysis, open_day: bool) -> str:
    if len(analysis.days) - open_day < WEEK:
        return f"needs a period of {WEEK} whole days"
    direction = "falls" if analysis.trend < 0 else "rises"
    return f"{direction} by {money(abs(analysis.trend))} a day" if analysis.trend else "level"


def _burned(report: SpendReport) -> str:
    """The period's spend held against the monthly limit, and against what its days may cost."""
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
    said = Text(f"{money(analysis.daily[-1])} of {limit}: ")
    return said.append(analysis.verdict, STYLES[analysis.verdict])


def _whose(report: SpendReport, scope: str) -> str:
    """Whose limit it is, where the spend is that of one tenant."""
    if report.tenant is None:
        return ""
    return " of all tenants" if scope == ALL else f" of {report.tenant}"


def _month(projection: Projection) -> str:
    return f"{projection.month[:4]}-{projection.month[4:]}"


def _projected(projection: Projection) -> str:
    if projection.total is None:
        return f"{money(projection.spent)} so far; {projection.note}"
    known = f"{money(projection.spent)} so far, "
    told = "" if not projection.days else known
    note = f"; {projection.note}" if projection.note else ""
    return f"{told}{_between(projection.total)}{note}"


def _between(interval: Interval) -> str:
    if interval.low == interval.high:
        return f"{money(interval.estimate)} in all"
    bounds = f"{money(interval.low)} to {money(interval.high)}"
    return f"about {money(interval.estimate)} in all ({interval.confidence:.0%}: {bounds})"


def _doubts(totals: Totals) -> list[Text]:
    """What of the total is not sure. Nothing where all of it is."""
    said = []
    if totals.uncertain_steps or totals.uncertain:
        said.append(
            f"uncertain: {money(totals.uncertain)} of {totals.uncertain_steps} steps whose use "
            "nobody saw"
        )
    if totals.missing:
        said.append(f"missing: {totals.missing} steps whose provider told no tokens")
    if totals.contradictory:
        said.append(
            f"contradictory: {totals.contradictory} steps whose provider told counts that do not "
            "add up; the largest reading is charged"
        )
    if totals.unpriced:
        said.append(f"unpriced: {totals.unpriced} steps of models without a known price")
    return [Text(sentence, style="yellow") for sentence in said]


def _shares(dimension: Dimension, parts: Sequence[SpendShare]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(dimension.replace("_", " "))
    for heading in ("amount", "share", "calls", "tokens in", "cached", "out", "reasoning"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("uncertain", "missing", "contradictory", "unpriced"):
        table.add_column(heading, justify="right", no_wrap=True)
    for part in parts:
        totals = part.totals
        tokens = (totals.input_tokens, totals.cached_tokens, totals.output_tokens)
        counts = (totals.requests, *tokens, totals.reasoning_tokens)
        table.add_row(
            Text(part.name or "-"),
            money(totals.amount),
            f"{part.share:.1%}",
            *(f"{count:,}" for count in counts),
            money(totals.uncertain),
            str(totals.missing),
            str(totals.contradictory),
            str(totals.unpriced),
        )
    return table


def _suggestions(analysis: Analysis) -> list[Text]:
    if not analysis.suggestions:
        return [Text("No suggestions.", style="dim")]
    return [
        Text().append(each.priority, STYLES[each.priority])
        + f": {each.action}; saves about {money(each.saves)}"
        for each in analysis.suggestions
    ]
