"""A store of secrets in memory, and a fake provider that accepts and refuses its own keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fleet.errors import NotAllowed, SecretConflict, SecretNotFound
from fleet.secrets.rotation import RotatedSecret
from fleet.secrets.rotator import Fields, Turn
from fleet.secrets.rules.rotation import Rule
from fleet.secrets.values import Secret, SecretVersion


class MemoryStore:
    """Keeps versions in memory. `before` is called with the name of each method."""

    name = "memory"
    is_writable = True

    def __init__(self, values: Mapping[str, Fields] | None = None) -> None:
        self.values: dict[tuple[str, int], Fields | None] = {}
        self.before: Callable[[str], None] = lambda method: None
        for path, fields in (values or {}).items():
            self.values[path, 1] = fields

    def read(self, path: str, version: int | None = None) -> Secret:
        self.before("read")
        known = [each.version for each in self._all(path) if not each.destroyed]
        found = max(known, default=0) if version is None else version
        if found not in known:
            raise SecretNotFound(f"{path} has no version {version}")
        fields = self.values[path, found]
        assert fields is not None
        return Secret(path, found, fields, 0.0, self.name)

    def write(self, path: str, fields: Mapping[str, str], expected: int) -> int:
        self.before("write")
        newest = max((each.version for each in self._all(path)), default=0)
        if newest != expected:
            raise SecretConflict(f"{path} has version {newest}")
        self.values[path, newest + 1] = dict(fields)
        return newest + 1

    def versions(self, path: str) -> list[SecretVersion]:
        found = self._all(path)
        if not found:
            raise SecretNotFound(path)
        return found

    def paths(self, prefix: str = "") -> list[str]:
        return sorted({path for path, _ in self.values if path.startswith(prefix)})

    def destroy(self, path: str, version: int) -> None:
        self.before("destroy")
        self.values[path, version] = None

    def _all(self, path: str) -> list[SecretVersion]:
        return [
            SecretVersion(number, 0.0, fields is None)
            for (at, number), fields in sorted(self.values.items())
            if at == path
        ]


@dataclass
class Provider:
    """A fake provider: the keys that it accepts. It is a rotator of its own keys too."""

    accepted: set[str] = field(default_factory=set)
    before: Callable[[str], None] = lambda method: None
    made: int = 0
    by_person: bool = False

    def call(self, key: str) -> None:
        """A model call."""
        if key not in self.accepted:
            raise NotAllowed(f"{key} is refused")

    def create(self, turn: Turn) -> Fields:
        self.before("create")
        self.made += 1
        return {"api_key": f"{turn.path}-key-{self.made}"}

    def set(self, turn: Turn, new: Fields) -> None:
        self.before("set")
        self.accepted.add(new["api_key"])

    def test(self, turn: Turn, new: Fields) -> None:
        self.before("test")
        self.call(new["api_key"])

    def revoke(self, old: Fields) -> None:
        self.before("revoke")
        self.accepted.discard(old["api_key"])


def rotated(
    provider: Provider,
    set: str = "providers",
    every: float | None = None,
    grace: float = 1e9,
    waits_for_grace: bool = False,
) -> RotatedSecret:
    """A secret of the fake provider's."""
    rule = Rule(set, every, grace, waits_for_grace, provider.by_person)
    return RotatedSecret(rule, provider)
