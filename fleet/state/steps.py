"""The steps of running tasks: each is admitted before it begins, and settled when it has ended.

    admit.lua    binds the worst that a step may cost, or refuses it
    usage.lua    settles what it did cost: in the task, the ledger and the counters

A step that was admitted and never settled, because its worker died, is charged at its worst by
whatever script ends its run; should its usage be told after all, the difference is put right.
"""

from __future__ import annotations

import json
from dataclasses import replace

from fleet.core.ledger_entries import LOST, MISSING, SEEN, STEP, LedgerEntry
from fleet.core.refusals import Refusal
from fleet.errors import LeaseLost
from fleet.state.client import redis_errors
from fleet.state.money import Arguments, StepLimits
from fleet.state.records import ANSWERED, Step, step_json
from fleet.state.scripts import text
from fleet.state.store import Store
from fleet.state.tasks import Lease

LOST_STEP = "lost"
"""How a step ended whose worker was not heard of again."""


class Steps(Store):
    """Admits and settles. Every method is one call to Redis."""

    def admit(
        self, lease: Lease, call: int, worst: Step, limits: StepLimits
    ) -> Refusal | str | None:
        """Bind what a step may take at most: its tokens and its cost, as `worst` has them.

        None where it is admitted; the limit that has no room for it; or the version of the policy
        in force, where the limits are of another one. Raises `LeaseLost` where another run has
        the task now.
        """
        lost = replace(worst, ended=LOST_STEP, usage=MISSING)
        entry = _entry(lease, call, lost)._replace(kind=LOST)
        arguments: Arguments = [lease.task_id, lease.fence, entry.call, limits.version]
        arguments += [worst.cost_nanodollars, worst.input_tokens + worst.output_tokens]
        arguments += [_of_the_task(lease, limits), _if_lost(entry, lost)]
        arguments += [*limits.scopes, limits.model, lease.tenant, lease.agent_type, worst.model]
        keys = [self.keys.task(lease.task_id), self.keys.policy, self.keys.money]
        keys += [self.keys.reservations, self.keys.open_steps]
        with redis_errors(self.client):
            status, detail = map(text, self.scripts.admit(keys=keys, args=arguments))
        if status == "lost":
            raise LeaseLost(f"task {lease.task_id} runs elsewhere now; stop without writing")
        if status == "replan":
            return detail
        return Refusal.parse(detail) if status == "over" else None

    def settle(self, lease: Lease, call: int, step: Step) -> int:
        """Charge one model call to the task, once: among the steps of its record, in the ledger
        and in the counters.

        Gives what the task has cost by now, in nano-dollars. The cost is certain where the step's
        `usage` was seen. The time of the step is Redis's.
        """
        entry = _entry(lease, call, step)
        answered = step.model if step.ended == ANSWERED else ""
        arguments: Arguments = [step.input_tokens, step.output_tokens, step.cost_nanodollars]
        arguments += [1 - entry.certain, entry.call, step_json(step), answered, lease.task_id]
        arguments += [lease.tenant, lease.agent_type, step.model, *_flat(entry)]
        keys = [self.keys.task(lease.task_id), self.keys.ledger, self.keys.money]
        keys += [self.keys.reservations, self.keys.open_steps, self.keys.corrections]
        with redis_errors(self.client):
            return int(self.scripts.usage(keys=keys, args=arguments))


def _entry(lease: Lease, call: int, step: Step) -> LedgerEntry:
    """What goes into the ledger of a step; the script adds the id and the windows."""
    return LedgerEntry(
        id="",
        kind=STEP,
        task=lease.task_id,
        attempt=lease.attempt,
        call=f"{lease.fence}.{call}",
        tenant=lease.tenant,
        request_type=lease.request_type,
        agent_type=lease.agent_type,
        pool=lease.pool,
        model=step.model,
        provider=step.provider,
        input=step.input_tokens,
        cached=step.cached_input_tokens,
        output=step.output_tokens,
        reasoning=step.reasoning_tokens,
        amount=step.cost_nanodollars,
        estimate=lease.estimate(step.model),
        certain=int(step.usage == SEEN),
        usage=step.usage,
    )


def _of_the_task(lease: Lease, limits: StepLimits) -> str:
    dollars = lease.limit_nanodollars
    own = [] if dollars is None else [f"t1={dollars}"]
    return ";".join([*own, *([limits.task] if limits.task else [])])


def _if_lost(entry: LedgerEntry, lost: Step) -> str:
    """What is written should the step never be settled."""
    tokens = {"input": entry.input, "output": entry.output}
    return json.dumps({"entry": _flat(entry), "step": step_json(lost), **tokens})


def _flat(entry: LedgerEntry) -> list[str]:
    return [part for pair in entry.fields.items() for part in pair]
