"""Reads secrets for a process: from the stores in their order, through a cache that forgets.

`Secrets` counts the uses of each version that are in progress, such as calls to a provider. A
version is revoked only when no process uses it any more, see `docs/secrets.md`.
"""

from __future__ import annotations

import os
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import NamedTuple

from fleet.errors import FleetError, SecretNotFound
from fleet.secrets.store import SecretStore
from fleet.secrets.values import Secret, check_path
from fleet.telemetry.logger import get_logger

log = get_logger(__name__)


@dataclass(slots=True)
class _Cached:
    secret: Secret
    until: float


class SecretUsage(NamedTuple):
    """What one process has of its secrets at one moment: the version of each path that it serves
    from memory, and how many uses of each path and version are in progress."""

    loaded: Mapping[str, int]
    in_use: Mapping[tuple[str, int], int]


class Secrets:
    """The secrets of one process. Threads may share it. A forked child begins with an empty one.

    `current` is the version of a path that the fleet uses now, or None: the newest. `seconds` is
    how long a secret is served from memory, `monotonic` the clock for it.
    """

    def __init__(
        self,
        stores: Sequence[SecretStore],
        current: Callable[[str], int | None],
        seconds: float,
        monotonic: Callable[[], float],
    ) -> None:
        self.stores = tuple(stores)
        self._current = current
        self._seconds = seconds
        self._monotonic = monotonic
        self._begin()
        os.register_at_fork(after_in_child=partial(_begin_anew, weakref.ref(self)))

    def _begin(self) -> None:
        self._lock = Lock()
        self._cache: dict[str, _Cached] = {}
        self._uses: Counter[tuple[str, int]] = Counter()
        #: Grows when versions change. A read that began before does not enter the cache.
        self._changes = 0

    def read(self, path: str) -> Secret:
        """The current version. Raises `SecretNotFound` if no store has it, and the errors of the
        stores. A rotation does not wait for what was read: use `use` for a call."""
        return self._take(path, uses=0)

    @contextmanager
    def use(self, path: str) -> Iterator[Secret]:
        """The current version, counted as in use until the end of the block."""
        secret = self._take(path, uses=1)
        at = (path, secret.version)
        try:
            yield secret
        finally:
            with self._lock:
                self._uses[at] -= 1
                if not self._uses[at]:
                    del self._uses[at]

    def _take(self, path: str, uses: int) -> Secret:
        """The current version, with `uses` counted in the same moment in which it is chosen."""
        check_path(path)
        while True:
            with self._lock:
                changes, cached = self._changes, self._cache.get(path)
                if cached and self._monotonic() < cached.until:
                    return self._counted(cached.secret, uses)
            secret = self._from_stores(path)
            with self._lock:
                if changes == self._changes:
                    self._cache[path] = self._fresh(secret)
                    return self._counted(secret, uses)

    def _counted(self, secret: Secret, uses: int) -> Secret:
        if uses:
            self._uses[secret.path, secret.version] += uses
        return secret

    def _fresh(self, secret: Secret) -> _Cached:
        return _Cached(secret, self._monotonic() + self._seconds)

    def _from_stores(self, path: str) -> Secret:
        version = self._current(path)
        secret = self._version(path, version)
        if version is None:
            # A rotation may have begun meanwhile, and the newest version may be its pending one.
            version = self._current(path)
            if version not in (None, secret.version):
                return self._version(path, version)
        return secret

    def _version(self, path: str, version: int | None) -> Secret:
        for store in self.stores:
            try:
                return store.read(path, version)
            except SecretNotFound:
                continue
        names = ", ".join(store.name for store in self.stores)
        raise SecretNotFound(f"no secret is stored at {path} (stores: {names}); set it with "
                             f"`fleet secrets set {path}`")

    def usage(self) -> SecretUsage:
        """What this process serves from memory, and what it uses, at one moment."""
        with self._lock:
            loaded = {path: each.secret.version for path, each in self._cache.items()}
            return SecretUsage(loaded, dict(self._uses))

    def in_use(self) -> Mapping[tuple[str, int], int]:
        """How many uses of each path and version are in progress."""
        return self.usage().in_use

    def adopt(self, versions: Mapping[str, int]) -> None:
        """Serve these versions from now on, which `current` answers by now. No use of another
        version begins after this call, except of a path whose new version cannot be read: its old
        copy stays, and `usage` shows it."""
        fresh: dict[str, Secret] = {}
        for path, version in self.usage().loaded.items():
            if versions.get(path, version) != version:
                try:
                    fresh[path] = self._version(path, versions[path])
                except FleetError as error:
                    log.warning("the new version of a secret cannot be read; the old one serves on",
                                path=path, version=versions[path], error=str(error))
        with self._lock:
            self._changes += 1
            self._cache.update((path, self._fresh(secret)) for path, secret in fresh.items())

    def forget(self, path: str) -> None:
        """Read the secret anew at its next use."""
        with self._lock:
            self._changes += 1
            self._cache.pop(path, None)


def _begin_anew(kept: weakref.ref[Secrets]) -> None:
    secrets = kept()
    if secrets is not None:
        secrets._begin()
