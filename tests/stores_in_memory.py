"""A store of secrets in memory, for tests of what reads secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleet.errors import SecretNotFound, SecretsUnavailable
from fleet.secrets.values import Secret, SecretVersion


class MemoryStore:
    """Versions of secrets by path, oldest first. Nothing can be read while it is `away`."""

    name = "memory"
    is_writable = True

    def __init__(self, secrets: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
        self.secrets = {path: list(versions) for path, versions in secrets.items()}
        self.reads = 0
        self.away = False

    def read(self, path: str, version: int | None = None) -> Secret:
        self.reads += 1
        if self.away:
            raise SecretsUnavailable("the store is away")
        versions = self.secrets.get(path, [])
        number = version or len(versions)
        if not 1 <= number <= len(versions):
            raise SecretNotFound(path)
        return Secret(path, number, versions[number - 1], 0.0, self.name)

    def write(self, path: str, fields: Mapping[str, str], expected: int) -> int:
        self.secrets.setdefault(path, []).append(fields)
        return expected + 1

    def versions(self, path: str) -> list[SecretVersion]:
        return [SecretVersion(i + 1, 0.0, False) for i, _ in enumerate(self.secrets[path])]

    def paths(self, prefix: str = "") -> list[str]:
        return sorted(path for path in self.secrets if path.startswith(prefix))

    def destroy(self, path: str, version: int) -> None:
        raise NotImplementedError
