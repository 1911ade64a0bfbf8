"""ACL rules of the roles, for Redis 7 or Valkey with selectors, and for Redis 6.2 without."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from fleet.redis.keys import Keys, celery_keys, done_channels, fanout_channels, own_queue_keys
from fleet.redis.roles import BY_CHANNELS, BY_SCRIPTS, Grant, Role

KEEPS_CONNECTION = ("+@connection", "-@dangerous")


@dataclass(frozen=True, slots=True)
class AclPlace:
    """What the rules depend on: the names of keys, the number of the database, the names of plain
    Celery queues that the fleet serves beside its own, and whether the server knows selectors
    (Redis 7 and all Valkeys do)."""

    keys: Keys
    database: int = 0
    queues: tuple[str, ...] = ()
    has_selectors: bool = True


def grants_of(role: Role, place: AclPlace) -> tuple[Grant, ...]:
    """What a role may do with keys. Plain queues are served like the fleet's own."""
    queues = tuple(f"~{key}" for name in place.queues for key in own_queue_keys(name))
    return tuple(
        Grant(each.commands, (*each.keys, *queues)) if _is_of_queues(each, place) else each
        for each in role.grants(place.keys, role.scripts)
    )


def _is_of_queues(grant: Grant, place: AclPlace) -> bool:
    return any(key.endswith((f"~{place.keys.tag}.*", f"~{place.keys.tag}*")) for key in grant.keys)


def acl_rule(role: Role, place: AclPlace) -> list[str]:
    """The words of the rule that gives a user the rights of a role and no others. The user is off
    and has no password after it. A selector, in parentheses, is one word."""
    grants = grants_of(role, place)
    words = ["reset", "resetchannels", *KEEPS_CONNECTION]
    if role.scripts:
        # The keys of scripts. What a script does there, its commands' own rights decide.
        words += [f"+{command}" for command in BY_SCRIPTS]
        words += [f"~{key}" for key in (f"{place.keys.tag}*", *_plain(place))]
    if role.channels:
        words += [f"+{command}" for command in BY_CHANNELS]
        words += [f"~{key}" for key in celery_keys()]
        words += [f"&{channel}" for channel in channels_of(role, place)]
    if place.has_selectors:
        return words + [f"({' '.join(_words(grant))})" for grant in grants]
    flat = Grant(
        tuple(sorted({command for grant in grants for command in grant.commands})),
        tuple(dict.fromkeys(key.removeprefix("%R") for grant in grants for key in grant.keys)),
    )
    return list(dict.fromkeys(words + _words(flat)))


def _plain(place: AclPlace) -> list[str]:
    return [key for name in place.queues for key in own_queue_keys(name)]


def _words(grant: Grant) -> list[str]:
    return [*(f"+{command.lower()}" for command in grant.commands), *grant.keys]


def channels_of(role: Role, place: AclPlace) -> list[str]:
    """Patterns of the channels that a role sends to and hears; none for one without Celery."""
    if not role.channels:
        return []
    fanout = fanout_channels(place.database)
    return [*done_channels(place.keys.tag), *(fanout[name] for name in role.channels)]


def password_hash(password: str) -> str:
    """The password as ACL rules have it when it must not be read."""
    return f"#{sha256(password.encode()).hexdigest()}"
