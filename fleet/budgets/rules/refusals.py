"""Why something does not fit a limit, as the scripts say it, and as people read it."""

from __future__ import annotations

from typing import NamedTuple, Self

from fleet.budgets.rules.limits import QUANTITIES
from fleet.money import dollars

TASK = "task"
SEPARATOR = "|"
NEVER = -1

WINDOWS = {
    "h": "this hour",
    "d": "today (UTC)",
    "m": "this month (UTC)",
    "r": "in 60 minutes",
    "c": "at once",
    "t": "in all",
}
RATES = "rc"


class Refusal(NamedTuple):
    """A limit that has no room for what is asked of it.

    `window` is a letter and `quantity` a number, as in `lua/parts/limits.lua`; dollars are
    nano-dollars. `settled` is spent, `held` reserved. `wait_ms` is how long until it may fit, -1
    where no time will help.
    """

    scope: str
    window: str
    quantity: int
    limit: int
    settled: int
    held: int
    asked: int
    wait_ms: int

    @classmethod
    def parse(cls, packed: str) -> Self:
        """From what a script answered. A scope may hold any text."""
        scope, window, *numbers = packed.rsplit(SEPARATOR, 7)
        return cls(scope, window, *map(int, numbers))

    @property
    def packed(self) -> str:
        return SEPARATOR.join(map(str, self))

    @property
    def is_rate(self) -> bool:
        """Whether it is a rate or a bound on what runs at once, and not a budget."""
        return self.window in RATES

    @property
    def retry_after(self) -> float | None:
        """Seconds until it may fit; None where no time will help."""
        return None if self.wait_ms == NEVER else max(0.001, self.wait_ms / 1000)

    @property
    def sentence(self) -> str:
        """What is over, with all its numbers."""
        of = "the task" if self.scope == TASK else self.scope
        return (
            f"{of} may take {self._amount(self.limit)} {WINDOWS[self.window]}: "
            f"{self._amount(self.settled)} spent, {self._amount(self.held)} reserved, "
            f"{self._amount(self.asked)} asked for"
        )

    def _amount(self, number: int) -> str:
        if self.quantity == 1:
            return dollars(number)
        return f"{number:,} {QUANTITIES[self.quantity - 1]}"
