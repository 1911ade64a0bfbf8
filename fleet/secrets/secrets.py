"""Reads secrets for a process: from the stores in their order, through a cache that forgets.

`Secrets` counts the uses of each version that are in progress, such as calls to a provider. A
version is revoked only when no process uses it any more, see `docs/secrets.md`.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from fleet.errors import InvalidConfig, SecretNotFound, Unavailable
from fleet.secrets.store import SecretStore
from fleet.secrets.stores import configured_stores
from fleet.secrets.values import UNVERSIONED, Secret, check_path
from fleet.settings import Settings
from fleet.telemetry.logger import get_logger

log = get_logger(__name__)

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


class Secrets:
    """The secrets of one process. Threads may share it.

    `current` is the version of a path that the fleet uses now, or None: the newest. A secret is
    served from memory for `seconds`, and for `stale_seconds` more while its store is away. Memory
    holds at most `entries` secrets. `monotonic` is the clock for all this.
    """

    def __init__(
        self,
        stores: Sequence[SecretStore],
        current: Callable[[str], int | None],
        seconds: float,
        monotonic: Callable[[], float],
        stale_seconds: float = 0.0,
        entries: int = 1000,
    ) -> None:
        self.stores = tuple(stores)
        #: How often a secret was served although its time was over, because its store was away.
        self.stale_reads = 0
        self._current = current
        self._seconds = seconds
        self._stale_seconds = stale_seconds
        self._entries = entries
        self._monotonic = monotonic
        self._lock = Lock()
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._reads: dict[str, Future[Secret]] = {}
        self._uses: Counter[tuple[str, int]] = Counter()
        self._is_away = False

    @property
    def writable(self) -> SecretStore:
        """The store that secrets are written to. Its versions are those that rotations count.

        Raises `InvalidConfig` if every store is read only.
        """
        found = next((store for store in self.stores if store.is_writable), None)
        if found is None:
            names = ", ".join(store.name for store in self.stores)
            raise InvalidConfig(
                f"secrets.stores: {names} can only be read; add a store that can be written, such "
                "as file"
            )
        return found

    def read(self, path: str) -> Secret:
        """The current version. Threads that ask for it at the same time share one read.

        Raises `SecretNotFound` if no store has it, and the errors of the stores. If a store is
        away, a secret in memory is served for a limited time, and `stale_reads` counts it.
        """
        check_path(path)
        with self._lock:
            cached = self._cache.get(path)
            if cached and self._monotonic() < cached.until:
                self._cache.move_to_end(path)
                self.stale_reads += cached.is_stale
                return cached.secret
            reading = self._reads.get(path)
            if reading is None:
                own = self._reads[path] = Future()
        if reading is not None:
            return reading.result()
        try:
            secret = self._read_for_all(path, own)
        except BaseException as error:
            self._forget_reading(path, own)
            own.set_exception(error)
            raise
        own.set_result(secret)
        return secret

    def _read_for_all(self, path: str, own: Future[Secret]) -> Secret:
        """Read a secret into memory for all threads that wait for `own`."""
        try:
            secret = self._from_stores(path)
        except Unavailable as error:
            return self._stale(path, own, error)
        now = self._monotonic()
        until = now + self._seconds
        with self._lock:
            self._is_away = False
            if self._reads.get(path) is own:
                del self._reads[path]
                self._keep(path, _Cached(secret, until, until + self._stale_seconds), now)
        return secret

    def _stale(self, path: str, own: Future[Secret], error: Unavailable) -> Secret:
        """The secret in memory, while its store is away. Raises `error` if its time is over."""
        now = self._monotonic()
        with self._lock:
            cached = self._cache.get(path)
            if cached is None or now >= cached.stale_until:
                raise error
            if self._reads.get(path) is own:
                del self._reads[path]
            cached.until = min(now + RETRY_SECONDS, cached.stale_until)
            cached.is_stale = True
            self.stale_reads += 1
            is_first, self._is_away = not self._is_away, True
        if is_first:
            log.warning(
                "secrets are served from memory: their store does not answer",
                path=path,
                error=type(error).__name__,
                seconds=round(cached.stale_until - now),
            )
        return cached.secret

    def _keep(self, path: str, cached: _Cached, now: float) -> None:
        """Put a secret into memory, and drop those whose time is over, or that are too many."""
        self._cache[path] = cached
        self._cache.move_to_end(path)
        for each in [p for p, kept in self._cache.items() if kept.stale_until <= now]:
            del self._cache[each]
        while len(self._cache) > self._entries:
            self._cache.popitem(last=False)

    def _forget_reading(self, path: str, own: Future[Secret]) -> None:
        """A read failed: nothing of it stays in memory."""
        with self._lock:
            self._cache.pop(path, None)
            if self._reads.get(path) is own:
                del self._reads[path]

    def _from_stores(self, path: str) -> Secret:
        version = self._current(path)
        if version is not None and version != UNVERSIONED:
            return self.writable.read(path, version)
        for store in self.stores:
            try:
                return store.read(path, version)
            except SecretNotFound:
                continue
        names = ", ".join(store.name for store in self.stores)
        raise SecretNotFound(
            f"no secret is stored at {path} (stores: {names}); set it with `fleet secrets set "
            f"{path}`"
        )

    @contextmanager
    def use(self, path: str) -> Iterator[Secret]:
        """The current version, counted as in use until the end of the block."""
        secret = self.read(path)
        at = (path, secret.version)
        with self._lock:
            self._uses[at] += 1
        try:
            yield secret
        finally:
            with self._lock:
                self._uses[at] -= 1
                if not self._uses[at]:
                    del self._uses[at]

    def in_use(self) -> Mapping[tuple[str, int], int]:
        """How many uses of each path and version are in progress."""
        with self._lock:
            return dict(self._uses)

    def forget(self, path: str) -> None:
        """Read the secret anew at its next use. While its store is away, memory still serves it."""
        with self._lock:
            self._reads.pop(path, None)
            if path in self._cache:
                self._cache[path].until = self._monotonic()


def secrets_of(settings: Settings, current: Callable[[str], int | None]) -> Secrets:
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
    )
