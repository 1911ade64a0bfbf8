"""`fleet models train`: learn from recorded outcomes how difficult a task is by its text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fleet.cli.output import console, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fleet.core.difficulty.training import TrainingReport
    from fleet.services.connection import Connection


def show_training(fleet: Connection, save: Callable[[bytes], object], as_json: bool) -> None:
    """Train, save, and show what was learned from and how well it tells tasks apart."""
    from fleet.services.difficulty import train_difficulty

    examples = fleet.examples
    qualities = {model.name: model.quality for model in fleet.models}
    if as_json:
        print_json(report_json(train_difficulty(examples, qualities, save)))
        return
    with console().status("learning from the recorded outcomes"):
        report = train_difficulty(examples, qualities, save)
    console().print(report_view(report))


def report_json(report: TrainingReport) -> dict[str, Any]:
    """The report for programs; `auc` is null where no task failed, or none passed."""
    return {
        "examples": report.examples,
        "passed": report.passed,
        "auc": report.auc if report.auc == report.auc else None,
        "correlation": report.correlation,
        "spread": list(report.spread),
        "by_type_and_model": [
            {"request_type": request_type, "model": model, "examples": count}
            for (request_type, model), count in sorted(report.counts.items())
        ],
    }


def report_view(report: TrainingReport) -> RenderableType:
    """The report for people."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("request type")
    table.add_column("model")
    table.add_column("examples", justify="right")
    for (request_type, model), count in sorted(report.counts.items()):
        table.add_row(request_type, model, str(count))
    low, middle, high = report.spread
    return Group(
        Text(f"Learned from {report.examples} tasks, {report.passed} of which passed."),
        table,
        Text(_skill(report)),
        Text(f"Estimates: 5 % below {low:.2f}, half below {middle:.2f}, 95 % below {high:.2f}."),
    )


def _skill(report: TrainingReport) -> str:
    correlated = f"correlation with the outcome {report.correlation:.2f}"
    if report.auc != report.auc:
        return f"On tasks not learned from: {correlated}."
    return (
        f"On tasks not learned from: a failed one ranks above a passed one in {report.auc:.0%} of "
        f"pairs (50 % is chance); {correlated}."
    )
