"""What a store of secrets is: the protocol that Fleet's stores and your own implement.

A package adds a store with an entry point that names a `StoreFactory`:

    [options.entry_points]
    fleet.secret_stores =
        acme = acme.secrets:ACME
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from fleet.errors import SecretConflict, SecretNotFound
from fleet.hooks import weakly
from fleet.secrets.values import Secret, SecretVersion
from fleet.settings import Settings


class SecretStore(Protocol):
    """Keeps versions of secrets by path. Threads may share a store.

    Every method raises `SecretsUnavailable` if the store is away, sealed or too slow, and
    `NotAllowed` if it refuses the login or the access. No method answers with an empty set where it
    could not read. No error and no log line holds a value.
    """

    name: str
    is_writable: bool

    def read(self, path: str, version: int | None = None) -> Secret:
        """A version of a secret, by default the newest that is not destroyed. Raises
        `SecretNotFound`."""

    def write(self, path: str, fields: Mapping[str, str], expected: int) -> int:
        """Write the next version and return its number, if `expected` is the newest version there
        is, destroyed ones included; 0 if there is none.

        The same write again, after a lost answer, returns the number of the first. Raises
        `SecretConflict` if somebody else wrote, `NotAllowed` if the store is read only, and
        `InvalidRequest` for fields that `fleet.secrets.values.check_fields` refuses.
        """

    def versions(self, path: str) -> list[SecretVersion]:
        """Every version that the store knows, oldest first. Raises `SecretNotFound`."""

    def paths(self, prefix: str = "") -> list[str]:
        """The paths of all secrets below a prefix, such as `providers/`, sorted."""

    def destroy(self, path: str, version: int) -> None:
        """Delete the values of a version for good. Nothing happens if they are gone already, or
        never existed."""


class LateStore:
    """A store that is made at its first use, since its client is a large package. A forked child
    makes its own."""

    is_writable = True

    def __init__(self, name: str, make: Callable[[], SecretStore]) -> None:
        self.name = name
        self._make = make
        self._begin()
        os.register_at_fork(after_in_child=weakly(self._begin))

    def _begin(self) -> None:
        self._lock = Lock()
        self._made: SecretStore | None = None

    @property
    def _store(self) -> SecretStore:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def read(self, path: str, version: int | None = None) -> Secret:
        """As the store."""
        return self._store.read(path, version)

    def write(self, path: str, fields: Mapping[str, str], expected: int) -> int:
        """As the store."""
        return self._store.write(path, fields, expected)

    def versions(self, path: str) -> list[SecretVersion]:
        """As the store."""
        return self._store.versions(path)

    def paths(self, prefix: str = "") -> list[str]:
        """As the store."""
        return self._store.paths(prefix)

    def destroy(self, path: str, version: int) -> None:
        """As the store."""
        self._store.destroy(path, version)


@dataclass(frozen=True, slots=True)
class StoreFactory:
    """Makes a store from the settings. It sends nothing yet, and imports no large package."""

    make: Callable[[Settings], SecretStore]


def written_before(
    store: SecretStore, path: str, fields: Mapping[str, str], expected: int
) -> int:
    """The version after `expected`, if it holds these fields: then the write is a repeated one.

    Raises `SecretConflict` otherwise.
    """
    version = expected + 1
    try:
        if store.read(path, version).fields == fields:
            return version
    except SecretNotFound:
        pass
    raise SecretConflict(
        f"{path} has another newest version than {expected}: somebody else wrote it; read it "
        "again, then write"
    )


def newest_of(versions: list[SecretVersion]) -> int:
    """The newest version of a list, destroyed ones included. 0 if there is none."""
    return versions[-1].version if versions else 0
