"""The secrets that a process knows, so that none of them is logged or stored with an error.

An agent, a driver or a proxy may put a key into the text of an exception. Logs and records of
errors show `***` in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Self
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from fleet.outside import without_secrets
from fleet.settings import Settings
from fleet.settings.addresses import taken_apart

AWS_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK")


class KnownSecrets:
    """The secrets of the settings and the environment, and those that `include` adds."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._given = frozenset(filter(None, _given(settings, environment)))
        self._stored: Callable[[], Iterable[str]] = tuple

    def include(self, stored: Callable[[], Iterable[str]]) -> Self:
        """Hide also what `stored` answers at each time, such as the secrets in memory."""
        self._stored = stored
        return self

    def values(self) -> frozenset[str]:
        """The secrets themselves: never log them."""
        return self._given.union(self._stored())

    def hidden(self, text: str) -> str:
        """The text with `***` in place of each secret of at least eight characters."""
        return without_secrets(text, self.values())


def _given(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    for name in type(settings.environment).model_fields:
        value = getattr(settings.environment, name)
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
    broker = taken_apart(settings.broker_url)
    yield from (broker.password, broker.sentinel_password)
    providers = settings.config.providers.values()
    for url in (settings.environment.model_url, *(each.base_url for each in providers)):
        yield unquote(urlsplit(url or "").password or "")
    # Not those of AWS, most of which are no secrets.
    hosted = (each for each in providers if each.kind != "bedrock")
    for variable in (*(name for each in hosted for name in each.variables), *AWS_SECRETS):
        yield environment.get(variable, "").strip()
