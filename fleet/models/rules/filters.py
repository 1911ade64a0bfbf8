"""Which models may answer a task at all. This comes before any score.

A model is passed over for the first of these that holds, from what lasts to what passes: it
cannot be had here, its context window is too small, it lacks a capability, its tenants or its
region do not suit, its quality is under the floor, it costs more than the limit, it is cooling
down after failures. So one that cools down would serve once it is ready, and one over the limit
once that is raised. Where no model is left the error says why for each, and is of the class that
tells what to do: come back (`Unavailable`), raise the limit (`OverBudget`), ask as another tenant
(`NotAllowed`), or ask for something else (`InvalidRequest`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from fleet.errors import FleetError, InvalidRequest, NotAllowed, OverBudget, Unavailable
from fleet.models.rules.catalogue import Model
from fleet.models.rules.learning import ModelFacts
from fleet.money import Tokens, dollars

CHARACTERS_PER_TOKEN = 4

LONG_SECONDS = 600.0
"""No provider's passing fault is so long: what lasts longer waits for a person."""

Kind = Literal[
    "absent", "context", "capability", "tenant", "region", "quality", "budget", "cooling"
]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a task asks of its model, beside quality.

    `payload_characters` is the length of its payload, `regions` those that are allowed, any where
    none is named. `request_type` is that of the evidence.
    """

    tenant: str = ""
    payload_characters: int = 0
    capabilities: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    request_type: str = ""


NO_NEEDS = Needs()


class Bounds(NamedTuple):
    """What the filters hold a model against. `now` is in seconds since 1970, by Redis's clock."""

    needs: Needs
    facts: ModelFacts
    limit_nanodollars: int | None
    quality_floor: float
    now: float


class Refusal(NamedTuple):
    """A model that was passed over. `cost` is in nano-dollars, `seconds` how long it cools down."""

    model: str
    kind: Kind
    reason: str
    cost: int = 0
    seconds: float = 0.0


def tokens_of(characters: int) -> int:
    """A text's tokens, estimated as a quarter of its characters, rounded up."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def unfit(model: Model, used: Tokens, bounds: Bounds) -> Refusal | None:
    """Why the model cannot serve the task for what it is; None where it can."""
    needs = bounds.needs
    if model.absent:
        return Refusal(model.name, "absent", model.absent)
    window = model.context_tokens
    if window is not None:
        taken = max(used.input, tokens_of(needs.payload_characters)) + used.output
        if taken > window:
            reason = f"would take {taken:,} tokens, over its window of {window:,}"
            return Refusal(model.name, "context", reason)
    if not needs.capabilities <= model.capabilities:
        missing = ", ".join(sorted(needs.capabilities - model.capabilities))
        return Refusal(model.name, "capability", f"lacks {missing}")
    if model.tenants and needs.tenant not in model.tenants:
        # Without the asker's name: tenants of whom nothing was said share what is stored.
        return Refusal(model.name, "tenant", "is for other tenants only")
    if needs.regions and model.region not in needs.regions:
        where = f"is in {model.region}" if model.region else "is in no known region"
        allowed = ", ".join(sorted(needs.regions))
        return Refusal(model.name, "region", f"{where}; allowed are {allowed}")
    return None


def unready(model: Model, cost: int, quality: float, bounds: Bounds) -> Refusal | None:
    """Why the model cannot serve the task as things stand; None where it can."""
    if quality < bounds.quality_floor:
        reason = f"has quality {quality:.2f}, under the floor of {bounds.quality_floor:g}"
        return Refusal(model.name, "quality", reason)
    limit = bounds.limit_nanodollars
    if limit is not None and cost > limit:
        reason = f"would cost {dollars(cost)}, over the limit of {dollars(limit)}"
        return Refusal(model.name, "budget", reason, cost)
    if bounds.facts.cooldowns:
        cooling = bounds.facts.cool_down(model.key_id, model.name)
        if cooling is not None and cooling.until > bounds.now:
            seconds = cooling.until - bounds.now
            reason = f"cools down for {seconds:.0f} s more after {cooling.reason}"
            return Refusal(model.name, "cooling", reason, cost, seconds)
    return None


def nothing_left(
    refusals: Sequence[Refusal], limit_nanodollars: int | None, tenant: str
) -> FleetError:
    """The error for a task that no model may take. It says why, model by model."""
    kinds = {refusal.kind for refusal in refusals}
    if "cooling" in kinds:
        soonest = min(each.seconds for each in refusals if each.kind == "cooling")
        mended = "" if soonest <= LONG_SECONDS else ", or once it is mended: fleet models resume"
        return Unavailable(
            f"no model is ready: {_reasons(refusals)}; try again in {soonest:.0f} s{mended}",
            soonest,
        )
    if limit_nanodollars is not None and "budget" in kinds:
        return _over_budget(refusals, limit_nanodollars)
    reasons = _reasons(refusals)
    if "tenant" in kinds:
        return NotAllowed(
            f"no model may take this task of tenant {tenant or '(none)'}: {reasons}; "
            "ask as a tenant that may, or allow it in the catalogue"
        )
    return InvalidRequest(
        f"no model may take this task: {reasons}; "
        "ask for less, or add a model that suits to the catalogue"
    )


def _over_budget(refusals: Sequence[Refusal], limit: int) -> OverBudget:
    expensive = [each for each in refusals if each.kind == "budget"]
    cheapest = min(expensive, key=lambda each: (each.cost, each.model))
    others = [each for each in refusals if each.kind != "budget"]
    return OverBudget(
        f"no model fits the limit of {dollars(limit)}: the cheapest, {cheapest.model}, would cost "
        f"{dollars(cheapest.cost)}; raise the limit or lower the complexity"
        + (f". Passed over for another reason: {_reasons(others)}" if others else "")
    )


def _reasons(refusals: Iterable[Refusal]) -> str:
    return "; ".join(f"{each.model}: {each.reason}" for each in refusals)
