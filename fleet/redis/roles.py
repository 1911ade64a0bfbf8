"""The roles of Redis users: which scripts each runs, which keys it changes, and the rule of that.

The commands of a role are those of its scripts, read from their sources, and those that Celery,
Kombu and the stores send beside them. Redis checks each command of a script against the rights of
the user that runs it, so `EVALSHA` alone gives nothing away. KEDA alone may send `EVAL`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from fleet.redis.keys import Keys, celery_keys, line, queue_keys
from fleet.redis.scripts import NAMES, source

CALLED = re.compile(r"redis\.call\('([A-Z]+)'")

READS = (
    *("EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "HSCAN", "HSTRLEN"),
    *("HVALS", "LINDEX", "LLEN", "LRANGE", "MGET", "PTTL", "SCARD", "SISMEMBER", "SMEMBERS"),
    *("SMISMEMBER", "TTL", "TYPE", "XLEN", "XRANGE", "XREVRANGE", "ZCARD", "ZCOUNT", "ZMSCORE"),
    *("ZRANGE", "ZRANGEBYSCORE", "ZRANK", "ZREVRANGE", "ZREVRANGEBYSCORE", "ZSCORE", "WATCH"),
)
"""Commands that change nothing."""
COUNTS = ("EXISTS", "HLEN", "LLEN", "SCARD", "TYPE", "XLEN", "ZCARD", "ZCOUNT", "ZSCORE")
"""Commands that show no content of a queue."""
WITHOUT_KEYS = ("PUBLISH", "TIME")
BY_STORES = (
    *("BRPOP", "DEL", "EXPIRE", "HDEL", "HSET", "INCR", "INCRBY", "LPUSH", "LTRIM", "RPUSH"),
    *("SET", "XADD", "XDEL", "ZADD", "ZREM"),
)
"""Commands that change keys of the fleet, and that stores and Kombu send without a script."""
BY_CELERY = (
    *("BRPOP", "DECR", "DEL", "EXISTS", "EXPIRE", "GET", "INCR", "LLEN", "LPUSH", "LRANGE", "MGET"),
    *("PEXPIRE", "RPOP", "RPUSH", "SADD", "SET", "SETEX", "SMEMBERS", "SREM", "TTL", "TYPE"),
    *("WATCH", "ZADD", "ZCOUNT", "ZRANGE", "ZRANGEBYSCORE", "ZREM"),
)
"""Commands on results, routes and the queues of remote control, Kombu's scripts included."""
BY_SCRIPTS = ("evalsha", "script|load", "script|exists", "time", "wait", "@transaction")
"""What a process that runs scripts sends. A script's commands need rights of their own."""
BY_CHANNELS = ("publish", "subscribe", "psubscribe", "unsubscribe", "punsubscribe")
KEDA_READS = ("HLEN", "LLEN", "TYPE")

SUBMITS = frozenset(
    {
        *("acknowledge", "audit", "cancel", "defer", "push", "rate", "rights", "snapshot"),
        *("submit", "submit_whole"),
    }
)
RUNS = frozenset(
    {
        *("admit", "alert", "begin", "carry", "claim", "clock", "close_circuit", "deliver"),
        *("drain", "due", "expire", "fetch", "finish", "follow", "forget", "free_slot"),
        *("heartbeat", "learn", "leave", "limit", "open_circuit", "orphan", "progress"),
        *("put_back", "put_on_hold", "refuse", "register", "release_task", "renew", "repair"),
        *("replace_key", "requeue", "requeue_on_shutdown", "restore", "retry", "revoke", "save"),
        *("shorten", "usage"),
    }
)
KEEPS_UP = frozenset(
    {
        *("alert", "begin_job", "clock", "deliver", "drain", "due", "eject", "expire", "forget"),
        *("free_slot", "limit", "missing", "orphan", "prune", "put_on_hold", "readmit", "reap"),
        *("recount", "refuse", "release_task", "repair", "republish", "requeue", "rescue"),
        *("restore", "rollup", "rotate", "scaling", "secret_processes", "shorten", "size"),
        *("take_lease", "trim", "trim_audit", "usage"),
    }
)
LOOKS = frozenset({"rights", "scaling", "snapshot"})


@dataclass(frozen=True, slots=True)
class Grant:
    """Commands that may run on keys. `keys` are patterns of an ACL rule: `~` and `%R~`."""

    commands: tuple[str, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of process, and what it needs: its scripts, and the keys that it touches."""

    name: str
    purpose: str
    scripts: frozenset[str]
    grants: Callable[[Keys, frozenset[str]], tuple[Grant, ...]]
    channels: tuple[str, ...] = ()
    """Channels that it sends to and hears, beside those of ends of tasks: `events`, `control`."""


def changes_of(scripts: Collection[str]) -> tuple[str, ...]:
    """The commands with which scripts and stores change keys."""
    called = {name for script in scripts for name in CALLED.findall(source(script))}
    return tuple(sorted({*called, *BY_STORES} - {*READS, *WITHOUT_KEYS}))


def _everything(keys: Keys) -> str:
    return f"~{keys.tag}*"


def _common(keys: Keys, scripts: frozenset[str], changed: tuple[str, ...]) -> tuple[Grant, ...]:
    """Of a process that takes part in Celery: it reads the whole fleet and appends to the audit.
    """
    commands = tuple(name for name in changes_of(scripts) if not name.startswith("X"))
    return (
        Grant(READS, (f"%R{_everything(keys)}",)),
        Grant(commands, tuple(f"~{key}" for key in (*changed, *queue_keys(keys.tag)))),
        Grant(("XADD",), (f"~{keys.audit}",)),
        Grant(("HINCRBY", "HSET"), (f"~{keys.audit_head}",)),
        Grant(BY_CELERY, tuple(f"~{key}" for key in celery_keys())),
    )


def _submitted(keys: Keys) -> tuple[str, ...]:
    """Keys that change when a task is submitted, cancelled or rated."""
    return (
        *(keys.task("*"), keys.tasks, keys.pool("*").in_flight, keys.waiting, keys.money),
        *(keys.reservations, keys.parked, keys.delayed, keys.once("*", "*"), keys.saved("*")),
        *(keys.cancelled, keys.deferred, keys.models, keys.change("*"), keys.replicated),
        keys.secret_processes,
    )


def _run(keys: Keys) -> tuple[str, ...]:
    """Keys that change when tasks run."""
    return (
        *(keys.pool("*").facts, keys.leases, keys.clock, keys.open_steps, keys.agent("*")),
        *(keys.agents, keys.pools, keys.dead, keys.corrections, keys.orphans),
        *(keys.alerted("*"), f"{keys.revoked}*", keys.places("*", "").facts),
    )


def _producer(keys: Keys, scripts: frozenset[str]) -> tuple[Grant, ...]:
    return _common(keys, scripts, _submitted(keys))


def _worker(keys: Keys, scripts: frozenset[str]) -> tuple[Grant, ...]:
    appended = (keys.ledger, keys.alerts, keys.examples)
    return (
        *_common(keys, scripts, (*_submitted(keys), *_run(keys), f"{keys.set_aside}*")),
        Grant(("XADD",), tuple(f"~{key}" for key in (*appended, keys.set_aside))),
    )


def _beat(keys: Keys, scripts: frozenset[str]) -> tuple[Grant, ...]:
    own = (
        *(f"{keys.beat}*", keys.health, keys.spend_report, keys.prices, keys.archives),
        *(keys.rollups, *_rollups(keys), keys.secrets, keys.rotations, keys.secret_set("*")),
    )
    appended = (keys.ledger, keys.alerts, keys.examples, keys.scaling_history)
    return (
        *_common(keys, scripts, (*_submitted(keys), *_run(keys), *own)),
        Grant(("XADD",), tuple(f"~{key}" for key in appended)),
        Grant(("XDEL", "XTRIM"), (f"~{keys.ledger}", f"~{keys.audit}")),
    )


def _rollups(keys: Keys) -> tuple[str, ...]:
    """Those of hours, of days, and how far they go."""
    return (keys.rollup("?" * 10), keys.rollup("*"), keys.rollup_cursor)


def _exporter(keys: Keys, scripts: frozenset[str]) -> tuple[Grant, ...]:
    """It reads no task, and of a queue only its index and how long it is."""
    shown = (
        *(keys.agents, keys.agent("*"), keys.pools, keys.pool("*").facts, keys.policy, keys.money),
        *(keys.reservations, keys.open_steps, keys.waiting, keys.parked, keys.delayed, keys.health),
        *(keys.beat, keys.beat_runs, keys.leases, keys.models, keys.prices, keys.spend_report),
        *(keys.dead, keys.clock, keys.rollups, keys.alerts, keys.scaling_history, keys.deferred),
        *(*_rollups(keys), f"{keys.set_aside}*", keys.tasks, *map(line, queue_keys(keys.tag))),
    )
    return (
        Grant(READS, tuple(f"%R~{key}" for key in shown)),
        Grant(COUNTS, tuple(f"%R~{key}" for key in (*queue_keys(keys.tag), f"{keys.tag}*"))),
    )


def _flower(keys: Keys, scripts: frozenset[str]) -> tuple[Grant, ...]:
    return _common(keys, scripts, (*_submitted(keys), f"{keys.revoked}*"))


def _keda(keys: Keys, scripts: frozenset[str]) -> tuple[Grant, ...]:
    """Its script needs `EVAL` on the keys that it counts, and there may only count."""
    counted = (*queue_keys(keys.tag), f"{keys.pool('*').facts}")
    return (
        Grant(("EVAL",), tuple(f"~{key}" for key in counted)),
        Grant(KEDA_READS, tuple(f"%R~{key}" for key in counted)),
    )


def _administrator(keys: Keys, scripts: frozenset[str]) -> tuple[Grant, ...]:
    commands = tuple(sorted({*READS, *changes_of(scripts)}))
    return (
        Grant(commands, (_everything(keys),)),
        Grant(BY_CELERY, tuple(f"~{key}" for key in celery_keys())),
    )


ALL = (
    Role("producer", "applications that submit", SUBMITS, _producer, ("events",)),
    Role("worker", "workers", SUBMITS | RUNS, _worker, ("events", "control")),
    Role("beat", "beat, and the jobs that it runs", SUBMITS | KEEPS_UP, _beat, ("events",)),
    Role("exporter", "`fleet service ops`: metrics and readiness", LOOKS, _exporter),
    Role(
        "flower",
        "Flower",
        SUBMITS | LOOKS | {"revoke"},
        _flower,
        ("events", "control"),
    ),
    Role("keda", "KEDA's Redis trigger", frozenset(), _keda),
    Role(
        "administrator",
        "the command line, and `fleet up`",
        frozenset(NAMES),
        _administrator,
        ("events", "control"),
    ),
)
ROLES = {role.name: role for role in ALL}
"""The roles by their names."""
