"""Reads secrets for a process: from the stores in their order, through a cache that forgets.

`Secrets` counts the uses of each version that are in progress, such as calls to a provider. A
version is revoked only when no process uses it any more, see `docs/secrets.md`.
"""

from __future__ import annotations

import os
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

from fleet.errors import FleetError, InvalidConfig, SecretNotFound, Unavailable
from fleet.hooks import weakly
from fleet.secrets.store import SecretStore
from fleet.secrets.stores import configured_stores
from fleet.secrets.values import UNVERSIONED, Secret, check_path
from fleet.settings import Settings
from fleet.telemetry.logger import get_logger

log = get_logger(__name__)

Note = Callable[[str, int, str, str], None]
OK = "ok"
RETRY_SECONDS = 5.0
"""How long a stale secret is served before its store is tried again: a store that is away takes
seconds to say so, and each use would wait for it."""


@dataclass(slots=True)
class _Cached:
    """A secret in memory. Fresh until `until`; it may be served until `stale_until`."""

    secret: Secret
    until: float
    stale_until: float
    is_stale: bool = False


class SecretUsage(NamedTuple):
    """What one process has of its secrets at one moment: the version of each path that it serves
    from memory, and how many uses of each path and version are in progress."""

    loaded: Mapping[str, int]
    in_use: Mapping[tuple[str, int], int]


class Secrets:
    """The secrets of one process. Threads may share it. A forked child begins with an empty one.

    `current` is the version of a path that the fleet uses now, or None: the newest. A secret is
    served from memory for `seconds`, and for `stale_seconds` more while its store is away. Memory
    holds at most `entries` secrets. `monotonic` is the clock for all this. `note` is told of each
    read from the stores and of each use, for the audit, and must not wait: path, version, `read` or
    `use`, and `ok` or the class of the error.
    """

    def __init__(
        self,
        stores: Sequence[SecretStore],
        current: Callable[[str], int | None],
        seconds: float,
        monotonic: Callable[[], float],
        stale_seconds: float = 0.0,
        entries: int = 1000,
        note: Note | None = None,
    ) -> None:
        self.stores = tuple(stores)
        #: How often a secret was served although its time was over, because its store was away.
        self.stale_reads = 0
        self._current = current
        self._seconds = seconds
        self._stale_seconds = stale_seconds
        self._entries = entries
        self._monotonic = monotonic
        self._note = note or (lambda path, version, what, outcome: None)
        self._begin()
        os.register_at_fork(after_in_child=weakly(self._begin))

    def _begin(self) -> None:
        self._lock = Lock()
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._uses: Counter[tuple[str, int]] = Counter()
        #: The reads that are in progress. Threads that want the same secret wait for them.
        self._reads: dict[str, Future[None]] = {}
        #: Grows when versions change. A read that began before does not enter the cache.
        self._changes = 0
        self._is_away = False

    @property
    def writable(self) -> SecretStore:
        """The store that secrets are written to. Its versions are those that rotations count.

        Raises `InvalidConfig` if every store is read only.
        """
        found = next((store for store in self.stores if store.is_writable), None)
        if found is None:
            raise InvalidConfig(
                f"secrets.stores: {self._names} can only be read; add a store that can be "
                "written, such as file"
            )
        return found

    def read(self, path: str) -> Secret:
        """The current version. Raises `SecretNotFound` if no store has it, and the errors of the
        stores. A rotation does not wait for what was read: use `use` for a call.

        While a store is away, a secret in memory is served for a limited time, and `stale_reads`
        counts it.
        """
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
                cached = self._cache.get(path)
                if cached and self._monotonic() < cached.until:
                    return self._counted(path, cached, uses)
                if (reading := self._reads.get(path)) is None:
                    own = self._reads[path] = Future()
            if reading is not None:
                # Raises what the read of the other thread raises.
                reading.result()
            elif (found := self._read_for_all(path, uses, own)) is not None:
                return found

    def _read_for_all(self, path: str, uses: int, own: Future[None]) -> Secret | None:
        """Read a secret into memory, for every thread that waits for `own`. None if versions have
        changed in the meantime."""
        changes = self._changes
        try:
            cached = self._from_stores(path)
            with self._lock:
                if changes != self._changes:
                    return None
                self._keep(path, cached)
                return self._counted(path, cached, uses)
        except BaseException as error:
            with self._lock:
                self._cache.pop(path, None)
            own.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._reads[path]
            if not own.done():
                own.set_result(None)

    def values(self) -> frozenset[str]:
        """The values of the secrets in memory, to hide them in texts: never log them."""
        with self._lock:
            kept = [each.secret.fields.values() for each in self._cache.values()]
        return frozenset(value for values in kept for value in values)

    def _counted(self, path: str, cached: _Cached, uses: int) -> Secret:
        self._cache.move_to_end(path)
        self.stale_reads += cached.is_stale
        if uses:
            self._uses[path, cached.secret.version] += uses
            self._note(path, cached.secret.version, "use", OK)
        return cached.secret

    def _fresh(self, secret: Secret) -> _Cached:
        until = self._monotonic() + self._seconds
        return _Cached(secret, until, until + self._stale_seconds)

    def _keep(self, path: str, cached: _Cached) -> None:
        """Put a secret into memory, and drop those whose time is over, or that are too many."""
        self._cache[path] = cached
        self._cache.move_to_end(path)
        now = self._monotonic()
        for each in [p for p, kept in self._cache.items() if kept.stale_until <= now]:
            del self._cache[each]
        while len(self._cache) > self._entries:
            self._cache.popitem(last=False)

    def _from_stores(self, path: str) -> _Cached:
        """The current version, or that in memory if its store is away. The audit is told."""
        try:
            secret = self._current_version(path)
        except FleetError as error:
            self._note(path, UNVERSIONED, "read", type(error).__name__)
            if not isinstance(error, Unavailable):
                raise
            return self._stale(path, error)
        self._note(path, secret.version, "read", OK)
        self._is_away = False
        return self._fresh(secret)

    def _current_version(self, path: str) -> Secret:
        """The version that the fleet uses now, from its store."""
        version = self._current(path)
        secret = self._version(path, version)
        if version is None:
            # A rotation may have begun meanwhile, and the newest version may be its pending one.
            version = self._current(path)
            if version not in (None, secret.version):
                return self._version(path, version)
        return secret

    def _stale(self, path: str, error: Unavailable) -> _Cached:
        """The secret in memory. Raises `error` if there is none, or if its time is over."""
        now = self._monotonic()
        with self._lock:
            kept = self._cache.get(path)
        if kept is None or now >= kept.stale_until:
            raise error
        if not self._is_away:
            self._is_away = True
            log.warning(
                "secrets are served from memory: their store does not answer",
                path=path,
                error=str(error),
                seconds_left=round(kept.stale_until - now),
            )
        until = min(now + RETRY_SECONDS, kept.stale_until)
        return _Cached(kept.secret, until, kept.stale_until, is_stale=True)

    def _version(self, path: str, version: int | None) -> Secret:
        """A version of the store that can be written, or what the first store has that has any."""
        if version not in (None, UNVERSIONED):
            return self.writable.read(path, version)
        for store in self.stores:
            try:
                return store.read(path, version)
            except SecretNotFound:
                continue
        raise SecretNotFound(
            f"no secret is stored at {path} (stores: {self._names}); set it with `fleet secrets "
            f"set {path}`"
        )

    @property
    def _names(self) -> str:
        return ", ".join(store.name for store in self.stores)

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
                    self._note(path, versions[path], "read", OK)
                except FleetError as error:
                    log.warning(
                        "the new version of a secret cannot be read; the old one serves on",
                        path=path,
                        version=versions[path],
                        error=str(error),
                    )
        with self._lock:
            self._changes += 1
            self._cache.update((path, self._fresh(secret)) for path, secret in fresh.items())

    def forget(self, path: str) -> None:
        """Read the secret anew at its next use."""
        with self._lock:
            self._changes += 1
            self._cache.pop(path, None)


def secrets_of(
    settings: Settings, current: Callable[[str], int | None], note: Note | None = None
) -> Secrets:
    """The secrets of a process by its settings. Sends nothing yet. Raises `InvalidConfig` for a
    store that is not installed."""
    config = settings.config.secrets
    return Secrets(
        configured_stores(settings),
        current,
        config.cache_seconds,
        time.monotonic,
        config.stale_seconds,
        config.cache_entries,
        note,
    )
