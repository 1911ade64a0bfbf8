"""`anthropic_admin`: keys of Anthropic's API, by its administration API.

That API lists, renames, deactivates and archives keys. It creates none. So a person makes each new
key in Anthropic's console and brings it: `fleet secrets rotate PATH`. Fleet tests it, has every
agent use it, and deactivates the old one when nobody uses it any more. The old one is found by the
two ends of each key that the API shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from pydantic import Field

from fleet.errors import InvalidRequest
from fleet.secrets.rotator import Fields, ReadFields, RotatorFactory, Turn
from fleet.secrets.rotators.calls import UNAUTHORIZED, SafeUrl, call_json, fits_hint, key_of
from fleet.settings.names import Section

API_VERSION = "2023-06-01"
PAGE = 1000
MAX_PAGES = 100


class AnthropicOptions(Section):
    """`admin` is the path of the secret with an administration key, in its field `api_key`."""

    admin: str
    base_url: SafeUrl = Field("https://api.anthropic.com")


class AnthropicRotator:
    """Tests a key that a person brings, and deactivates the old one."""

    by_person = True

    def __init__(self, options: AnthropicOptions, read: ReadFields) -> None:
        self._admin = options.admin
        self._read = read
        base = options.base_url.rstrip("/")
        self._models = f"{base}/v1/models"
        self._keys = f"{base}/v1/organizations/api_keys"

    def create(self, turn: Turn) -> Fields:
        """Raises `InvalidRequest`: the API creates no keys."""
        raise InvalidRequest(
            "Anthropic's API creates no keys; make one in its console, and bring it: `fleet "
            f"secrets rotate {turn.path}`"
        )

    def set(self, turn: Turn, new: Fields) -> None:
        """Nothing: Anthropic accepts a key from its creation on."""

    def test(self, turn: Turn, new: Fields) -> None:
        """List the models with the new key."""
        call_json("GET", self._models, _headers(key_of(new)))

    def revoke(self, old: Fields) -> None:
        """Deactivate the key. Nothing happens if it is not active any more."""
        found = [
            key for key in self._listed() if fits_hint(key_of(old), key.get("partial_key_hint"))
        ]
        active = [key for key in found if key.get("status") == "active"]
        if len(active) > 1 or (not found and self._accepts(old)):
            count = len(active) or "no"
            raise InvalidRequest(
                f"{count} keys of the organization look like this one; deactivate it in "
                "Anthropic's console, then revoke it here"
            )
        for key in active:
            url = f"{self._keys}/{quote(str(key.get('id')), safe='')}"
            call_json("POST", url, self._admin_headers(), {"status": "inactive"})

    def _accepts(self, old: Fields) -> bool:
        headers = _headers(key_of(old))
        return call_json("GET", self._models, headers, allowed=(UNAUTHORIZED,)) is not None

    def _listed(self) -> Iterator[dict[str, Any]]:
        after = ""
        for _ in range(MAX_PAGES):
            url = f"{self._keys}?limit={PAGE}{after}"
            page = call_json("GET", url, self._admin_headers()) or {}
            yield from (each for each in page.get("data") or [] if isinstance(each, dict))
            if not page.get("has_more") or not page.get("last_id"):
                return
            after = f"&after_id={quote(str(page['last_id']), safe='')}"

    def _admin_headers(self) -> dict[str, str]:
        return _headers(key_of(self._read(self._admin)))


def _headers(key: str) -> dict[str, str]:
    return {"x-api-key": key, "anthropic-version": API_VERSION}


ANTHROPIC_ADMIN = RotatorFactory(AnthropicOptions, AnthropicRotator)
