"""The installed stores of secrets, Fleet's own and those of packages, and the configured ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

from fleet.errors import InvalidConfig
from fleet.extensions import installed
from fleet.secrets.environment_store import EnvironmentStore
from fleet.secrets.file_store import FileStore
from fleet.secrets.master_key import master_key_of
from fleet.secrets.store import LateStore, SecretStore, StoreFactory
from fleet.settings import Settings
from fleet.text import unknown

ENTRY_POINT_GROUP = "fleet.secret_stores"


def _environment(_: Settings) -> SecretStore:
    return EnvironmentStore(os.environ)


def _file(settings: Settings) -> SecretStore:
    return FileStore(settings.environment.data_dir, master_key_of(settings))


def _vault(settings: Settings) -> SecretStore:
    token, vault = settings.environment.vault_token, settings.config.secrets.vault

    def make() -> SecretStore:
        from fleet.secrets.vault_client import VaultClient
        from fleet.secrets.vault_store import VaultStore

        return VaultStore(vault, VaultClient(vault, token.get_secret_value() if token else None))

    return LateStore("vault", make)


def _kubernetes(settings: Settings) -> SecretStore:
    namespace = settings.config.secrets.kubernetes.namespace

    def make() -> SecretStore:
        from fleet.secrets.kubernetes_store import KubernetesStore

        return KubernetesStore(namespace)

    return LateStore("kubernetes", make)


STORES: Mapping[str, StoreFactory] = MappingProxyType(
    {
        "environment": StoreFactory(_environment),
        "file": StoreFactory(_file),
        "vault": StoreFactory(_vault),
        "kubernetes": StoreFactory(_kubernetes),
    }
)
"""Fleet's own stores by name."""


def configured_stores(settings: Settings) -> tuple[SecretStore, ...]:
    """The stores of `secrets.stores`, in this order. Sends nothing yet.

    Raises `InvalidConfig` for a name that is not installed, and the errors of `installed`.
    """
    known = installed(ENTRY_POINT_GROUP, "store of secrets", STORES, StoreFactory)
    for name in settings.config.secrets.stores:
        if name not in known:
            sentence = unknown("store of secrets", name, known)
            raise InvalidConfig(f"{settings.source}: secrets.stores: {sentence}")
    return tuple(known[name].make(settings) for name in settings.config.secrets.stores)
