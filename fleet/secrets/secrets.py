"""Reads secrets for a process: from the stores in their order, through a cache that forgets.

`Secrets` counts the uses of each version that are in progress, such as calls to a provider. A
version is revoked only when no process uses it any more, see `docs/secrets.md`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from fleet.errors import SecretNotFound
from fleet.secrets.store import SecretStore
from fleet.secrets.values import Secret, check_path


@dataclass(slots=True)
class _Cached:
    secret: Secret
    until: float


class Secrets:
    """The secrets of one process. Threads may share it.

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
        self._lock = Lock()
        self._cache: dict[str, _Cached] = {}
        self._uses: Counter[tuple[str, int]] = Counter()

    def read(self, path: str) -> Secret:
        """The current version. Raises `SecretNotFound` if no store has it, and the errors of the
        stores."""
        check_path(path)
        with self._lock:
            cached = self._cache.get(path)
        if cached and self._monotonic() < cached.until:
            return cached.secret
        secret = self._from_stores(path)
        with self._lock:
            self._cache[path] = _Cached(secret, self._monotonic() + self._seconds)
        return secret

    def _from_stores(self, path: str) -> Secret:
        version = self._current(path)
        for store in self.stores:
            try:
                return store.read(path, version)
            except SecretNotFound:
                continue
        names = ", ".join(store.name for store in self.stores)
        raise SecretNotFound(f"no secret is stored at {path} (stores: {names}); set it with "
                             f"`fleet secrets set {path}`")

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
        """Read the secret anew at its next use."""
        with self._lock:
            self._cache.pop(path, None)
