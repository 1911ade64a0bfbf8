"""What one run teaches the fleet of its models: how good, how quick, and which to leave alone.

It is a help to others, so that where it cannot be written a line in the log is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from fleet.errors import (
    FleetError,
    NotAllowed,
    QuotaExhausted,
    RateLimited,
    RetryLater,
    Unavailable,
)
from fleet.models.rules.catalogue import Model
from fleet.models.rules.difficulty.payload_text import text_of
from fleet.models.rules.difficulty.text_features import sketch
from fleet.models.rules.failover import FailoverContext
from fleet.models.rules.learning import WHOLE_KEY
from fleet.models.rules.usage import SEEN
from fleet.models.store import Lesson
from fleet.tasks.model_call import ModelCall
from fleet.tasks.run.billing import failure_of
from fleet.tasks.run.services import ModelServices
from fleet.tasks.store import Lease

SHORT_SECONDS = 5.0
"""After an outage a model is left alone for so long at least, see `ModelState.cool`."""

log = structlog.get_logger(__name__)


class RunLearning:
    """The lessons of one run. The fleet learns how good and how quick models are from runs whose
    request type is configured. Of the payload only a sketch without words is kept."""

    def __init__(self, lease: Lease, services: ModelServices, payload: Any) -> None:
        self.lease = lease
        self.state = services.state
        self.examples = services.examples
        self.payload = payload
        self.learns = lease.request_type in services.policy.config.request_types
        self._answered = ""
        self._answered_in = lease.fence
        self._learned: set[str] = set()

    def answered(self, model: str, fence: int) -> None:
        """Note the model that answered last, in the run of that fence, which may be an earlier
        one."""
        self._answered, self._answered_in = model, fence

    def learn(self, reward: float) -> None:
        """Count how good the last answer was, 0 to 1, for the model that gave it. Blocks.

        A run says one thing of a model: what comes later is left out, and what is said by a later
        run of an answer that it did not ask for itself.
        """
        model = self._answered
        if not self.learns or not model or model in self._learned:
            return
        self._learned.add(model)
        kind = self.lease.request_type
        lesson = Lesson(self.lease.task_id, f"answer {self._answered_in} {model}")
        if self._note(self.state.learn, model, kind, float(reward), 1.0, lesson):
            text = sketch(text_of(self.payload)).to_bytes()
            self._note(self.examples.add, kind, model, float(reward), text)

    async def learn_speed(self, number: int, call: ModelCall) -> None:
        """Count how quick an answer was."""
        told = call.output_tokens if call.usage == SEEN else 0
        if self.learns and told and call.seconds:
            lesson = Lesson(self.lease.task_id, f"call {self.lease.fence}.{number}")
            timed = (call.model, self.lease.request_type, told, call.seconds, lesson)
            await asyncio.to_thread(self._note, self.state.timed, *timed)

    async def open_circuit(
        self, model: Model, error: FleetError, *, key_serves: bool = False
    ) -> None:
        """Have the fleet leave a model, or all of its key, alone after this error, as long as is of
        use. `key_serves` says that another model of the key has answered."""
        failure = failure_of(error)
        if not failure.cools or model.key_id is None:
            return
        if error.reason:
            name = WHOLE_KEY if is_of_the_key(error) and not key_serves else model.name
            long = (model.key_id, name, error.reason)
            await asyncio.to_thread(self._note, self.state.cool_for_long, *long)
        else:
            cooled = (model.key_id, model.name, failure.cools, _asked_seconds(error))
            await asyncio.to_thread(self._note, self.state.cool, *cooled)

    async def close_circuit(self, model: Model, standing: FailoverContext) -> None:
        """End the cool-downs, its own and its key's, that a model has answered after."""
        for name, cool_down in standing.facts.cool_downs(model.key_id, model.name).items():
            ended = (model.key_id, name, cool_down.until)
            await asyncio.to_thread(self._note, self.state.warm, *ended)

    def _note(self, write: Callable[..., Any], *what: Any) -> Any:
        """Write what others may want to know, if that can be done; what the write gives. Blocks."""
        try:
            return write(*what)
        except RetryLater as error:
            log.warning("nothing was learned of a model", error=str(error), of=what)
            return None


def is_of_the_key(error: FleetError) -> bool:
    """Whether it seems that no model of the key is served."""
    return isinstance(error, NotAllowed) or (isinstance(error, QuotaExhausted) and error.whole_key)


def _asked_seconds(error: FleetError) -> float | None:
    """How long the model is to be left alone; None where nobody said, or said less than usual."""
    if not isinstance(error, Unavailable):
        return None
    # An outage that says to come back at once may be the tenth in a row.
    short = not isinstance(error, RateLimited) and error.retry_after <= SHORT_SECONDS
    return None if short else error.retry_after
