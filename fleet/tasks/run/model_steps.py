"""The models of one run: the current one is asked, and where it fails the next best.

    answered           the current model stays
    fails              the next best of the ranking: see `fleet.models.rules.failover`
    is cooling down    the same, without asking it
    its key is left    the same; its other models come last, in case the fault is not the key's
    will not take      the same; where another one takes the request it is left alone, and where
    the request        none does the request is at fault
    none is left       the soonest of those that cool down, if that is within seconds, once;
                       else the first error, with what became of each model; one of a provider
                       that somebody has to mend gives way to any other
    over a limit       as the policy says. downgrade: down the mapping, then the next best that
                       fits; none: `OverBudget` or `OverLimit`. refuse: the error. wait: until
                       another call of the run has ended and given back the rest of its worst,
                       then `Parked`, and every further question too
    fails its check    the agent escalates: the next stronger model is the current one, and those
                       that failed are not asked again in this run
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from fleet.agent import ModelReply
from fleet.budgets.rules.refusals import Refusal
from fleet.errors import (
    ContextWindowExceeded,
    FleetError,
    InvalidConfig,
    ModelNotServed,
    ModelRefused,
    NotAllowed,
    OverBudget,
    OverLimit,
    Parked,
    RetryLater,
    Unavailable,
)
from fleet.models.priced import follow
from fleet.models.rules.catalogue import Model
from fleet.models.rules.downgrade_reasons import said
from fleet.models.rules.failover import (
    Option,
    Standing,
    but_for_keys,
    cools_for,
    cost_at_worst,
    fits,
    next_best,
    soonest,
    stronger,
)
from fleet.models.rules.learning import NOTHING_LEARNED, ModelFacts
from fleet.models.rules.upper_bound import upper_bound_tokens
from fleet.money import Tokens, dollars
from fleet.tasks.run.call_ends import REJECTED, Question, failure_of
from fleet.tasks.run.step_writer import StepWriter, is_of_the_key
from fleet.tasks.store import Lease
from fleet.tasks.submission.reservation import over_error

if TYPE_CHECKING:
    from fleet.models.calls.call import ModelCaller

MAX_WAIT_SECONDS = 10.0
"""A model that is ready so soon is waited for, where there is no other."""

SLOW_SECONDS = 10.0
"""Unless it took longer than this to fail: it may do so again."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Search:
    """What became of the models that were asked one question, by name, and the errors in order.

    `window` and `worst` are as in `Standing`. `slow` are those that took long to fail, `waited`
    says that one was waited for already. `why` is why the next one is asked; `waits` are the
    seconds until those may fit a limit that did not. `rejected` are those that did not take the
    request, `keyless` those whose key was refused or has nothing left, each with its error.
    """

    tried: dict[str, str] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    errors: list[FleetError] = field(default_factory=list)
    window: int | None = None
    waited: bool = False
    worst: Tokens | None = None
    why: str = "first"
    waits: list[float] = field(default_factory=list)
    rejected: list[tuple[Model, FleetError]] = field(default_factory=list)
    keyless: list[tuple[Model, FleetError]] = field(default_factory=list)

    @property
    def doubted(self) -> set[str]:
        """The ids of keys that were refused, or have nothing left, as their models have said."""
        return {model.key_id for model, _ in self.keyless if model.key_id is not None}

    @property
    def error(self) -> FleetError | None:
        """The first error that a provider's standing fault is not behind; else the first."""
        others = (each for each in self.errors if not _waits_to_be_mended(each))
        return next(others, self.errors[0] if self.errors else None)

    def failed(self, model: Model, error: FleetError, seconds: float) -> None:
        """Note why a model did not do, and how long it took to say so."""
        self.tried[model.name] = str(error)
        if seconds > SLOW_SECONDS:
            self.slow.add(model.name)
        self.errors.append(error)
        if failure_of(error) is REJECTED:
            self.rejected.append((model, error))
        if is_of_the_key(error):
            self.keyless.append((model, error))
        if isinstance(error, ContextWindowExceeded):
            self.window = max(self.window or 0, model.context_tokens or 0)

    def over(self, model: Model, refusal: Refusal) -> None:
        """Note that a call of a model does not fit a limit."""
        self.tried[model.name] = refusal.sentence
        self.errors.append(over_error(refusal))
        if refusal.retry_after is not None:
            self.waits.append(refusal.retry_after)


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
        self.models = models
        self.callers = callers
        self.writer = writer
        self.escalates = escalates
        self.options = tuple(
            Option(candidate, models[candidate.model])
            for candidate in lease.candidates
            if candidate.model in callers and candidate.model in models
        )
        self.current = _first(self.options, lease.model)
        self._failed: set[str] = set()
        self._refused: set[str] = set()
        self._worst: Tokens | None = None
        self._why = f"downgrade: {said(lease.because)}" if lease.because else "first"
        if self.current and self.current.model.name != lease.model:
            self._why = f"failover: {lease.model} cannot be reached by this worker"

    async def ask(self, question: Question, save_as: str = "") -> ModelReply:
        """One answer, saved under a name where one is given, or the one that is saved already.
        Raises the first model's error where no other could answer either.

        What a call may cost at worst has to fit every limit, the task's own among them. Where it
        does not, the policy decides: raises `OverBudget`, `OverLimit` or `Parked`.
        """
        saved = self.writer.saved(save_as) if save_as else None
        if saved is not None:
            self._go_on_with(saved.model)
            return saved
        if self.current is None:
            raise Unavailable(
                f"this worker cannot reach model {self.lease.model}: set FLEET_MODEL_URL for a "
                "local one, or its provider's key, for workers and applications alike"
            )
        self._worst = upper_bound_tokens(
            question.prompt, question.instructions, question.max_tokens
        )
        if self.writer.parked is not None:
            raise self.writer.parked
        search = Search(worst=self._worst, why=self._why)
        # Two may ask at once: what comes later says so, whatever becomes of the first.
        self._why = "again"
        standing = await self._look(search)
        option = self.current
        if cools_for(option.model, standing):
            reason = f"{option.model.name} cools down{_after(option.model, standing)}"
            option = await self._other(search, standing, reason)
        while True:
            began = time.monotonic()
            reply = await self._call(option.model, search.why, question, save_as)
            if isinstance(reply, ModelReply):
                await self._answered(option, standing, search)
                return reply
            if isinstance(reply, Refusal):
                option = await self._cheaper(option, reply, search, standing)
                continue
            search.failed(option.model, reply, time.monotonic() - began)
            if isinstance(reply, ModelRefused | ContextWindowExceeded):
                self._refused.add(option.model.name)
            standing = await self._look(search)
            ended = f": {reply.reason}" if reply.reason else f" {failure_of(reply).ended}"
            reason = f"{option.model.name}{ended}"
            option = await self._other(search, standing, reason)

    async def escalate(self, reason: str, score: float) -> bool:
        """Make the next stronger model the current one, if there is one that may be used."""
        if not 0.0 <= score <= 1.0:
            raise ValueError(f"the answer's score is {score!r}; give 0 to 1")
        if not self.escalates or self.current is None:
            return False
        standing = await self._look(Search(worst=self._worst))
        failed = {*self._failed, self.current.model.name}
        found = stronger(self.options, failed, self._refused, standing)
        if found is None:
            return False
        self._failed = failed
        await asyncio.to_thread(self.writer.learn, score)
        self.current, self._why = found, f"escalation: {reason}"
        return True

    def _go_on_with(self, model: str) -> None:
        """Make the model the current one that has answered in an earlier run."""
        found = (option for option in self.options if option.model.name == model)
        self.current, self._why = next(found, self.current), "again"

    async def _call(
        self, model: Model, why: str, question: Question, save_as: str
    ) -> ModelReply | FleetError | Refusal:
        try:
            caller = await asyncio.to_thread(self.callers.__getitem__, model.name)
        except InvalidConfig as error:
            # The package for its provider is not installed here: another model's may be.
            return error
        return await self.writer.call(caller, why, question, save_as)

    async def _answered(self, option: Option, standing: Standing, search: Search) -> None:
        self.current = option
        key_id = option.model.key_id
        for name, cool_down in standing.facts.cool_downs(key_id, option.model.name).items():
            await asyncio.to_thread(self.writer.warm, key_id, name, cool_down.until)
        for model, error in search.rejected:
            await self.writer.leave_alone(model, error)
        for model, error in search.keyless:
            if model.key_id == key_id:
                await self.writer.leave_alone(model, error, key_serves=True)

    def _follow_prices(self) -> None:
        """Take the models as they are priced now."""
        options = (Option(each.candidate, self.models[each.model.name]) for each in self.options)
        self.options = tuple(options)
        if self.current is not None:
            name = self.current.model.name
            self.current = next(each for each in self.options if each.model.name == name)

    def _facts(self) -> tuple[float, ModelFacts]:
        now, facts = self.writer.state.look()
        follow(self.models, facts.prices)
        return now, facts

    async def _look(self, search: Search) -> Standing:
        """How things stand. Without Redis no model is known to cool down."""
        now, facts = 0.0, NOTHING_LEARNED
        try:
            now, facts = await asyncio.to_thread(self._facts)
        except RetryLater as error:
            log.warning("cool-downs could not be read", error=str(error))
        self._follow_prices()
        self.writer.limits.records.update(facts.limits)
        limit = self.lease.limit_nanodollars
        # A call may cost more than its estimate, and a free model is never too dear.
        left = None if limit is None else max(0, limit - self.writer.spent)
        return Standing(facts, now, left, search.window, search.worst)

    async def _cheaper(
        self, option: Option, refusal: Refusal, search: Search, standing: Standing
    ) -> Option:
        """The model to ask in place of one whose call does not fit a limit, as the policy says."""
        over = self.writer.over
        if over == "wait" and refusal.retry_after is not None:
            if await self.writer.another_has_ended():
                return option
            self.writer.parked = Parked(f"the task waits: {refusal.sentence}", refusal)
            raise self.writer.parked
        if over != "downgrade":
            raise over_error(refusal)
        search.over(option.model, refusal)
        reason = f"{option.model.name} does not fit: {refusal.sentence}"
        found = self._mapped(option.model.name, search, standing)
        found = found or await self._other(search, standing, reason)
        search.why = f"downgrade: {reason}"
        return found

    def _mapped(self, name: str, search: Search, standing: Standing) -> Option | None:
        """The first model down the mapping that may be asked."""
        models = self.writer.policy.controls.downgrade.models
        by_name = {each.model.name: each for each in self.options}
        while (below := models.get(name)) is not None:
            name = below
            found = next_best([by_name[name]], search.tried, standing) if name in by_name else None
            if found is not None and name not in self._failed:
                return found
        return None

    async def _other(self, search: Search, standing: Standing, reason: str) -> Option:
        """The model to ask instead of one that does not do for this reason."""
        options = [each for each in self.options if each.model.name not in self._failed]
        found = next_best(options, search.tried, standing)
        if found is None and search.doubted:
            found = next_best(options, search.tried, but_for_keys(standing, search.doubted))
        if found is not None:
            search.why = f"failover: {reason}"
            return found
        quick = [option for option in options if option.model.name not in search.slow]
        seconds, cooling = soonest(quick, standing) or (0.0, None)
        if cooling is None or seconds > MAX_WAIT_SECONDS or search.waited:
            raise self._nothing_left(search, standing, seconds)
        search.waited = True
        await asyncio.sleep(seconds)
        search.why = f"failover: {reason}, waited {seconds:.1f} s"
        return cooling

    def _nothing_left(self, search: Search, standing: Standing, seconds: float) -> FleetError:
        """The first error with what became of each model; of one model it says enough itself."""
        if search.error is not None and len(self.options) == 1:
            return search.error
        reasons = {each.model.name: why_not(each, standing) for each in self.options}
        reasons |= dict.fromkeys(self._failed, "its answer failed the check")
        told = "; ".join(f"{name}: {why}" for name, why in {**reasons, **search.tried}.items())
        error = search.error
        all_reject = error is not None and len(search.rejected) == len(search.errors)
        message = f"no model {'takes the request' if all_reject else 'could answer'}: {told}"
        later = soonest([o for o in self.options if o.model.name not in search.tried], standing)
        if error is None or (later is not None and _waits_to_be_mended(error)):
            return Unavailable(message, later[0] if later else seconds)
        if isinstance(error, OverBudget):
            return OverBudget(message, min(search.waits, default=None))
        if isinstance(error, OverLimit):
            return OverLimit(message, min(search.waits))
        if isinstance(error, RetryLater):
            return type(error)(message, seconds or error.retry_after)
        return type(error)(message)


def _waits_to_be_mended(error: FleetError) -> bool:
    """Whether only a person can help, which says nothing of other models."""
    faults = (NotAllowed, ModelNotServed, InvalidConfig)
    return isinstance(error, faults) or failure_of(error) is REJECTED


def _after(model: Model, standing: Standing) -> str:
    """What a model cools down after."""
    found = standing.facts.cool_down(model.key_id, model.name)
    return f" after {found.reason}" if found else ""


def _first(options: Sequence[Option], model: str) -> Option | None:
    """The model that the task's money is held for, else the best."""
    chosen = (option for option in options if option.model.name == model)
    return next(chosen, options[0] if options else None)


def why_not(option: Option, standing: Standing) -> str:
    """Why a model was not asked."""
    seconds = cools_for(option.model, standing)
    if seconds:
        return f"cools down for {seconds:.0f} s more{_after(option.model, standing)}"
    cost, left = cost_at_worst(option, standing), standing.left_nanodollars
    if left is not None and not fits(option, standing):
        return f"may cost {dollars(cost)} of the {dollars(left)} that are left"
    return f"has no larger window ({option.model.context_tokens or 0:,} tokens)"
