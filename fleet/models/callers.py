"""The callers of the models that this process can reach."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from fleet.models.calls.endpoint import Endpoint
from fleet.models.priced import ModelsByName
from fleet.models.rules.catalogue import Model
from fleet.settings import Settings
from fleet.settings.names import LOCAL

if TYPE_CHECKING:
    from fleet.models.calls.call import ModelCaller

CLIENTS = "fleet.models.calls.call"

NO_KEY = "local"
"""Sent to a server of the local model that needs no key: the protocol's client wants one."""


def model_callers(
    settings: Settings, models: Sequence[Model], environment: Mapping[str, str]
) -> Mapping[str, ModelCaller]:
    """A caller for each reachable model, by the model's name.

    A caller is made on first use: only then is the provider's package imported. A look-up raises
    `InvalidConfig` if the package is not installed.
    """
    return _Callers(settings, models, environment)


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


class _Callers(Mapping[str, "ModelCaller"]):
    def __init__(
        self, settings: Settings, models: Sequence[Model], environment: Mapping[str, str]
    ) -> None:
        self.timeout = settings.config.limits.model_call_seconds
        self.reachable = {
            model.name: (model, endpoint)
            for model in models
            if (endpoint := _endpoint(settings, model.provider, environment)) is not None
        }
        self.now = ModelsByName(models)
        self.made: dict[str, ModelCaller] = {}

    def __getitem__(self, name: str) -> ModelCaller:
        if name not in self.made:
            model, endpoint = self.reachable[name]
            now = partial(self.now.__getitem__, name)
            self.made[name] = load_clients()(model, endpoint, self.timeout, now)
        return self.made[name]

    def __contains__(self, name: object) -> bool:
        return name in self.reachable

    def __iter__(self) -> Iterator[str]:
        return iter(self.reachable)

    def __len__(self) -> int:
        return len(self.reachable)


def _endpoint(settings: Settings, provider: str, environment: Mapping[str, str]) -> Endpoint | None:
    if provider == LOCAL:
        url, local = settings.environment.model_url, settings.environment.model_key
        own = local.get_secret_value() if local else NO_KEY
        return Endpoint("openai", own, url) if url else None
    found = settings.config.providers.get(provider)
    key = found and found.key(environment)
    if not found or not key:
        return None
    return Endpoint(
        found.kind,
        key,
        found.base_url,
        found.region,
        found.streams,
        found.limit_field,
        found.temperature,
        found.stream_usage,
    )
