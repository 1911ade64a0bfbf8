"""The model session of one run: it asks the current model, and the next best if that one fails.

    answered           the current model stays
    failed             another model is asked: see `next_model`
    over a limit       as the policy says. downgrade: the mapped cheaper model, else the next best
                       that fits, else `OverBudget` or `OverLimit`. refuse: that error. wait: until
                       another call of the run has ended and freed the rest of its reservation, then
                       `TaskOnHold`, for every later question too
    fails its check    the agent escalates: the next stronger model becomes the current one, and
                       models whose answer failed are not asked again in this run

`calls` makes each call.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

from fleet.agent import ModelReply
from fleet.budgets.rules.refusals import Refusal
from fleet.errors import (
    ContextWindowExceeded,
    FleetError,
    InvalidConfig,
    ModelRefused,
    RateLimited,
    RetryLater,
    SecretsUnavailable,
    TaskOnHold,
    Unavailable,
)
from fleet.models.keys import DeclaredKey, UsedKey
from fleet.models.priced import follow
from fleet.models.rules.catalogue import Model
from fleet.models.rules.downgrade_reasons import describe_downgrade
from fleet.models.rules.failover import FailoverContext, Option, cools_for, stronger
from fleet.models.rules.learning import NOTHING_LEARNED, ModelFacts
from fleet.models.rules.upper_bound import upper_bound_tokens
from fleet.money import Tokens
from fleet.tasks.run.billing import Question, failure_of
from fleet.tasks.run.calls import CallAnswer, ModelCalls
from fleet.tasks.run.checkpoints import Checkpoints
from fleet.tasks.run.learning import RunLearning, is_of_one_key
from fleet.tasks.run.next_model import Search, why_cooling
from fleet.tasks.run.services import ModelServices
from fleet.tasks.store import Lease
from fleet.tasks.submission.refusals import over_error
from fleet.telemetry.logger import get_logger

MAX_TIMES_AGAIN = 3
"""How often a question asks the same models again, after refusals of providers that serve others.
"""

OF_KEY = "key:"
"""The beginning of the scope of a key's budget."""

log = get_logger(__name__)


class KeyAnswer(NamedTuple):
    """What a model answered to a call with a key, and the version of the key that was used."""

    key: DeclaredKey | None
    answer: CallAnswer
    used: UsedKey | None


def _is_over_key(answer: object) -> bool:
    """Whether a call did not fit the budget of its key, or found no place with it."""
    return isinstance(answer, Refusal) and answer.scope.startswith(OF_KEY)


def _again(option: Option, error: FleetError, search: Search) -> Option | None:
    """The same model, if its provider may serve the call in a moment."""
    is_paced = isinstance(error, RateLimited) and error.is_paced
    return option if is_paced and search.times_again < MAX_TIMES_AGAIN else None


class ModelSession:
    """Asks the models of one run. Questions may be concurrent."""

    def __init__(self, lease: Lease, services: ModelServices, payload: Any) -> None:
        """`payload` is what the fleet learns from, see `RunLearning`."""
        self.lease = lease
        self.services = services
        self.checkpoints = Checkpoints(lease, services.calls)
        self.learning = RunLearning(lease, services, payload)
        self.calls = ModelCalls(lease, services, self.checkpoints, self.learning)
        self.on_hold: TaskOnHold | None = None
        """Once this is set the run has to end, even if its agent catches the error."""
        models, callers = services.models, services.callers
        self.options = tuple(
            Option(candidate, models[candidate.model])
            for candidate in lease.candidates
            if candidate.model in callers and candidate.model in models
        )
        self.current = self._option(lease.model) or next(iter(self.options), None)
        self._failed: set[str] = set()
        self._refused: set[str] = set()
        self._upper_bound: Tokens | None = None
        self._why = f"downgrade: {describe_downgrade(lease.reason)}" if lease.reason else "first"
        if self.current and self.current.model.name != lease.model:
            self._why = f"failover: {lease.model} cannot be reached by this worker"

    async def ask(self, question: Question, save_as: str = "") -> ModelReply:
        """Ask for one answer. With `save_as` the answer is saved; a saved answer is returned at
        once.

        Raises the first model's error if no other model could answer. The upper bound of a call's
        cost has to fit every limit, the task's own included. If it does not, the policy decides:
        raises `OverBudget`, `OverLimit` or `TaskOnHold`.
        """
        saved = self._saved(save_as) if save_as else None
        if saved is not None:
            return saved
        if self.current is None:
            raise Unavailable(
                f"this worker cannot reach model {self.lease.model}: set FLEET_MODEL_URL for a "
                "local one, or its provider's key, for workers and applications alike"
            )
        self._upper_bound = upper_bound_tokens(
            question.prompt, question.instructions, question.max_tokens
        )
        if self.on_hold is not None:
            raise self.on_hold
        search = Search(self._upper_bound, self._why)
        # Questions may be concurrent: a later one has the reason "again" before the first is
        # answered.
        self._why = "again"
        standing = await self._look(search)
        option = self.current
        if cools_for(option.model, standing):
            reason = f"{option.model.name} cools down{why_cooling(option.model, standing)}"
            option = await self._other(search, standing, reason)
        while True:
            began = time.monotonic()
            key, reply, used = await self._call(option.model, search, standing, question, save_as)
            if isinstance(reply, ModelReply):
                await self._answered(option, key, standing, search)
                return reply
            if isinstance(reply, Refusal):
                option = await self._cheaper(option, reply, search, standing)
                continue
            seconds = time.monotonic() - began
            reason = self._note_failure(search, option.model, used, reply, seconds)
            standing = await self._look(search)
            if is_of_one_key(reply) and self._other_key(option.model, search, standing):
                search.why = f"failover: {reason}"
                continue
            again = _again(option, reply, search)
            option = await self._other(search, standing, reason, again)

    async def escalate(self, reason: str, score: float) -> bool:
        """Make the next stronger usable model the current one; False if there is none."""
        if not 0.0 <= score <= 1.0:
            raise ValueError(f"the answer's score is {score!r}; give a number from 0 to 1")
        if not self.services.policy.config.models.escalate or self.current is None:
            return False
        standing = await self._look(Search(self._upper_bound))
        failed = {*self._failed, self.current.model.name}
        found = stronger(self.options, failed, self._refused, standing)
        if found is None:
            return False
        self._failed = failed
        await asyncio.to_thread(self.learning.learn, score)
        self.current, self._why = found, f"escalation: {reason}"
        return True

    def _saved(self, name: str) -> ModelReply | None:
        """The saved answer, None if there is none. Its model becomes the current one."""
        reply = self.checkpoints.reply(name)
        if reply is not None:
            self.learning.answered(reply.model, self.checkpoints.fence(name))
            self.current, self._why = self._option(reply.model) or self.current, "again"
        return reply

    def _option(self, model: str) -> Option | None:
        return next((each for each in self.options if each.model.name == model), None)

    def _other_key(self, model: Model, search: Search, standing: FailoverContext) -> bool:
        """Whether the model can be asked with another of its keys."""
        keys = self.services.callers.keys_of(model.name)
        return any(search.is_ready(model.name, key, standing) for key in keys)

    async def _call(
        self,
        model: Model,
        search: Search,
        standing: FailoverContext,
        question: Question,
        save_as: str,
    ) -> KeyAnswer:
        """Ask a model with the first of its keys that has a place for the call. The last key may
        make the call wait for a place."""
        keys = search.ready_keys(model.name, self.services.callers.keys_of(model.name), standing)
        for key in keys[:-1]:
            found = await self._call_with(model, key, search, question, save_as, may_wait=False)
            if not _is_over_key(found.answer):
                return found
        return await self._call_with(model, keys[-1], search, question, save_as, may_wait=True)

    async def _call_with(
        self,
        model: Model,
        key: DeclaredKey | None,
        search: Search,
        question: Question,
        save_as: str,
        *,
        may_wait: bool,
    ) -> KeyAnswer:
        """Ask a model with a key."""
        if key is not None:
            search.keys_tried.setdefault(model.name, set()).add(key.id)
        try:
            caller = await asyncio.to_thread(self.services.callers.caller, model.name, key)
        except (InvalidConfig, SecretsUnavailable) as error:
            # Its provider's package is not installed here, or its key cannot be read; another
            # model's may be.
            return KeyAnswer(key, error, UsedKey(key.id) if key else None)
        answer = await self.calls.call(caller, search.why, question, save_as, may_wait=may_wait)
        return KeyAnswer(key, answer, caller.used_key)

    async def _answered(
        self, option: Option, key: DeclaredKey | None, standing: FailoverContext, search: Search
    ) -> None:
        self.current = option
        await self.learning.close_circuit(option.model.name, key, standing)
        for failed in search.rejected:
            await self.learning.open_circuit(*failed)
        for failed in search.keyless:
            if key is not None and failed.key is not None and failed.key.id == key.id:
                await self.learning.open_circuit(*failed, key_serves=True)

    def _note_failure(
        self, search: Search, model: Model, key: UsedKey | None, error: FleetError, seconds: float
    ) -> str:
        """Record the failure of a model; the reason for asking another one."""
        search.failed(model, key, error, seconds)
        if isinstance(error, ModelRefused | ContextWindowExceeded):
            self._refused.add(model.name)
        ended = f": {error.reason}" if error.reason else f" {failure_of(error).ended}"
        return f"{model.name}{ended}"

    # Which model is next

    async def _look(self, search: Search) -> FailoverContext:
        """The current facts about the models. Without Redis no cool-down is known."""
        now, facts = 0.0, NOTHING_LEARNED
        try:
            now, facts = await asyncio.to_thread(self._facts)
        except RetryLater as error:
            log.warning("cool-downs could not be read", error=str(error))
        self._follow_prices()
        self.calls.limits.records.update(facts.limits)
        limit = self.lease.limit_nanodollars
        # The task may have spent more than its limit; a free model still fits then.
        left = None if limit is None else max(0, limit - self.calls.spent)
        return FailoverContext(facts, now, left, search.window, search.upper_bound)

    def _facts(self) -> tuple[float, ModelFacts]:
        state = self.services.state
        now, facts = state.look()
        replaced = self.services.callers.keys.replaced(facts) if facts.cooldowns else []
        if replaced:
            for key_id, version in replaced:
                state.replaced(key_id, version)
            now, facts = state.look()
        follow(self.services.models, facts.prices)
        return now, facts

    def _follow_prices(self) -> None:
        """Update the options to the current prices."""
        models = self.services.models
        self.options = tuple(each._replace(model=models[each.model.name]) for each in self.options)
        if self.current is not None:
            self.current = self._option(self.current.model.name)

    async def _cheaper(
        self, option: Option, refusal: Refusal, search: Search, standing: FailoverContext
    ) -> Option:
        """The model to ask instead of one whose call does not fit a limit, by the policy."""
        controls = self.services.policy.controls
        over = controls.over(self.lease.request_type, self.lease.tenant)
        if over == "wait" and refusal.retry_after is not None:
            if await self.calls.another_has_ended():
                return option
            self.on_hold = TaskOnHold(f"the task waits: {refusal.sentence}", refusal)
            raise self.on_hold
        if over != "downgrade":
            raise over_error(refusal)
        search.over(option.model, refusal)
        reason = f"{option.model.name} does not fit: {refusal.sentence}"
        mapping = controls.downgrade.models
        found = search.mapped(option.model.name, mapping, self._unfailed, standing)
        found = found or await self._other(search, standing, reason)
        search.why = f"downgrade: {reason}"
        return found

    async def _other(
        self,
        search: Search,
        standing: FailoverContext,
        reason: str,
        again: Option | None = None,
    ) -> Option:
        """The next model to ask, after `reason` ruled one out. May wait for a cool-down. If none is
        left, the model to ask `again`."""
        options = self._unfailed
        found = search.next_best(options, standing)
        if found is not None:
            search.why = f"failover: {reason}"
            return found
        seconds, cooling = search.worth_waiting(options, standing)
        if cooling is None and again is not None:
            search.asked_again(again.model.name)
            search.why = f"again after {reason}"
            return again
        if cooling is None:
            raise search.nothing_left(self.options, self._failed, standing, seconds)
        search.waited = True
        await asyncio.sleep(seconds)
        search.why = f"failover: {reason}, waited {seconds:.1f} s"
        return cooling

    @property
    def _unfailed(self) -> list[Option]:
        """The models without an answer that failed its check in this run."""
        return [each for each in self.options if each.model.name not in self._failed]
