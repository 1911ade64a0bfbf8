"""The model calls of running tasks. Each call is admitted before it is made, and settled after.

    admit.lua    reserves the upper bound of a call's cost, or refuses the call
    usage.lua    charges the actual cost to the task, the ledger and the counters, and saves the
                 answer as a checkpoint
    save.lua     saves any other checkpoint

If a worker dies between admission and settlement, the script that ends the run charges the call at
its upper bound. If its usage arrives later, a correction follows.
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
from fleet.tasks.checkpoints_store import MAX_NAMES, Checkpoint, parse_checkpoints
from fleet.tasks.model_call import ModelCall
from fleet.tasks.store import Lease

COPY_SECONDS = 3600
"""How long copied checkpoints are kept if their task is never submitted."""


class LimitBasis(NamedTuple):
    """The assumptions behind a call's upper bound.

    `record` is the packed record of its model's output limit, '' for none, `*` if it does not
    matter. `nanodollars` and `tokens` are what the call may take if the model ignores its limit, ''
    if that is not in doubt. A turn lasts at most `turn_ms`.
    """

    record: str = "*"
    nanodollars: int | str = ""
    tokens: int | str = ""
    turn_ms: int = 0


NO_BASIS = LimitBasis()


class KeyPlace(NamedTuple):
    """The place of a call among those in flight with its provider's key.

    `most` is the key's bound of calls of a model, and `daily_nanodollars` its budget for a UTC day,
    '' for none. A place that is not freed lasts `ms`. With `may_queue` a call without a place keeps
    its turn while it waits. An empty `id` is for a model without keys.
    """

    id: str = ""
    most: int | str = ""
    daily_nanodollars: int | str = ""
    ms: int = 0
    may_queue: int = 0


NO_PLACE = KeyPlace()


class LeftPlace(NamedTuple):
    """A place that is freed, which was taken with `bound_nanodollars`.

    The `outcome` is what its call shows of the key: `answered`, `refused` if the provider serves no
    more calls at once, or '' if neither shows. The provider asks for a wait of `retry_ms`.
    """

    place: KeyPlace = NO_PLACE
    bound_nanodollars: int = 0
    outcome: str = ""
    retry_ms: int = 0


NONE_LEFT = LeftPlace()


class Busy(NamedTuple):
    """The key has no place now. Ask again after so many seconds."""

    seconds: float


class CallTurn(NamedTuple):
    """Admission one call at a time, while a model may ignore its limit and money is short.

    With `is_mine` this call is admitted; else it has to wait.
    """

    is_mine: bool


class LimitChanged(NamedTuple):
    """The record of the model's limit has changed to `record`, None for no record."""

    record: LimitRecord | None


class Settled(NamedTuple):
    """What the task has `spent` so far, in nano-dollars, and whether the call's answer was saved.
    It is not saved if it is too large or has no name. `is_paced`: the provider refused the call,
    and serves others with the same key; later calls keep to what it allows."""

    spent: int
    is_saved: bool
    is_paced: bool = False


class ModelCallStore(Store):
    """Admits and settles model calls, and saves checkpoints. Every method is one call to Redis.

    `number` counts the calls of a run. A task may save `max_saved_bytes` in total, names included.
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
        place: KeyPlace = NO_PLACE,
    ) -> Refusal | str | CallTurn | LimitChanged | Busy | None:
        """Reserve the upper bound of a call, the tokens and the cost of `bound`, and its place.

        Gives None if the call is admitted; a `Turn` if calls of the model take turns; the `Refusal`
        of a limit without room, also of the key's budget; `Busy` if the key has no place; the
        current version of the policy if `limits` are of another one; `LimitChanged` if the record
        in `basis` is out of date. Raises `LeaseLost` if another run has the task.
        """
        entry = bound.lost.ledger_entry(lease, number, LOST)
        arguments: Arguments = [lease.task_id, lease.fence, entry.call, limits.version]
        arguments += [bound.cost_nanodollars, bound.input_tokens + bound.output_tokens]
        arguments += [_of_the_task(lease, limits), _if_lost(entry, bound.lost)]
        arguments += [*limits.scopes, limits.model, lease.tenant, lease.agent_type, bound.model]
        arguments += [*basis, *place]
        keys = [self.keys.task(lease.task_id), self.keys.policy, self.keys.money]
        keys += [self.keys.reservations, self.keys.open_steps, self.keys.models]
        keys += self.keys.places(place.id, bound.model)
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
        if status == "busy":
            return Busy(int(detail) / 1000)
        return CallTurn(is_mine=status == "admitted") if detail or status == "turn" else None

    def leave_queue(self, lease: Lease, number: int, model: str, place: KeyPlace) -> None:
        """Wait no longer for a place."""
        queue = self.keys.places(place.id, model).queue
        with redis_errors(self.client):
            self.client.zrem(queue, f"{lease.task_id} {lease.fence}.{number}")

    def settle(
        self,
        lease: Lease,
        number: int,
        call: ModelCall,
        save_as: str = "",
        answer: str = "",
        left: LeftPlace = NONE_LEFT,
    ) -> Settled:
        """Charge one model call, exactly once: in the task's record, the ledger and the counters.

        With `save_as`, the same script saves the answer, JSON, as a checkpoint. The cost is certain
        if the call's `usage` was seen. The script frees the place that is `left`. The time of the
        call is Redis's. Raises `LeaseLost` if the answer cannot be saved because another run has
        the task; the call is charged even then.
        """
        entry = call.ledger_entry(lease, number)
        arguments: Arguments = [call.input_tokens, call.output_tokens, call.cost_nanodollars]
        arguments += [1 - entry.certain, entry.call, call.stored]
        arguments += [call.model if call.answered else "", lease.task_id]
        arguments += [lease.tenant, lease.agent_type, call.model, lease.fence, save_as, answer]
        place = left.place
        arguments += [self.max_saved_bytes, place.id, *left[1:], place.ms, place.most]
        arguments += _flat(entry)
        keys = [self.keys.task(lease.task_id), self.keys.ledger, self.keys.money]
        keys += [self.keys.reservations, self.keys.open_steps, self.keys.corrections]
        keys += [self.keys.saved(lease.task_id), *self.keys.places(place.id, call.model)[:2]]
        with redis_errors(self.client):
            spent, kept, is_paced = self.scripts.usage(keys=keys, args=arguments)
        if text(kept) == "lost":
            raise _lost(lease)
        return Settled(int(spent), text(kept) == "saved", bool(is_paced))

    def save(self, lease: Lease, name: str, value: str) -> None:
        """Save a value, as JSON. Raises `LeaseLost` if another run has the task, and
        `CheckpointTooLarge` if the task would exceed what it may save."""
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

    def saved(self, task_id: str) -> tuple[Checkpoint, ...]:
        """The checkpoints of a task, oldest first; empty if it ended other than as a dead
        letter."""
        with redis_errors(self.client):
            found = self.client.hgetall(self.keys.saved(task_id))
        return parse_checkpoints([part for pair in found.items() for part in pair])

    def carry(self, task_id: str, new_id: str) -> bool:
        """Copy the checkpoints of a dead letter to the task that will retry it. False if there are
        none, or if that task already exists."""
        keys = [self.keys.saved(task_id), self.keys.saved(new_id), self.keys.task(new_id)]
        with redis_errors(self.client):
            return bool(self.scripts.carry(keys=keys, args=[COPY_SECONDS]))


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"another run has task {lease.task_id} now; stop without writing")


def _of_the_task(lease: Lease, limits: CallLimits) -> str:
    dollars = lease.limit_nanodollars
    own = [] if dollars is None else [f"t1={dollars}"]
    return ";".join([*own, *([limits.task] if limits.task else [])])


def _if_lost(entry: LedgerEntry, lost: ModelCall) -> str:
    """What is charged if the call is never settled, as JSON."""
    tokens = {"input": entry.input, "output": entry.output}
    return json.dumps({"entry": _flat(entry), "step": lost.stored, **tokens})


def _flat(entry: LedgerEntry) -> list[str]:
    return [part for pair in entry.fields.items() for part in pair]
