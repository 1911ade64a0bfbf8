"""The record of a model call: stored with its task, charged, and entered in the ledger."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Self

from fleet.ledger.rules.entries import MODEL_CALL, LedgerEntry
from fleet.models.rules.usage import MISSING, SEEN
from fleet.tasks.leases.lease import Lease

ANSWERED = "ok"
"""`ended` of a call that gave an answer."""

LOST_CALL = "lost"
"""`ended` of a call whose worker died."""


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of a model.

    `why` is the reason for the call: `first`, `again`, `failover: ...`, `downgrade: ...` or
    `escalation: ...`. `ended` is `ok`, a failure such as `rate limited`, or `lost` if the worker
    died. `input_tokens` include `cached_input_tokens`, read from the provider's cache, and
    `cache_write_tokens`, written to it; `output_tokens` include `reasoning_tokens`. `at` is the
    time of the end, in seconds since 1970 by Redis's clock. `usage` is `seen` if the provider
    reported the tokens, `missing` if the upper bound was charged, `contradictory` if the largest
    reading was charged, or `unpriced`.

    Before the call is made, the record is its upper bound: `ended` is empty, and tokens and cost
    are maxima.
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
        """This upper bound as it is recorded if the call's worker dies."""
        return replace(self, ended=LOST_CALL, usage=MISSING)

    @property
    def stored(self) -> str:
        """The stored form, as JSON without `at`: the script prepends the time."""
        fields = asdict(self)
        del fields["at"]
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def parse(cls, stored: str) -> Self:
        """Parse the stored form, preceded by the time in ms."""
        at, _, fields = stored.partition(" ")
        return cls(**json.loads(fields), at=int(at) / 1000)

    def ledger_entry(self, lease: Lease, number: int, kind: str = MODEL_CALL) -> LedgerEntry:
        """The ledger entry of the call; the script adds the id and the windows. `number` counts the
        calls of the run."""
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
