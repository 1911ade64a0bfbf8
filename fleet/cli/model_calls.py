"""The model calls of a task: which model, why, and how each ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fleet.cli.output import dollars, moment, seconds
from fleet.ledger.rules.entries import CONTRADICTORY, MISSING, UNPRICED

if TYPE_CHECKING:
    from fleet.tasks.model_call import ModelCall
    from fleet.tasks.record import TaskRecord


def model_calls_view(record: TaskRecord) -> list[RenderableType]:
    """The model calls under an empty line; nothing where no model was asked."""
    if not record.model_calls:
        return []
    parts: list[RenderableType] = [Text(), _table(record)]
    more = record.model_call_count - len(record.model_calls)
    return [*parts, Text(f"and {more} more calls")] if more else parts


def _table(record: TaskRecord) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "provider", "why", "ended"):
        table.add_column(heading, overflow="fold")
    for heading in ("in", "cached", "out", "cost", "took", "at"):
        table.add_column(heading, justify="right", no_wrap=True)
    for call in record.model_calls:
        table.add_row(
            call.model,
            call.provider,
            call.why,
            Text(call.ended, style="green" if call.answered else "yellow"),
            str(call.input_tokens),
            str(call.cached_input_tokens),
            str(call.output_tokens),
            _cost(call),
            seconds(call.seconds),
            moment(call.at),
        )
    return table


def _cost(call: ModelCall) -> str:
    """What a call cost, as far as that is known."""
    if call.usage == UNPRICED:
        return "no price"
    cost = dollars(call.cost_nanodollars)
    return f"<= {cost}" if call.usage in (MISSING, CONTRADICTORY) else cost
