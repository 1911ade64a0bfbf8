"""What a rotator is: the protocol that Fleet's rotators and your own implement, and their registry.

A package adds a rotator with an entry point that names a `RotatorFactory`:

    [options.entry_points]
    fleet.secret_rotators =
        acme = acme.secrets:ACME
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from fleet.errors import InvalidConfig
from fleet.extensions import installed

ENTRY_POINT_GROUP = "fleet.secret_rotators"

Fields = Mapping[str, str]
ReadFields = Callable[[str], Fields]
"""The fields of the secret at a path, such as the key of a provider's administration."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One rotation: the path, the number of its new version, the fields of the current version, and
    an id. A resumed rotation has the same id."""

    path: str
    version: int
    id: str
    old: Fields = field(repr=False)


class Rotator(Protocol):
    """Turns over the secrets of one kind of service.

    A process may be killed in each call, so each is called again until it has returned once. Every
    method raises a `FleetError` that says what is wrong, and never holds a value of a secret.
    `by_person`: a person brings each new value, and `create` is not called.
    """

    by_person: bool

    def create(self, turn: Turn) -> Fields:
        """The fields of a new version. Removes what an earlier call of the same turn left behind at
        the service."""

    def set(self, turn: Turn, new: Fields) -> None:
        """Have the service accept the new version, beside the current one."""

    def test(self, turn: Turn, new: Fields) -> None:
        """Make a real call with the new version. Raises an error if the service refuses it."""

    def revoke(self, old: Fields) -> None:
        """Have the service refuse a version. Nothing happens if it refuses it already."""


@dataclass(frozen=True, slots=True)
class RotatorFactory:
    """Makes a rotator from its `options` in fleet.toml, and a function that reads other secrets.
    Sends nothing yet."""

    options: type[BaseModel]
    make: Callable[[Any, ReadFields], Rotator]


def installed_rotators() -> Mapping[str, RotatorFactory]:
    """Every rotator by its name. Raises `InvalidConfig` for an entry point that is none."""
    # Imported here because a worker, which rotates nothing, starts sooner without them.
    from fleet.secrets.rotators.anthropic import ANTHROPIC_ADMIN
    from fleet.secrets.rotators.generated import GENERATED
    from fleet.secrets.rotators.http import HTTP
    from fleet.secrets.rotators.openai import OPENAI_ADMIN
    from fleet.secrets.rotators.signing import SIGNING_KEY

    own = {
        "generated": GENERATED,
        "http": HTTP,
        "openai_admin": OPENAI_ADMIN,
        "anthropic_admin": ANTHROPIC_ADMIN,
        "signing_key": SIGNING_KEY,
    }
    return installed(ENTRY_POINT_GROUP, "rotator", own, RotatorFactory)


def make_rotator(
    factory: RotatorFactory, path: str, options: Mapping[str, Any], read: ReadFields
) -> Rotator:
    """A rotator with the options of a path. Raises `InvalidConfig`."""
    try:
        return factory.make(factory.options.model_validate(options), read)
    except ValidationError as error:
        (fault, *_) = error.errors(include_input=False, include_url=False)
        where = ".".join(str(part) for part in fault["loc"])
        raise InvalidConfig(
            f'secrets.rotation."{path}".options{"." if where else ""}{where}: '
            f"{fault['msg'].removeprefix('Value error, ')}"
        ) from None
