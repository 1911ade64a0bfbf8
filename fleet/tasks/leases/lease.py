"""A lease: the right to run a task, and what its run has to know of the task."""

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
from fleet.tasks.checkpoints_store import Saved, parse_saved

PLANS_KEPT = 64


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a task, as the claim script gave it.

    `candidates` are the models that may serve, best first: the first is `model`; those that only
    cooled down at submission come behind all others. The task may cost `limit_nanodollars` in
    all, None where there is no limit, of which `spent_nanodollars` were spent by earlier runs.
    `because` says why `model` is not the planned one, see `TaskRecord`. `refusal` is the limit that
    had no room for a task whose publisher could hold no money for it: it is not to run. Where it
    `stands_aside` it is to run beside no other such task of its process, and to `begin` first.
    `saved` is what earlier runs have saved.
    `asked_at` is when it was asked for, by this machine's monotonic clock: it holds from then on.
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
    because: str = ""
    refusal: Refusal | None = None
    stands_aside: bool = False
    saved: tuple[Saved, ...] = ()
    asked_at: float = field(default_factory=time.monotonic, compare=False)

    def estimate(self, model: str) -> int:
        """Nano-dollars that a run was thought to cost with a model; 0 where nobody estimated it."""
        costs = (each.cost_nanodollars for each in self.candidates if each.model == model)
        return next(costs, 0)


def made_lease(task_id: str, pool: str, fence: int, asked_at: float, found: list[Any]) -> Lease:
    """A lease from what `lua/claim.lua` answers beside its fence."""
    *fields, saved = found
    owner, attempt, stored, spent, chosen, because, refused, aside = map(text, fields)
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
        because=because,
        refusal=Refusal.parse(refused) if refused else None,
        stands_aside=aside == "1",
        saved=parse_saved(saved),
        asked_at=asked_at,
    )


@lru_cache(maxsize=PLANS_KEPT)
def _parsed_plan(stored: str) -> tuple[Mapping[str, Any], tuple[ModelCandidate, ...]]:
    """What a run needs to know of its task's plan, which tasks that came together share."""
    known = json.loads(stored)
    decision = ModelDecision.from_json(known["model_decision"])
    return known, decision.ranking + decision.reserves
