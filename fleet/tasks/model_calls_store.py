"""The steps of running tasks: each is admitted before it begins, and settled when it has ended.

    admit.lua    binds the worst that a step may cost, or refuses it
    usage.lua    settles what it did cost: in the task, the ledger and the counters; and saves its
                 answer, for the task's next run to go on from
    save.lua     saves what else a step came to

A step that was admitted and never settled, because its worker died, is charged at its worst by
whatever script ends its run; should its usage be told after all, the difference is put right.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import NamedTuple

from redis import Redis

from fleet.budgets.reservation import Arguments, StepLimits
from fleet.budgets.rules.refusals import Refusal
from fleet.errors import CheckpointTooLarge, LeaseLost
from fleet.ledger.rules.entries import LOST, MISSING, SEEN, STEP, LedgerEntry
from fleet.models.rules.output_limits import LimitRecord
from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys
from fleet.redis.scripts import Scripts, text
from fleet.redis.store import Store
from fleet.tasks.checkpoints_store import MAX_NAMES, Saved, parse_saved
from fleet.tasks.record import ANSWERED, Step, step_json
from fleet.tasks.store import Lease

LOST_STEP = "lost"
"""How a step ended whose worker was not heard of again."""


COPY_SECONDS = 3600
"""How long a copy is kept for a task that is not submitted after all."""


class LimitBasis(NamedTuple):
    """What the worst of a step rests on: the record of its model's limit, packed, '' where there is
    none, `*` where that does not matter. What the step may take where the model ignores its limit,
    in nano-dollars and tokens, '' where that is not in doubt. The ms that a turn lasts at most."""

    record: str = "*"
    nanodollars: int | str = ""
    tokens: int | str = ""
    turn_ms: int = 0


NO_BASIS = LimitBasis()


class Turn(NamedTuple):
    """While it is in doubt whether a model keeps its limit, and money is short, one call at a time
    has the turn: this one where `is_mine`, which is admitted; else it has to wait."""

    is_mine: bool


class LimitChanged(NamedTuple):
    """The record of the model's limit is another one now; None where there is none."""

    record: LimitRecord | None


class Steps(Store):
    """Admits, settles and saves. Every method is one call to Redis.

    A task may save `max_saved_bytes` in all, names included.
    """

    def __init__(
        self, client: Redis, keys: Keys, scripts: Scripts, max_saved_bytes: int
    ) -> None:
        super().__init__(client, keys, scripts)
        self.max_saved_bytes = max_saved_bytes

    def admit(
        self,
        lease: Lease,
        call: int,
        worst: Step,
        limits: StepLimits,
        basis: LimitBasis = NO_BASIS,
    ) -> Refusal | str | Turn | LimitChanged | None:
        """Bind what a step may take at most: its tokens and its cost, as `worst` has them.

        None where it is admitted, or the `Turn` that it has or has to wait for; the limit that has
        no room for it; the version of the policy in force, where the limits are of another one;
        `LimitChanged` where `worst` was made from another record than the `basis` says. Raises
        `LeaseLost` where another run has the task now.
        """
        lost = replace(worst, ended=LOST_STEP, usage=MISSING)
        entry = _entry(lease, call, lost)._replace(kind=LOST)
        arguments: Arguments = [lease.task_id, lease.fence, entry.call, limits.version]
        arguments += [worst.cost_nanodollars, worst.input_tokens + worst.output_tokens]
        arguments += [_of_the_task(lease, limits), _if_lost(entry, lost)]
        arguments += [*limits.scopes, limits.model, lease.tenant, lease.agent_type, worst.model]
        arguments += basis
        keys = [self.keys.task(lease.task_id), self.keys.policy, self.keys.money]
        keys += [self.keys.reservations, self.keys.open_steps, self.keys.models]
        with redis_errors(self.client):
            status, detail = map(text, self.scripts.admit(keys=keys, args=arguments))
        if status == "lost":
            raise _lost(lease)
        if status == "replan":
            return detail
        if status == "limit":
            return LimitChanged(LimitRecord.parse(detail) if detail else None)
        if status == "over":
            return Refusal.parse(detail)
        return Turn(is_mine=status == "admitted") if detail or status == "turn" else None

    def settle(self, lease: Lease, call: int, step: Step) -> int:
        """Charge one model call to the task, once: among the steps of its record, in the ledger
        and in the counters.

        Gives what the task has cost by now, in nano-dollars. The cost is certain where the step's
        `usage` was seen. The time of the step is Redis's.
        """
        return self._settle(lease, call, step, "", "")[0]

    def settle_and_save(
        self, lease: Lease, call: int, step: Step, name: str, answer: str
    ) -> tuple[int, bool]:
        """Charge a model call, and save its answer, as JSON, in the same step.

        Gives what the task has cost by now, and whether the answer was saved: it is not where it
        is too large. Raises `LeaseLost` where another run has the task now: the call is charged
        then all the same.
        """
        spent, kept = self._settle(lease, call, step, name, answer)
        if kept == "lost":
            raise _lost(lease)
        return spent, kept == "saved"

    def save(self, lease: Lease, name: str, value: str) -> None:
        """Save a value, as JSON. Raises `LeaseLost` where another run has the task now, and
        `CheckpointTooLarge` where it is more than a task may save."""
        keys = [self.keys.task(lease.task_id), self.keys.saved(lease.task_id)]
        arguments: Arguments = [lease.fence, name, value, self.max_saved_bytes]
        with redis_errors(self.client):
            kept = text(self.scripts.save(keys=keys, args=arguments))
        if kept == "lost":
            raise _lost(lease)
        if kept == "full":
            raise CheckpointTooLarge(
                f"task {lease.task_id} cannot save {name!r}: a task may save "
                f"{self.max_saved_bytes:,} bytes under {MAX_NAMES} names in all; save less, or "
                "raise limits.checkpoint_bytes"
            )

    def saved(self, task_id: str) -> tuple[Saved, ...]:
        """What the runs of a task have saved, oldest first; nothing where it has ended well."""
        with redis_errors(self.client):
            found = self.client.hgetall(self.keys.saved(task_id))
        return parse_saved([part for pair in found.items() for part in pair])

    def carry(self, task_id: str, new_id: str) -> bool:
        """Copy what a dead letter has saved to the task that it is about to be retried as. Whether
        there was something to copy, and that task was not there already."""
        keys = [self.keys.saved(task_id), self.keys.saved(new_id), self.keys.task(new_id)]
        with redis_errors(self.client):
            return bool(self.scripts.carry(keys=keys, args=[COPY_SECONDS]))

    def _settle(
        self, lease: Lease, call: int, step: Step, name: str, answer: str
    ) -> tuple[int, str]:
        entry = _entry(lease, call, step)
        answered = step.model if step.ended == ANSWERED else ""
        arguments: Arguments = [step.input_tokens, step.output_tokens, step.cost_nanodollars]
        arguments += [1 - entry.certain, entry.call, step_json(step), answered, lease.task_id]
        arguments += [lease.tenant, lease.agent_type, step.model, lease.fence, name, answer]
        arguments += [self.max_saved_bytes, *_flat(entry)]
        keys = [self.keys.task(lease.task_id), self.keys.ledger, self.keys.money]
        keys += [self.keys.reservations, self.keys.open_steps, self.keys.corrections]
        keys.append(self.keys.saved(lease.task_id))
        with redis_errors(self.client):
            spent, kept = self.scripts.usage(keys=keys, args=arguments)
        return int(spent), text(kept)


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"task {lease.task_id} runs elsewhere now; stop without writing")


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
