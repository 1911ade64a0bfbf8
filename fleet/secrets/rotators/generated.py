"""`generated`: an API key and a token that Fleet itself makes, for services that read its store."""

from __future__ import annotations

import re
import secrets
import string
from datetime import UTC, datetime
from uuid import uuid4

from fleet.errors import InvalidRequest
from fleet.secrets.rotator import Fields, ReadFields, RotatorFactory, Turn
from fleet.settings.names import Section

ALPHABET = string.ascii_letters + string.digits + "!@#$%^&*"
KEY_CHARACTERS = 32
KEY = re.compile(f"[{re.escape(ALPHABET)}]{{{KEY_CHARACTERS}}}")


class GeneratedOptions(Section):
    """It has no options."""


class GeneratedRotator:
    """Makes `api_key` (32 characters from a cryptographic source), `token` (a UUID4) and `made`
    (when, in UTC). The services that check them read the store too: nothing is set elsewhere.
    """

    by_person = False

    def create(self, turn: Turn) -> Fields:
        """New values."""
        return {
            "api_key": "".join(secrets.choice(ALPHABET) for _ in range(KEY_CHARACTERS)),
            "token": str(uuid4()),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def set(self, turn: Turn, new: Fields) -> None:
        """Nothing: the store has it."""

    def test(self, turn: Turn, new: Fields) -> None:
        """Check the form of what the store has. Raises `InvalidRequest`."""
        if not KEY.fullmatch(new.get("api_key", "")):
            raise InvalidRequest("the api_key in the store is not one that Fleet has made")

    def revoke(self, old: Fields) -> None:
        """Nothing: its values leave the store."""


def _make(options: GeneratedOptions, read: ReadFields) -> GeneratedRotator:
    return GeneratedRotator()


GENERATED = RotatorFactory(GeneratedOptions, _make)
