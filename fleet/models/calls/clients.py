"""The clients of one model and key: one for each version of the key that calls use.

A call looks its key up when it begins, and keeps its client until it has ended, so that a key can
be turned over in the middle of a stream. The client of an older version is closed when its last
call has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from pydantic_ai.models import Model as ChatModel

from fleet.agent import to_the_end
from fleet.models.calls.endpoint import Endpoint
from fleet.models.calls.providers import Client, chat_client
from fleet.models.keys import KeyAccess


@dataclass(frozen=True, slots=True)
class KeyedClient:
    """The client of a call, the key that it uses, and the version of the key; 0 for a key without
    versions."""

    chat: ChatModel
    version: int
    key: str = field(repr=False)


@dataclass(slots=True)
class _Open:
    client: Client
    calls: int = 0


class Clients:
    """Use it from one event loop only, because clients keep connections.

    Without `access` the endpoint has the key. Raises `InvalidConfig` if the package for the
    endpoint's protocol is not installed, and the errors of `ProviderKeys.use`.
    """

    def __init__(
        self, model: str, endpoint: Endpoint, timeout: float, access: KeyAccess | None = None
    ) -> None:
        self._model = model
        self._endpoint = endpoint
        self._timeout = timeout
        self._access = access
        self._open: dict[int, _Open] = {}
        self.version = 0
        """The version that the last call to begin has used."""

    def first(self) -> ChatModel:
        """A client to look at before the first call. Blocks if the key is not in memory."""
        with ExitStack() as stack:
            version, value = self._enter(stack)
            return self._client(version, value).client.chat

    @asynccontextmanager
    async def use(self) -> AsyncIterator[KeyedClient]:
        """The client for one call, which ends with the block."""
        with ExitStack() as stack:
            if self._access is not None and self._access.key.secret:
                # Reading the secret may take time.
                version, value = await to_the_end(asyncio.to_thread(self._enter, stack))
            else:
                version, value = self._enter(stack)
            used = self._client(version, value)
            used.calls += 1
            try:
                yield KeyedClient(used.client.chat, version, value)
            finally:
                used.calls -= 1
                await self._close_old()

    def forget(self) -> None:
        """Read the key anew for the next call, because the provider has refused it."""
        if self._access is not None:
            self._access.keys.forget(self._access.key)

    def _enter(self, stack: ExitStack) -> tuple[int, str]:
        """Begin the use of the key. Its version and its value."""
        if self._access is None:
            return 0, self._endpoint.api_key
        keys, key = self._access
        found = stack.enter_context(keys.use(key))
        return found.version, found.value

    def _client(self, version: int, value: str) -> _Open:
        if version not in self._open:
            endpoint = replace(self._endpoint, api_key=value)
            self._open[version] = _Open(chat_client(self._model, endpoint, self._timeout))
        self.version = version
        return self._open[version]

    async def _close_old(self) -> None:
        """Close the clients of other versions, if no call uses them."""
        old = [at for at, each in self._open.items() if at != self.version and not each.calls]
        for client in [self._open.pop(version).client for version in old]:
            if client.http is not None:
                await client.http.aclose()
