"""Starts a real Vault for tests, and does there what an administrator would.

The program that builds and starts services is named in REAL_SERVICES.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import hvac
from cluster_services import TOOL, start

from fleet.settings.secrets import Vault

POLICY = """
path "{mount}/data/*" {{ capabilities = ["create", "read", "update"] }}
path "{mount}/metadata/*" {{ capabilities = ["read", "list"] }}
path "{mount}/metadata" {{ capabilities = ["list"] }}
path "{mount}/destroy/*" {{ capabilities = ["update"] }}
path "transit/encrypt/{key}" {{ capabilities = ["update"] }}
path "transit/decrypt/{key}" {{ capabilities = ["update"] }}
"""
"""The rights that docs/secrets.md names."""


@dataclass(frozen=True)
class RealVault:
    """A Vault and its administrator. `data` is the folder of this run."""

    url: str
    root: hvac.Client
    unseal_key: str
    data: Path

    def tenant(self) -> RealTenant:
        """An own KV mount, Transit key, policy and role: what one fleet would be given."""
        name = f"fleet-{uuid4().hex[:8]}"
        self.root.sys.enable_secrets_engine("kv", path=name, options={"version": "2"})
        self.root.secrets.transit.create_key(name, key_type="aes256-gcm96")
        self.root.sys.create_or_update_policy(name, POLICY.format(mount=name, key=name))
        found = RealTenant(self, name)
        found.role()
        return found

    def seal(self) -> None:
        """Seal it, as an administrator does in an emergency."""
        self.root.sys.seal()

    def unseal(self) -> None:
        """Unseal it again."""
        self.root.sys.submit_unseal_key(self.unseal_key)


@dataclass(frozen=True)
class RealTenant:
    """What a fleet has in a Vault. Mount, Transit key, policy and role have one name."""

    vault: RealVault
    name: str

    def role(self, **limits: Any) -> None:
        """Give the AppRole these limits, such as token_ttl="2s"."""
        self.vault.root.auth.approle.create_or_update_approle(
            self.name, token_policies=[self.name], **limits
        )

    def settings(self, transit: bool = False, **others: Any) -> Vault:
        """Settings with a new secret id."""
        approle = self.vault.root.auth.approle
        file = self.vault.data / f"secret-id-{uuid4().hex}"
        file.write_text(approle.generate_secret_id(self.name)["data"]["secret_id"])
        return Vault.model_validate(
            {
                "address": self.vault.url,
                "mount": self.name,
                "login": "approle",
                "role_id": approle.read_role_id(self.name)["data"]["role_id"],
                "secret_id_file": file,
                "transit_key": self.name if transit else None,
                **others,
            }
        )


@contextmanager
def running_vault(data: Path) -> Iterator[RealVault]:
    """A Vault for this run alone. Skips the test if it is not there, or not built."""
    try:
        start(data, "vault")
        yield _administered(data)
    finally:
        if TOOL.exists():
            subprocess.run([str(TOOL), "stop", "--data", str(data)], check=False)


def _administered(data: Path) -> RealVault:
    printed = subprocess.run(
        [str(TOOL), "env", "--data", str(data)], capture_output=True, text=True, check=True
    ).stdout
    variables = dict(
        line.removeprefix("export ").split("=", 1) for line in printed.splitlines() if "=" in line
    )
    url = variables["VAULT_ADDR"]
    root = hvac.Client(url=url, token=variables["VAULT_TOKEN"])
    root.sys.enable_auth_method("approle")
    root.sys.enable_secrets_engine("transit")
    keys = json.loads((data / "vault-keys.json").read_text())
    return RealVault(url, root, keys["keys"][0], data)
