"""`openai_admin`: keys of OpenAI's service accounts, by its administration API.

Each version is a service account of a project, whose creation answers with its key. Revoking a
version deletes its account. A first key that a person made is found by the two ends that the API
shows of it, and deleted as a key of the project.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import Field, StringConstraints

from fleet.errors import InvalidRequest
from fleet.secrets.rotator import Fields, ReadFields, RotatorFactory, Turn
from fleet.secrets.rotators.calls import (
    GONE,
    UNAUTHORIZED,
    SafeUrl,
    call_json,
    fits_hint,
    key_of,
    text_at,
)
from fleet.settings.names import Section

PAGE = 100
MAX_PAGES = 100
ACCOUNT = "service_account"
ACCOUNT_OF = "service_account_of"
"""The field with the digest of the key that the account was made for."""


class OpenAIOptions(Section):
    """`project` is the id of the project. `admin` is the path of the secret with an administration
    key, in its field `api_key`."""

    project: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_\-]{1,128}$")]
    admin: str
    base_url: SafeUrl = Field("https://api.openai.com/v1")


class OpenAIRotator:
    """Turns over the key of a project's service account."""

    by_person = False

    def __init__(self, options: OpenAIOptions, read: ReadFields) -> None:
        self._options = options
        self._read = read
        base = options.base_url.rstrip("/")
        self._models = f"{base}/models"
        self._project = f"{base}/organization/projects/{options.project}"
        self._accounts = f"{self._project}/service_accounts"

    def create(self, turn: Turn) -> Fields:
        """Make an account that is named after the turn, and remove one of an earlier call."""
        name = f"fleet-{turn.id}"
        for account in self._listed(self._accounts):
            if account.get("name") == name:
                self._delete(self._accounts, str(account.get("id")))
        made = call_json("POST", self._accounts, self._headers(), {"name": name})
        key = text_at(made, "api_key.value", self._accounts)
        made_id = text_at(made, "id", self._accounts)
        return {"api_key": key, ACCOUNT: made_id, ACCOUNT_OF: digest_of(key)}

    def set(self, turn: Turn, new: Fields) -> None:
        """Nothing: OpenAI accepts a key from its creation on."""

    def test(self, turn: Turn, new: Fields) -> None:
        """List the models with the new key."""
        call_json("GET", self._models, {"Authorization": f"Bearer {key_of(new)}"})

    def revoke(self, old: Fields) -> None:
        """Delete the account of the key, or the key itself if a person made it."""
        # A person who set another key since then may have left the account of the one before.
        if ACCOUNT in old and old.get(ACCOUNT_OF) == digest_of(key_of(old)):
            self._delete(self._accounts, old[ACCOUNT])
            return
        keys = f"{self._project}/api_keys"
        found = [
            key for key in self._listed(keys)
            if fits_hint(key_of(old), key.get("redacted_value"))
        ]
        if len(found) > 1:
            raise InvalidRequest(
                f"{len(found)} keys of project {self._options.project} look like this one; delete "
                "it at OpenAI by hand, then revoke it here"
            )
        for key in found:
            self._delete(keys, str(key.get("id")))
        if not found:
            self._check_refused(old)

    def _check_refused(self, old: Fields) -> None:
        """Raise `InvalidRequest` if a key that the project does not list is accepted all the same.
        """
        headers = {"Authorization": f"Bearer {key_of(old)}"}
        if call_json("GET", self._models, headers, allowed=(UNAUTHORIZED,)) is not None:
            raise InvalidRequest(
                f"no key of project {self._options.project} looks like this one, and OpenAI "
                "accepts it; delete it there by hand, then revoke it here"
            )

    def _delete(self, place: str, name: str) -> None:
        url = f"{place}/{quote(name, safe='')}"
        call_json("DELETE", url, self._headers(), allowed=(GONE,))

    def _listed(self, url: str) -> Iterator[dict[str, Any]]:
        after = ""
        for _ in range(MAX_PAGES):
            page = call_json("GET", f"{url}?limit={PAGE}{after}", self._headers()) or {}
            data = page.get("data") or []
            yield from (each for each in data if isinstance(each, dict))
            if not page.get("has_more") or not data:
                return
            after = f"&after={quote(str(data[-1].get('id')), safe='')}"

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {key_of(self._read(self._options.admin))}"}


def digest_of(key: str) -> str:
    """The SHA-256 of a key, as hex."""
    return sha256(key.encode()).hexdigest()


OPENAI_ADMIN = RotatorFactory(OpenAIOptions, OpenAIRotator)
