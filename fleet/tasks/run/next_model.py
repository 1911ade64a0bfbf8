"""Which model to ask next after a model could not answer a question.

    failed             the next best of the ranking: see `fleet.models.rules.failover`
    cooling down       the same, without asking it
    key failed         the same; the key's other models come last, in case the key is not at fault
    rejects the        the same; if another model accepts the request, this one cools down; if none
    request            does, the request is at fault
    none is left       the model whose cool-down ends first, if within seconds, once; else the first
                       error, with the answer of each model; an error that a person has to fix at
                       the provider yields to any other error

A `Search` collects the failures of one question and decides; `ModelSession` asks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fleet.budgets.rules.refusals import Refusal
from fleet.errors import (
    ContextWindowExceeded,
    FleetError,
    InvalidConfig,
    ModelNotServed,
    NotAllowed,
    OverBudget,
    OverLimit,
    RetryLater,
    Unavailable,
)
from fleet.models.keys import DeclaredKey, UsedKey
from fleet.models.rules.catalogue import Model
from fleet.models.rules.failover import (
    FailoverContext,
    Option,
    but_for_keys,
    cools_for,
    cost_at_worst,
    fits,
    key_cools_for,
    next_best,
    soonest,
)
from fleet.money import Tokens, dollars
from fleet.tasks.run.billing import REJECTED, failure_of
from fleet.tasks.run.learning import is_of_the_key
from fleet.tasks.submission.refusals import over_error

MAX_WAIT_SECONDS = 10.0
"""The longest wait for a cool-down, if no other model is left."""

SLOW_SECONDS = 10.0
"""A model that took longer than this to fail is not waited for: it may be as slow again."""


class FailedCall(NamedTuple):
    """A failed call: its model, its key if it has any, and the error."""

    model: str
    key: UsedKey | None
    error: FleetError


@dataclass(slots=True)
class Search:
    """The failures of one question.

    `upper_bound` is the maximum of a call's tokens; `why` is the reason for the next call. `tried`
    has each asked model's failure by name, `errors` all errors in order. `window` is as in
    `FailoverContext`. `slow` are the models that took long to fail. `waited` says that the one wait
    for a cool-down is used. `waits` are the seconds until calls may fit a limit. `rejected` are the
    models that rejected the request, `keyless` those whose key was refused or is exhausted.
    `keys_tried` are the ids of the keys that each model was asked with. `times_again` counts how
    often a model was asked again.
    """

    upper_bound: Tokens | None = None
    why: str = "first"
    tried: dict[str, str] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    errors: list[FleetError] = field(default_factory=list)
    window: int | None = None
    waited: bool = False
    waits: list[float] = field(default_factory=list)
    rejected: list[FailedCall] = field(default_factory=list)
    keyless: list[FailedCall] = field(default_factory=list)
    keys_tried: dict[str, set[str]] = field(default_factory=dict)
    times_again: int = 0

    @property
    def error(self) -> FleetError | None:
        """The first error that a person does not have to fix; else the first error."""
        others = (each for each in self.errors if not _needs_a_person(each))
        return next(others, self.errors[0] if self.errors else None)

    def failed(
        self, model: Model, key: UsedKey | None, error: FleetError, seconds: float
    ) -> None:
        """Record the failure of a model, and the seconds that it took."""
        self.tried[model.name] = str(error)
        if seconds > SLOW_SECONDS:
            self.slow.add(model.name)
        self.errors.append(error)
        if failure_of(error) is REJECTED:
            self.rejected.append(FailedCall(model.name, key, error))
        if is_of_the_key(error):
            self.keyless.append(FailedCall(model.name, key, error))
        if isinstance(error, ContextWindowExceeded):
            self.window = max(self.window or 0, model.context_tokens or 0)

    def over(self, model: Model, refusal: Refusal) -> None:
        """Record that a call of a model does not fit a limit."""
        self.tried[model.name] = refusal.sentence
        self.errors.append(over_error(refusal))
        if refusal.retry_after is not None:
            self.waits.append(refusal.retry_after)

    def next_best(self, options: Sequence[Option], standing: FailoverContext) -> Option | None:
        """The best remaining model. Models of a key that failed for another model come last."""
        found = next_best(options, self.tried, standing)
        doubted = {call.key.id for call in self.keyless if call.key is not None}
        if found is None and doubted:
            found = next_best(options, self.tried, but_for_keys(standing, doubted))
        return found

    def asked_again(self, model: str) -> None:
        """Record that a model is asked again, with any of its keys."""
        self.times_again += 1
        self.keys_tried.pop(model, None)

    def is_ready(self, model: str, key: DeclaredKey, standing: FailoverContext) -> bool:
        """Whether a key does not cool down for the model, and was not tried with it."""
        tried = self.keys_tried.get(model, ())
        return key.id not in tried and not key_cools_for(key.id, model, standing)

    def ready_keys(
        self, model: str, keys: Sequence[DeclaredKey], standing: FailoverContext
    ) -> Sequence[DeclaredKey | None]:
        """The keys to call a model with, in their order: those that are ready, else the first one;
        None for a model without keys."""
        ready = [key for key in keys if self.is_ready(model, key, standing)]
        return ready or keys[:1] or [None]

    def mapped(
        self,
        model: str,
        mapping: Mapping[str, str],
        options: Sequence[Option],
        standing: FailoverContext,
    ) -> Option | None:
        """The first usable model along the downgrade mapping."""
        by_name = {each.model.name: each for each in options}
        while (below := mapping.get(model)) is not None:
            model = below
            if model in by_name:
                found = next_best([by_name[model]], self.tried, standing)
                if found is not None:
                    return found
        return None

    def worth_waiting(
        self, options: Sequence[Option], standing: FailoverContext
    ) -> tuple[float, Option | None]:
        """Seconds until the first cool-down ends, and its model; None for the model if that is too
        long."""
        quick = [option for option in options if option.model.name not in self.slow]
        seconds, cooling = soonest(quick, standing) or (0.0, None)
        too_long = seconds > MAX_WAIT_SECONDS or self.waited
        return seconds, None if too_long else cooling

    def nothing_left(
        self,
        options: Sequence[Option],
        failed_checks: Collection[str],
        standing: FailoverContext,
        seconds: float,
    ) -> FleetError:
        """The error to raise: the first one, with the failure of each model if there are several.

        `seconds` is the time until the first cool-down ends.
        """
        if self.error is not None and len(options) == 1:
            return self.error
        reasons = {each.model.name: why_not(each, standing) for each in options}
        reasons |= dict.fromkeys(failed_checks, "its answer failed the check")
        detail = "; ".join(f"{name}: {why}" for name, why in {**reasons, **self.tried}.items())
        error = self.error
        all_reject = error is not None and len(self.rejected) == len(self.errors)
        message = f"no model {'takes the request' if all_reject else 'could answer'}: {detail}"
        later = soonest([o for o in options if o.model.name not in self.tried], standing)
        if error is None or (later is not None and _needs_a_person(error)):
            return Unavailable(message, later[0] if later else seconds)
        if isinstance(error, OverBudget):
            return OverBudget(message, min(self.waits, default=None))
        if isinstance(error, OverLimit):
            return OverLimit(message, min(self.waits))
        if isinstance(error, RetryLater):
            return type(error)(message, seconds or error.retry_after)
        return type(error)(message)


def why_cooling(model: Model, standing: FailoverContext) -> str:
    """The reason for a model's cool-down, as a phrase; empty if unknown."""
    found = standing.facts.cool_down(model.key_ids, model.name)
    return f" after {found.reason}" if found else ""


def why_not(option: Option, standing: FailoverContext) -> str:
    """The reason why a model was not asked."""
    seconds = cools_for(option.model, standing)
    if seconds:
        return f"cools down for {seconds:.0f} s more{why_cooling(option.model, standing)}"
    cost, left = cost_at_worst(option, standing), standing.left_nanodollars
    if left is not None and not fits(option, standing):
        return f"may cost {dollars(cost)} of the {dollars(left)} that are left"
    return f"has no larger window ({option.model.context_tokens or 0:,} tokens)"


def _needs_a_person(error: FleetError) -> bool:
    """Whether a person has to fix the cause, which does not affect other models."""
    faults = (NotAllowed, ModelNotServed, InvalidConfig)
    return isinstance(error, faults) or failure_of(error) is REJECTED
