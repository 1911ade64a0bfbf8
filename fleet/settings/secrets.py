"""What fleet.toml may say about secrets: where they are stored, and how long memory keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from fleet.settings.addresses import is_loopback
from fleet.settings.kubernetes import Namespace
from fleet.settings.names import Section
from fleet.settings.rotation import SecretPath, SecretRotation

StoreName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_\-]{0,62}$")]
"""A name; whether it is installed is checked where the installed ones are known."""
VaultPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-/]{0,199}$")]
Login = Literal["kubernetes", "approle", "token"]
VAULT = "vault"


class Vault(Section):
    """The store `vault`: HashiCorp Vault or OpenBao, with a KV secrets engine of version 2."""

    address: str | None = Field(
        None,
        description="The address. The store needs one.",
        examples=["https://vault.example.com:8200"],
    )
    insecure_http: bool = Field(
        False,
        description="true: allow an address with http:// on another machine. Tokens and secrets "
        "then cross the network in the clear, unless something else encrypts it.",
    )
    ca_file: Path | None = Field(
        None,
        description="Certificates that sign Vault's own. Default: those that Python trusts.",
        examples=["/etc/fleet/vault-ca.pem"],
    )
    namespace: VaultPath | None = Field(
        None, description="The namespace inside Vault, if it has any.", examples=["teams/fleet"]
    )
    mount: VaultPath = Field("secret", description="Where the KV engine is mounted.")
    prefix: Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9_.\-]*(/|$))*$")] = Field(
        "", description="Stands before each path, so that several fleets may share a mount."
    )
    login: Login = Field(
        "kubernetes",
        description="How the fleet logs in. kubernetes: with the token of the service account. "
        "approle: with role_id and secret_id_file. token: with FLEET_VAULT_TOKEN, for development.",
    )
    login_mount: VaultPath | None = Field(
        None,
        description="Where the login method is mounted. Default: its name.",
        examples=["kubernetes-production"],
    )
    role: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        None, description="The role, for login kubernetes.", examples=["fleet"]
    )
    service_account_file: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        description="The token of the service account, for login kubernetes. It is read at each "
        "login.",
    )
    role_id: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        None,
        description="The role id, for login approle. It is no secret.",
        examples=["3f2b0c2e-8f1e-4b0c-9d67-5e3a0f6f8f11"],
    )
    secret_id_file: Path | None = Field(
        None,
        description="A file with the secret id, for login approle. It is read at each login.",
        examples=["/etc/fleet/vault-secret-id"],
    )
    transit_key: VaultPath | None = Field(
        None,
        description="A key of the Transit engine that encrypts what is stored, with path and "
        "version as associated data. Its type is aes256-gcm96 or chacha20-poly1305. Left out: "
        "Vault's own encryption alone.",
        examples=["fleet"],
    )
    transit_mount: VaultPath = Field("transit", description="Where Transit is mounted.")
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        5, description="How long Vault may take to answer."
    )

    @field_validator("address")
    @classmethod
    def _has_a_host(cls, address: str | None) -> str | None:
        if address is None:
            return None
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is no address of Vault; write https://HOST:8200")
        if parts.username or parts.password or parts.query or parts.path.strip("/"):
            raise ValueError("has more than a host and a port; write https://HOST:8200")
        return address.rstrip("/")

    @model_validator(mode="after")
    def _is_encrypted_on_its_way(self) -> Self:
        if self.address is None or self.insecure_http:
            return self
        parts = urlsplit(self.address)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError(
                "address: http:// would send the token in the clear; write https://, or set "
                "insecure_http = true if something else encrypts it"
            )
        return self

    @model_validator(mode="after")
    def _has_what_its_login_needs(self) -> Self:
        if self.address is None:
            return self
        needs: dict[Login, tuple[str, ...]] = {
            "kubernetes": ("role",),
            "approle": ("role_id", "secret_id_file"),
            "token": (),
        }
        for name in needs[self.login]:
            if getattr(self, name) is None:
                raise ValueError(f"login {self.login} needs {name}; set it, or another login")
        for login, names in needs.items():
            for name in names if login != self.login else ():
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for login {login}, not {self.login}; remove it")
        return self


class KubernetesSecrets(Section):
    """The store `kubernetes`: Secrets named `agent-secrets-NAME`."""

    namespace: Namespace | None = Field(
        None,
        description="Their namespace. Default: that of the service account, or of the "
        "kubeconfig's context.",
        examples=["fleet"],
    )


class SecretSettings(Section):
    """Where secrets are stored, and how long the memory of a process keeps them."""

    stores: tuple[StoreName, ...] = Field(
        ("environment", "file"),
        description="The stores that a secret is looked for in, in this order: environment, file, "
        "vault, kubernetes, or one that a package brings. Secrets are written to the first that "
        "can be written.",
    )
    cache_seconds: Annotated[float, Field(ge=1, le=3600)] = Field(
        60, description="How long a process uses a secret from its memory before it reads it again."
    )
    cache_entries: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1000, description="Secrets that the memory of a process holds at most."
    )
    stale_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        3600,
        description="How much longer memory may serve a secret while its store is away. 0: not at "
        "all.",
    )
    master_key: Literal["file", "keyring"] = Field(
        "file",
        description="Where the key that protects the store `file` is. file: FLEET_MASTER_KEY_FILE. "
        "keyring: the operating system's keyring; it needs the extra `keyring`.",
    )
    vault: Vault = Vault()
    kubernetes: KubernetesSecrets = KubernetesSecrets()
    rotation: dict[SecretPath, SecretRotation] = Field(
        default_factory=dict, examples=["providers/openai"]
    )

    @model_validator(mode="after")
    def _stores_can_work(self) -> Self:
        if not self.stores:
            raise ValueError("stores: name at least one store, such as file")
        for name in self.stores:
            if self.stores.count(name) > 1:
                raise ValueError(f"stores: {name} is named twice; remove one of them")
        if VAULT in self.stores and self.vault.address is None:
            raise ValueError(
                "stores: vault needs vault.address; set it to an address such as "
                "https://vault.example.com:8200"
            )
        return self
