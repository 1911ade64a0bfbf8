"""A lease: the right to run a task, with the facts that the run needs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from fleet.budgets.rules.refusals import Refusal
from fleet.models.rules.decision import ModelCandidate, ModelDecision
from fleet.redis.scripts import text
from fleet.tasks.checkpoints_store import Checkpoint, parse_checkpoints
from fleet.untrusted import NO_GRANTS, Grants

PLANS_KEPT = 64


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a task, as the claim script gave it.

    `candidates` are the models that may serve, best first; models that were cooling down at the
    submission come last. The task may cost `limit_nanodollars` in total, None without a limit;
    earlier runs spent `spent_nanodollars` of it. `reason` is why `model` is not the planned one,
    see `because` of `TaskRecord`. `refusal` is the limit without room for a task that was submitted
    without a reservation: the task must not run. With `must_run_alone` nothing else may run in the
    process, and the run has to call `Tasks.begin` first. `saved` has the checkpoints of earlier
    runs. `grants` are the tools that the task's caller allows. `asked_at` is the time of the
    request, by this machine's monotonic clock: the lease lasts from then on.
    """

    task_id: str
    fence: int
    request_type: str
    tenant: str
    complexity: float
    model: str
    attempt: int
    candidates: tuple[ModelCandidate, ...] = ()
    limit_nanodollars: int | None = None
    spent_nanodollars: int = 0
    agent_type: str = ""
    pool: str = ""
    reason: str = ""
    refusal: Refusal | None = None
    must_run_alone: bool = False
    saved: tuple[Checkpoint, ...] = ()
    grants: Grants = NO_GRANTS
    asked_at: float = field(default_factory=time.monotonic, compare=False)

    def estimate(self, model: str) -> int:
        """The estimated cost of a run with a model, in nano-dollars; 0 without an estimate."""
        costs = (each.cost_nanodollars for each in self.candidates if each.model == model)
        return next(costs, 0)


def parse_lease(task_id: str, pool: str, fence: int, asked_at: float, found: list[Any]) -> Lease:
    """Parse a lease from the answer of `lua/claim.lua`, without its status and fence."""
    *fields, saved = found
    owner, attempt, stored, spent, chosen, reason, refused, aside = map(text, fields)
    known, candidates = _parsed_plan(stored)
    return Lease(
        task_id=task_id,
        fence=fence,
        request_type=known["request_type"],
        tenant=owner,
        complexity=known["complexity"],
        model=chosen or known["model"],
        attempt=int(attempt),
        candidates=candidates,
        limit_nanodollars=known.get("limit_nanodollars"),
        spent_nanodollars=int(spent),
        agent_type=known["agent_type"],
        pool=pool,
        reason=reason,
        refusal=Refusal.parse(refused) if refused else None,
        must_run_alone=aside == "1",
        saved=parse_checkpoints(saved),
        grants=Grants.from_json(known.get("grants")),
        asked_at=asked_at,
    )


@lru_cache(maxsize=PLANS_KEPT)
def _parsed_plan(stored: str) -> tuple[Mapping[str, Any], tuple[ModelCandidate, ...]]:
    """Parse a stored plan and its candidates. Tasks of one batch share their plan."""
    known = json.loads(stored)
    decision = ModelDecision.from_json(known["model_decision"])
    return known, decision.ranking + decision.reserves
