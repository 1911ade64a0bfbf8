"""The store `vault` against a real Vault: what its contract does not say.

tests/contract/test_secret_stores.py runs the contract of all stores against the same Vault.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import hvac
import pytest
from real_vault import RealTenant, RealVault

from fleet.errors import InvalidConfig, NotAllowed, SecretsUnavailable
from fleet.secrets.secrets import Secrets
from fleet.secrets.vault_client import VaultClient
from fleet.secrets.vault_store import VaultStore
from fleet.settings.secrets import Vault

pytestmark = pytest.mark.vault

PATH = "providers/openai"


class SkewedClock:
    """The monotonic clock, which a test may set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def tenant(real_vault: RealVault) -> RealTenant:
    return real_vault.tenant()


@pytest.fixture
def clock() -> SkewedClock:
    return SkewedClock()


def store_of(settings: Vault, clock: Callable[[], float] = time.monotonic) -> VaultStore:
    return VaultStore(settings, VaultClient(settings, None, clock))


def tokens_of(tenant: RealTenant) -> dict[str, dict[str, object]]:
    """What Vault knows of the tokens with a tenant's policy, by accessor."""
    token = tenant.vault.root.auth.token
    found = {}
    for accessor in token.list_accessors()["data"]["keys"]:
        try:
            facts = token.lookup_accessor(accessor)["data"]
        except hvac.exceptions.VaultError:
            # It has expired since.
            continue
        if tenant.name in facts["policies"]:
            found[accessor] = facts
    return found


def test_a_token_is_renewed_at_two_thirds_of_its_life(
    tenant: RealTenant, clock: SkewedClock
) -> None:
    tenant.role(token_ttl="60s")
    store = store_of(tenant.settings(), clock)
    store.write(PATH, {"api_key": "one"}, 0)
    clock.ahead = 39
    store.read(PATH)
    ((accessor, facts),) = tokens_of(tenant).items()
    assert "last_renewal_time" not in facts
    clock.ahead = 41
    store.read(PATH)
    ((same, renewed),) = tokens_of(tenant).items()
    assert (same, "last_renewal_time" in renewed) == (accessor, True)


def test_a_token_that_cannot_be_renewed_is_replaced_by_a_login(
    tenant: RealTenant, clock: SkewedClock
) -> None:
    tenant.role(token_ttl="60s", token_type="batch")
    store = store_of(tenant.settings(), clock)
    store.write(PATH, {"api_key": "one"}, 0)
    clock.ahead = 41
    assert store.read(PATH).fields == {"api_key": "one"}


def test_after_a_token_has_expired_a_login_follows(tenant: RealTenant) -> None:
    tenant.role(token_ttl="1s", token_max_ttl="1s")
    store = store_of(tenant.settings())
    store.write(PATH, {"api_key": "one"}, 0)
    deadline = time.monotonic() + 30
    while tokens_of(tenant) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not tokens_of(tenant)
    assert store.read(PATH).fields == {"api_key": "one"}


def test_a_token_that_an_administrator_revoked_is_replaced(tenant: RealTenant) -> None:
    store = store_of(tenant.settings())
    store.write(PATH, {"api_key": "one"}, 0)
    (first,) = tokens_of(tenant)
    tenant.vault.root.auth.token.revoke_accessor(first)
    assert store.read(PATH).fields == {"api_key": "one"}
    assert list(tokens_of(tenant)) != [first]


def test_a_secret_id_that_was_withdrawn_is_a_refused_login(tenant: RealTenant) -> None:
    settings = tenant.settings()
    assert settings.secret_id_file is not None
    secret_id = settings.secret_id_file.read_text()
    tenant.vault.root.auth.approle.destroy_secret_id(tenant.name, secret_id)
    with pytest.raises(NotAllowed, match="refuses the login approle") as refused:
        store_of(settings).read(PATH)
    assert secret_id not in str(refused.value)


def test_a_vault_that_is_sealed_in_mid_flight_is_away_and_memory_serves(
    tenant: RealTenant, clock: SkewedClock
) -> None:
    store = store_of(tenant.settings())
    secrets = Secrets([store], lambda _: None, 60, clock, stale_seconds=600)
    store.write(PATH, {"api_key": "one"}, 0)
    assert secrets.read(PATH).version == 1
    clock.ahead = 61
    tenant.vault.seal()
    try:
        for ask in (store.paths, lambda: store.read(PATH), lambda: store.versions(PATH)):
            with pytest.raises(SecretsUnavailable, match=r"sealed, or in maintenance \(status 503"):
                ask()
        with pytest.raises(SecretsUnavailable):
            store.write(PATH, {"api_key": "two"}, 1)
        assert (secrets.read(PATH).version, secrets.stale_reads) == (1, 1)
        with pytest.raises(SecretsUnavailable):
            secrets.read("providers/other")
    finally:
        tenant.vault.unseal()
    assert store.write(PATH, {"api_key": "two"}, 1) == 2
    clock.ahead += 6
    assert (secrets.read(PATH).version, secrets.stale_reads) == (2, 1)


def test_a_policy_that_denies_is_no_empty_store(tenant: RealTenant, real_vault: RealVault) -> None:
    store = store_of(tenant.settings(mount=real_vault.tenant().name))
    for ask in (store.paths, lambda: store.read(PATH), lambda: store.versions(PATH)):
        with pytest.raises(NotAllowed, match=r"status 403"):
            ask()
    with pytest.raises(NotAllowed):
        store.write(PATH, {"api_key": "one"}, 0)
    assert len(tokens_of(tenant)) == 1


def test_transit_binds_a_value_to_its_path(tenant: RealTenant) -> None:
    store = store_of(tenant.settings(transit=True))
    store.write(PATH, {"api_key": "one"}, 0)
    kv = tenant.vault.root.secrets.kv.v2
    stored = kv.read_secret_version(PATH, mount_point=tenant.name, raise_on_deleted_version=True)
    stolen = stored["data"]["data"]
    assert "one" not in str(stolen)
    kv.create_or_update_secret("agents/coder", stolen, mount_point=tenant.name)
    with pytest.raises(InvalidConfig, match="does not decrypt"):
        store.read("agents/coder")


def test_a_transit_key_is_rotated_and_old_values_are_written_anew(tenant: RealTenant) -> None:
    transit = tenant.vault.root.secrets.transit
    store = store_of(tenant.settings(transit=True))
    store.write(PATH, {"api_key": "one"}, 0)
    transit.rotate_key(tenant.name)
    assert store.read(PATH).fields == {"api_key": "one"}
    assert store.write(PATH, store.read(PATH).fields, 1) == 2
    transit.update_key_configuration(tenant.name, min_decryption_version=2)
    assert store.read(PATH, 2).fields == {"api_key": "one"}
    with pytest.raises(InvalidConfig):
        store.read(PATH, 1)


def test_an_engine_without_versions_is_refused(tenant: RealTenant) -> None:
    root = tenant.vault.root
    root.sys.disable_secrets_engine(tenant.name)
    root.sys.enable_secrets_engine("kv", path=tenant.name, options={"version": "1"})
    with pytest.raises(InvalidConfig, match="KV engine of version 2"):
        store_of(tenant.settings()).write(PATH, {"api_key": "one"}, 0)


def test_vaults_own_rewrap_refuses_what_is_bound_to_a_path(tenant: RealTenant) -> None:
    """So a value is written anew instead: docs/secrets.md says so."""
    store = store_of(tenant.settings(transit=True))
    store.write(PATH, {"api_key": "one"}, 0)
    root = tenant.vault.root
    stored = root.secrets.kv.v2.read_secret_version(
        PATH, mount_point=tenant.name, raise_on_deleted_version=True
    )
    (sealed,) = stored["data"]["data"].values()
    with pytest.raises(hvac.exceptions.InvalidRequest, match="authentication failed"):
        root.secrets.transit.rewrap_data(tenant.name, sealed)


def test_a_sealed_vault_answers_some_questions_of_hvac_as_if_nothing_were_wrong(
    real_vault: RealVault,
) -> None:
    """So no answer of these two decides anything in Fleet."""
    real_vault.seal()
    try:
        assert real_vault.root.sys.read_health_status().status_code == 503
        with pytest.raises(hvac.exceptions.VaultDown):
            real_vault.root.is_authenticated()
    finally:
        real_vault.unseal()
