"""A call of a model: one record that is kept with its task, charged, and entered in the ledger."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Self

from fleet.ledger.rules.entries import MODEL_CALL, LedgerEntry
from fleet.models.rules.usage import MISSING, SEEN
from fleet.tasks.leases.lease import Lease

ANSWERED = "ok"
"""How a call ended that gave an answer."""

LOST_CALL = "lost"
"""How a call ended whose worker was not heard of again."""


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of a model.

    `why` it began: `first`, `again`, `failover: ...`, `downgrade: ...` or `escalation: ...`.
    `ended` is `ok`, or what came instead of an answer, such as `rate limited`, or `lost` where its
    worker died. `cached_input_tokens`, read from the provider's cache, and `cache_write_tokens`,
    written to it, are among the `input_tokens`, `reasoning_tokens` among the `output_tokens`.
    `at` is when it ended, in seconds since 1970 by Redis's clock. `usage` says whether the tokens
    were `seen`, are `missing`, so that the most was charged, are `contradictory`, so that the
    largest reading of them was, or are `unpriced`.

    Before a call is made, its record is an upper bound: `ended` is empty, and tokens and cost are
    the most that it may take.
    """

    model: str
    provider: str
    why: str
    ended: str
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_nanodollars: int = 0
    seconds: float = 0.0
    at: float = 0.0
    reasoning_tokens: int = 0
    usage: str = SEEN
    cache_write_tokens: int = 0

    @property
    def answered(self) -> bool:
        return self.ended == ANSWERED

    @property
    def lost(self) -> ModelCall:
        """The record of this upper bound, should the call's worker die."""
        return replace(self, ended=LOST_CALL, usage=MISSING)

    @property
    def stored(self) -> str:
        """As it is kept with its task, without its time, which the script puts before it."""
        fields = asdict(self)
        del fields["at"]
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def parse(cls, stored: str) -> Self:
        """The inverse of `stored`, with the time, in ms, before it."""
        at, _, fields = stored.partition(" ")
        return cls(**json.loads(fields), at=int(at) / 1000)

    def ledger_entry(self, lease: Lease, number: int, kind: str = MODEL_CALL) -> LedgerEntry:
        """As it is entered in the ledger; the script adds the id and the windows. `number` is the
        call's within its run."""
        return LedgerEntry(
            id="",
            kind=kind,
            task=lease.task_id,
            attempt=lease.attempt,
            call=f"{lease.fence}.{number}",
            tenant=lease.tenant,
            request_type=lease.request_type,
            agent_type=lease.agent_type,
            pool=lease.pool,
            model=self.model,
            provider=self.provider,
            input=self.input_tokens,
            cached=self.cached_input_tokens,
            output=self.output_tokens,
            reasoning=self.reasoning_tokens,
            amount=self.cost_nanodollars,
            estimate=lease.estimate(self.model),
            certain=int(self.usage == SEEN),
            usage=self.usage,
        )
