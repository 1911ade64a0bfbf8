"""Where a model is served. This module needs none of the providers' clients."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet.settings.providers import LimitField, ProviderKind


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is served and by which protocol. The key never appears in a repr.

    Without a `base_url` the provider's own address is used. `region` is only for Bedrock, whose
    client finds the credentials in the environment itself. `streams` says that requests ask for a
    stream. `limit_field`, `temperature` and `stream_usage` are as in
    `fleet.settings.providers.Provider`.
    """

    kind: ProviderKind
    api_key: str = field(repr=False)
    base_url: str | None = None
    region: str | None = None
    streams: bool = True
    limit_field: LimitField | None = None
    temperature: bool = True
    stream_usage: bool | None = None
