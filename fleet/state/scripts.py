"""The Lua scripts, one file an operation, registered on a client."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.commands.core import Script

NAMES = (
    "cancel",
    "claim",
    "drain",
    "fetch",
    "finish",
    "heartbeat",
    "hold",
    "leave",
    "progress",
    "push",
    "reap",
    "register",
    "renew",
    "requeue",
    "rescue",
    "snapshot",
    "submit",
    "usage",
)


@cache
def source(name: str) -> str:
    """The text of a script."""
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


class Scripts:
    """The scripts, bound to one client: `scripts.submit(keys=[...], args=[...])`."""

    cancel: Script
    claim: Script
    drain: Script
    fetch: Script
    finish: Script
    heartbeat: Script
    hold: Script
    leave: Script
    progress: Script
    push: Script
    reap: Script
    register: Script
    renew: Script
    requeue: Script
    rescue: Script
    snapshot: Script
    submit: Script
    usage: Script

    def __init__(self, client: Redis) -> None:
        for name in NAMES:
            setattr(self, name, client.register_script(source(name)))


def text(value: Any) -> str:
    """A reply's string, whichever way the client decodes."""
    return value.decode() if isinstance(value, bytes) else str(value)
