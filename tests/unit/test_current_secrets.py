"""The secrets of a process serve the current version, also while versions change."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import pytest

from fleet.errors import SecretNotFound, SecretsUnavailable
from fleet.secrets.secrets import Secrets
from fleet.secrets.values import Secret, SecretVersion

PATH = "providers/acme"


class VersionedStore:
    """A store in memory. `before_read` runs in the middle of a read."""

    name = "memory"
    is_writable = True

    def __init__(self) -> None:
        self.values: dict[tuple[str, int], Mapping[str, str]] = {(PATH, 1): {"api_key": "one"}}
        self.before_read: Callable[[], None] = lambda: None
        self.away = False

    def read(self, path: str, version: int | None = None) -> Secret:
        self._check()
        numbers = [number for at, number in self.values if at == path]
        if not numbers or (version is not None and version not in numbers):
            raise SecretNotFound(path)
        found = version or max(numbers)
        # Written while the answer travels.
        self.before_read()
        return Secret(path, found, self.values[path, found], 0.0, self.name)

    def write(self, path: str, fields: Mapping[str, str], expected: int) -> int:
        self.values[path, expected + 1] = fields
        return expected + 1

    def versions(self, path: str) -> list[SecretVersion]:
        return [SecretVersion(number, 0.0, False) for at, number in self.values if at == path]

    def paths(self, prefix: str = "") -> list[str]:
        return sorted({path for path, _ in self.values if path.startswith(prefix)})

    def destroy(self, path: str, version: int) -> None:
        del self.values[path, version]

    def _check(self) -> None:
        if self.away:
            raise SecretsUnavailable("the store is away")


@pytest.fixture
def store() -> VersionedStore:
    return VersionedStore()


@pytest.fixture
def current() -> dict[str, int]:
    return {}


@pytest.fixture
def secrets(store: VersionedStore, current: dict[str, int]) -> Secrets:
    return Secrets([store], current.get, seconds=60, monotonic=lambda: 0.0)


def test_a_use_is_counted_under_its_version_until_it_ends(secrets: Secrets) -> None:
    with secrets.use(PATH) as outer, secrets.use(PATH):
        assert (outer.fields["api_key"], secrets.in_use()) == ("one", {(PATH, 1): 2})
    assert secrets.in_use() == {}


def test_a_use_that_ends_with_an_error_is_counted_no_more(secrets: Secrets) -> None:
    with pytest.raises(ValueError), secrets.use(PATH):
        raise ValueError
    assert secrets.in_use() == {}


def test_after_adopting_no_use_of_the_old_version_begins(
    secrets: Secrets, store: VersionedStore, current: dict[str, int]
) -> None:
    with secrets.use(PATH):
        current[PATH] = store.write(PATH, {"api_key": "two"}, 1)
        secrets.adopt(current)
        assert secrets.read(PATH).version == 2
        assert secrets.usage() == ({PATH: 2}, {(PATH, 1): 1})


def test_a_read_that_began_before_a_change_serves_the_new_version(
    secrets: Secrets, store: VersionedStore, current: dict[str, int]
) -> None:
    current[PATH] = 1

    def change() -> None:
        store.before_read = lambda: None
        current[PATH] = store.write(PATH, {"api_key": "two"}, 1)
        secrets.adopt(current)

    store.before_read = change
    with secrets.use(PATH) as secret:
        assert (secret.version, secrets.in_use()) == (2, {(PATH, 2): 1})


def test_the_pending_version_of_a_rotation_that_begins_meanwhile_is_not_served(
    secrets: Secrets, store: VersionedStore, current: dict[str, int]
) -> None:
    store.write(PATH, {"api_key": "pending"}, 1)
    store.before_read = lambda: current.update({PATH: 1})
    assert secrets.read(PATH).version == 1


def test_the_old_version_serves_on_while_the_new_one_cannot_be_read(
    secrets: Secrets, store: VersionedStore, current: dict[str, int]
) -> None:
    secrets.read(PATH)
    current[PATH] = store.write(PATH, {"api_key": "two"}, 1)
    store.away = True
    secrets.adopt(current)
    assert secrets.usage().loaded == {PATH: 1}
    assert secrets.read(PATH).version == 1


def test_a_forked_child_has_no_uses_of_its_parent(secrets: Secrets) -> None:
    with secrets.use(PATH):
        child = os.fork()
        if not child:
            os._exit(len(secrets.in_use()))
        _, status = os.waitpid(child, 0)
        assert (status, len(secrets.in_use())) == (0, 1)
