"""Checks the rights of the Redis user before a process starts to work.

A worker that lacks a right would retry forever. `fleet redis acl` writes the rules that give each
role exactly these rights.
"""

from __future__ import annotations

import json

from fleet.errors import NotAllowed
from fleet.redis.acl import AclPlace, channels_of, grants_of
from fleet.redis.client import redis_errors
from fleet.redis.roles import ROLES, Grant, Role
from fleet.redis.scripts import text
from fleet.redis.store import Store

MAX_NAMED = 5


class Permissions(Store):
    """Checks the rights of the client's own user."""

    def check(self, role: str = "", database: int = 0) -> None:
        """Raise `NotAllowed`, with the refused commands, if the user lacks a right of a role;
        without a role, if the user has the rights of none."""
        place = AclPlace(self.keys, database)
        if not role and any(not self._refused(each, place) for each in ROLES.values()):
            return
        wanted = role or "administrator"
        refused = self._refused(ROLES[wanted], place)
        if not refused:
            return
        more = f" and {len(refused) - MAX_NAMED} more" if len(refused) > MAX_NAMED else ""
        raise NotAllowed(
            f"the Redis user may not run: {'; '.join(refused[:MAX_NAMED])}{more}. Give it the "
            f"rights of the role {wanted}, which `fleet redis acl` writes, or name another user in "
            "FLEET_BROKER_URL"
        )

    def _refused(self, role: Role, place: AclPlace) -> list[str]:
        with redis_errors(self.client):
            found = self.scripts.rights(keys=[], args=[json.dumps(needed(role, place))])
        return [text(each) for each in found]


def needed(role: Role, place: AclPlace) -> list[list[str]]:
    """Commands, with arguments, that a user of the role has to be allowed to run."""
    rows = [row for grant in grants_of(role, place) for row in _rows(grant)]
    if not role.scripts:
        return rows
    for channel in channels_of(role, place):
        rows += [["PUBLISH", _sample(channel), "WORD"], ["SUBSCRIBE", _sample(channel)]]
    key = place.keys.tasks
    return [*rows, ["EVALSHA", "SHA", "1", key], ["SCRIPT", "LOAD", "TEXT"], ["TIME"], ["MULTI"]]


def _rows(grant: Grant) -> list[list[str]]:
    """Each command on one of the keys, and each key with one of the commands."""
    keys = [_sample(key.removeprefix("%R").removeprefix("~")) for key in grant.keys]
    pairs = [(command, keys[0]) for command in grant.commands]
    pairs += [(grant.commands[0], key) for key in keys[1:]]
    return [_with_key(command, key) for command, key in pairs]


def _sample(pattern: str) -> str:
    """A name that the pattern fits."""
    return pattern.replace("*", "ID").replace("?", "x")


def _with_key(name: str, key: str) -> list[str]:
    if name in ("EVAL", "EVALSHA"):
        return [name, "TEXT", "1", key]
    if name == "ZUNIONSTORE":
        return [name, key, "1", key]
    return [name, key, key, key]
