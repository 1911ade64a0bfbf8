"""The callers of the models that this process can reach, one for each model and key."""

from __future__ import annotations

import gc
import sys
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from fleet.models.calls.endpoint import Endpoint
from fleet.models.keys import DeclaredKey, KeyAccess, ProviderKeys
from fleet.models.priced import ModelsByName
from fleet.models.rules.catalogue import Model
from fleet.models.rules.key_choice import by_share
from fleet.settings import Settings
from fleet.settings.names import LOCAL
from fleet.settings.providers import Provider

if TYPE_CHECKING:
    from fleet.models.calls.call import ModelCaller

CLIENTS = "fleet.models.calls.call"

NO_KEY = "local"
"""Sent to a server of the local model that needs no key: the protocol's client wants one."""


def load_clients() -> type[ModelCaller]:
    """Import the providers' clients: about a second of one core and 50 MB.

    A process without model calls never imports them. The first model call of a process imports them
    in a thread, so that the process's other tasks continue.
    """
    is_first = CLIENTS not in sys.modules
    from fleet.models.calls.call import ModelCaller

    if is_first:
        # Code and classes stay for good: see `fleet.worker.agent_tasks`.
        gc.freeze()
    return ModelCaller


class ModelCallers(Collection[str]):
    """The names of the reachable models, and a caller for each model and key.

    A caller is made on first use: only then is the provider's package imported. `rng` spreads the
    calls over the keys of a provider.
    """

    def __init__(
        self, settings: Settings, models: Sequence[Model], keys: ProviderKeys, rng: Random
    ) -> None:
        self.keys = keys
        self._timeout = settings.config.limits.model_call_seconds
        self._rng = rng
        self._reachable = {
            model.name: (model, endpoint)
            for model in models
            if (endpoint := _endpoint(settings, model.provider, keys)) is not None
        }
        self._now = ModelsByName(models)
        self._made: dict[tuple[str, str], ModelCaller] = {}

    def keys_of(self, name: str) -> list[DeclaredKey]:
        """The keys to call a model with, in random order by their shares. Empty for a local model,
        which needs none."""
        return by_share(self.keys.of(self._reachable[name][0].provider), self._rng)

    def caller(self, name: str, key: DeclaredKey | None) -> ModelCaller:
        """The caller of a model with a key. Raises `InvalidConfig` if the package for the
        provider's protocol is not installed."""
        at = name, key.id if key else ""
        if at not in self._made:
            model, endpoint = self._reachable[name]
            now = partial(self._now.__getitem__, name)
            access = KeyAccess(self.keys, key) if key else None
            self._made[at] = load_clients()(model, endpoint, self._timeout, now, access)
        return self._made[at]

    def __contains__(self, name: object) -> bool:
        return name in self._reachable

    def __iter__(self) -> Iterator[str]:
        return iter(self._reachable)

    def __len__(self) -> int:
        return len(self._reachable)


def _endpoint(settings: Settings, provider: str, keys: ProviderKeys) -> Endpoint | None:
    """Where a provider's models are served, without its key."""
    if provider == LOCAL:
        url, local = settings.environment.model_url, settings.environment.model_key
        own = local.get_secret_value() if local else NO_KEY
        return Endpoint("openai", own, url) if url else None
    found: Provider | None = settings.config.providers.get(provider)
    if not found or not keys.of(provider):
        return None
    return Endpoint(
        found.kind,
        "",
        found.base_url,
        found.region,
        found.streams,
        found.limit_field,
        found.temperature,
        found.stream_usage,
    )
