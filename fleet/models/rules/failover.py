"""Which model is asked next, where one has failed or its answer was not good enough.

Failover takes the best of the ranking that was not tried yet, is not cooling down, and fits what
is left of the task's limit. After a prompt that was too long only larger windows count: those
that are known to be larger come first, then those of unknown size. Escalation takes the
weakest model that is stronger than all whose answers have failed. Neither leads back to one of
those, so that a run comes to an end.
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
    """A model that may be asked: its line of the task's ranking, and of the catalogue."""

    candidate: ModelCandidate
    model: Model


@dataclass(frozen=True, slots=True)
class Standing:
    """What counts when a model is taken. `now` is in seconds since 1970 by Redis's clock.

    `left_nanodollars` is what the task may still cost, None where there is no limit. `window` is
    the largest context, in tokens, that a prompt was too long for; 0 where its size is not
    known, None where no prompt was. `worst` are the most tokens that the next call may take.
    """

    facts: ModelFacts
    now: float
    left_nanodollars: int | None = None
    window: int | None = None
    worst: Tokens | None = None


def but_for_keys(standing: Standing, key_ids: Collection[str]) -> Standing:
    """The same, had the models of these keys no cool-downs but their own."""
    known = standing.facts.cooldowns.items()
    kept = {at: each for at, each in known if at[0] not in key_ids or at[1] != WHOLE_KEY}
    return replace(standing, facts=ModelFacts(standing.facts.evidence, kept))


def cools_for(model: Model, standing: Standing) -> float:
    """Seconds that the model still cools down for; 0 where it is ready."""
    found = standing.facts.cool_down(model.key_id, model.name)
    return max(0.0, found.until - standing.now) if found else 0.0


def cost_at_worst(option: Option, standing: Standing) -> int:
    """Nano-dollars that the next call may cost; the estimate where nothing is known of it."""
    if standing.worst is None or (option.model.price is None and not option.model.free):
        return option.candidate.cost_nanodollars
    record = standing.facts.limits.get(option.model.name)
    output = max_output(standing.worst.output, record)
    return upper_bound_nanodollars(option.model, standing.worst._replace(output=output))


def fits(option: Option, standing: Standing) -> bool:
    """Whether the next call of the model is within what the task may still cost."""
    left = standing.left_nanodollars
    return left is None or cost_at_worst(option, standing) <= left


def next_best(
    options: Sequence[Option], tried: Collection[str], standing: Standing
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


def soonest(options: Sequence[Option], standing: Standing) -> tuple[float, Option] | None:
    """The model that is ready first of those that cool down, tried or not, and in how many seconds.

    Of two that are ready at once the better one.
    """
    waits = [(cools_for(option.model, standing), option) for option in _suitable(options, standing)]
    cooling = [(seconds, option) for seconds, option in waits if seconds > 0.0]
    return min(cooling, key=lambda pair: pair[0], default=None)


def stronger(
    options: Sequence[Option], failed: Collection[str], refused: Collection[str], standing: Standing
) -> Option | None:
    """The weakest model of higher quality than all that failed that is ready and fits.

    What is believed of the quality counts: the one that was chosen by a draw has drawn high.

    `failed` are those whose answers were not good enough, at least one; `refused` those that
    would not answer, or could not take so long a prompt.
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


def _suitable(options: Sequence[Option], standing: Standing) -> list[Option]:
    """Those that fit the limit and the window, in the order in which they are to be asked."""
    window = standing.window
    fitting = [option for option in options if fits(option, standing)]
    if window is None:
        return fitting
    larger = [o for o in fitting if o.model.context_tokens and o.model.context_tokens > window]
    return larger + [o for o in fitting if o.model.context_tokens is None]
