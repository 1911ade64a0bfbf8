"""What was learned of the models: how good and how quick each is on each request type.

The catalogue's figures are a prior; outcomes of real tasks are evidence, whose weight fades
with time and with newer evidence. Both together are a posterior that keeps its uncertainty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of one model on one request type, in decayed sums as of `at`.

    `rewards` is the number of rewards and `reward` their sum, each reward 0 to 1; `calls` the
    number of timed calls, with their output `tokens` and their `seconds`. `at` is in seconds
    since 1970 by Redis's clock.
    """

    rewards: float = 0.0
    reward: float = 0.0
    calls: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class CoolDown:
    """A model that is left alone until `until`, seconds since 1970 by Redis's clock.

    `failures` counts those in a row that led here.
    """

    until: float
    failures: int
    reason: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """All that the fleet shares about its models.

    `evidence` is by (model, request type), `cooldowns` by (key id, model): a key id names a
    provider's key without telling it.
    """

    evidence: Mapping[tuple[str, str], Evidence] = field(default_factory=dict)
    cooldowns: Mapping[tuple[str, str], CoolDown] = field(default_factory=dict)


NOTHING_LEARNED = ModelFacts()
