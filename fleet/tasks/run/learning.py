"""What the fleet learns from one run: quality and speed of models, and which of them should cool
down.

Other runs profit from it and no run depends on it, so a failed write is only logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fleet.errors import (
    FleetError,
    InvalidConfig,
    NotAllowed,
    QuotaExhausted,
    RateLimited,
    RetryLater,
    SecretsUnavailable,
    Unavailable,
)
from fleet.models.keys import DeclaredKey, UsedKey
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
from fleet.telemetry.logger import get_logger

SHORT_SECONDS = 5.0
"""The shortest cool-down after an outage, see `ModelState.cool`."""

log = get_logger(__name__)


class RunLearning:
    """Records what one run shows about its models.

    Quality and speed are learned from configured request types only. Of the payload only text
    features without words are stored.
    """

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
        """Note the model that answered last, and the fence of the run that asked it: a saved answer
        may come from an earlier run."""
        self._answered, self._answered_in = model, fence

    def learn(self, reward: float) -> None:
        """Count the quality of the last answer, 0 to 1, for the model that gave it. Blocks.

        Only the first reward of a run counts for a model. An answer counts once, even if a later
        run rates the saved answer again.
        """
        model = self._answered
        if not self.learns or not model or model in self._learned:
            return
        self._learned.add(model)
        kind = self.lease.request_type
        lesson = Lesson(self.lease.task_id, f"answer {self._answered_in} {model}")
        if self._try_to_write(self.state.learn, model, kind, float(reward), 1.0, lesson):
            text = sketch(text_of(self.payload)).to_bytes()
            self._try_to_write(self.examples.add, kind, model, float(reward), text)

    async def learn_speed(self, number: int, call: ModelCall) -> None:
        """Count the speed of an answer."""
        tokens = call.output_tokens if call.usage == SEEN else 0
        if self.learns and tokens and call.seconds:
            lesson = Lesson(self.lease.task_id, f"call {self.lease.fence}.{number}")
            timed = (call.model, self.lease.request_type, tokens, call.seconds, lesson)
            await asyncio.to_thread(self._try_to_write, self.state.timed, *timed)

    async def open_circuit(
        self, model: str, key: UsedKey | None, error: FleetError, *, key_serves: bool = False
    ) -> None:
        """Start the cool-down that an error calls for, of a model or of all models of its key.

        `key_serves` says that another model of the key has answered.
        """
        failure = failure_of(error)
        if not failure.cool_down_reason or key is None:
            return
        if error.reason:
            name = WHOLE_KEY if is_of_the_key(error) and not key_serves else model
            long = (key.id, name, error.reason, key.version)
            await asyncio.to_thread(self._try_to_write, self.state.cool_for_long, *long)
        else:
            asked = _asked_seconds(error)
            cooled = (key.id, model, failure.cool_down_reason, asked, key.version)
            await asyncio.to_thread(self._try_to_write, self.state.cool, *cooled)

    async def close_circuit(
        self, model: str, key: DeclaredKey | None, standing: FailoverContext
    ) -> None:
        """End the cool-downs of a model and of its key, since the model has answered."""
        if key is None:
            return
        for name, cool_down in standing.facts.cool_downs(key.id, model).items():
            ended = (key.id, name, cool_down.until)
            await asyncio.to_thread(self._try_to_write, self.state.warm, *ended)

    def _try_to_write(self, write: Callable[..., Any], *what: Any) -> Any:
        """Call `write`; its result, or None if Redis is away. Blocks."""
        try:
            return write(*what)
        except RetryLater as error:
            log.warning("a fact about a model was not stored", error=str(error), of=what)
            return None


def is_of_the_key(error: FleetError) -> bool:
    """Whether the error seems to affect all models of the key."""
    return isinstance(error, NotAllowed) or (isinstance(error, QuotaExhausted) and error.whole_key)


def is_of_one_key(error: FleetError) -> bool:
    """Whether another key of the same provider may serve the request."""
    return isinstance(error, NotAllowed | RateLimited | InvalidConfig | SecretsUnavailable)


def _asked_seconds(error: FleetError) -> float | None:
    """The cool-down that the error asks for; None if it asks for none, or for less than usual."""
    if not isinstance(error, Unavailable):
        return None
    # An outage with a short `retry_after` may be the tenth in a row.
    short = not isinstance(error, RateLimited) and error.retry_after <= SHORT_SECONDS
    return None if short else error.retry_after
