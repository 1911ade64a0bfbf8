"""Which model is asked next, for one question whose model could not answer it.

    fails              the next best of the ranking: see `fleet.models.rules.failover`
    is cooling down    the same, without asking it
    its key is left    the same; its other models come last, in case the fault is not the key's
    will not take      the same; where another one takes the request it is left alone, and where
    the request        none does the request is at fault
    none is left       the soonest of those that cool down, if that is within seconds, once;
                       else the first error, with what each model answered; one of a provider
                       that somebody has to mend gives way to any other

A `Search` holds what one question has been answered so far; it decides, and `ModelSession` asks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

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
from fleet.models.rules.catalogue import Model
from fleet.models.rules.failover import (
    FailoverContext,
    Option,
    but_for_keys,
    cools_for,
    cost_at_worst,
    fits,
    next_best,
    soonest,
)
from fleet.money import Tokens, dollars
from fleet.tasks.run.billing import REJECTED, failure_of
from fleet.tasks.run.learning import is_of_the_key
from fleet.tasks.submission.reservation import over_error

MAX_WAIT_SECONDS = 10.0
"""A model that is ready so soon is waited for, where there is no other."""

SLOW_SECONDS = 10.0
"""Unless it took longer than this to fail: it may do so again."""


@dataclass(slots=True)
class Search:
    """The models that were asked one question, by name with what each answered, and the errors in
    order.

    `worst` are the most tokens that a call may take, `why` says why the next one is made. `window`
    is as in `FailoverContext`. `slow` are those that took long to fail, `waited` says that one was
    waited for already. `waits` are the seconds until those may fit a limit that did not. `rejected`
    are those that did not take the request, `keyless` those whose key was refused or has nothing
    left, each with its error.
    """

    worst: Tokens | None = None
    why: str = "first"
    tried: dict[str, str] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    errors: list[FleetError] = field(default_factory=list)
    window: int | None = None
    waited: bool = False
    waits: list[float] = field(default_factory=list)
    rejected: list[tuple[Model, FleetError]] = field(default_factory=list)
    keyless: list[tuple[Model, FleetError]] = field(default_factory=list)

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

    def next_best(self, options: Sequence[Option], standing: FailoverContext) -> Option | None:
        """The best model that is left. One whose key was left by another model comes last."""
        found = next_best(options, self.tried, standing)
        doubted = {model.key_id for model, _ in self.keyless if model.key_id is not None}
        if found is None and doubted:
            found = next_best(options, self.tried, but_for_keys(standing, doubted))
        return found

    def mapped(
        self,
        model: str,
        mapping: Mapping[str, str],
        options: Sequence[Option],
        standing: FailoverContext,
    ) -> Option | None:
        """The first model down the downgrade mapping that may be asked."""
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
        """The model that is ready first, and in how many seconds, where there is no other; None
        where that is too long."""
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
        """The first error with what each model answered; of one model it says enough itself. The
        first model that cools down is ready in `seconds`."""
        if self.error is not None and len(options) == 1:
            return self.error
        reasons = {each.model.name: why_not(each, standing) for each in options}
        reasons |= dict.fromkeys(failed_checks, "its answer failed the check")
        detail = "; ".join(f"{name}: {why}" for name, why in {**reasons, **self.tried}.items())
        error = self.error
        all_reject = error is not None and len(self.rejected) == len(self.errors)
        message = f"no model {'takes the request' if all_reject else 'could answer'}: {detail}"
        later = soonest([o for o in options if o.model.name not in self.tried], standing)
        if error is None or (later is not None and _waits_to_be_mended(error)):
            return Unavailable(message, later[0] if later else seconds)
        if isinstance(error, OverBudget):
            return OverBudget(message, min(self.waits, default=None))
        if isinstance(error, OverLimit):
            return OverLimit(message, min(self.waits))
        if isinstance(error, RetryLater):
            return type(error)(message, seconds or error.retry_after)
        return type(error)(message)


def why_cooling(model: Model, standing: FailoverContext) -> str:
    """What a model cools down after."""
    found = standing.facts.cool_down(model.key_id, model.name)
    return f" after {found.reason}" if found else ""


def why_not(option: Option, standing: FailoverContext) -> str:
    """Why a model was not asked."""
    seconds = cools_for(option.model, standing)
    if seconds:
        return f"cools down for {seconds:.0f} s more{why_cooling(option.model, standing)}"
    cost, left = cost_at_worst(option, standing), standing.left_nanodollars
    if left is not None and not fits(option, standing):
        return f"may cost {dollars(cost)} of the {dollars(left)} that are left"
    return f"has no larger window ({option.model.context_tokens or 0:,} tokens)"


def _waits_to_be_mended(error: FleetError) -> bool:
    """Whether only a person can help, which says nothing of other models."""
    faults = (NotAllowed, ModelNotServed, InvalidConfig)
    return isinstance(error, faults) or failure_of(error) is REJECTED
