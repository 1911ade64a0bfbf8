"""The keys of the providers: which there are, who holds their values, and a value for each call.

A key is in an environment variable or in a secret. Who only chooses among models needs no values:
a key in a secret counts as available, and its id is made of names. The id of a key in a variable is
the beginning of its hash, so a replaced key begins without the cool-downs of the old one. Of a key
in a secret the version says so, see `fleet.models.store`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from fleet.errors import FleetError, InvalidConfig, NotAllowed, SecretNotFound
from fleet.models.rules.learning import ModelFacts
from fleet.money import nanodollars
from fleet.secrets.secrets import Secrets
from fleet.settings.providers import PoolKey, Provider
from fleet.telemetry.logger import get_logger

FIELD = "api_key"
"""The field of a secret that holds a provider's key."""

DEFAULT = "default"
"""The name of a provider's only key."""

KEY_ID_DIGITS = 8

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeclaredKey:
    """A key that is available here, without its value.

    `id` is its name in Redis, which does not reveal it. `secret` is the path of its secret, empty
    for a key in the environment. `share` is its part of the calls, in proportion to the provider's
    other keys. `concurrency` is the most calls of a model in flight with it, and
    `daily_nanodollars` its budget for a UTC day; None for no such bound.
    """

    provider: str
    name: str
    id: str
    secret: str = ""
    share: float = 1.0
    concurrency: int | None = None
    daily_nanodollars: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """One version of a key with its value, which no repr shows. A key in a variable has version 0.
    """

    provider: str
    name: str
    id: str
    version: int
    value: str = field(repr=False)


class UsedKey(NamedTuple):
    """The id of a key, and the version of it that a call has used; 0 for a key without versions."""

    id: str
    version: int = 0


class ProviderKeys:
    """The keys of all providers, as one process sees them. Threads may share it.

    Raises `InvalidConfig` for a variable whose value no request can carry. Without `secrets` the
    process can tell keys apart, and use those of the environment.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        environment: Mapping[str, str],
        secrets: Secrets | None = None,
    ) -> None:
        self._secrets = secrets
        self._providers = providers
        self._values: dict[str, str] = {}
        self._keys = {
            name: tuple(self._declared(name, provider, environment))
            for name, provider in providers.items()
        }

    def of(self, provider: str) -> tuple[DeclaredKey, ...]:
        """The available keys of a provider, in the order of the configuration."""
        return self._keys.get(provider, ())

    @property
    def providers(self) -> list[str]:
        """The providers with an available key."""
        return [name for name, keys in self._keys.items() if keys]

    def missing(self, provider: str) -> str:
        """What to set for a provider without an available key."""
        return " or ".join(self._providers[provider].variables)

    @contextmanager
    def use(self, key: DeclaredKey) -> Iterator[ProviderKey]:
        """The current version of a key, in use until the end of the block.

        Blocks if its secret is not in memory. Raises `InvalidConfig` for a secret that is missing,
        may not be read or holds no key, and `SecretsUnavailable`.
        """
        if not key.secret:
            yield ProviderKey(key.provider, key.name, key.id, 0, self._values[key.id])
            return
        if self._secrets is None:
            raise InvalidConfig(f"this process reads no secrets, and key {key.id} is in one")
        with ExitStack() as stack:
            try:
                secret = stack.enter_context(self._secrets.use(key.secret))
            except (SecretNotFound, NotAllowed) as error:
                # Not as they are: a provider that refuses a key raises `NotAllowed` too.
                raise InvalidConfig(str(error)) from error
            value = secret.fields.get(FIELD, "").strip()
            if not value:
                raise InvalidConfig(
                    f"the secret {key.secret} has no field {FIELD}; set it with "
                    f"`fleet secrets set {key.secret}`"
                )
            _check(value, f"secret {key.secret}")
            yield ProviderKey(key.provider, key.name, key.id, secret.version, value)

    def forget(self, key: DeclaredKey) -> None:
        """Read the key's secret anew at its next use, after a provider has refused the key."""
        if key.secret and self._secrets is not None:
            self._secrets.forget(key.secret)

    def replaced(self, facts: ModelFacts) -> list[UsedKey]:
        """The keys that cool down although a newer version than the one that failed is in use.

        Blocks if a secret is not in memory. A secret that cannot be read now is left out.
        """
        cooling = {key_id for key_id, _ in facts.cooldowns}
        found = (
            self._used(key)
            for keys in self._keys.values()
            for key in keys
            if key.secret and key.id in cooling
        )
        return [used for used in found if used.version > facts.versions.get(used.id, 0)]

    def _used(self, key: DeclaredKey) -> UsedKey:
        try:
            with self.use(key) as current:
                return UsedKey(key.id, current.version)
        except FleetError as error:
            log.warning("the version of a key is not known", key=key.id, error=str(error))
            return UsedKey(key.id)

    def _declared(
        self, name: str, provider: Provider, environment: Mapping[str, str]
    ) -> Iterator[DeclaredKey]:
        if provider.secret:
            yield DeclaredKey(name, DEFAULT, f"{name}:{DEFAULT}", provider.secret)
        elif provider.keys:
            for own_name, line in provider.keys.items():
                yield from self._of_pool(name, own_name, line, environment)
        else:
            value = _value(provider.variables, environment, checked=provider.kind != "bedrock")
            if value:
                yield DeclaredKey(name, DEFAULT, self._keep(name, value))

    def _of_pool(
        self, provider: str, name: str, line: PoolKey, environment: Mapping[str, str]
    ) -> Iterator[DeclaredKey]:
        value = "" if line.variable is None else _value((line.variable,), environment)
        if not value and not line.secret:
            return
        daily = line.daily_usd
        yield DeclaredKey(
            provider,
            name,
            f"{provider}:{name}" if line.secret else self._keep(provider, value),
            line.secret or "",
            line.share,
            line.concurrency,
            None if daily is None else nanodollars(daily),
        )

    def _keep(self, provider: str, value: str) -> str:
        """Keep the value of a key in the environment; its id."""
        own = key_id(provider, value)
        self._values[own] = value
        return own


class KeyAccess(NamedTuple):
    """A key, and where its value comes from."""

    keys: ProviderKeys
    key: DeclaredKey


def key_id(provider: str, key: str) -> str:
    """A name for a provider's key that does not reveal it: the beginning of its SHA-256."""
    return f"{provider}:{hashlib.sha256(key.encode()).hexdigest()[:KEY_ID_DIGITS]}"


def _value(
    names: tuple[str, ...], environment: Mapping[str, str], *, checked: bool = True
) -> str:
    """The value of the first variable that is set, without white space around it; else ''.

    What stands for Bedrock's credentials is not `checked`: AWS's own client reads it.
    """
    for name in names:
        value = environment.get(name, "").strip()
        if value:
            if checked:
                _check(value, name)
            return value
    return ""


def _check(value: str, place: str) -> None:
    """Raise `InvalidConfig` for a key that no request can carry: a client would show it in its
    complaint."""
    if not (value.isascii() and value.isprintable()):
        raise InvalidConfig(
            f"{place}: the key holds characters that are not printable ASCII; "
            "copy it again from the provider"
        )
