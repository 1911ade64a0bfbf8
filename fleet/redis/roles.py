"""The roles of Redis users: which scripts each runs, and which keys it changes.

The commands of a role are those of its scripts, read from their sources, and those that Celery and
Fleet send beside them. A script's commands are checked one by one against the rights of the user
that runs it, so `EVALSHA` itself gives nothing away. No role may send `EVAL`, except KEDA.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from fleet.redis.scripts import NAMES, source

CALLED = re.compile(r"redis\.call\('([A-Z]+)'")

READS = frozenset(
    "EXISTS GET HEXISTS HGET HGETALL HKEYS HLEN HMGET HSCAN HSTRLEN HVALS LINDEX LLEN LRANGE MGET "
    "PTTL SCARD SISMEMBER SMEMBERS SMISMEMBER TTL TYPE XLEN XRANGE XREVRANGE ZCARD ZCOUNT ZMSCORE "
    "ZRANGE ZRANGEBYSCORE ZREVRANGE ZREVRANGEBYSCORE ZSCORE".split()
)
"""Commands that change nothing."""
WITHOUT_KEYS = frozenset({"PUBLISH", "TIME"})
BY_CLIENTS = frozenset(
    "BRPOP DEL HDEL HINCRBY HSET HSETNX INCR INCRBY LPUSH LTRIM RPUSH SET XADD ZADD ZREM".split()
)
"""Commands that stores and kombu send without a script, beside those that only read."""
BY_CELERY = frozenset(
    "BRPOP DECR DEL EXISTS EXPIRE GET INCR LLEN LPUSH LRANGE MGET RPOP RPUSH SADD SET SETEX SMEMBERS "
    "SREM TTL TYPE WATCH ZADD ZCOUNT ZRANGE".split()
)
"""Commands with which Celery and kombu keep results, routes and the queues of remote control."""
ANYONE = ("+evalsha", "+script|load", "+script|exists", "+time", "+wait", "+multi", "+exec")
APPENDS = ("+xadd",)


@dataclass(frozen=True, slots=True)
class Grant:
    """Commands that a role may run on keys. `keys` are patterns as ACL rules have them, such as
    `~{fleet}:task:*`, or `%R~...` for reading alone."""

    commands: tuple[str, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of process, with the rights that it needs.

    `scripts` are those that it runs, `changes` the keys that it changes, `appends` the streams to
    which it only appends, without the fleet's tag. `reads` are keys that it reads; all, unless it
    names some. `sends` and `hears` are channels of Celery's: remote control and events.
    """

    name: str
    purpose: str
    scripts: frozenset[str]
    changes: tuple[str, ...] = ()
    appends: tuple[str, ...] = ()
    reads: tuple[str, ...] = ("*",)
    counts: tuple[str, ...] = ()
    celery: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
