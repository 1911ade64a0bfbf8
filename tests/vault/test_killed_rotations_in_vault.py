"""A rotation of a secret in a real Vault that is killed at any step is resumed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis
from fake_key_service import FakeKeyService
from killed_rotations import POINTS, Rotated, check_killed_rotation
from real_vault import RealVault

from fleet.secrets.vault_client import VaultClient
from fleet.secrets.vault_store import VaultStore

pytestmark = pytest.mark.vault


@pytest.fixture
def rotated(
    client: redis.Redis, valkey_url: str, real_vault: RealVault
) -> Iterator[Rotated]:
    tenant = real_vault.tenant()
    tenant.role(token_ttl="60s")
    settings = tenant.settings()

    def make_store() -> VaultStore:
        return VaultStore(settings, VaultClient(settings, None, time.monotonic))

    with FakeKeyService() as service:
        yield Rotated(service, valkey_url, make_store)


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_rotation_is_resumed(rotated: Rotated, point: str) -> None:
    check_killed_rotation(rotated, point)
