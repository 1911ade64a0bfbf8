"""Sends requests to Vault with hvac, and makes a typed error of each answer that is none.

hvac 2.4 raises one class for most statuses, and lets the errors of `requests` pass. For a sealed
Vault some of its methods return a response in place of an error. So this module reads the status.
"""

from __future__ import annotations

from typing import Any

import requests
from hvac.adapters import JSONAdapter

from fleet.errors import (
    FleetError,
    InvalidConfig,
    InvalidRequest,
    NotAllowed,
    SecretNotFound,
    SecretsUnavailable,
)

NO_ROUTE = "no handler for route"
"""What Vault says of a path where no engine is mounted. Other paths without a value get no text."""
RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 300.0


class VaultRefusal(Exception):
    """An answer with another status than success. `errors` is Vault's own text, never shown."""

    def __init__(self, status: int, errors: str, retry_after: float) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.errors = errors
        self.retry_after = retry_after


class StatusAdapter(JSONAdapter):
    """Raises `VaultRefusal` for an answer that is no success, and `SecretsUnavailable` if there is
    no answer, or none of Vault. Success is an object of JSON, or nothing."""

    def request(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request, as hvac's own adapter."""
        kwargs["raise_exception"] = False
        try:
            found = super().request(*args, **kwargs)
        except requests.exceptions.RequestException as error:
            raise SecretsUnavailable(
                f"Vault at {self.base_uri} does not answer ({type(error).__name__}); check "
                "secrets.vault.address and that Vault runs"
            ) from None
        if isinstance(found, dict):
            return found
        if found.status_code == requests.codes.no_content:
            return {}
        if found.ok and not found.is_redirect:
            raise SecretsUnavailable(
                f"{self.base_uri} answers, but not as Vault does; check secrets.vault.address"
            )
        raise VaultRefusal(found.status_code, _errors(found), _retry_after(found))


def translated(refusal: VaultRefusal, what: str, address: str) -> FleetError:
    """The typed error for an answer of Vault to an attempt, such as `read providers/openai`."""
    status = refusal.status
    place = f"Vault at {address}"
    if status in (401, 403):
        return NotAllowed(
            f"{place} does not allow the fleet to {what} (status {status}); give its role a policy "
            "with this path"
        )
    if status == 404:
        if NO_ROUTE in refusal.errors:
            return InvalidConfig(
                f"{place} has no secrets engine where it was asked to {what}; correct "
                "secrets.vault.mount, transit_mount or login_mount"
            )
        return SecretNotFound(f"{place} cannot {what}: there is none")
    if status == 413:
        return InvalidRequest(f"{place} cannot {what}: it is too large; store less")
    if status in (400, 405):
        return InvalidConfig(
            f"{place} cannot {what} (status {status}); check secrets.vault: its mount needs a KV "
            "engine of version 2, its transit_key an AEAD type. What was altered, or copied from "
            "another path, does not decrypt"
        )
    reason = REASONS.get(status, "it failed")
    return SecretsUnavailable(
        f"{place} cannot {what} now: {reason} (status {status})", refusal.retry_after
    )


REASONS = {
    301: "it redirects; name the active node in secrets.vault.address",
    302: "it redirects; name the active node in secrets.vault.address",
    307: "it redirects; name the active node in secrets.vault.address",
    308: "it redirects; name the active node in secrets.vault.address",
    412: "this node has not caught up",
    429: "too many requests",
    472: "this node is a standby of disaster recovery",
    473: "this node is a standby",
    501: "it is not initialized",
    502: "what is behind it failed",
    503: "it is sealed, or in maintenance",
    504: "what is behind it is too slow",
}
"""Why an attempt may succeed later, by status."""


def _errors(response: requests.Response) -> str:
    """Vault's text of what was wrong, to tell cases apart. It may hold what was sent."""
    try:
        found = response.json()
    except ValueError:
        return ""
    errors = found.get("errors") if isinstance(found, dict) else None
    return " ".join(map(str, errors)) if isinstance(errors, list) else ""


def _retry_after(response: requests.Response) -> float:
    """The seconds that Vault asks to wait."""
    try:
        seconds = float(response.headers.get("Retry-After", RETRY_SECONDS))
    except ValueError:
        return RETRY_SECONDS
    return min(max(seconds, RETRY_SECONDS), MAX_RETRY_SECONDS)
