"""The models of one run: the current one is asked, and where it fails the next best.

    answered           the current model stays
    fails              the next best of the ranking: see `fleet.core.failover`
    is cooling down    the same, without asking it
    none is left       the soonest of those that cool down, if that is within seconds, once;
                       else the first error, with what became of each model
    over the limit     the next best that fits what is left of it; none: `OverBudget`
    fails its check    the agent escalates: the next stronger model is the current one, and those
                       that failed are not asked again in this run
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from fleet.adapters.model_calls import ModelCaller
from fleet.agent import ModelReply
from fleet.core.failover import Option, Standing, cools_for, fits, next_best, soonest, stronger
from fleet.core.learning import NOTHING_LEARNED
from fleet.core.models import Model
from fleet.core.prices import dollars
from fleet.errors import (
    ContextWindowExceeded,
    FleetError,
    InvalidConfig,
    ModelRefused,
    OverBudget,
    RetryLater,
    Unavailable,
)
from fleet.services.step_writer import Question, StepWriter, failure_of
from fleet.state.tasks import Lease

MOST_WAIT_SECONDS = 10.0
"""A model that is ready so soon is waited for, where there is no other."""

SLOW_SECONDS = 10.0
"""Unless it took longer than this to fail: it may do so again."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Search:
    """What became of the models that were asked one question, by name, and the first error.

    `window` is as in `Standing`. `slow` are those that took long to fail, `waited` says that one
    was waited for already.
    """

    tried: dict[str, str] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    error: FleetError | None = None
    window: int | None = None
    waited: bool = False

    def failed(self, model: Model, error: FleetError, seconds: float) -> None:
        """Note why a model did not do, and how long it took to say so."""
        self.tried[model.name] = str(error)
        if seconds > SLOW_SECONDS:
            self.slow.add(model.name)
        self.error = self.error or error
        if isinstance(error, ContextWindowExceeded):
            self.window = max(self.window or 0, model.context_tokens or 0)


class ModelSteps:
    """Asks the models of one task, one question after the other."""

    def __init__(
        self,
        lease: Lease,
        models: Mapping[str, Model],
        callers: Mapping[str, ModelCaller],
        writer: StepWriter,
        escalates: bool,
    ) -> None:
        """`models` are the catalogue's by name, `callers` are for those that can be reached from
        here. `escalates` says whether the configuration allows a stronger model."""
        self.lease = lease
        self.callers = callers
        self.writer = writer
        self.escalates = escalates
        self.options = tuple(
            Option(candidate, models[candidate.model])
            for candidate in lease.candidates
            if candidate.model in callers and candidate.model in models
        )
        self.current = self.options[0] if self.options else None
        self._failed: set[str] = set()
        self._refused: set[str] = set()
        self._why = "first"
        if self.current and self.current.model.name != lease.model:
            self._why = f"failover: {lease.model} cannot be reached by this worker"

    async def ask(self, question: Question) -> ModelReply:
        """One answer. Raises the first model's error where no other could answer either.

        What a call is estimated to cost has to fit what is left of the task's limit, else raises
        `OverBudget`. The first call does: it was chosen under that limit.
        """
        if self.current is None:
            raise Unavailable(
                f"this worker cannot reach model {self.lease.model}: set FLEET_MODEL_URL for a "
                "local one, or its provider's key, for workers and applications alike"
            )
        search = Search()
        standing = await self._look(search)
        option = self.current
        if cools_for(option.model, standing):
            option = await self._other(search, standing, f"{option.model.name} cools down")
        elif not fits(option, standing):
            option = await self._other(search, standing, f"{option.model.name} costs too much")
        while True:
            began = time.monotonic()
            reply = await self._call(option.model, question)
            if isinstance(reply, ModelReply):
                await self._answered(option, standing)
                return reply
            search.failed(option.model, reply, time.monotonic() - began)
            if isinstance(reply, ModelRefused | ContextWindowExceeded):
                self._refused.add(option.model.name)
            standing = await self._look(search)
            reason = f"{option.model.name} {failure_of(reply).ended}"
            option = await self._other(search, standing, reason)

    async def escalate(self, reason: str, score: float) -> bool:
        """Make the next stronger model the current one, if there is one that may be used."""
        if not 0.0 <= score <= 1.0:
            raise ValueError(f"the answer's score is {score!r}; give 0 to 1")
        if not self.escalates or self.current is None:
            return False
        standing = await self._look(Search())
        failed = {*self._failed, self.current.model.name}
        found = stronger(self.options, failed, self._refused, standing)
        if found is None:
            return False
        self._failed = failed
        await asyncio.to_thread(self.writer.learn, score)
        self.current, self._why = found, f"escalation: {reason}"
        return True

    async def _call(self, model: Model, question: Question) -> ModelReply | FleetError:
        try:
            caller = await asyncio.to_thread(self.callers.__getitem__, model.name)
        except InvalidConfig as error:
            # The package for its provider is not installed here: another model's may be.
            return error
        why, self._why = self._why, "again"
        return await self.writer.call(caller, why, question)

    async def _answered(self, option: Option, standing: Standing) -> None:
        self.current = option
        model = option.model
        cool_down = standing.facts.cooldowns.get((model.key_id or "", model.name))
        if cool_down is not None:
            await asyncio.to_thread(self.writer.warm, model, cool_down.until)

    async def _look(self, search: Search) -> Standing:
        """How things stand. Without Redis no model is known to cool down."""
        now, facts = 0.0, NOTHING_LEARNED
        try:
            now, facts = await asyncio.to_thread(self.writer.state.look)
        except RetryLater as error:
            log.warning("cool-downs could not be read", error=str(error))
        limit = self.lease.limit_nanodollars
        # A call may cost more than its estimate, and a free model is never too dear.
        left = None if limit is None else max(0, limit - self.writer.spent)
        return Standing(facts, now, left, search.window)

    async def _other(self, search: Search, standing: Standing, reason: str) -> Option:
        """The model to ask instead of one that does not do for this reason."""
        options = [each for each in self.options if each.model.name not in self._failed]
        found = next_best(options, search.tried, standing)
        if found is not None:
            self._why = f"failover: {reason}"
            return found
        quick = [option for option in options if option.model.name not in search.slow]
        seconds, cooling = soonest(quick, standing) or (0.0, None)
        if search.error is None and cooling is None:
            raise self._over_budget(options)
        if cooling is None or seconds > MOST_WAIT_SECONDS or search.waited:
            raise self._nothing_left(search, standing, seconds)
        search.waited = True
        await asyncio.sleep(seconds)
        self._why = f"failover: {reason}, waited {seconds:.1f} s"
        return cooling

    def _over_budget(self, options: Sequence[Option]) -> OverBudget:
        """That the rest of the limit is too little for each of these."""
        limit = self.lease.limit_nanodollars
        assert limit is not None
        cheapest = min(options, key=lambda option: option.candidate.cost_nanodollars)
        return OverBudget(
            f"the task's limit of {dollars(limit)} leaves nothing for another answer: "
            f"{dollars(self.writer.spent)} are spent, and the cheapest model, "
            f"{cheapest.model.name}, would cost {dollars(cheapest.candidate.cost_nanodollars)}; "
            "raise the limit"
        )

    def _nothing_left(self, search: Search, standing: Standing, seconds: float) -> FleetError:
        """The first error with what became of each model; of one model it says enough itself."""
        if search.error is not None and len(self.options) == 1:
            return search.error
        reasons = {each.model.name: why_not(each, standing) for each in self.options}
        reasons |= dict.fromkeys(self._failed, "its answer failed the check")
        told = "; ".join(f"{name}: {why}" for name, why in {**reasons, **search.tried}.items())
        message = f"no model could answer: {told}"
        error = search.error
        if error is None:
            return Unavailable(message, seconds)
        if isinstance(error, RetryLater):
            return type(error)(message, seconds or error.retry_after)
        return type(error)(message)


def why_not(option: Option, standing: Standing) -> str:
    """Why a model was not asked."""
    seconds = cools_for(option.model, standing)
    if seconds:
        return f"cools down for {seconds:.0f} s more"
    cost, left = option.candidate.cost_nanodollars, standing.left_nanodollars
    if left is not None and not fits(option, standing):
        return f"would cost {dollars(cost)} of the {dollars(left)} that are left"
    return f"has no larger window ({option.model.context_tokens or 0:,} tokens)"
