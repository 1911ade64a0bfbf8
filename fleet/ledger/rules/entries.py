"""An entry of the ledger as a value, and what it adds to the counters and the roll-ups.

An entry is written once and never changed. What was wrong is put right by a correction: another
entry, with the names and windows of the first, whose amount is what to add.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fleet.models.rules.usage import CONTRADICTORY, MISSING, UNPRICED
from fleet.settings.names import ALL, SCOPE_KINDS

MODEL_CALL = "step"
LOST = "lost"
CORRECTION = "correction"

FIRST = "0-0"
"""An id that all entries follow."""


class Names(NamedTuple):
    """For whom, for what and through whom something was spent."""

    tenant: str
    request_type: str
    agent_type: str
    pool: str
    model: str
    provider: str

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that count it, such as `all` and `tenant:acme`."""
        return (ALL, *(f"{scope}:{getattr(self, scope)}" for scope in SCOPE_KINDS))


class LedgerEntry(NamedTuple):
    """One settled model call of a task, or a correction.

    `id` is `<ms>-<n>`, the ms since 1970 by Redis's clock. `amount` and `estimate` are
    nano-dollars. `cached` tokens are among the `input`, `reasoning` tokens among the `output`.
    `certain` says whether the amount is known; `usage` is `seen`, `missing` (the provider told
    none), `contradictory` (its counts fit no reading: the largest was charged) or `unpriced`.
    `windows` are the UTC hour, day and month that count it, such as
    `h2026112421,d20261124,m202611`. A correction is `of` an entry, `by` somebody, with a `why`.
    """

    id: str
    kind: str
    task: str
    attempt: int
    call: str
    tenant: str
    request_type: str
    agent_type: str
    pool: str
    model: str
    provider: str
    input: int
    cached: int
    output: int
    reasoning: int
    amount: int
    estimate: int
    certain: int
    usage: str
    windows: str = ""
    of: str = ""
    by: str = ""
    why: str = ""

    @property
    def names(self) -> Names:
        return Names(
            self.tenant, self.request_type, self.agent_type, self.pool, self.model, self.provider
        )

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that count the entry."""
        return self.names.scopes

    @property
    def hour(self) -> str:
        """The UTC hour that counts the entry, as YYYYMMDDHH."""
        return self.windows[1:11]

    @property
    def day(self) -> str:
        """The UTC day that counts the entry, as YYYYMMDD."""
        return self.windows[1:9]

    @property
    def epoch(self) -> float:
        """When it was written, in seconds since 1970."""
        return int(self.id.partition("-")[0]) / 1000

    @property
    def fields(self) -> dict[str, str]:
        """The names and values that are stored: all but the id, and what is empty of the last."""
        found = {name: str(value) for name, value in self._asdict().items() if name != "id"}
        return {k: v for k, v in found.items() if v or k not in ("windows", "of", "by", "why")}

    @property
    def rolled(self) -> Rolled:
        """What the entry adds to the roll-ups of its hour and its day."""
        uncertain = 0 if self.certain else self.amount
        if self.kind == CORRECTION:
            return Rolled(self.amount, uncertain=uncertain)
        return Rolled(
            self.amount,
            1,
            self.input,
            self.cached,
            self.output,
            self.reasoning,
            uncertain,
            1 - self.certain,
            int(self.usage == MISSING),
            int(self.usage == UNPRICED),
            int(self.usage == CONTRADICTORY),
        )


class Rolled(NamedTuple):
    """A sum of entries, as roll-ups keep it; see `fleet.ledger.rules.spend_rows.SpendRow`."""

    amount: int = 0
    requests: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    uncertain: int = 0
    uncertain_steps: int = 0
    missing: int = 0
    unpriced: int = 0
    contradictory: int = 0


NUMBERS = ("attempt", "input", "cached", "output", "reasoning", "amount", "estimate", "certain")


def parse_entry(entry_id: str, fields: Mapping[str, str]) -> LedgerEntry:
    """The inverse of `LedgerEntry.fields`."""
    values: dict[str, Any] = dict(fields)
    for name in NUMBERS:
        values[name] = int(values[name])
    return LedgerEntry(entry_id, **values)


def archived_ids(name: str) -> tuple[str, str]:
    """The ids of the first and the last entry in a file of the archive, by its name."""
    first, _, last = name.rpartition("/")[2].removesuffix(".parquet").partition("_")
    return first, last


def id_parts(entry_id: str) -> tuple[int, int]:
    """An id as a pair that can be compared: ms since 1970, number within it."""
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)
