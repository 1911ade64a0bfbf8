"""The store `environment`: secrets in environment variables. It is read only.

The variable of a field is `FLEET_SECRET_`, the parts of the path and the field, in capitals, joined
by two underscores. `-` and `.` are written as `_`. So the field `api_key` of `providers/openai` is
`FLEET_SECRET_PROVIDERS__OPENAI__API_KEY`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from fleet.errors import NotAllowed, SecretNotFound
from fleet.secrets.values import UNVERSIONED, Secret, SecretVersion, check_path

PREFIX = "FLEET_SECRET_"
JOINT = "__"
VARIABLE = re.compile(r"[A-Z0-9]+(_[A-Z0-9]+)*(__[A-Z0-9]+(_[A-Z0-9]+)*)+")
"""What follows the prefix: at least one part of a path, and the field."""


class EnvironmentStore:
    """The secrets of an environment. They have one version, `UNVERSIONED`."""

    name = "environment"
    is_writable = False

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
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
            if value.strip() and _is_variable(name)
        }
        return sorted(path for path in named if path.startswith(prefix))

    def destroy(self, path: str, version: int) -> None:
        """Raise `NotAllowed`: a process cannot unset the variables of others."""
        raise NotAllowed(f"the store {self.name} is read only; unset the variables of {path}")

    def _fields(self, path: str) -> dict[str, str]:
        head = variable(path, "")
        if head.removeprefix(PREFIX).count(JOINT) != path.count("/") + 1 or "___" in head:
            # These would be the variables of another path too: `a__b` is `a/b` there.
            return {}
        return {
            name.removeprefix(head).lower(): value.strip()
            for name, value in self._environment.items()
            if name.startswith(head) and JOINT not in name.removeprefix(head)
            if value.strip() and _is_variable(name)
        }


def _is_variable(name: str) -> bool:
    return name.startswith(PREFIX) and bool(VARIABLE.fullmatch(name.removeprefix(PREFIX)))


def variable(path: str, field: str) -> str:
    """The variable of a field."""
    parts = [*path.split("/"), field]
    return PREFIX + JOINT.join(re.sub(r"[.\-]", "_", part) for part in parts).upper()

