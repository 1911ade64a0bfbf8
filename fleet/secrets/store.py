"""What a store of secrets is: the protocol that Fleet's stores and your own implement.

A package adds a store with an entry point that names a `StoreFactory`:

    [options.entry_points]
    fleet.secret_stores =
        acme = acme.secrets:ACME
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

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
        is, destroyed ones included; 0 if there is none. Raises `SecretConflict` otherwise, and
        `NotAllowed` if the store is read only."""

    def versions(self, path: str) -> list[SecretVersion]:
        """Every version that the store knows, oldest first. Raises `SecretNotFound`."""

    def paths(self, prefix: str = "") -> list[str]:
        """The paths of all secrets below a prefix, sorted."""

    def destroy(self, path: str, version: int) -> None:
        """Delete the values of a version for good. Nothing happens if they are gone already."""


@dataclass(frozen=True, slots=True)
class StoreFactory:
    """Makes a store from the settings. Sends nothing yet."""

    make: Callable[[Settings], SecretStore]
