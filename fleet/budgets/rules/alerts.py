"""Budget alerts: which thresholds of a budget are reached; and alerts about output limits.

The amount settled in the window and the amount held count together, because a limit refuses by
their sum. Each threshold of a scope and window raises one alert. If the limit is raised meanwhile,
only the higher thresholds without an alert raise one. All thresholds start again when the window
ends.
"""

from __future__ import annotations

from typing import NamedTuple

from fleet.budgets.rules.limits import Limit
from fleet.money import dollars
from fleet.policy.rules import Window

THRESHOLDS = (50, 80, 90, 100)
"""Percent of a budget."""

FULL = THRESHOLDS[-1]

LIMIT_KIND = "output_limit"
"""The kind of an alert about a model's output limit. An alert about a budget has no kind."""


class BudgetUse(NamedTuple):
    """How much of a dollar limit a scope uses, in nano-dollars.

    `window_id` is the UTC hour, day or month of the reading, such as `d20261124`.
    """

    scope: str
    limit: Limit
    window_id: str
    settled: int
    held: int

    @property
    def used(self) -> int:
        return self.settled + self.held

    @property
    def reached(self) -> tuple[int, ...]:
        """The thresholds that are reached, the highest last."""
        return tuple(each for each in THRESHOLDS if self.used * 100 >= each * self.limit.most)


class BudgetAlert(NamedTuple):
    """A threshold that a scope has reached in a window; amounts are nano-dollars.

    `id` is `<ms>-<n>`, the ms since 1970 by Redis's clock.
    """

    id: str
    scope: str
    window: Window
    window_id: str
    threshold: int
    limit: int
    settled: int
    held: int

    @property
    def epoch(self) -> float:
        """When the alert was raised, in seconds since 1970."""
        return int(self.id.partition("-")[0]) / 1000

    @property
    def is_full(self) -> bool:
        """Whether the budget is used up: tasks go to cheaper models, wait or are refused."""
        return self.threshold >= FULL

    @property
    def sentence(self) -> str:
        """The alert for people."""
        used, limit = self.settled + self.held, Limit(self.window, "dollars", self.limit)
        return (
            f"{self.scope} has used {used * 100 // self.limit} % of {limit.description}: "
            f"{dollars(self.settled)} settled, {dollars(self.held)} reserved"
        )


class LimitAlert(NamedTuple):
    """An answer of a model was longer than its output limit, so that the limit does not bound the
    cost of a call. `asked` is the limit and `written` the length of the answer, in tokens.

    The alert is raised once, until answers show that the limit holds again. `call` names the call:
    the task's id, a space, the name of the call. `id` is as in `BudgetAlert`.
    """

    id: str
    scope: str
    asked: int
    written: int
    call: str

    @property
    def flat(self) -> list[str]:
        """The stored names and values, alternating."""
        stored = {"kind": LIMIT_KIND, **self._asdict()}
        return [str(part) for pair in stored.items() if pair[0] != "id" for part in pair]

    @property
    def epoch(self) -> float:
        """When the alert was raised, in seconds since 1970."""
        return int(self.id.partition("-")[0]) / 1000

    @property
    def sentence(self) -> str:
        """The alert for people."""
        return (
            f"{self.scope} ignored its output limit: {self.written:,} tokens instead of at most "
            f"{self.asked:,}. Until it keeps the limit, its calls reserve money for what it really "
            "writes. See limit_field of its provider in fleet.toml"
        )


Alert = BudgetAlert | LimitAlert
