"""The store `vault` against a fake of Vault's API: logins, renewals, each error by its status."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_vault import JWT, ROLE_ID, SECRET_ID, FakeVault
from free_ports import free_port

from fleet.errors import (
    FleetError,
    InvalidConfig,
    InvalidRequest,
    NotAllowed,
    SecretNotFound,
    SecretsUnavailable,
)
from fleet.secrets.vault_client import VaultClient
from fleet.secrets.vault_store import VaultStore
from fleet.settings.secrets import Vault

PATH = "providers/openai"
CANARY = "sk-canary-7f3a"

Settings = Callable[..., Vault]


@pytest.fixture
def vault() -> Iterator[FakeVault]:
    with FakeVault() as found:
        yield found


@pytest.fixture
def settings(vault: FakeVault, tmp_path: Path) -> Settings:
    (tmp_path / "secret-id").write_text(SECRET_ID + "\n")
    (tmp_path / "jwt").write_text(JWT)
    logins = {
        "approle": {"role_id": ROLE_ID, "secret_id_file": tmp_path / "secret-id"},
        "kubernetes": {"role": "fleet", "service_account_file": tmp_path / "jwt"},
        "token": {},
    }

    def make(login: str = "approle", **others: object) -> Vault:
        return Vault.model_validate(
            {"address": vault.url, "login": login, **logins[login], **others}
        )

    return make


def store_of(settings: Vault, vault: FakeVault, token: str | None = None) -> VaultStore:
    """A store whose clock is that of the fake."""
    return VaultStore(settings, VaultClient(settings, token, lambda: vault.now))


@pytest.fixture
def store(settings: Settings, vault: FakeVault) -> VaultStore:
    return store_of(settings(), vault)


def test_nothing_is_sent_before_the_first_use(store: VaultStore, vault: FakeVault) -> None:
    assert vault.requests == []
    store.write(PATH, {"api_key": "one"}, 0)
    assert vault.logins == 1


@pytest.mark.parametrize("login", ["approle", "kubernetes"])
def test_each_login_works(settings: Settings, vault: FakeVault, login: str) -> None:
    store = store_of(settings(login), vault)
    assert store.write(PATH, {"api_key": "one"}, 0) == 1
    assert vault.requests[0] == ("POST", f"auth/{login}/login")


def test_a_token_of_the_environment_is_used_as_it_is(settings: Settings, vault: FakeVault) -> None:
    store = store_of(settings("token"), vault, vault.grant())
    assert store.write(PATH, {"api_key": "one"}, 0) == 1
    assert vault.logins == 0


def test_the_tokens_of_vaults_own_tools_are_not_taken(
    settings: Settings, vault: FakeVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", vault.grant())
    with pytest.raises(InvalidConfig, match="FLEET_VAULT_TOKEN is not set"):
        store_of(settings("token"), vault).paths()


def test_a_token_is_renewed_at_two_thirds_of_its_life(store: VaultStore, vault: FakeVault) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    (token,) = vault.tokens.values()
    vault.now = vault.token_seconds * 0.66
    store.read(PATH)
    assert token.renewals == 0
    vault.now = vault.token_seconds * 0.67
    store.read(PATH)
    store.read(PATH)
    assert (token.renewals, vault.logins) == (1, 1)


def test_a_token_that_is_renewed_in_time_serves_without_another_login(
    store: VaultStore, vault: FakeVault
) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    for _ in range(10):
        vault.now += vault.token_seconds * 0.7
        store.read(PATH)
    assert vault.logins == 1


def test_a_token_that_reaches_its_greatest_age_is_replaced(
    store: VaultStore, vault: FakeVault
) -> None:
    vault.max_seconds = vault.token_seconds + 60
    store.write(PATH, {"api_key": "one"}, 0)
    vault.now = vault.token_seconds * 0.7
    store.read(PATH)
    assert vault.logins == 2


def test_after_the_end_of_a_token_a_new_login_follows(store: VaultStore, vault: FakeVault) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    vault.now = vault.token_seconds + 1
    assert store.read(PATH).fields == {"api_key": "one"}
    assert vault.logins == 2


def test_a_token_that_somebody_revoked_is_replaced(store: VaultStore, vault: FakeVault) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    vault.tokens.clear()
    assert store.read(PATH).fields == {"api_key": "one"}
    assert vault.logins == 2


def test_a_path_that_the_policy_denies_causes_no_login(store: VaultStore, vault: FakeVault) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    vault.denied = ("secret/data/providers",)
    for _ in range(3):
        with pytest.raises(NotAllowed, match="does not allow the fleet to read providers/openai"):
            store.read(PATH)
    assert vault.logins == 1


def test_a_renewal_that_is_not_answered_leaves_the_token_in_use(
    store: VaultStore, vault: FakeVault
) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    vault.now = vault.token_seconds * 0.7
    vault.page = "<html>"
    with pytest.raises(SecretsUnavailable):
        store.read(PATH)
    vault.page = None
    assert store.read(PATH).version == 1
    assert vault.logins == 1


@pytest.mark.parametrize("login", ["approle", "kubernetes"])
def test_a_login_that_is_refused_says_what_to_check(
    settings: Settings, vault: FakeVault, tmp_path: Path, login: str
) -> None:
    for name in ("secret-id", "jwt"):
        (tmp_path / name).write_text(CANARY)
    with pytest.raises(NotAllowed, match=f"refuses the login {login}") as refused:
        store_of(settings(login), vault).read(PATH)
    assert CANARY not in str(refused.value)


def test_a_secret_id_is_read_anew_at_each_login(
    settings: Settings, vault: FakeVault, tmp_path: Path
) -> None:
    store = store_of(settings(), vault)
    (tmp_path / "secret-id").write_text("old")
    with pytest.raises(NotAllowed):
        store.paths()
    (tmp_path / "secret-id").write_text(SECRET_ID)
    assert store.paths() == []


@pytest.mark.parametrize("content", [None, ""], ids=["absent", "empty"])
def test_a_secret_id_that_is_not_there_is_said(
    settings: Settings, vault: FakeVault, tmp_path: Path, content: str | None
) -> None:
    (tmp_path / "secret-id").unlink()
    if content is not None:
        (tmp_path / "secret-id").write_text(content)
    with pytest.raises(InvalidConfig, match=r"secrets.vault.secret_id_file"):
        store_of(settings(), vault).paths()


STATUSES: dict[int, type[FleetError]] = {
    **dict.fromkeys((400, 405), InvalidConfig),
    **dict.fromkeys((401, 403), NotAllowed),
    404: SecretNotFound,
    413: InvalidRequest,
    **dict.fromkeys((307, 412, 429, 472, 473, 500, 501, 502, 503, 504), SecretsUnavailable),
}


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_is_an_error_of_its_own(
    store: VaultStore, vault: FakeVault, status: int
) -> None:
    store.write(PATH, {"api_key": CANARY}, 0)
    vault.status = status
    vault.headers = {"Location": "http://192.0.2.1/"} if status == 307 else {}
    asks: list[Callable[[], object]] = [
        lambda: store.read(PATH),
        lambda: store.versions(PATH),
        lambda: store.write(PATH, {"api_key": CANARY}, 1),
    ]
    if status != 404:
        asks += [store.paths, lambda: store.destroy(PATH, 1)]
    for ask in asks:
        with pytest.raises(FleetError) as refused:
            ask()
        assert type(refused.value) is STATUSES[status]
        assert CANARY not in str(refused.value)


def test_a_limit_of_vault_says_when_to_come_back(store: VaultStore, vault: FakeVault) -> None:
    store.paths()
    vault.status, vault.headers = 429, {"Retry-After": "17"}
    with pytest.raises(SecretsUnavailable) as refused:
        store.read(PATH)
    assert refused.value.retry_after == 17


def test_a_sealed_vault_is_away_and_not_empty(store: VaultStore, vault: FakeVault) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    vault.is_sealed = True
    for ask in (store.paths, lambda: store.read(PATH), lambda: store.versions(PATH)):
        with pytest.raises(SecretsUnavailable, match="sealed"):
            ask()
    vault.is_sealed = False
    assert store.read(PATH).version == 1


def test_a_closed_port_is_away(settings: Settings, vault: FakeVault) -> None:
    away = settings(address=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SecretsUnavailable, match="does not answer"):
        store_of(away, vault).read(PATH)


def test_what_is_no_vault_is_away(store: VaultStore, vault: FakeVault) -> None:
    vault.page = "<html>Welcome</html>"
    with pytest.raises(SecretsUnavailable, match="not as Vault does"):
        store.read(PATH)


def test_an_engine_that_counts_no_versions_is_refused(store: VaultStore, vault: FakeVault) -> None:
    vault.engine_is_version_1 = True
    with pytest.raises(InvalidConfig, match="KV engine of version 2"):
        store.write(PATH, {"api_key": "one"}, 0)


def test_a_mount_that_is_not_there_is_no_empty_store(settings: Settings, vault: FakeVault) -> None:
    with pytest.raises(InvalidConfig, match=r"secrets.vault.mount"):
        store_of(settings(mount="elsewhere"), vault).paths()


def test_a_login_that_is_not_mounted_is_said(settings: Settings, vault: FakeVault) -> None:
    with pytest.raises(InvalidConfig, match="login_mount"):
        store_of(settings(login_mount="elsewhere"), vault).paths()


def test_a_version_that_somebody_deleted_in_vault_counts_as_destroyed(
    store: VaultStore, vault: FakeVault
) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    store.write(PATH, {"api_key": "two"}, 1)
    vault.secrets[PATH][2] |= {"data": None, "deletion_time": "2026-11-30T12:00:00.123456789Z"}
    assert store.read(PATH).version == 1
    assert [each.destroyed for each in store.versions(PATH)] == [False, True]


def test_paths_that_fleet_cannot_have_are_not_listed(store: VaultStore, vault: FakeVault) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    vault.secrets["Team A/Key"] = vault.secrets[PATH]
    assert store.paths() == [PATH]


def test_what_transit_encrypts_is_bound_to_its_path_and_version(
    settings: Settings, vault: FakeVault
) -> None:
    store = store_of(settings(transit_key="fleet"), vault)
    store.write(PATH, {"api_key": CANARY}, 0)
    assert CANARY not in str(vault.secrets)
    vault.secrets["agents/coder"] = vault.secrets[PATH]
    with pytest.raises(InvalidConfig, match="does not decrypt"):
        store.read("agents/coder")
    vault.secrets[PATH][2] = vault.secrets[PATH][1]
    with pytest.raises(InvalidConfig, match="does not decrypt"):
        store.read(PATH)
    assert store.read(PATH, 1).fields == {"api_key": CANARY}


@pytest.mark.parametrize("first", ["fleet", None], ids=["sealed", "plain"])
def test_a_secret_encrypted_in_another_way_than_configured_is_refused(
    settings: Settings, vault: FakeVault, first: str | None
) -> None:
    store_of(settings(transit_key=first), vault).write(PATH, {"api_key": "one"}, 0)
    with pytest.raises(InvalidConfig, match=r"secrets.vault.transit_key"):
        store_of(settings(transit_key=None if first else "fleet"), vault).read(PATH)


def test_a_value_that_is_no_text_is_refused(store: VaultStore, vault: FakeVault) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    vault.secrets[PATH][1]["data"] = {"api_key": {"nested": 1}}
    with pytest.raises(InvalidConfig, match="no text"):
        store.read(PATH)
