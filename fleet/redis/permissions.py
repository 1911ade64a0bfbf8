"""Checks the rights of the Redis user before a process starts to work.

A worker that lacks a right would retry forever. docs/brokers.md has the ACL rule that grants a user
exactly these rights.
"""

from __future__ import annotations

import json
import re

from fleet.errors import NotAllowed
from fleet.redis.client import redis_errors
from fleet.redis.keys import foreign_keys
from fleet.redis.scripts import NAMES, source, text
from fleet.redis.store import Store

CALLED = re.compile(r"redis\.call\('([A-Z]+)'")
BY_CELERY = ("SET", "GET", "DEL", "LPUSH", "RPOP", "BRPOP", "LLEN", "SADD", "SREM", "SMEMBERS")
WITHOUT_KEYS = ("MULTI", "EXEC", "TIME", "WATCH", "UNWATCH")
MAX_NAMED = 5


class Permissions(Store):
    """Checks the rights of the client's own user."""

    def check(self) -> None:
        """Raise `NotAllowed`, with the refused commands, if the user lacks a right."""
        with redis_errors(self.client):
            found = self.scripts.rights(keys=[], args=[json.dumps(self._commands())])
        refused = [text(each) for each in found]
        if not refused:
            return
        more = f" and {len(refused) - MAX_NAMED} more" if len(refused) > MAX_NAMED else ""
        raise NotAllowed(
            f"the Redis user may not run: {'; '.join(refused[:MAX_NAMED])}{more}. Give it the "
            "rights that docs/brokers.md names, or name another user in FLEET_BROKER_URL"
        )

    def _commands(self) -> list[list[str]]:
        key, channel = self.keys.tasks, self.keys.done("ID")
        called = {name for script in NAMES for name in CALLED.findall(source(script))}
        rows = [_with_key(name, key, channel) for name in sorted({*called, *BY_CELERY})]
        rows += [[name, found] for found in foreign_keys() for name in BY_CELERY]
        rows += [["SUBSCRIBE", channel], ["EVALSHA", "SHA", "1", key], ["SCRIPT", "LOAD", "TEXT"]]
        return rows


def _with_key(name: str, key: str, channel: str) -> list[str]:
    if name == "PUBLISH":
        return [name, channel, "WORD"]
    if name == "ZUNIONSTORE":
        return [name, key, "1", key]
    return [name] if name in WITHOUT_KEYS else [name, key, key, key]
