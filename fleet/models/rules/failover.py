"""The model to call next, after a failed call or an answer that was not good enough.

Failover takes the best model of the ranking that was not tried yet, is not cooling down, and fits
the rest of the task's limit. After a prompt that was too long only larger windows count: first
those known to be larger, then those of unknown size. Escalation takes the weakest model that is
stronger than all models with failed answers. Neither returns to a failed model, so a run always
ends.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from fleet.models.rules.catalogue import Model, upper_bound_nanodollars
from fleet.models.rules.decision import ModelCandidate
from fleet.models.rules.learning import WHOLE_KEY, ModelFacts
from fleet.models.rules.output_limits import max_output
from fleet.money import Tokens


class Option(NamedTuple):
    """A model that may be called: its entry in the task's ranking, and in the catalogue."""

    candidate: ModelCandidate
    model: Model


@dataclass(frozen=True, slots=True)
class FailoverContext:
    """The facts for choosing the next model. `now` is in seconds since 1970 by Redis's clock.

    `left_nanodollars` is the rest of the task's limit, None without a limit. `window` is the
    largest context window, in tokens, that was too small for a prompt; 0 if its size is unknown,
    None if no prompt was too long. `worst` is the upper bound of the tokens of the next call.
    """

    facts: ModelFacts
    now: float
    left_nanodollars: int | None = None
    window: int | None = None
    worst: Tokens | None = None


def but_for_keys(standing: FailoverContext, key_ids: Collection[str]) -> FailoverContext:
    """The context without the cool-downs of these whole keys; those of single models stay."""
    known = standing.facts.cooldowns.items()
    kept = {at: each for at, each in known if at[0] not in key_ids or at[1] != WHOLE_KEY}
    return replace(standing, facts=ModelFacts(standing.facts.evidence, kept))


def cools_for(model: Model, standing: FailoverContext) -> float:
    """The remaining seconds of the model's cool-down; 0 if it is ready with one of its keys."""
    found = standing.facts.cool_down(model.key_ids, model.name)
    return max(0.0, found.until - standing.now) if found else 0.0


def key_cools_for(key_id: str, model: str, standing: FailoverContext) -> float:
    """The remaining seconds of the cool-down of a model with one of its keys."""
    found = standing.facts.cool_down((key_id,), model)
    return max(0.0, found.until - standing.now) if found else 0.0


def cost_at_worst(option: Option, standing: FailoverContext) -> int:
    """The upper bound of the next call's cost in nano-dollars; the estimate if it is unknown."""
    if standing.worst is None or (option.model.price is None and not option.model.free):
        return option.candidate.cost_nanodollars
    record = standing.facts.limits.get(option.model.name)
    output = max_output(standing.worst.output, record)
    return upper_bound_nanodollars(option.model, standing.worst._replace(output=output))


def fits(option: Option, standing: FailoverContext) -> bool:
    """Whether the next call of the model fits the rest of the task's limit."""
    left = standing.left_nanodollars
    return left is None or cost_at_worst(option, standing) <= left


def next_best(
    options: Sequence[Option], tried: Collection[str], standing: FailoverContext
) -> Option | None:
    """The best model that is ready and was not tried; `options` are in the ranking's order."""
    return next(
        (
            option
            for option in _suitable(options, standing)
            if option.model.name not in tried and not cools_for(option.model, standing)
        ),
        None,
    )


def soonest(options: Sequence[Option], standing: FailoverContext) -> tuple[float, Option] | None:
    """The model whose cool-down ends first, tried or not, and its remaining seconds.

    Of two with equal times, the better model.
    """
    waits = [(cools_for(option.model, standing), option) for option in _suitable(options, standing)]
    cooling = [(seconds, option) for seconds, option in waits if seconds > 0.0]
    return min(cooling, key=lambda pair: pair[0], default=None)


def stronger(
    options: Sequence[Option],
    failed: Collection[str],
    refused: Collection[str],
    standing: FailoverContext,
) -> Option | None:
    """The weakest ready model that fits and has a higher quality than all that failed.

    The mean quality counts, because the draw of a chosen model is high.

    `failed` are the models whose answers were not good enough, at least one. `refused` are the
    models that refused the prompt, or whose window was too small.
    """
    bar = max(o.candidate.strength for o in options if o.model.name in failed)
    better = [
        option
        for option in _suitable(options, standing)
        if option.candidate.strength > bar
        and option.model.name not in refused
        and not cools_for(option.model, standing)
    ]
    return min(better, key=lambda option: option.candidate.strength, default=None)


def _suitable(options: Sequence[Option], standing: FailoverContext) -> list[Option]:
    """The models that fit the limit and the window, in the order of calls."""
    window = standing.window
    fitting = [option for option in options if fits(option, standing)]
    if window is None:
        return fitting
    larger = [o for o in fitting if o.model.context_tokens and o.model.context_tokens > window]
    return larger + [o for o in fitting if o.model.context_tokens is None]
