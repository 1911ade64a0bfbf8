"""Whether models keep the limit of their answers, as one run sees it and tells the fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

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

if TYPE_CHECKING:
    from fleet.models.calls.call import ModelCaller

TURN_SECONDS = 5.0
"""Longer than a call may take: a turn whose worker died is over then."""

LOOK_SECONDS = 0.2
"""How often a call that waits for its turn looks whether it has come."""

log = structlog.get_logger(__name__)


class LimitWatch:
    """What is known of the models' limits; the scripts say where that is old."""

    def __init__(self, state: ModelState) -> None:
        self._state = state
        self.records: dict[str, LimitRecord] = {}

    def max_output(self, caller: ModelCaller, question: Question) -> int:
        """The most tokens that an answer may have, as far as anybody knows."""
        if not caller.is_limited:
            return unlimited_output(question.max_tokens, caller.model.context_tokens)
        return max_output(question.max_tokens, self.records.get(caller.model.name))

    def basis(self, caller: ModelCaller, model: Model, question: Question) -> LimitBasis:
        """What a call's upper bound rests on, and the most it takes if the limit is ignored."""
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
        """Take the record that is in force."""
        if record is None:
            self.records.pop(model, None)
        else:
            self.records[model] = record

    def is_news(self, caller: ModelCaller, shown: Shown | None) -> bool:
        """Whether the fleet has to hear what an answer shows."""
        record = self.records.get(caller.model.name)
        return shown is not None and tells(record, shown, caller.keeps_limits)

    def note(self, caller: ModelCaller, call: str, shown: Shown | None) -> None:
        """Tell the fleet what an answer shows, and end the call's turn.

        It comes before the call is charged: when what was bound for it is free, the others know.
        Blocks.
        """
        name = caller.model.name
        try:
            record, alert = self._state.note_limit(name, call, shown)
        except RetryLater as error:
            log.warning("what an answer shows of its limit is not kept", error=str(error))
            return
        self.changed(name, record)
        if alert is not None:
            tokens = {"asked": alert.asked, "written": alert.written}
            log.error("a model has ignored the limit of an answer", model=name, call=call, **tokens)

    def _in_doubt(self, caller: ModelCaller, record: LimitRecord | None) -> bool:
        if record is None:
            return not caller.keeps_limits
        return not record.holds and not record.is_broken
