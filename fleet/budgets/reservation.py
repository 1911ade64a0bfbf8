"""The rules that a task's money is held by, in the form in which the scripts take them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fleet.settings.names import Over

Arguments = list[str | int]


class Choice(NamedTuple):
    """A model that a task's money may be held for.

    `nanodollars` and `tokens` are what a run is thought to take. `kind` is what it is to the plan:
    `planned`, `cheaper` by the mapping, or `next` by its score. `limits` are packed; `because` says
    why it is the planned one where another scored best.
    """

    model: str
    nanodollars: int
    tokens: int
    kind: str
    limits: str
    because: str = ""


class ScopeLimits(NamedTuple):
    """The packed limits of the scopes that every model of a task shares."""

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
"""Of a fleet that has none, and has never changed its policy."""


@dataclass(frozen=True, slots=True)
class MoneyRules:
    """What holds for the tasks of one plan.

    `over` says what becomes of a task that fits no model; `nearly` is the share of a limit of
    dollars from which on a cheaper model is taken.
    """

    agent_type: str
    limits: ScopeLimits
    choices: Sequence[Choice]
    over: Over = "refuse"
    nearly: float = 1.0

    @property
    def arguments(self) -> tuple[str | int, ...]:
        """The arguments that `submit.lua` and `release_task.lua` share, in their order; the models
        to choose from are as `lua/parts/choice.lua` reads them."""
        planned, *others = self.choices
        rest = json.dumps([each[:5] for each in others], separators=(",", ":"))
        shared = (self.agent_type, *self.limits, self.over, repr(self.nearly))
        return (*shared, rest, *planned[:3], planned.limits, planned.because)
