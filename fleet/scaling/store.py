"""Scaling in Redis: everything that a decision depends on, the decisions, and their history.

`lua/scaling.lua` reads all pools at one moment, `lua/size.lua` notes the decision on one of them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from redis import Redis

from fleet.budgets.controls import Controls
from fleet.budgets.rules.refusals import Refusal
from fleet.policy.fields import SCALING, SIZE, field_name
from fleet.policy.rules import SetSize
from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys, line, lists
from fleet.redis.scripts import Scripts, text
from fleet.redis.store import Store
from fleet.scaling.rules.arrivals import LONG_TERM, RECENT
from fleet.scaling.rules.readings import (
    AgentReading,
    Depth,
    Occupied,
    PoolReading,
    Reading,
    Refused,
    Remembered,
)
from fleet.scaling.rules.values import Sized
from fleet.settings import Settings

DRAINED_MS = 2000
"""An agent ends no sooner after its drain: by then what it had fetched before has begun."""
UNCHANGED_MS = 700
"""Longer than an agent takes to report a change of what it runs."""
REPORT_SECONDS = 10.0
"""A supervisor that has said nothing for so long starts no workers."""
LONG_TERM_SECONDS = 60.0
MAX_READS = 4
"""Each further read knows the agents of the one before."""
ALIVE = ("idle", "busy", "maintenance")


class HistoryEntry(NamedTuple):
    """A decision that changed the size of a pool. `at` in seconds since 1970."""

    at: float
    pool: str
    before: int
    workers: int
    policy: str
    reasons: tuple[str, ...]
    queued: int
    running: int
    ready: int


class Note(NamedTuple):
    """A decision on a pool, ready to write.

    `known` is the time of the last decision, as it was read. `counts` are to be added to the
    arrivals, `drops` removed from them. `entry` is for the history, empty where nothing changed.
    `agents` says for agents whether to `drain`, `resume` or `end` them.
    """

    pool: str
    known: str
    fields: Mapping[str, str]
    counts: Mapping[str, int]
    drops: Sequence[str]
    entry: Mapping[str, str]
    agents: Sequence[tuple[str, str]]
    vouched_seconds: float


class ScalingStore(Store):
    """Reads and writes what scaling knows. `history` is about how many decisions are kept."""

    def __init__(self, client: Redis, keys: Keys, scripts: Scripts, settings: Settings) -> None:
        super().__init__(client, keys, scripts)
        self.settings = settings
        #: The agents that the last read has seen. The script needs their names.
        self._agents: tuple[str, ...] = ()
        #: The arrivals of long ago, by pool, and when they were read: they hardly change.
        self._long_term: dict[str, dict[str, int]] = {}
        self._long_term_at = -math.inf

    def read(self, controls: Controls) -> Reading:
        """All pools and agents at one moment. One round trip, and one more if agents have come.

        `controls` are the limits in force, as far as the caller knows them. The arrivals of long
        ago are read again each minute.
        """
        asked_at = time.monotonic()
        wants_all = asked_at - self._long_term_at > LONG_TERM_SECONDS
        for _ in range(MAX_READS):
            with redis_errors(self.client):
                now_ms, version, ids, on_hold, pools, agents = self.scripts.scaling(
                    keys=self._keys(), args=self._arguments(controls, wants_all)
                )
            asked, self._agents = self._agents, tuple(sorted(map(text, ids)))
            if set(self._agents) <= set(asked):
                break
        now = int(now_ms) / 1000
        found_pools = {
            name: _pool(name, now, row)
            for name, row in zip(self.settings.config.pools, pools, strict=True)
        }
        if wants_all:
            self._long_term_at = asked_at
            self._long_term = {
                name: LONG_TERM.kept_of(pool.arrivals, now) for name, pool in found_pools.items()
            }
        dead_after = self.settings.config.leases.dead_after_seconds
        found = [_agent(each, now, row) for each, row in zip(asked, agents, strict=True)]
        return Reading(
            now=now,
            version=text(version),
            on_hold=int(on_hold),
            pools={
                name: replace(pool, arrivals={**self._long_term[name], **pool.arrivals})
                for name, pool in found_pools.items()
            },
            agents=tuple(
                each
                for each in found
                if each is not None and each.status in ALIVE and each.heartbeat_age < dead_after
            ),
        )

    def _keys(self) -> list[str]:
        keys = [self.keys.policy, self.keys.money, self.keys.parked, self.keys.agents]
        for name in self.settings.config.pools:
            pool = self.keys.pool(name)
            keys += [pool.facts, pool.in_flight, pool.scaling, pool.arrivals, pool.starting]
            keys.append(pool.starter)
        for name, pool_config in self.settings.config.pools.items():
            overflow = self.settings.overflow_queue(pool_config.agent_type)
            for each in (*lists(self.settings.queue(name)), *lists(overflow)):
                keys += [each, line(each)]
        return keys + [self.keys.agent(agent) for agent in self._agents]

    def _arguments(self, controls: Controls, wants_all: bool) -> list[str | int]:
        arguments: list[str | int] = [len(self.settings.config.pools), len(lists(""))]
        arguments += [int(wants_all), RECENT.letter, RECENT.seconds, RECENT.kept]
        for name, pool in self.settings.config.pools.items():
            scope = f"agent_type:{pool.agent_type}"
            limits = controls.limits
            arguments += [scope, limits.packed("all"), limits.packed(scope)]
            arguments += [field_name(SIZE, name), field_name(SCALING, name)]
            arguments.append(field_name(SCALING, ""))
        return arguments

    def write(self, notes: Iterable[Note]) -> dict[str, tuple[str, ...] | None]:
        """Write decisions, in one round trip; for each pool the ids of the agents that may end now.

        None for a pool on which somebody else has decided meanwhile: nothing was written for it.
        """
        noted = list(notes)
        with redis_errors(self.client), self.client.pipeline(transaction=False) as pipeline:
            for note in noted:
                self._note(note, pipeline)
            answers = pipeline.execute()
        return {
            note.pool: None if answer is None else tuple(map(text, answer))
            for note, answer in zip(noted, answers, strict=True)
        }

    def _note(self, note: Note, pipeline: Any) -> None:
        pool = self.keys.pool(note.pool)
        keys = [pool.scaling, pool.arrivals, self.keys.scaling_history, pool.agents, pool.facts]
        keys += [self.keys.agent(agent) for agent, _ in note.agents]
        decision = {
            "known": note.known,
            "fields": _flat(note.fields),
            "counts": _flat(note.counts),
            "drops": list(note.drops),
            "entry": _flat(note.entry),
        }
        arguments: list[str | int] = [json.dumps(decision), self.settings.config.scaling.history]
        arguments += [round(note.vouched_seconds * 1000), DRAINED_MS, UNCHANGED_MS]
        arguments += [part for change in note.agents for part in change]
        self.scripts.size(keys=keys, args=arguments, client=pipeline)

    def order(self, pool: str, workers: int) -> None:
        """Note how many workers the supervisors of local processes should run. One call."""
        with redis_errors(self.client):
            self.client.hset(self.keys.pool(pool).scaling, "ordered", workers)

    def history(self, most: int, pool: str = "") -> list[HistoryEntry]:
        """The newest decisions that changed something, newest first, of one pool or of all. One
        call."""
        kept = self.settings.config.scaling.history
        with redis_errors(self.client):
            found: Any = self.client.xrevrange(
                self.keys.scaling_history, count=2 * kept if pool else most
            )
        entries = (_entry(text(entry_id), fields) for entry_id, fields in found)
        return [entry for entry in entries if pool in ("", entry.pool)][:most]


def _flat(pairs: Mapping[str, Any]) -> list[str]:
    return [str(part) for pair in pairs.items() for part in pair]


def _hash(flat: Sequence[Any]) -> dict[str, str]:
    return {text(name): text(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _pool(name: str, now: float, row: Sequence[Any]) -> PoolReading:
    cells: Iterator[Any] = iter(row)
    maintenance, claimed, occupied, provider, in_flight = (next(cells) for _ in range(5))
    own, overflow = (_depth(now, next(cells), next(cells)) for _ in range(2))
    without_room, set_size, set_policy, common = (text(next(cells)) for _ in range(4))
    scaling, arrivals, starting = (_hash(next(cells)) for _ in range(3))
    return PoolReading(
        name=name,
        maintenance=bool(text(maintenance)),
        claimed=int(claimed),
        occupied=_occupied(text(occupied)),
        refused=_refused(text(provider), now),
        in_flight=int(in_flight),
        own=own,
        overflow=overflow,
        without_room=Refusal.parse(without_room).sentence if without_room else "",
        set_size=_set_size(set_size, now),
        set_policy=set_policy or common,
        remembered=_remembered(scaling),
        arrivals={field: int(count) for field, count in arrivals.items()},
        reported=sum(_reported(each, now) for each in starting.values()),
        is_followed=bool(next(cells)),
    )


def _depth(now: float, messages: Any, oldest_us: Any) -> Depth:
    came = text(oldest_us)
    return Depth(int(messages), max(0.0, now - int(came) / 1e6) if came else 0.0)


def _set_size(packed: str, now: float) -> int | None:
    if not packed:
        return None
    size = SetSize(*json.loads(packed))
    return size.workers if size.holds(now) else None


def _reported(packed: str, now: float) -> int:
    count, at_ms = packed.split(",")
    return int(count) if now - int(at_ms) / 1000 < REPORT_SECONDS else 0


def _refused(packed: str, now: float) -> Refused | None:
    if not packed:
        return None
    slots, at_ms = packed.split(",")
    return Refused(int(slots), max(0.0, now - int(at_ms) / 1000))


def _occupied(packed: str) -> Occupied:
    return Occupied(*map(float, packed.split(","))) if packed else Occupied()


def _remembered(fields: Mapping[str, str]) -> Remembered:
    if "desired" not in fields:
        return Remembered(known=fields.get("at", ""), ordered=_number(fields.get("ordered")))
    return Remembered(
        at=int(fields["at"]) / 1000,
        known=fields["at"],
        desired=int(fields["desired"]),
        policy=fields["policy"],
        reasons=tuple(json.loads(fields["reasons"])),
        history=tuple(Sized(*each) for each in json.loads(fields["history"])),
        counted=int(fields["counted"]),
        occupied=_occupied(fields["occupied"]),
        service=_occupied(fields["service"]),
        start_seconds=float(fields["start_seconds"]),
        ordered=_number(fields.get("ordered")),
    )


def remembered_fields(kept: Remembered) -> dict[str, str]:
    """The stored form of what the next decision needs; the script adds its time."""
    return {
        "desired": str(kept.desired),
        "policy": kept.policy,
        "reasons": json.dumps(kept.reasons),
        "history": json.dumps(kept.history),
        "counted": str(kept.counted),
        "occupied": _packed(kept.occupied, str),
        "service": _packed(kept.service, repr),
        "start_seconds": f"{kept.start_seconds:.3f}",
    }


def _packed(found: Occupied, form: Callable[[float], str]) -> str:
    return ",".join(map(form, found))


def _number(packed: str | None) -> int | None:
    return None if packed is None else int(packed)


def _agent(agent_id: str, now: float, row: Sequence[Any]) -> AgentReading | None:
    pool, status, running, heartbeat, registered, start, leaving, supervised = map(
        text, row
    )
    if not status:
        return None
    return AgentReading(
        id=agent_id,
        pool=pool,
        status=status,
        running=int(running),
        heartbeat_age=max(0.0, now - int(heartbeat) / 1000),
        registered=int(registered) / 1000,
        start_seconds=float(start) if start else None,
        leaving=leaving,
        supervised=bool(supervised),
    )


def history_fields(entry: HistoryEntry) -> dict[str, str]:
    """The stored form of an entry of the history; its id has the time."""
    found = {name: str(value) for name, value in entry._asdict().items() if name != "at"}
    return {**found, "reasons": json.dumps(entry.reasons)}


def _entry(entry_id: str, fields: Mapping[Any, Any]) -> HistoryEntry:
    found = {text(name): text(value) for name, value in fields.items()}
    numbers = {
        name: int(found[name]) for name in ("before", "workers", "queued", "running", "ready")
    }
    reasons = tuple(json.loads(found["reasons"]))
    at = int(entry_id.partition("-")[0]) / 1000
    return HistoryEntry(at=at, **{**found, **numbers, "reasons": reasons})  # type: ignore[arg-type]
