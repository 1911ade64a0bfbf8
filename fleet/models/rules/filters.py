"""The filters: which models may answer a task at all. They run before the scores.

The first filter that applies rejects a model, from lasting to passing reasons: it is not available
here, its context window is too small, it lacks a capability, its tenants or its region do not
match, its quality is under the floor, it costs more than the limit, it is cooling down after
failures. So a model that cools down would serve once it is ready, and a model over the limit once
the limit is raised. If no model is left, the error gives the reason for each model. Its class says
what to do: try again later (`Unavailable`), raise the limit (`OverBudget`), ask as another tenant
(`NotAllowed`), or change the request (`InvalidRequest`).
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
"""No temporary fault of a provider lasts so long: a longer cool-down needs a person."""

FilterKind = Literal[
    "absent", "context", "capability", "tenant", "region", "quality", "budget", "cooling"
]


@dataclass(frozen=True, slots=True)
class ModelNeeds:
    """A task's requirements for its model, beside quality.

    `payload_characters` is the length of its payload. `regions` are the allowed ones, any if none
    is named. `request_type` selects the evidence.
    """

    tenant: str = ""
    payload_characters: int = 0
    capabilities: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    request_type: str = ""


NO_NEEDS = ModelNeeds()


class Bounds(NamedTuple):
    """The inputs of the filters. `now` is in seconds since 1970, by Redis's clock."""

    needs: ModelNeeds
    facts: ModelFacts
    limit_nanodollars: int | None
    quality_floor: float
    now: float


class FilteredModel(NamedTuple):
    """A rejected model. `cost` is in nano-dollars, `seconds` the rest of its cool-down."""

    model: str
    kind: FilterKind
    reason: str
    cost: int = 0
    seconds: float = 0.0


def tokens_of(characters: int) -> int:
    """A text's tokens, estimated as a quarter of its characters, rounded up."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def unfit(model: Model, used: Tokens, bounds: Bounds) -> FilteredModel | None:
    """The lasting reason why the model cannot serve the task; None if there is none."""
    needs = bounds.needs
    if model.absent:
        return FilteredModel(model.name, "absent", model.absent)
    window = model.context_tokens
    if window is not None:
        taken = max(used.input, tokens_of(needs.payload_characters)) + used.output
        if taken > window:
            reason = f"would take {taken:,} tokens, over its window of {window:,}"
            return FilteredModel(model.name, "context", reason)
    if not needs.capabilities <= model.capabilities:
        missing = ", ".join(sorted(needs.capabilities - model.capabilities))
        return FilteredModel(model.name, "capability", f"lacks {missing}")
    if model.tenants and needs.tenant not in model.tenants:
        # Without the tenant's name: tenants without rules of their own share stored plans.
        return FilteredModel(model.name, "tenant", "is for other tenants only")
    if needs.regions and model.region not in needs.regions:
        where = f"is in {model.region}" if model.region else "is in no known region"
        allowed = ", ".join(sorted(needs.regions))
        return FilteredModel(model.name, "region", f"{where}; allowed are {allowed}")
    return None


def unready(model: Model, cost: int, quality: float, bounds: Bounds) -> FilteredModel | None:
    """The present reason why the model cannot serve the task; None if there is none."""
    if quality < bounds.quality_floor:
        reason = f"has quality {quality:.2f}, under the floor of {bounds.quality_floor:g}"
        return FilteredModel(model.name, "quality", reason)
    limit = bounds.limit_nanodollars
    if limit is not None and cost > limit:
        reason = f"would cost {dollars(cost)}, over the limit of {dollars(limit)}"
        return FilteredModel(model.name, "budget", reason, cost)
    if bounds.facts.cooldowns:
        cooling = bounds.facts.cool_down(model.key_ids, model.name)
        if cooling is not None and cooling.until > bounds.now:
            seconds = cooling.until - bounds.now
            reason = f"cools down for {seconds:.0f} s more after {cooling.reason}"
            return FilteredModel(model.name, "cooling", reason, cost, seconds)
    return None


def nothing_left(
    refusals: Sequence[FilteredModel], limit_nanodollars: int | None, tenant: str
) -> FleetError:
    """The error for a task without any suitable model, with the reason for each model."""
    kinds = {refusal.kind for refusal in refusals}
    if "cooling" in kinds:
        soonest = min(each.seconds for each in refusals if each.kind == "cooling")
        fixed = "" if soonest <= LONG_SECONDS else ", or fix it and run `fleet models resume`"
        return Unavailable(
            f"no model is ready: {_reasons(refusals)}; try again in {soonest:.0f} s{fixed}",
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


def _over_budget(refusals: Sequence[FilteredModel], limit: int) -> OverBudget:
    expensive = [each for each in refusals if each.kind == "budget"]
    cheapest = min(expensive, key=lambda each: (each.cost, each.model))
    others = [each for each in refusals if each.kind != "budget"]
    return OverBudget(
        f"no model fits the limit of {dollars(limit)}: the cheapest, {cheapest.model}, would cost "
        f"{dollars(cheapest.cost)}; raise the limit or lower the complexity"
        + (f". Rejected for other reasons: {_reasons(others)}" if others else "")
    )


def _reasons(refusals: Iterable[FilteredModel]) -> str:
    return "; ".join(f"{each.model}: {each.reason}" for each in refusals)
