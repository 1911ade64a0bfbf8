"""The steps of a task: which models it went to, why, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fleet.cli.output import dollars, moment, seconds
from fleet.ledger.rules.entries import CONTRADICTORY, MISSING, UNPRICED
from fleet.tasks.record import ANSWERED

if TYPE_CHECKING:
    from fleet.tasks.record import Step, TaskRecord


def steps_view(record: TaskRecord) -> list[RenderableType]:
    """The steps under an empty line; nothing where no model was asked."""
    if not record.steps:
        return []
    parts: list[RenderableType] = [Text(), _table(record)]
    more = record.model_calls - len(record.steps)
    return [*parts, Text(f"and {more} more calls")] if more else parts


def _table(record: TaskRecord) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "provider", "why", "ended"):
        table.add_column(heading, overflow="fold")
    for heading in ("in", "cached", "out", "cost", "took", "at"):
        table.add_column(heading, justify="right", no_wrap=True)
    for step in record.steps:
        table.add_row(
            step.model,
            step.provider,
            step.why,
            Text(step.ended, style="green" if step.ended == ANSWERED else "yellow"),
            str(step.input_tokens),
            str(step.cached_input_tokens),
            str(step.output_tokens),
            _cost(step),
            seconds(step.seconds),
            moment(step.at),
        )
    return table


def _cost(step: Step) -> str:
    """What a step cost, as far as that is known."""
    if step.usage == UNPRICED:
        return "no price"
    cost = dollars(step.cost_nanodollars)
    return f"<= {cost}" if step.usage in (MISSING, CONTRADICTORY) else cost
