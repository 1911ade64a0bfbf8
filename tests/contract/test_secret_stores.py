"""What every store of secrets that can be written does, by one suite."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_kubernetes import FakeKubernetes
from fake_vault import ROLE_ID, SECRET_ID, FakeVault
from kubernetes import client
from real_vault import RealVault

from fleet.errors import InvalidRequest, SecretConflict, SecretNotFound
from fleet.secrets.file_store import FileStore
from fleet.secrets.kubernetes_store import KubernetesStore
from fleet.secrets.master_key import KeyFile
from fleet.secrets.store import SecretStore
from fleet.secrets.values import MAX_BYTES
from fleet.secrets.vault_client import VaultClient
from fleet.secrets.vault_store import VaultStore
from fleet.settings.secrets import Vault

PATH = "providers/openai"
CANARY = "sk-canary-7f3a"

Make = Callable[[], SecretStore]


STORES = (
    *("file", "vault", "transit", "kubernetes"),
    pytest.param("real_vault", marks=pytest.mark.vault),
    pytest.param("real_transit", marks=pytest.mark.vault),
)


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes a store, each time a new client of the same data: a second process."""
    found: Make = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture
def file_store(tmp_path: Path) -> Make:
    data_dir = tmp_path / "data"
    return lambda: FileStore(data_dir, KeyFile(tmp_path / "keys" / "master.key", data_dir))


@pytest.fixture
def vault_settings(vault: FakeVault, tmp_path: Path) -> Vault:
    secret_id = tmp_path / "secret-id"
    secret_id.write_text(SECRET_ID)
    return Vault(address=vault.url, login="approle", role_id=ROLE_ID, secret_id_file=secret_id)


@pytest.fixture
def vault() -> Iterator[FakeVault]:
    with FakeVault() as found:
        yield found


@pytest.fixture
def vault_store(vault_settings: Vault) -> Make:
    return lambda: VaultStore(vault_settings, VaultClient(vault_settings, None))


@pytest.fixture
def transit_store(vault_settings: Vault) -> Make:
    sealing = vault_settings.model_copy(update={"transit_key": "fleet", "prefix": "teams/a"})
    return lambda: VaultStore(sealing, VaultClient(sealing, None))


@pytest.fixture
def real_vault_store(real_vault: RealVault) -> Make:
    settings = real_vault.tenant().settings()
    return lambda: VaultStore(settings, VaultClient(settings, None))


@pytest.fixture
def real_transit_store(real_vault: RealVault) -> Make:
    settings = real_vault.tenant().settings(transit=True, prefix="teams/a")
    return lambda: VaultStore(settings, VaultClient(settings, None))


@pytest.fixture
def kubernetes_store() -> Iterator[Make]:
    with FakeKubernetes() as found:
        yield lambda: KubernetesStore(None, lambda _: (client_of(found), "fleet"))


def client_of(kubernetes: FakeKubernetes) -> client.ApiClient:
    settings = client.Configuration()
    settings.host, settings.retries = kubernetes.url, 0
    return client.ApiClient(settings)


@pytest.fixture
def store(make: Make) -> SecretStore:
    return make()


def test_what_is_written_is_read(store: SecretStore) -> None:
    before = time.time()
    assert store.write(PATH, {"api_key": CANARY, "organization": "acme \u00e9"}, 0) == 1
    found = store.read(PATH)
    assert found.fields == {"api_key": CANARY, "organization": "acme \u00e9"}
    assert (found.path, found.version, found.store) == (PATH, 1, store.name)
    assert before - 5 <= found.epoch <= time.time() + 5


def test_versions_only_grow_and_older_ones_stay(store: SecretStore) -> None:
    for version in (1, 2, 3):
        assert store.write(PATH, {"api_key": f"key-{version}"}, version - 1) == version
    assert store.read(PATH).fields == {"api_key": "key-3"}
    assert store.read(PATH, 2).fields == {"api_key": "key-2"}
    assert [(v.version, v.destroyed) for v in store.versions(PATH)] == [
        (1, False),
        (2, False),
        (3, False),
    ]


@pytest.mark.parametrize("expected", [0, 1, 3], ids=["none", "older", "newer"])
def test_a_write_on_another_newest_version_is_a_conflict(
    store: SecretStore, expected: int
) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    store.write(PATH, {"api_key": "two"}, 1)
    with pytest.raises(SecretConflict) as refused:
        store.write(PATH, {"api_key": CANARY}, expected)
    assert CANARY not in str(refused.value)
    assert store.read(PATH).fields == {"api_key": "two"}


def test_a_first_write_expects_no_version(store: SecretStore) -> None:
    with pytest.raises(SecretConflict):
        store.write(PATH, {"api_key": "one"}, 1)
    assert store.paths() == []


def test_a_repeated_write_is_the_first_one(store: SecretStore) -> None:
    assert store.write(PATH, {"api_key": "one"}, 0) == 1
    assert store.write(PATH, {"api_key": "one"}, 0) == 1
    assert len(store.versions(PATH)) == 1


def test_of_writers_at_the_same_time_one_wins(make: Make) -> None:
    def write(number: int) -> int | None:
        try:
            return make().write(PATH, {"api_key": f"key-{number}"}, 0)
        except SecretConflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(write, range(8)))
    assert sorted(filter(None, written)) == [1]
    assert make().read(PATH).fields == {"api_key": f"key-{written.index(1)}"}


def test_another_process_sees_what_was_written(make: Make) -> None:
    make().write(PATH, {"api_key": "one"}, 0)
    assert make().write(PATH, {"api_key": "two"}, 1) == 2
    assert make().read(PATH).fields == {"api_key": "two"}


def test_what_is_not_there_is_not_found(store: SecretStore) -> None:
    for ask in (store.read, store.versions):
        with pytest.raises(SecretNotFound, match=PATH):
            ask(PATH)
    store.write(PATH, {"api_key": "one"}, 0)
    with pytest.raises(SecretNotFound):
        store.read(PATH, 2)
    with pytest.raises(SecretNotFound):
        store.read("providers")


def test_paths_are_listed_below_a_prefix(store: SecretStore) -> None:
    assert store.paths() == []
    for path in ("providers/openai", "providers/openai/eu", "agents/coder-1", "single.part_1"):
        store.write(path, {"api_key": "k"}, 0)
    assert store.paths() == [
        "agents/coder-1",
        "providers/openai",
        "providers/openai/eu",
        "single.part_1",
    ]
    assert store.paths("providers/") == ["providers/openai", "providers/openai/eu"]
    assert store.paths("nothing/") == []


def test_a_destroyed_version_is_gone_and_still_counts(make: Make) -> None:
    store = make()
    store.write(PATH, {"api_key": "one"}, 0)
    store.write(PATH, {"api_key": "two"}, 1)
    store.destroy(PATH, 2)
    store.destroy(PATH, 2)
    with pytest.raises(SecretNotFound):
        make().read(PATH, 2)
    assert make().read(PATH).version == 1
    assert [each.destroyed for each in make().versions(PATH)] == [False, True]
    with pytest.raises(SecretConflict):
        store.write(PATH, {"api_key": "three"}, 1)
    assert store.write(PATH, {"api_key": "three"}, 2) == 3


def test_destroying_what_never_was_does_nothing(store: SecretStore) -> None:
    store.destroy(PATH, 1)
    with pytest.raises(SecretNotFound):
        store.read(PATH)


def test_a_secret_whose_versions_are_all_destroyed_is_not_found(store: SecretStore) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    store.destroy(PATH, 1)
    with pytest.raises(SecretNotFound):
        store.read(PATH)
    assert store.versions(PATH)[0].destroyed


@pytest.mark.parametrize(
    "fields",
    [{}, {"api_key": ""}, {"Api-Key": "x"}, {"api_key": "x" * MAX_BYTES}, {"api_key": "\ud800"}],
    ids=["none", "empty", "name", "long", "half"],
)
def test_fields_that_cannot_be_kept_are_refused(
    store: SecretStore, fields: dict[str, str]
) -> None:
    with pytest.raises(InvalidRequest):
        store.write(PATH, fields, 0)
    assert store.paths() == []


def test_the_largest_fields_are_kept_in_ten_versions(store: SecretStore) -> None:
    value = "\u00e9" * ((MAX_BYTES - 10) // 2)
    for expected in range(10):
        store.write(PATH, {"api_key": value}, expected)
    assert store.read(PATH, 1).fields["api_key"] == value


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "../a", "A", "a/../b", "a b"])
def test_a_text_that_is_no_path_is_refused(store: SecretStore, path: str) -> None:
    with pytest.raises(InvalidRequest):
        store.read(path)
    with pytest.raises(InvalidRequest):
        store.write(path, {"api_key": "one"}, 0)


def test_no_repr_shows_a_value(store: SecretStore) -> None:
    store.write(PATH, {"api_key": CANARY}, 0)
    assert CANARY not in repr(store.read(PATH)) + repr(store.__dict__)
