"""Which thresholds of a budget are reached, and what else there is to tell about money.

What counts is what is settled in the window and what is held, for a limit refuses by the sum of
both. A threshold of a scope and window is said once, whatever becomes of the limit: one that was
raised says the higher thresholds that nobody has heard of yet, and begins anew when the window
turns.
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
"""What tells an alert about a model's limit from one about a budget."""


class BudgetUse(NamedTuple):
    """How much of a limit of dollars a scope uses, in nano-dollars.

    `window_id` is the UTC hour, day or month that it was seen in, such as `d20261124`.
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
        """When it was said, in seconds since 1970."""
        return int(self.id.partition("-")[0]) / 1000

    @property
    def is_full(self) -> bool:
        """Whether nothing is left: tasks go to cheaper models, wait or are refused."""
        return self.threshold >= FULL

    @property
    def sentence(self) -> str:
        """The alert for people."""
        used, limit = self.settled + self.held, Limit(self.window, "dollars", self.limit)
        return (
            f"{self.scope} has used {used * 100 // self.limit} % of {limit.said}: "
            f"{dollars(self.settled)} settled, {dollars(self.held)} reserved"
        )


class LimitAlert(NamedTuple):
    """An answer of a model was longer than it was asked to be at most, so that what a call of the
    model may cost is not known by its limit. `asked` and `written` are tokens.

    It is said once, until answers have shown that the limit holds. `call` is which one: the task's
    id, a space, the name of the call. `id` is as in `BudgetAlert`.
    """

    id: str
    scope: str
    asked: int
    written: int
    call: str

    @property
    def flat(self) -> list[str]:
        """The names and values that are stored."""
        told = {"kind": LIMIT_KIND, **self._asdict()}
        return [str(part) for pair in told.items() if pair[0] != "id" for part in pair]

    @property
    def epoch(self) -> float:
        """When it was said, in seconds since 1970."""
        return int(self.id.partition("-")[0]) / 1000

    @property
    def sentence(self) -> str:
        """The alert for people."""
        return (
            f"{self.scope} has ignored the limit of an answer: {self.written:,} tokens instead of "
            f"{self.asked:,} at most; until it keeps its limit, its calls are admitted at what it "
            "writes. See limit_field of its provider in fleet.toml"
        )


Alert = BudgetAlert | LimitAlert
