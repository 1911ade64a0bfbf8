"""The catalogue for people: each model with its price, its state and what was learned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet.models.rules.choice import Model
from fleet.models.rules.learning import (
    WHOLE_KEY,
    ChoicePolicy,
    CoolDown,
    ModelEvidence,
    ModelFacts,
    Posterior,
    posterior,
)
from fleet.models.store import ModelState


@dataclass(frozen=True, slots=True)
class Learned:
    """The belief about a model on one request type, beside the catalogue's own figures."""

    request_type: str
    belief: Posterior


@dataclass(frozen=True, slots=True)
class CatalogueLine:
    """One model. `state` is `ready`, `cooling down` or `absent`. `reason` says why it is not ready,
    or that it ignores its output limit.

    `seconds` is the remaining time of the cool-down.
    """

    model: Model
    state: str
    reason: str
    seconds: float
    learned: tuple[Learned, ...]


def listing(
    models: Iterable[Model],
    facts: ModelFacts,
    policy: ChoicePolicy,
    now: float,
    request_type: str | None = None,
) -> list[CatalogueLine]:
    """The models in the catalogue's order. `now` is in seconds since 1970 by Redis's clock.

    The learned figures are for one request type, or for each type with evidence.
    """
    return [_line(model, facts, policy, now, request_type) for model in models]


def _line(
    model: Model, facts: ModelFacts, policy: ChoicePolicy, now: float, request_type: str | None
) -> CatalogueLine:
    seen = {kind: found for (name, kind), found in facts.evidence.items() if name == model.name}
    kinds = sorted(seen) if request_type is None else [request_type]
    learned = tuple(Learned(kind, _belief(model, seen.get(kind), policy, now)) for kind in kinds)
    if model.absent:
        return CatalogueLine(model, "absent", model.absent, 0.0, learned)
    cooling = facts.cool_down(model.key_ids, model.name)
    if cooling is not None and cooling.until > now:
        return CatalogueLine(model, "cooling down", cooling.reason, cooling.until - now, learned)
    return CatalogueLine(model, "ready", _of_limit(model, facts), 0.0, learned)


def _of_limit(model: Model, facts: ModelFacts) -> str:
    record = facts.limits.get(model.name)
    if record is None or not record.is_broken:
        return ""
    return f"ready, but ignores its output limit: up to {record.largest:,} tokens"


def _belief(
    model: Model, evidence: ModelEvidence | None, policy: ChoicePolicy, now: float
) -> Posterior:
    return posterior(model.quality, model.speed, evidence, policy, now)


def end_cool_downs(state: ModelState, model: Model) -> list[CoolDown]:
    """End all cool-downs of a model and of its provider's keys. Returns those that were active.

    The key need not be known here: its id begins with the provider's name.
    """
    ended = []
    now, facts = state.look()
    for (key_id, name), each in facts.cooldowns.items():
        of_its_key = name == WHOLE_KEY and key_id.startswith(f"{model.provider}:")
        if name == model.name or of_its_key:
            state.warm(key_id, name, each.until)
            if each.until > now:
                ended.append(each)
    return ended


def has_learned(lines: Sequence[CatalogueLine]) -> bool:
    """Whether there are any learned figures."""
    return any(line.learned for line in lines)
