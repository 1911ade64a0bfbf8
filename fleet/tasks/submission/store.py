"""The atomic script of a submission, for one task or many in one round trip.

`lua/submit.lua` refuses a duplicate; reserves the money in every scope, or puts the task on hold or
refuses it; takes a slot in the best-ranked pool with room, or waits in the overflow queue; writes
the record; and pushes the message. The caller prepares the arguments, so that Redis computes
nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis import Redis

from fleet.budgets.reservation import MoneyRules
from fleet.errors import FleetError, Unavailable
from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys, line, wake
from fleet.redis.scripts import Scripts, text
from fleet.redis.store import Store

ONCE_SECONDS = 86400
"""How long an idempotency key is remembered: a day, as payment providers do."""

MAX_IN_A_SCRIPT = 100
"""Tasks in one script, some 25 us of Redis's time each: longer scripts would delay others."""


@dataclass(frozen=True, slots=True)
class ScriptRoute:
    """The script arguments that submissions of one plan share: keys, and the rules as text.

    With `pinned` the tasks may use only the one pool. `version` is the policy's version at
    planning. `money` are the arguments of the reservation.
    """

    keys: tuple[str, ...]
    rules: str
    pools: tuple[str, ...]
    request_type: str
    version: str
    money: Sequence[str | int]
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One task, ready to write. `plan` is stored with the task.

    `not_before` is the earliest time of queueing: "" for now, "+MS" from now, or ms since 1970.
    """

    task_id: str
    message: str
    route: ScriptRoute
    plan: str
    tenant: str
    idempotency_key: str | None = None
    fingerprint: str = ""
    not_before: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """The outcome for one task: the head of `lua/submit.lua` explains `status` and `detail`.

    `chosen` and `reason` are set for a dry run: see `chosen` and `because` of `TaskRecord`.
    """

    status: str
    detail: str
    loads: str
    chosen: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SubmitAnswer:
    """The answer of one call of the script.

    `placed` is empty if the plan is of another version of the policy than the current `version`:
    nothing was written. `now` is Redis's clock in seconds. `models` are the fields and values of
    the facts about models, None if not requested. `replicas` is the number of replicas that have
    the tasks, None without waiting for replicas.
    """

    version: str
    now: float
    models: Sequence[bytes] | None
    placed: tuple[Placed, ...]
    replicas: int | None = None


class Unplaced(NamedTuple):
    """Why a call of the script gave no answer, and whether it may have written all the same."""

    error: FleetError
    may_be_written: bool


class RankedPool(NamedTuple):
    """A ranked pool: its queue, its rule, and, for spillover, the overflow queue of its own agent
    type."""

    name: str
    queue: str
    base: float
    per_task: float
    per_load: float
    own_overflow: str = ""


class MaxWaiting(NamedTuple):
    """The bounds on waiting tasks: in one queue, and of one tenant in all queues."""

    per_queue: int
    per_tenant: int


class Replicas(NamedTuple):
    """How many replicas to wait for, and for how long at most."""

    least: int = 0
    wait_ms: int = 0


class Submissions(Store):
    """Writes entries to Redis."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        scripts: Scripts,
        dead_after_seconds: float,
        max_waiting: MaxWaiting,
        replicas: Replicas = Replicas(),  # noqa: B008 - it cannot be changed
    ) -> None:
        super().__init__(client, keys, scripts)
        self.dead_after_ms = int(dead_after_seconds * 1000)
        self.max_waiting = max_waiting
        self.replicas = replicas

    def route(
        self,
        overflow_queue: str,
        pools: Sequence[RankedPool],
        request_type: str,
        version: str,
        money: MoneyRules,
        pinned: bool = False,
    ) -> ScriptRoute:
        """Build the shared script arguments for ranked pools."""
        keys = [self.keys.policy, self.keys.models, self.keys.money, self.keys.tasks]
        keys += [self.keys.reservations, self.keys.parked, self.keys.delayed, self.keys.waiting]
        keys += [overflow_queue, wake(overflow_queue), line(overflow_queue)]
        rows = []
        for name, queue, base, per_task, per_load, own_overflow in pools:
            pool = self.keys.pool(name)
            keys += [pool.facts, pool.agents, pool.in_flight, queue, wake(queue)]
            keys += [own_overflow or overflow_queue, line(queue)]
            rows.append(f"{name},{base!r},{per_task!r},{per_load!r},{int(bool(own_overflow))}")
        names = tuple(pool.name for pool in pools)
        return ScriptRoute(
            tuple(keys), ";".join(rows), names, request_type, version, money.arguments, pinned
        )

    def place(self, entry: Entry, ask_models: bool = False) -> SubmitAnswer:
        """Submit one task, in one round trip. `ask_models` requests the facts about models too."""
        if self.replicas.least:
            ((_, step),) = self.place_many([entry], ask_models)
            if isinstance(step, Unplaced):
                raise step.error
            return step
        with redis_errors(self.client):
            return _submit_answer(self._submit([entry], entry.route, None, ask_models))

    def place_none(self, route: ScriptRoute, tenant: str) -> Placed:
        """Where a task of a tenant would be placed now. Writes nothing. Raises `Unavailable` if the
        policy has changed since the planning."""
        with redis_errors(self.client):
            step = _submit_answer(self._submit([], route, None, ask_models=False, tenant=tenant))
        if not step.placed:
            raise Unavailable("the policy has just changed; try again")
        return step.placed[0]

    def check_writes(self) -> None:
        """Raise `Unavailable` if Redis accepts no writes now. Writes nothing itself."""
        with redis_errors(self.client):
            self.client.zadd(self.keys.tasks, {"": 0}, xx=True)

    def place_many(
        self, entries: Sequence[Entry], ask_models: bool = False, *, whole: bool = False
    ) -> list[tuple[Sequence[Entry], SubmitAnswer | Unplaced]]:
        """Submit many tasks in one round trip.

        Consecutive entries that share a plan go into one script; with `whole` all entries go into
        one script, which writes all or none. Gives each group of entries with its answer, in order.
        If a whole is refused, its last answer has the reason. Raises the error if nothing was sent.
        """
        groups = [entries] if whole else list(_groups(entries))
        with self.client.pipeline(transaction=False) as pipeline:
            for number, group in enumerate(groups):
                if whole:
                    self._submit_whole(group, pipeline, ask_models)
                else:
                    self._submit(group, group[0].route, pipeline, ask_models and number == 0)
            if self.replicas.least:
                # A repeated submission writes nothing, so WAIT alone would not wait for the
                # original. This write comes after the original in any case.
                pipeline.incr(self.keys.replicated)
                pipeline.wait(*self.replicas)
            with redis_errors(self.client):
                # `execute` would load them too, but an error here must not count as one of sending.
                pipeline.load_scripts()  # type: ignore[no-untyped-call]
                pipeline.scripts.clear()
            try:
                with redis_errors(self.client):
                    answers = pipeline.execute(raise_on_error=False)
            except FleetError as error:
                return [(group, Unplaced(error, may_be_written=True)) for group in groups]
        replicas = answers[-1] if self.replicas.least else None
        return [
            (group, self._read(answer, replicas))
            for group, answer in zip(groups, answers[: len(groups)], strict=True)
        ]

    def _read(self, answer: Any, replicas: Any) -> SubmitAnswer | Unplaced:
        refused = self._refused(answer)
        if refused is not None:
            # The script is all or nothing: Redis refused it before it began.
            return Unplaced(refused, may_be_written=False)
        unconfirmed = self._refused(replicas)
        if unconfirmed is not None:
            # The script has run, but Redis refused WAIT: the number of replicas is unknown.
            return Unplaced(unconfirmed, may_be_written=True)
        return _submit_answer(answer, replicas)

    def _refused(self, answer: Any) -> FleetError | None:
        try:
            with redis_errors(self.client):
                if isinstance(answer, Exception):
                    raise answer
        except FleetError as error:
            return error
        return None

    def _submit(
        self,
        entries: Sequence[Entry],
        route: ScriptRoute,
        client: Redis | None,
        ask_models: bool,
        tenant: str = "",
    ) -> Any:
        keys, arguments = self._parameters(entries, route, ask_models, tenant)
        return self.scripts.submit(keys=keys, args=arguments, client=client)

    def _submit_whole(self, entries: Sequence[Entry], client: Redis, ask_models: bool) -> None:
        plans = [
            self._parameters(group, group[0].route, ask_models) for group in _groups(entries)
        ]
        keys = [key for found, _ in plans for key in found]
        sizes = [size for names, given in plans for size in (len(names), len(given))]
        arguments = [argument for _, found in plans for argument in found]
        self.scripts.submit_whole(
            keys=keys, args=[len(plans), *sizes, *arguments], client=client
        )

    def _parameters(
        self,
        entries: Sequence[Entry],
        route: ScriptRoute,
        ask_models: bool,
        tenant: str = "",
    ) -> tuple[list[str], list[str | int]]:
        """The keys and the arguments of `submit.lua`."""
        keys = list(route.keys)
        arguments: list[str | int] = [
            route.version,
            int(ask_models),
            self.dead_after_ms,
            entries[0].plan if entries else "",
            route.request_type,
            int(route.pinned),
            len(route.pools),
            route.rules,
            *self.max_waiting,
            *route.money,
            tenant,
        ]
        for entry in entries:
            keys += self._task_keys(entry)
            keep = ONCE_SECONDS if entry.idempotency_key else 0
            arguments += [entry.task_id, entry.message, entry.tenant, keep, entry.fingerprint]
            arguments.append(entry.not_before)
        return keys, arguments

    def _task_keys(self, entry: Entry) -> tuple[str, str]:
        record = self.keys.task(entry.task_id)
        if entry.idempotency_key is None:
            return record, record
        return record, self.keys.once(entry.tenant, entry.idempotency_key)


def _groups(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Consecutive entries that share a plan, in groups short enough not to delay others in
    Redis."""
    start = 0
    for end in range(1, len(entries) + 1):
        full = end - start == MAX_IN_A_SCRIPT
        if end == len(entries) or full or entries[end].plan is not entries[start].plan:
            yield entries[start:end]
            start = end


def _submit_answer(answer: Sequence[Any], replicas: int | None = None) -> SubmitAnswer:
    version, now_ms, models, *placed = answer
    return SubmitAnswer(
        text(version),
        int(now_ms) / 1000,
        None if models is None else list(models),
        tuple(Placed(*(text(part) for part in each)) for each in placed),
        replicas,
    )
