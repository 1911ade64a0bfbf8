"""A result of the performance tester as Rich prints it, and its plot as a picture."""

from __future__ import annotations

import base64

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fleet.errors import InvalidRequest
from workers.performance_tester.models import Comparison, PerformanceTestResult


def timings_view(result: PerformanceTestResult, max_rows: int | None = None) -> Group:
    """Timings with their intervals, and the verdict on each variant. There are at most eight."""
    confidence = f"{result.confidence:.0%}"
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("variant")
    for heading in ("median", f"{confidence} interval", "p95", "spread"):
        table.add_column(heading, justify="right", no_wrap=True)
    for timing in result.timings:
        interval = f"{short(timing.median_low)} to {short(timing.median_high)}"
        figures = (short(timing.p95), short(timing.spread))
        table.add_row(timing.name, short(timing.median), interval, *figures)
    verdicts = [Text(_verdict(each, confidence)) for each in result.comparisons]
    if result.same_result is False:
        verdicts.append(Text("the variants do not give the same result", style="bold red"))
    return Group(table, *verdicts)


def plot_png(result: PerformanceTestResult) -> bytes:
    """The distributions of the timings. Raises `InvalidRequest` without a plot."""
    if not result.plot_png_base64:
        raise InvalidRequest(
            "the task's result holds no plot: a worker draws one with matplotlib, "
            "pip install 'fleet[plots]'"
        )
    return base64.b64decode(result.plot_png_base64)


def _verdict(comparison: Comparison, confidence: str) -> str:
    """The verdict in words: `193 times as fast` reads better than 0.00518 times as long."""
    ratio, low, high = comparison.ratio, comparison.low, comparison.high
    relation = "takes {:.3g} times as long as"
    if comparison.verdict == "faster":
        relation = "is {:.3g} times as fast as"
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    return (
        f"{comparison.verdict}: {comparison.name} {relation.format(ratio)} "
        f"{comparison.reference} ({confidence} interval {low:.3g} to {high:.3g})"
    )


def short(duration: float) -> str:
    """A time in seconds in the unit that suits it, with three digits: `1.25 ms`."""
    for length, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if duration >= length:
            return f"{duration / length:.3g} {unit}"
    return f"{duration / 1e-9:.3g} ns"
