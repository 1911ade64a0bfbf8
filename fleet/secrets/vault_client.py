"""A client of Vault that stays logged in.

A token is renewed by the first use after two thirds of its life. If that fails, or if Vault grants
little more, the client logs in anew; also if Vault no longer knows the token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from math import inf
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import hvac

from fleet.errors import InvalidConfig, NotAllowed, SecretsUnavailable
from fleet.secrets.vault_adapter import StatusAdapter, VaultRefusal, translated
from fleet.settings.secrets import Vault

CONNECT_SECONDS = 2.0
RENEW_AFTER = 2 / 3
"""Of the life of a token."""
RETRY_SECONDS = 5.0
"""When a renewal is tried again that Vault did not answer."""


class Life(NamedTuple):
    """The life of a token, by the monotonic clock: its length, when it is renewed, when it ends."""

    seconds: float
    renew_at: float
    ends_at: float
    can_renew: bool


class VaultClient:
    """Sends requests to one Vault. Threads may share it, but not a forked child."""

    def __init__(
        self,
        settings: Vault,
        token: str | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._own_token = token
        self._monotonic = monotonic
        self._lock = Lock()
        self._client: hvac.Client | None = None
        self._life: Life | None = None

    @property
    def address(self) -> str:
        """The address. `SecretSettings` has checked that there is one."""
        assert self._settings.address is not None
        return self._settings.address

    def call(
        self,
        what: str,
        ask: Callable[[hvac.Client], dict[str, Any]],
        passing: Collection[int] = (),
    ) -> dict[str, Any]:
        """The answer to a request; `what` names the attempt in errors.

        Raises `SecretsUnavailable`, `NotAllowed`, `SecretNotFound`, `InvalidConfig` and
        `InvalidRequest` by the status of the answer, and `VaultRefusal` for the statuses in
        `passing`.
        """
        client = self._ready()
        token = client.token
        try:
            try:
                return ask(client)
            except VaultRefusal as refusal:
                if refusal.status != 403 or not self._replaced(client, token):
                    raise
                return ask(client)
        except VaultRefusal as refusal:
            if refusal.status in passing:
                raise
            raise translated(refusal, what, self.address) from None

    def _ready(self) -> hvac.Client:
        """The client, logged in."""
        with self._lock:
            client = self._client = self._client or self._connected()
            now = self._monotonic()
            if self._life is None or now >= self._life.ends_at:
                self._log_in(client)
            elif now >= self._life.renew_at:
                self._renew(client, self._life, now)
            return client

    def _connected(self) -> hvac.Client:
        settings = self._settings
        if settings.ca_file is not None and not settings.ca_file.is_file():
            raise InvalidConfig(
                f"secrets.vault.ca_file: there is no file {settings.ca_file}; correct it"
            )
        return hvac.Client(
            url=self.address,
            # With None, hvac takes VAULT_TOKEN or ~/.vault-token.
            token="",  # nosec B106
            verify=str(settings.ca_file) if settings.ca_file else True,
            timeout=(min(CONNECT_SECONDS, settings.timeout_seconds), settings.timeout_seconds),
            namespace=settings.namespace,
            # requests would send the token to wherever Vault redirects.
            allow_redirects=False,
            adapter=StatusAdapter,
            strict_http=True,
        )

    def _replaced(self, client: hvac.Client, token: str) -> bool:
        """Whether there is a new token for one that Vault does not know any more."""
        with self._lock:
            if client.token != token:
                # Another thread was first.
                return True
            try:
                client.auth.token.lookup_self()
            except VaultRefusal:
                if self._settings.login == "token":
                    return False
                self._log_in(client)
                return True
            return False

    def _renew(self, client: hvac.Client, life: Life, now: float) -> None:
        """Renew the token. Log in anew if that fails, or if less than half of its life is left."""
        seconds = 0.0
        try:
            if life.can_renew:
                seconds = _lease(client.auth.token.renew_self())[0]
        except VaultRefusal:
            pass
        except SecretsUnavailable:
            # The token still lives: it may serve until its end.
            self._life = life._replace(renew_at=now + RETRY_SECONDS)
            return
        if seconds >= life.seconds / 2:
            self._life = _life(life.seconds, now, seconds, can_renew=True)
        elif self._settings.login == "token":
            self._life = life._replace(renew_at=inf)
        else:
            self._log_in(client)

    def _log_in(self, client: hvac.Client) -> None:
        now, settings = self._monotonic(), self._settings
        mount = settings.login_mount or settings.login
        try:
            if settings.login == "approle":
                secret_id = _read(settings.secret_id_file, "secret_id_file")
                found = client.auth.approle.login(settings.role_id, secret_id, mount_point=mount)
            elif settings.login == "kubernetes":
                jwt = _read(settings.service_account_file, "service_account_file")
                found = client.auth.kubernetes.login(settings.role, jwt, mount_point=mount)
            else:
                found = self._with_own_token(client)
        except VaultRefusal as refusal:
            if refusal.status in (400, 401, 403):
                raise NotAllowed(
                    f"Vault at {self.address} refuses the login {settings.login} (status "
                    f"{refusal.status}); {HINTS[settings.login]}"
                ) from None
            raise translated(refusal, f"log in by {settings.login}", self.address) from None
        seconds, can_renew = _lease(found)
        self._life = _life(seconds or inf, now, seconds or inf, can_renew)

    def _with_own_token(self, client: hvac.Client) -> dict[str, Any]:
        """Use FLEET_VAULT_TOKEN. The answer is as that of a login."""
        if not self._own_token:
            raise InvalidConfig(
                'secrets.vault.login is "token", and FLEET_VAULT_TOKEN is not set; set it, or '
                "choose another login"
            )
        client.token = self._own_token
        data = client.auth.token.lookup_self().get("data") or {}
        return {"auth": {"lease_duration": data.get("ttl"), "renewable": data.get("renewable")}}


HINTS = {
    "approle": "check role_id, and write a new secret id to secret_id_file",
    "kubernetes": "check role, and that Vault's role is bound to this service account",
    # A sentence, and no token.
    "token": "set FLEET_VAULT_TOKEN to a token that has not expired",  # nosec B105
}
"""What to do about a login that is refused."""


def _life(seconds: float, now: float, granted: float, can_renew: bool) -> Life:
    return Life(seconds, now + granted * RENEW_AFTER, now + granted, can_renew)


def _lease(answer: dict[str, Any]) -> tuple[float, bool]:
    """How many seconds a token lives, 0 for without end, and whether it can be renewed."""
    auth = answer.get("auth")
    if not isinstance(auth, dict) or not isinstance(auth.get("lease_duration"), int):
        raise SecretsUnavailable("Vault's answer to a login does not say how long the token lives")
    return float(auth["lease_duration"]), bool(auth.get("renewable"))


def _read(file: Path | None, key: str) -> str:
    """What a file of `secrets.vault` holds. It is read at each login, since it may be replaced."""
    assert file is not None
    try:
        found = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(
            f"secrets.vault.{key}: {file} cannot be read ({type(error).__name__}); correct it"
        ) from None
    if not found:
        raise InvalidConfig(f"secrets.vault.{key}: {file} is empty")
    return found

