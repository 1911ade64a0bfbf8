"""The Lua scripts, one file for each operation, registered on a client.

Code that several scripts share is in `lua/parts`. It replaces a line `-- include NAME`. A script
names its keys and arguments in its first lines, and its body uses only these names. For each script
one function in Python builds the keys and arguments.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

from fleet.redis.auto_pipelining import AutoPipelining, Undelivered

INCLUDE = re.compile(r"^-- include (\w+)$", re.MULTILINE)


@cache
def source(name: str) -> str:
    """The source of a script, with the parts that it includes."""
    return INCLUDE.sub(lambda line: _text("parts", line[1]), _text(name))


def _text(*path: str) -> str:
    folder = files(__package__).joinpath("lua")
    return folder.joinpath(*path[:-1], f"{path[-1]}.lua").read_text(encoding="utf-8")


class Script:
    """One script, bound to a client."""

    def __init__(self, client: Redis, pipelining: AutoPipelining, text: str) -> None:
        self._stock = client.register_script(text)
        self._pipelining = pipelining
        self.sha = self._stock.sha

    def __call__(
        self, keys: Sequence[str], args: Sequence[Any] = (), client: Any = None
    ) -> Any:
        """Run the script, or add it to `client`, a pipeline.

        If the connection breaks, the call is retried as often as any call of the client.
        """
        if client is not None:
            return self._stock(keys=keys, args=args, client=client)
        try:
            return self._pipelining.call("EVALSHA", self.sha, len(keys), *keys, *args)
        except (NoScriptError, Undelivered):
            return self._stock(keys=keys, args=args)


class Scripts:
    """The scripts, bound to one client: `scripts.submit(keys=[...], args=[...])`."""

    acknowledge: Script
    admit: Script
    alert: Script
    audit: Script
    begin: Script
    begin_job: Script
    cancel: Script
    carry: Script
    change_tokens: Script
    claim: Script
    clock: Script
    close_circuit: Script
    correct: Script
    dead_done: Script
    defer: Script
    deliver: Script
    drain: Script
    due: Script
    eject: Script
    expire: Script
    fetch: Script
    finish: Script
    follow: Script
    forget: Script
    free_slot: Script
    heartbeat: Script
    learn: Script
    leave: Script
    limit: Script
    missing: Script
    open_circuit: Script
    orphan: Script
    policy: Script
    progress: Script
    prune: Script
    push: Script
    put_back: Script
    put_on_hold: Script
    rate: Script
    readmit: Script
    reap: Script
    recount: Script
    refuse: Script
    register: Script
    release_task: Script
    renew: Script
    repair: Script
    replace_key: Script
    republish: Script
    requeue: Script
    requeue_on_shutdown: Script
    rescue: Script
    restore: Script
    retry: Script
    revoke: Script
    rights: Script
    rollup: Script
    rotate: Script
    save: Script
    scaling: Script
    secret_processes: Script
    shorten: Script
    size: Script
    snapshot: Script
    submit: Script
    submit_whole: Script
    take_lease: Script
    trim: Script
    trim_audit: Script
    usage: Script

    def __init__(self, client: Redis) -> None:
        pipelining = AutoPipelining(client.connection_pool)
        for name in NAMES:
            setattr(self, name, Script(client, pipelining, source(name)))


NAMES = tuple(Scripts.__annotations__)
"""The scripts' names: those of their files."""


def text(value: Any) -> str:
    """A reply's string, whether or not the client decodes. Bytes that are no UTF-8 become `\\xNN`:
    other programs may have written them, and they must not raise an error."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def raw(value: bytes | str) -> bytes:
    """A reply's bytes, whether or not the client decodes."""
    return value if isinstance(value, bytes) else value.encode()
