"""The store `vault`: HashiCorp Vault or OpenBao, a KV secrets engine of version 2.

With `transit_key`, Vault's Transit engine encrypts the fields first. Path and version are the
associated data, so that a value that somebody copies to another path does not decrypt.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fleet.errors import InvalidConfig, SecretNotFound, SecretsUnavailable
from fleet.secrets.store import newest_of, written_before
from fleet.secrets.values import PATH, Secret, SecretVersion, check_fields, check_path
from fleet.secrets.vault_adapter import VaultRefusal, translated
from fleet.secrets.vault_client import VaultClient
from fleet.settings.secrets import Vault

SEALED = "fleet.transit"
"""The key of what Transit has encrypted. No field of a secret has a dot."""


class VaultStore:
    """Secrets in Vault."""

    name = "vault"
    is_writable = True

    def __init__(self, settings: Vault, client: VaultClient) -> None:
        self._client = client
        self._mount = settings.mount
        self._prefix = f"{settings.prefix.strip('/')}/".lstrip("/")
        self._transit_key = settings.transit_key
        self._transit_mount = settings.transit_mount

    def read(self, path: str, version: int | None = None) -> Secret:
        """A version of a secret. Raises `SecretNotFound`, and `InvalidConfig` if it is encrypted in
        another way than the settings say."""
        check_path(path)
        try:
            data = self._read(path, version)
        except SecretNotFound:
            if version is not None:
                raise
            # Vault's newest may be destroyed, and an older one be there.
            live = [each.version for each in self.versions(path) if not each.destroyed]
            if not live:
                raise
            data = self._read(path, live[-1])
        metadata, fields = _part(data, "metadata"), _part(data, "data")
        number = _number(metadata.get("version"))
        epoch = _epoch(metadata.get("created_time"))
        return Secret(path, number, self._opened(path, number, fields), epoch, self.name)

    def _read(self, path: str, version: int | None) -> dict[str, Any]:
        found = self._client.call(
            f"read version {version} of {path}" if version else f"read {path}",
            lambda vault: vault.secrets.kv.v2.read_secret_version(
                self._prefix + path,
                version=version,
                mount_point=self._mount,
                raise_on_deleted_version=True,
            ),
        )
        return _part(found, "data")

    def write(self, path: str, fields: Mapping[str, str], expected: int) -> int:
        """Write the next version with check-and-set."""
        check_path(path)
        check_fields(fields)
        version = expected + 1
        sealed = self._sealed(path, version, fields)
        what = f"write {path}"
        try:
            found = self._client.call(
                what,
                lambda vault: vault.secrets.kv.v2.create_or_update_secret(
                    self._prefix + path, sealed, cas=expected, mount_point=self._mount
                ),
                passing=[400],
            )
        except VaultRefusal as refusal:
            # A failed check-and-set is a bad request like others.
            if self._newest(path) != expected:
                return written_before(self, path, fields, expected)
            raise translated(refusal, what, self._client.address) from None
        if "data" not in found or _part(found, "data").get("version") != version:
            raise InvalidConfig(
                f"secrets.vault.mount: {self._mount} counts no versions; mount a KV engine of "
                "version 2"
            )
        return version

    def versions(self, path: str) -> list[SecretVersion]:
        """Every version that Vault still knows, oldest first. Raises `SecretNotFound`."""
        check_path(path)
        found = self._client.call(
            f"read the versions of {path}",
            lambda vault: vault.secrets.kv.v2.read_secret_metadata(
                self._prefix + path, mount_point=self._mount
            ),
        )
        versions = _part(_part(found, "data"), "versions")
        return sorted(_version(int(number), facts) for number, facts in versions.items())

    def _newest(self, path: str) -> int:
        try:
            return newest_of(self.versions(path))
        except SecretNotFound:
            return 0

    def paths(self, prefix: str = "") -> list[str]:
        """The paths below a prefix, sorted. Paths that Fleet cannot have are left out."""
        folder, _, _ = prefix.rpartition("/")
        found = self._below(f"{folder}/" if folder else "")
        return sorted(path for path in found if path.startswith(prefix) and PATH.fullmatch(path))

    def _below(self, folder: str) -> list[str]:
        try:
            found = self._client.call(
                f"list {folder or 'all paths'}",
                lambda vault: vault.secrets.kv.v2.list_secrets(
                    self._prefix + folder, mount_point=self._mount
                ),
            )
        except SecretNotFound:
            return []
        paths: list[str] = []
        for name in _part(found, "data").get("keys") or ():
            paths += self._below(folder + name) if name.endswith("/") else [folder + name]
        return paths

    def destroy(self, path: str, version: int) -> None:
        """Have Vault delete the values of a version for good."""
        check_path(path)
        try:
            self._client.call(
                f"destroy version {version} of {path}",
                lambda vault: vault.secrets.kv.v2.destroy_secret_versions(
                    self._prefix + path, [version], mount_point=self._mount
                ),
            )
        except SecretNotFound:
            return

    def _bound_to(self, path: str, version: int) -> str:
        """The associated data of a version."""
        return _encoded(json.dumps(["fleet", self._prefix + path, version]))

    def _sealed(self, path: str, version: int, fields: Mapping[str, str]) -> dict[str, str]:
        """What is stored for the fields of a version."""
        key = self._transit_key
        if key is None:
            return dict(fields)
        found = self._client.call(
            f"encrypt {path} with the Transit key {key}",
            lambda vault: vault.secrets.transit.encrypt_data(
                key,
                plaintext=_encoded(json.dumps(dict(fields))),
                associated_data=self._bound_to(path, version),
                mount_point=self._transit_mount,
            ),
        )
        return {SEALED: str(_part(found, "data").get("ciphertext"))}

    def _opened(self, path: str, version: int, stored: Mapping[str, Any]) -> dict[str, str]:
        """The fields of a version in what is stored."""
        sealed, key = stored.get(SEALED), self._transit_key
        if (sealed is None) != (key is None):
            is_or_not = "is not" if sealed is None else "is"
            raise InvalidConfig(
                f"version {version} of {path} {is_or_not} encrypted with Transit, other than "
                "secrets.vault.transit_key says; correct the setting, or write the secret again"
            )
        fields = stored
        if key is not None:
            found = self._client.call(
                f"decrypt version {version} of {path} with the Transit key {key}",
                lambda vault: vault.secrets.transit.decrypt_data(
                    key,
                    ciphertext=sealed,
                    associated_data=self._bound_to(path, version),
                    mount_point=self._transit_mount,
                ),
            )
            fields = _decoded(_part(found, "data").get("plaintext"))
        if not all(isinstance(value, str) for value in fields.values()):
            raise InvalidConfig(f"version {version} of {path} has values that are no text")
        return dict(fields)


def _part(answer: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object inside an answer of Vault."""
    found = answer.get(name)
    if not isinstance(found, dict):
        raise SecretsUnavailable(
            f"Vault's answer has no {name}; check that secrets.vault.mount is a KV engine of "
            "version 2"
        )
    return found


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise SecretsUnavailable("Vault's answer has no version")
    return value


def _version(number: int, facts: Mapping[str, Any]) -> SecretVersion:
    """A version by its metadata. What is deleted counts as destroyed, also if Vault could undo it.

    A time of deletion may be in the future.
    """
    deletion = facts.get("deletion_time")
    is_gone = bool(facts.get("destroyed")) or bool(deletion and _epoch(deletion) <= time.time())
    return SecretVersion(number, _epoch(facts.get("created_time")), is_gone)


def _epoch(moment: object) -> float:
    """Seconds since 1970, from a time with nanoseconds such as 2026-11-30T12:00:00.123456789Z."""
    try:
        return datetime.fromisoformat(str(moment)).timestamp()
    except ValueError:
        raise SecretsUnavailable("Vault's answer has a time that is none") from None


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(plaintext: object) -> dict[str, Any]:
    """The fields that Transit has decrypted."""
    try:
        found = json.loads(base64.b64decode(str(plaintext), validate=True))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidConfig("what Transit decrypted is no secret that Fleet wrote")
    return found
