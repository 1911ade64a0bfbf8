"""The store `environment`: secrets in environment variables. It is read only.

The variable of a field is `FLEET_SECRET_`, the parts of the path and the field, in capitals, joined
by two underscores. `-` and `.` are written as `_`. So the field `api_key` of `providers/openai` is
`FLEET_SECRET_PROVIDERS__OPENAI__API_KEY`. The key of a provider is also read from the variable that
its `key_variable` names, such as `OPENAI_API_KEY`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from fleet.errors import NotAllowed, SecretNotFound
from fleet.secrets.values import UNVERSIONED, Secret, SecretVersion, check_path
from fleet.settings import FleetConfig

PREFIX = "FLEET_SECRET_"
JOINT = "__"
VARIABLE = re.compile(r"[A-Z0-9]+(_[A-Z0-9]+)*(__[A-Z0-9]+(_[A-Z0-9]+)*)+")
"""What follows the prefix: at least one part of a path, and the field."""


class EnvironmentStore:
    """The secrets of an environment. They have one version, `UNVERSIONED`."""

    name = "environment"
    is_writable = False

    def __init__(self, environment: Mapping[str, str], aliases: Mapping[str, str]) -> None:
        """`aliases` are the variables of providers' keys by path, such as `providers/openai`."""
        self._environment = environment
        self._aliases = aliases
        # The time at which this process first saw them: variables have no time of their own.
        self._epoch = time.time()

    def read(self, path: str, version: int | None = None) -> Secret:
        """The fields of all variables of a path. Raises `SecretNotFound`."""
        check_path(path)
        fields = self._fields(path) if version in (None, UNVERSIONED) else {}
        if not fields:
            raise SecretNotFound(f"no variable holds {path}; set {variable(path, 'api_key')}")
        return Secret(path, UNVERSIONED, fields, self._epoch, self.name)

    def write(self, path: str, fields: Mapping[str, str], expected: int) -> int:
        """Raise `NotAllowed`: a process cannot set the variables of others."""
        raise NotAllowed(f"the store {self.name} is read only; write {path} to another store")

    def versions(self, path: str) -> list[SecretVersion]:
        """The one version. Raises `SecretNotFound`."""
        found = self.read(path)
        return [SecretVersion(found.version, found.epoch, destroyed=False)]

    def paths(self, prefix: str = "") -> list[str]:
        """The paths of all variables. A `_` in a part may stand for `-` or `.`."""
        named = {
            "/".join(name.removeprefix(PREFIX).split(JOINT)[:-1]).lower()
            for name, value in self._environment.items()
            if name.startswith(PREFIX) and VARIABLE.fullmatch(name.removeprefix(PREFIX)) and value
        }
        aliased = {path for path, name in self._aliases.items() if self._environment.get(name)}
        return sorted(path for path in named | aliased if path.startswith(prefix))

    def destroy(self, path: str, version: int) -> None:
        """Raise `NotAllowed`: a process cannot unset the variables of others."""
        raise NotAllowed(f"the store {self.name} is read only; unset the variables of {path}")

    def variables(self, path: str) -> dict[str, str]:
        """The variables that are set for a path, by field. An own variable of Fleet wins over the
        variable of the provider's key."""
        found = {}
        alias = self._aliases.get(path)
        if alias and self._environment.get(alias, "").strip():
            found["api_key"] = alias
        head = variable(path, "")
        for name, value in self._environment.items():
            field = name.removeprefix(head)
            whole = VARIABLE.fullmatch(name.removeprefix(PREFIX))
            if name.startswith(head) and JOINT not in field and whole and value.strip():
                found[field.lower()] = name
        return found

    def _fields(self, path: str) -> dict[str, str]:
        found = self.variables(path)
        return {field: self._environment[name].strip() for field, name in found.items()}


def variable(path: str, field: str) -> str:
    """The variable of a field. That of a path such as `a__b` is no `VARIABLE`, since it would be
    the variable of `a/b` too."""
    parts = [*path.split("/"), field]
    return PREFIX + JOINT.join(re.sub(r"[.\-]", "_", part) for part in parts).upper()


def aliases_of(config: FleetConfig) -> dict[str, str]:
    """The variables of providers' keys, by path."""
    return {
        f"providers/{name}": provider.key_variable
        for name, provider in config.providers.items()
        if provider.key_variable
    }
