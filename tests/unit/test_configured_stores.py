"""The store `environment`, the installed stores, and the settings of all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidConfig, InvalidRequest, NotAllowed, SecretNotFound
from fleet.secrets.environment_store import EnvironmentStore, variable
from fleet.secrets.file_store import FileStore
from fleet.secrets.store import LateStore
from fleet.secrets.stores import configured_stores
from fleet.secrets.values import check_fields
from fleet.settings import Settings, parse_config
from fleet.settings.environment import Environment

OPENAI = "FLEET_SECRET_PROVIDERS__OPENAI__API_KEY"


def test_the_variable_of_a_field_is_predictable() -> None:
    assert variable("providers/openai", "api_key") == OPENAI
    assert variable("agents/coder-1.eu", "token") == "FLEET_SECRET_AGENTS__CODER_1_EU__TOKEN"


def test_variables_are_the_fields_of_a_path() -> None:
    store = EnvironmentStore(
        {
            OPENAI: " sk-1\n",
            "FLEET_SECRET_PROVIDERS__OPENAI__PROJECT": "p",
            "FLEET_SECRET_PROVIDERS__OPENAI__EU__API_KEY": "sk-2",
            "FLEET_SECRET_PROVIDERS__EMPTY__API_KEY": " ",
            "OPENAI_API_KEY": "not this",
        }
    )
    found = store.read("providers/openai")
    assert (found.fields, found.version) == ({"api_key": "sk-1", "project": "p"}, 0)
    assert store.read("providers/openai/eu").fields == {"api_key": "sk-2"}
    assert store.paths() == ["providers/openai", "providers/openai/eu"]
    assert store.paths("agents/") == []
    assert [each.version for each in store.versions("providers/openai")] == [0]


def test_a_variable_has_no_later_version() -> None:
    store = EnvironmentStore({OPENAI: "sk-1"})
    assert store.read("providers/openai", 0).version == 0
    with pytest.raises(SecretNotFound):
        store.read("providers/openai", 1)
    with pytest.raises(SecretNotFound, match=r"set FLEET_SECRET_AGENTS__X__API_KEY"):
        store.read("agents/x")


def test_variables_can_only_be_read() -> None:
    store = EnvironmentStore({OPENAI: "sk-1"})
    with pytest.raises(NotAllowed, match="read only"):
        store.write("providers/openai", {"api_key": "sk-2"}, 0)
    with pytest.raises(NotAllowed, match="unset the variables"):
        store.destroy("providers/openai", 0)


@pytest.mark.parametrize("path", ["providers/a__b", "providers/a-", "providers/a-_b"])
def test_a_path_whose_variable_would_be_that_of_another_has_none(path: str) -> None:
    store = EnvironmentStore({variable(path, "api_key"): "sk-1"})
    with pytest.raises(SecretNotFound):
        store.read(path)


PATHS = st.from_regex(r"[ab]([_.\-]{1,2}[ab]|/[ab]|[_.\-]){0,4}", fullmatch=True)


@given(PATHS, PATHS)
def test_two_paths_share_variables_only_where_a_sign_differs(one: str, two: str) -> None:
    store = EnvironmentStore({variable(one, "api_key"): "sk-1"})
    alike = one.translate({45: 95, 46: 95}) == two.translate({45: 95, 46: 95})
    try:
        store.read(two)
    except SecretNotFound:
        return
    assert alike


@pytest.mark.parametrize("value", [None, 7, b"x", ["x"]], ids=repr)
def test_a_value_that_is_no_text_is_refused_and_not_shown(value: object) -> None:
    with pytest.raises(InvalidRequest, match="is no text") as refused:
        check_fields({"api_key": value})  # type: ignore[dict-item]
    assert repr(value) not in str(refused.value)


def settings_of(text: str, tmp_path: Path) -> Settings:
    return Settings(Environment(data_dir=tmp_path), parse_config(text, "fleet.toml"), "fleet.toml")


def test_the_default_is_variables_and_files(tmp_path: Path) -> None:
    first, second = configured_stores(settings_of("", tmp_path))
    assert isinstance(first, EnvironmentStore)
    assert isinstance(second, FileStore)


def test_a_store_that_is_not_installed_is_said(tmp_path: Path) -> None:
    text = '[secrets]\nstores = ["file", "acme"]'
    with pytest.raises(InvalidConfig, match=r"secrets\.stores: no store of secrets is called"):
        configured_stores(settings_of(text, tmp_path))


VAULT = '[secrets]\nstores = ["vault"]\n[secrets.vault]\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[secrets]\nstores = []", "name at least one store"),
        ('[secrets]\nstores = ["file", "file"]', "file is named twice"),
        ('[secrets]\nstores = ["vault"]', "vault needs vault.address"),
        (VAULT + 'address = "vault:8200"', "is no address of Vault"),
        (VAULT + 'address = "https://user:pw@vault"', "more than a host and a port"),
        (VAULT + 'address = "https://vault/ui"', "more than a host and a port"),
        (VAULT + 'address = "http://vault:8200"\nrole = "fleet"', "would send the token in the"),
        (VAULT + 'address = "https://vault"', "login kubernetes needs role"),
        (VAULT + 'address = "https://vault"\nlogin = "approle"', "needs role_id"),
        (
            VAULT + 'address = "https://vault"\nlogin = "approle"\nrole_id = "x"',
            "needs secret_id_file",
        ),
        (VAULT + 'address = "https://vault"\nlogin = "token"\nrole = "x"', "role is for login"),
        (VAULT + 'address = "https://vault"\nlogin = "ldap"', "should be 'kubernetes'"),
        ('[secrets]\nmaster_key = "hsm"', "should be 'file' or 'keyring'"),
        ("[secrets]\ncache_seconds = 0", "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_a_sentence(text: str, problem: str) -> None:
    with pytest.raises(InvalidConfig, match=r"fleet\.toml: secrets") as refused:
        parse_config(text, "fleet.toml")
    assert problem in str(refused.value)
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize(
    "keys",
    [
        'address = "http://127.0.0.1:8200"\nrole = "fleet"',
        'address = "http://localhost:8200"\nlogin = "token"',
        'address = "http://vault.vault:8200"\nrole = "fleet"\ninsecure_http = true',
        'address = "https://vault:8200/"\nrole = "fleet"\nprefix = "teams/a/"',
    ],
)
def test_settings_that_can_work_are_taken(keys: str) -> None:
    assert parse_config(VAULT + keys, "fleet.toml").secrets.stores == ("vault",)


def test_a_store_with_a_large_client_is_made_at_its_first_use() -> None:
    made: list[EnvironmentStore] = []

    def make() -> EnvironmentStore:
        made.append(EnvironmentStore({OPENAI: "sk-1"}))
        return made[0]

    store = LateStore("late", make)
    assert made == []
    assert store.read("providers/openai").fields == {"api_key": "sk-1"}
    assert store.paths() == ["providers/openai"]
    assert len(made) == 1


def test_no_client_of_a_store_is_imported_before_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(
        '[secrets]\nstores = ["vault", "kubernetes", "file"]\n'
        '[secrets.vault]\naddress = "https://vault"\nrole = "fleet"\n'
    )
    code = (
        "import sys\nfrom fleet.settings import load_settings\n"
        "from fleet.tasks.connection import open_connection\n"
        "open_connection(load_settings())\n"
        "print([n for n in ('hvac', 'kubernetes', 'keyring') if n in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.stdout == "[]\n", ended.stderr
