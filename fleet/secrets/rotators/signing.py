"""`signing_key`: a new key for signed messages, see `fleet.secrets.signing_keys`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fleet.errors import InvalidRequest
from fleet.secrets.rotator import Fields, ReadFields, RotatorFactory, Turn
from fleet.secrets.signing_keys import key_of, new_key
from fleet.settings.names import Section

PROBE = b"a message"


class SigningOptions(Section):
    """The kind of the key: that of `messages.signing`."""

    kind: Literal["hmac", "ed25519"] = Field("hmac", description="The kind of the key.")


class SigningRotator:
    """Makes a random key. Senders and workers read it from the store: nothing is set elsewhere."""

    by_person = False

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def create(self, turn: Turn) -> Fields:
        """New values."""
        return new_key(self._kind)

    def set(self, turn: Turn, new: Fields) -> None:
        """Nothing: the store has it."""

    def test(self, turn: Turn, new: Fields) -> None:
        """Sign with what the store has, and check the signature."""
        key = key_of(str(turn.version), new)
        if key.sign is None or not key.verify(PROBE, key.sign(PROBE)):
            raise InvalidRequest("the key in the store does not sign")

    def revoke(self, old: Fields) -> None:
        """Nothing: its values leave the store."""


def _make(options: SigningOptions, read: ReadFields) -> SigningRotator:
    return SigningRotator(options.kind)


SIGNING_KEY = RotatorFactory(SigningOptions, _make)
