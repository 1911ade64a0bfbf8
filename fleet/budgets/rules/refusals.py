"""Refusals: a limit that was exceeded, in the form of the scripts and as a sentence for people."""

from __future__ import annotations

from typing import NamedTuple, Self

from fleet.budgets.rules.limits import LETTERS, QUANTITIES, WINDOW_PHRASES
from fleet.money import dollars
from fleet.settings.names import ALL

TASK = "task"
SEPARATOR = "|"
NEVER = -1

PHRASES = {"t": "in total", **{LETTERS[each]: phrase for each, phrase in WINDOW_PHRASES.items()}}
RATES = "rc"


class Refusal(NamedTuple):
    """A limit that a request exceeds.

    `window` is a letter and `quantity` a number, as in `lua/parts/limits.lua`. Dollars are
    nano-dollars. `settled` is spent, `held` reserved, `asked` requested. `wait_ms` is the time
    until the request may fit, -1 if waiting does not help.
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
        """Parse the answer of a script. A scope may be any text."""
        scope, window, *numbers = packed.rsplit(SEPARATOR, 7)
        return cls(scope, window, *map(int, numbers))

    @property
    def packed(self) -> str:
        return SEPARATOR.join(map(str, self))

    @property
    def is_rate(self) -> bool:
        """Whether it is a rate limit or a concurrency limit, and not a budget."""
        return self.window in RATES

    @property
    def retry_after(self) -> float | None:
        """Seconds until the request may fit; None if waiting does not help."""
        return None if self.wait_ms == NEVER else max(0.001, self.wait_ms / 1000)

    @property
    def sentence(self) -> str:
        """The refusal for people, such as `Budget exceeded for tenant acme: limit $20 per UTC day,
        $19.80 spent, $0.10 reserved, $0.50 requested`."""
        kind = "Limit" if self.is_rate else "Budget"
        return (
            f"{kind} exceeded for {self._scope_phrase}: "
            f"limit {self._amount(self.limit)} {PHRASES[self.window]}, "
            f"{self._amount(self.settled)} spent, {self._amount(self.held)} reserved, "
            f"{self._amount(self.asked)} requested"
        )

    @property
    def _scope_phrase(self) -> str:
        if self.scope == TASK:
            return "this task"
        if self.scope == ALL:
            return "the whole fleet"
        kind, _, name = self.scope.partition(":")
        return f"{kind.replace('_', ' ')} {name}"

    def _amount(self, number: int) -> str:
        if self.quantity == 1:
            return dollars(number)
        return f"{number:,} {QUANTITIES[self.quantity - 1]}"
