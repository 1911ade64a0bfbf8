"""Whether models keep the output limit of their answers, as one run knows and reports it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import RetryLater
from fleet.models.rules.catalogue import Model, upper_bound_nanodollars
from fleet.models.rules.output_limits import (
    LimitRecord,
    Shown,
    max_output,
    tells,
    unlimited_output,
)
from fleet.models.rules.upper_bound import upper_bound_tokens
from fleet.models.store import ModelState
from fleet.tasks.model_calls_store import LimitBasis
from fleet.tasks.run.billing import Question
from fleet.telemetry.logger import get_logger

if TYPE_CHECKING:
    from fleet.models.calls.call import ModelCaller

TURN_SECONDS = 5.0
"""A turn lasts this much longer than its call may take: so the turn of a dead worker ends."""

LOOK_SECONDS = 0.2
"""How often a waiting call asks for its turn."""

log = get_logger(__name__)


class LimitWatch:
    """The known records of the models' output limits. The scripts report an outdated record."""

    def __init__(self, state: ModelState) -> None:
        self._state = state
        self.records: dict[str, LimitRecord] = {}

    def max_output(self, caller: ModelCaller, question: Question) -> int:
        """The maximum of an answer's tokens, by the known record."""
        if not caller.is_limited:
            return unlimited_output(question.max_tokens, caller.model.context_tokens)
        return max_output(question.max_tokens, self.records.get(caller.model.name))

    def basis(self, caller: ModelCaller, model: Model, question: Question) -> LimitBasis:
        """The assumptions behind a call's upper bound, and its cost if the model ignores its
        limit."""
        record = self.records.get(model.name)
        packed = record.packed if record else ""
        priced = model.free or model.price is not None
        if not self._in_doubt(caller, record) or not priced:
            return LimitBasis(packed)
        output = unlimited_output(question.max_tokens, model.context_tokens)
        tokens = upper_bound_tokens(question.prompt, question.instructions, output)
        cost = upper_bound_nanodollars(model, tokens)
        turn_ms = round((caller.timeout + TURN_SECONDS) * 1000)
        return LimitBasis(packed, cost, tokens.input + tokens.output, turn_ms)

    def changed(self, model: str, record: LimitRecord | None) -> None:
        """Replace the known record of a model; None removes it."""
        if record is None:
            self.records.pop(model, None)
        else:
            self.records[model] = record

    def must_report(self, caller: ModelCaller, shown: Shown | None) -> bool:
        """Whether an answer shows something new that the fleet has to know."""
        record = self.records.get(caller.model.name)
        return shown is not None and tells(record, shown, caller.keeps_limits)

    def report(self, caller: ModelCaller, call: str, shown: Shown | None) -> None:
        """Report what an answer shows about its model's limit, and end the call's turn.

        Call it before the call is charged: other runs must know it when the reservation is freed.
        Blocks.
        """
        name = caller.model.name
        try:
            record, alert = self._state.note_limit(name, call, shown)
        except RetryLater as error:
            log.warning("an observation of an output limit was not stored", error=str(error))
            return
        self.changed(name, record)
        if alert is not None:
            tokens = {"asked": alert.asked, "written": alert.written}
            log.error(
                "a model exceeded the output limit of an answer", model=name, call=call, **tokens
            )

    def _in_doubt(self, caller: ModelCaller, record: LimitRecord | None) -> bool:
        if record is None:
            return not caller.keeps_limits
        return not record.holds and not record.is_broken
