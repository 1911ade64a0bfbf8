"""The atomic step of a submission, alone or many in one round trip.

The step is `lua/submit.lua`: refuse a duplicate, hold the money in every scope or park or
refuse the task, take a slot in the best-ranked pool that has room or wait in the overflow
queue, write the record, push the message. What it needs is prepared by the caller, so that
nothing is computed twice inside Redis.
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
"""Some 25 us of Redis's time each: longer scripts would hold up others."""


@dataclass(frozen=True, slots=True)
class Route:
    """The part of the step that submissions of one plan share: keys, and the rules as text.

    With `pinned` they go to the one pool and no other. `version` is that of the policy under
    which the plan was made. `money` are the arguments by which their money is held.
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
    """One task, ready to be written. `plan` is kept with it and explains it later.

    `not_before` says when it may be queued: "" for now, "+MS" from now on, or ms since 1970.
    """

    task_id: str
    message: str
    route: Route
    plan: str
    tenant: str
    idempotency_key: str | None = None
    fingerprint: str = ""
    not_before: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """What the step did: see the head of `lua/submit.lua` for `status` and `detail`.

    `chosen` and `because` are told of a task that was not written: see `TaskRecord`.
    """

    status: str
    detail: str
    loads: str
    chosen: str = ""
    because: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What one run of the script answered.

    `placed` is empty where the plan was made under another version of the policy than the
    one in force, `version`: nothing was written then. `now` is Redis's clock in seconds. `models`
    are the fields and values of what is known of the models, None where that was not asked for.
    `replicas` have what was placed; None where nobody waited for them.
    """

    version: str
    now: float
    models: Sequence[bytes] | None
    placed: tuple[Placed, ...]
    replicas: int | None = None


class Unplaced(NamedTuple):
    """Why a run of the script gave no answer, and whether it may have been done all the same."""

    error: FleetError
    may_be_written: bool


class RankedPool(NamedTuple):
    """A pool as a plan ranks it: its queue, its rule, and the overflow queue of its own type
    where it only helps the type of the task."""

    name: str
    queue: str
    base: float
    per_task: float
    per_load: float
    own_overflow: str = ""


class MaxWaiting(NamedTuple):
    """How many tasks may wait for a slot in one queue, and how many of a tenant may wait in all."""

    per_queue: int
    per_tenant: int


class Replicas(NamedTuple):
    """How many replicas are waited for, and how long at most."""

    least: int = 0
    wait_ms: int = 0


class Submissions(Store):
    """Sends entries to Redis."""

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
    ) -> Route:
        """Lay out the ranked pools for the script."""
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
        return Route(
            tuple(keys), ";".join(rows), names, request_type, version, money.arguments, pinned
        )

    def place(self, entry: Entry, ask_models: bool = False) -> Step:
        """Submit one task, in one round trip. `ask_models` brings the models' facts along."""
        if self.replicas.least:
            ((_, step),) = self.place_many([entry], ask_models)
            if isinstance(step, Unplaced):
                raise step.error
            return step
        with redis_errors(self.client):
            return _step(self._submit([entry], entry.route, None, ask_models))

    def place_none(self, route: Route, tenant: str) -> Placed:
        """Where a task of a tenant would be placed now. Nothing is written. Raises `Unavailable`
        where the policy has changed since the route was planned."""
        with redis_errors(self.client):
            step = _step(self._submit([], route, None, ask_models=False, tenant=tenant))
        if not step.placed:
            raise Unavailable("the policy has changed in this moment; ask again")
        return step.placed[0]

    def check_writes(self) -> None:
        """Raise `Unavailable` where Redis takes no writes now. Writes nothing itself."""
        with redis_errors(self.client):
            self.client.zadd(self.keys.tasks, {"": 0}, xx=True)

    def place_many(
        self, entries: Sequence[Entry], ask_models: bool = False, *, whole: bool = False
    ) -> list[tuple[Sequence[Entry], Step | Unplaced]]:
        """Submit many tasks in one round trip: those in a row that share a plan in one script, or
        all in one where it is to be the `whole` of them or nothing.

        The answer has each such run of entries with its step, in order. Where a whole is refused,
        the last of its answers says why. Where nothing was sent, the error is raised.
        """
        groups = [entries] if whole else list(_groups(entries))
        with self.client.pipeline(transaction=False) as pipeline:
            for number, group in enumerate(groups):
                if whole:
                    self._submit_whole(group, pipeline, ask_models)
                else:
                    self._submit(group, group[0].route, pipeline, ask_models and number == 0)
            if self.replicas.least:
                # A submission that is sent again, since its answer was lost, writes nothing and
                # would wait for nothing. What is written here comes after it in any case.
                pipeline.incr(self.keys.replicated)
                pipeline.wait(*self.replicas)
            with redis_errors(self.client):
                # `execute` would do it. An error of this is none of the sending.
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

    def _read(self, answer: Any, replicas: Any) -> Step | Unplaced:
        refused = self._refused(answer)
        if refused is not None:
            # The script is all or nothing: what it was refused, it has not begun.
            return Unplaced(refused, may_be_written=False)
        unheard = self._refused(replicas)
        if unheard is not None:
            # The script was done, and nobody may ask which replicas have what it wrote.
            return Unplaced(unheard, may_be_written=True)
        return _step(answer, replicas)

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
        route: Route,
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
        route: Route,
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
    """Runs of entries that share a plan, short enough not to hold up others in Redis."""
    start = 0
    for end in range(1, len(entries) + 1):
        full = end - start == MAX_IN_A_SCRIPT
        if end == len(entries) or full or entries[end].plan is not entries[start].plan:
            yield entries[start:end]
            start = end


def _step(answer: Sequence[Any], replicas: int | None = None) -> Step:
    version, now_ms, models, *placed = answer
    return Step(
        text(version),
        int(now_ms) / 1000,
        None if models is None else list(models),
        tuple(Placed(*(text(part) for part in each)) for each in placed),
        replicas,
    )
