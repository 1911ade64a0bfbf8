"""`fleet models train`: learn from recorded outcomes which tasks need a better model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fleet.cli.output import console, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fleet.models.difficulty import Qualities
    from fleet.models.rules.difficulty.evidence import Evidence
    from fleet.models.rules.difficulty.training import TrainingReport
    from fleet.tasks.connection import Connection


def show_training(fleet: Connection, save: Callable[[bytes], object], as_json: bool) -> None:
    """Train, save, and show what was learned from and how well it tells tasks apart."""
    from fleet.models.difficulty import train_difficulty

    examples, qualities = fleet.models.examples, qualities_in_force(fleet)
    if as_json:
        print_json(report_json(train_difficulty(examples, qualities, save)))
        return
    with console().status("learning from the recorded outcomes"):
        report = train_difficulty(examples, qualities, save)
    console().print(report_view(report))


def qualities_in_force(fleet: Connection) -> Qualities:
    """What the choice of a model believes of each now: training has to mean the same by better."""
    from fleet.models.difficulty import believed
    from fleet.tasks.submission.model_planning import model_policy

    now, facts = fleet.models.state.look()
    config = fleet.settings.config
    return believed(fleet.models.catalogue, config.request_types, facts, model_policy(config), now)


def report_json(report: TrainingReport) -> dict[str, Any]:
    """The report for programs. Gains are parts of a success."""
    return {
        "examples": report.examples,
        "passed": report.passed,
        "words": report.words,
        "text": report.text._asdict(),
        "length": report.length._asdict(),
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
        table.add_row(Text(request_type), Text(model), str(count))
    low, middle, high = report.spread
    return Group(
        Text(f"Learned from {report.examples} tasks, {report.passed} of which passed."),
        table,
        Text(
            "On tasks not learned from, the better models' advantage grows from the easiest to the "
            f"most difficult by {_points(report.text)}; "
            f"by length alone by {_points(report.length)}."
        ),
        Text(
            f"In the estimates what was learned of texts has a part of {report.words:.0%}, and "
            f"their length the other {1 - report.words:.0%}."
        ),
        Text(f"Estimates: 5 % below {low:.2f}, half below {middle:.2f}, 95 % below {high:.2f}."),
    )


def _points(found: Evidence) -> str:
    return f"{100 * found.gain:.0f} points (standard error {100 * found.error:.0f})"
