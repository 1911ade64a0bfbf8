"""The catalogue as people look at it: each model with its price, its state and what was learned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet.models.rules.choice import Model
from fleet.models.rules.learning import (
    WHOLE_KEY,
    CoolDown,
    Evidence,
    ModelFacts,
    Policy,
    Posterior,
    posterior,
)
from fleet.models.store import ModelState


@dataclass(frozen=True, slots=True)
class Learned:
    """What is believed of a model on one request type, beside the catalogue's own figures."""

    request_type: str
    belief: Posterior


@dataclass(frozen=True, slots=True)
class Line:
    """One model. `state` is `ready`, `cooling down` or `absent`, `reason` says why it is not ready,
    or that it ignores the limit of its answers.

    `seconds` is how long it cools down yet.
    """

    model: Model
    state: str
    reason: str
    seconds: float
    learned: tuple[Learned, ...]


def listing(
    models: Iterable[Model],
    facts: ModelFacts,
    policy: Policy,
    now: float,
    request_type: str | None = None,
) -> list[Line]:
    """The models in the catalogue's order. `now` is in seconds since 1970 by Redis's clock.

    What was learned is for one request type, or else for each that there is evidence of.
    """
    return [_line(model, facts, policy, now, request_type) for model in models]


def _line(
    model: Model, facts: ModelFacts, policy: Policy, now: float, request_type: str | None
) -> Line:
    seen = {kind: found for (name, kind), found in facts.evidence.items() if name == model.name}
    kinds = sorted(seen) if request_type is None else [request_type]
    learned = tuple(Learned(kind, _belief(model, seen.get(kind), policy, now)) for kind in kinds)
    if model.absent:
        return Line(model, "absent", model.absent, 0.0, learned)
    cooling = facts.cool_down(model.key_id, model.name)
    if cooling is not None and cooling.until > now:
        return Line(model, "cooling down", cooling.reason, cooling.until - now, learned)
    return Line(model, "ready", _of_limit(model, facts), 0.0, learned)


def _of_limit(model: Model, facts: ModelFacts) -> str:
    record = facts.limits.get(model.name)
    if record is None or not record.is_broken:
        return ""
    return f"ready, but ignores the limit of its answers: up to {record.largest:,} tokens"


def _belief(model: Model, evidence: Evidence | None, policy: Policy, now: float) -> Posterior:
    return posterior(model.quality, model.speed, evidence, policy, now)


def end_cool_downs(state: ModelState, model: Model) -> list[CoolDown]:
    """End those of a model, and of its provider's keys, whatever they began with; what they were.

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


def has_learned(lines: Sequence[Line]) -> bool:
    """Whether there is anything beside the catalogue's figures."""
    return any(line.learned for line in lines)
