"""The rules for the reservation of a task's money, in the form of the scripts' arguments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fleet.settings.names import Over

Arguments = list[str | int]


class Choice(NamedTuple):
    """A model for which a task's money may be reserved.

    `nanodollars` and `tokens` are the estimate of a run. `kind` is its part in the plan: `planned`,
    `cheaper` by the mapping, or `next` by its score. `limits` are packed. `reason` says why it is
    the planned model although another one scored best.
    """

    model: str
    nanodollars: int
    tokens: int
    kind: str
    limits: str
    reason: str = ""


class ScopeLimits(NamedTuple):
    """The packed limits of the scopes that all models of a task share."""

    everything: str = ""
    tenant: str = ""
    agent_type: str = ""


class CallLimits(NamedTuple):
    """The packed limits that a model call has to fit, and the version of their policy.

    `task` are those of tokens and requests that each task has; its dollars are its own.
    """

    version: str
    scopes: ScopeLimits
    model: str = ""
    task: str = ""


NO_LIMITS = CallLimits("0", ScopeLimits())
"""For a fleet without limits that has never changed its policy."""


@dataclass(frozen=True, slots=True)
class MoneyRules:
    """The rules for the tasks of one plan.

    `over` says what happens to a task that exceeds a limit with every model. `nearly` is the used
    share of a dollar limit from which on a cheaper model is chosen.
    """

    agent_type: str
    limits: ScopeLimits
    choices: Sequence[Choice]
    over: Over = "refuse"
    nearly: float = 1.0

    @property
    def arguments(self) -> tuple[str | int, ...]:
        """The arguments that `submit.lua` and `release_task.lua` share, in their order. The models
        to choose from are in the form of `lua/parts/choice.lua`."""
        planned, *others = self.choices
        rest = json.dumps([each[:5] for each in others], separators=(",", ":"))
        shared = (self.agent_type, *self.limits, self.over, repr(self.nearly))
        return (*shared, rest, *planned[:3], planned.limits, planned.reason)
