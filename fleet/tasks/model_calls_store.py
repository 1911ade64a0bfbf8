"""The model calls of running tasks: each is admitted before it is made, and settled when it ended.

    admit.lua    binds the most that a call may cost, or refuses it
    usage.lua    settles what it did cost: in the task, the ledger and the counters; and saves its
                 answer, for the task's next run to go on from
    save.lua     saves what else a run came to

A call that was admitted and never settled, because its worker died, is charged at its upper bound
by whatever script ends its run; should its usage be told after all, the difference is put right.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from redis import Redis

from fleet.budgets.reservation import Arguments, CallLimits
from fleet.budgets.rules.refusals import Refusal
from fleet.errors import CheckpointTooLarge, LeaseLost
from fleet.ledger.rules.entries import LOST, LedgerEntry
from fleet.models.rules.output_limits import LimitRecord
from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys
from fleet.redis.scripts import Scripts, text
from fleet.redis.store import Store
from fleet.tasks.checkpoints_store import MAX_NAMES, Saved, parse_saved
from fleet.tasks.model_call import ModelCall
from fleet.tasks.store import Lease

COPY_SECONDS = 3600
"""How long a copy is kept for a task that is not submitted after all."""


class LimitBasis(NamedTuple):
    """What the upper bound of a call rests on: the record of its model's limit, packed, '' where
    there is none, `*` where that does not matter. What the call may take where the model ignores
    its limit, in nano-dollars and tokens, '' where that is not in doubt. The ms that a turn lasts
    at most."""

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


class Settled(NamedTuple):
    """What a task has `spent` by now, in nano-dollars, and whether the call's answer was saved: it
    is not where it is too large, or was not to be."""

    spent: int
    is_saved: bool


class ModelCallStore(Store):
    """Admits, settles and saves. Every method is one call to Redis.

    A call has a `number` within its run. A task may save `max_saved_bytes` in all, names included.
    """

    def __init__(self, client: Redis, keys: Keys, scripts: Scripts, max_saved_bytes: int) -> None:
        super().__init__(client, keys, scripts)
        self.max_saved_bytes = max_saved_bytes

    def admit(
        self,
        lease: Lease,
        number: int,
        bound: ModelCall,
        limits: CallLimits,
        basis: LimitBasis = NO_BASIS,
    ) -> Refusal | str | Turn | LimitChanged | None:
        """Bind what a call may take at most: the tokens and the cost of `bound`.

        None where it is admitted, or the `Turn` that it has or has to wait for; the limit that has
        no room for it; the version of the policy in force, where the limits are of another one;
        `LimitChanged` where `bound` was made from another record than the `basis` says. Raises
        `LeaseLost` where another run has the task now.
        """
        entry = bound.lost.ledger_entry(lease, number, LOST)
        arguments: Arguments = [lease.task_id, lease.fence, entry.call, limits.version]
        arguments += [bound.cost_nanodollars, bound.input_tokens + bound.output_tokens]
        arguments += [_of_the_task(lease, limits), _if_lost(entry, bound.lost)]
        arguments += [*limits.scopes, limits.model, lease.tenant, lease.agent_type, bound.model]
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

    def settle(
        self, lease: Lease, number: int, call: ModelCall, save_as: str = "", answer: str = ""
    ) -> Settled:
        """Charge one model call to the task, once: among the calls of its record, in the ledger
        and in the counters. Its answer, as JSON, is saved in the same step where it has a name.

        The cost is certain where the call's `usage` was seen. The time of the call is Redis's.
        Raises `LeaseLost` where the answer cannot be saved since another run has the task now: the
        call is charged then all the same.
        """
        entry = call.ledger_entry(lease, number)
        arguments: Arguments = [call.input_tokens, call.output_tokens, call.cost_nanodollars]
        arguments += [1 - entry.certain, entry.call, call.stored]
        arguments += [call.model if call.answered else "", lease.task_id]
        arguments += [lease.tenant, lease.agent_type, call.model, lease.fence, save_as, answer]
        arguments += [self.max_saved_bytes, *_flat(entry)]
        keys = [self.keys.task(lease.task_id), self.keys.ledger, self.keys.money]
        keys += [self.keys.reservations, self.keys.open_steps, self.keys.corrections]
        keys.append(self.keys.saved(lease.task_id))
        with redis_errors(self.client):
            spent, kept = self.scripts.usage(keys=keys, args=arguments)
        if text(kept) == "lost":
            raise _lost(lease)
        return Settled(int(spent), text(kept) == "saved")

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


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"task {lease.task_id} runs elsewhere now; stop without writing")


def _of_the_task(lease: Lease, limits: CallLimits) -> str:
    dollars = lease.limit_nanodollars
    own = [] if dollars is None else [f"t1={dollars}"]
    return ";".join([*own, *([limits.task] if limits.task else [])])


def _if_lost(entry: LedgerEntry, lost: ModelCall) -> str:
    """What is written should the call never be settled."""
    tokens = {"input": entry.input, "output": entry.output}
    return json.dumps({"entry": _flat(entry), "step": lost.stored, **tokens})


def _flat(entry: LedgerEntry) -> list[str]:
    return [part for pair in entry.fields.items() for part in pair]
