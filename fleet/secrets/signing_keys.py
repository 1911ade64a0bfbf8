"""The keys that sign messages: versions of one secret, each with its kind.

    HMAC-SHA256    the field `key`: any text of at least 32 characters. Who can check can sign.
    Ed25519        the fields `private_key` and `public_key`, base64 of 32 bytes each. A process
                   whose store holds only `public_key` can check, and not sign.

The kind of a key is what its version holds. No message chooses it. The key id is the number of the
version, so several versions are valid at once: the current one signs, and every version that its
store has not destroyed is accepted. Rotation destroys the previous one when its grace has ended.
"""

from __future__ import annotations

import base64
import hmac
import secrets as random_bytes
from collections.abc import Callable, Mapping
from threading import Lock
from typing import NamedTuple

from fleet.errors import InvalidConfig, NotAllowed, SecretNotFound, SecretsUnavailable
from fleet.secrets.secrets import Secrets
from fleet.secrets.values import Secret
from fleet.settings.messages import SIGNING_PATH as PATH
from fleet.telemetry.logger import get_logger

MIN_CHARACTERS = 32
REFRESH_SECONDS = 15.0
"""How often a process looks which versions there are. A revoked key is refused after this time."""

RETRY_SECONDS = 1.0
"""At most once in this time, a message with an unknown key id has the versions read again."""

CURRENT_SECONDS = 1.0
"""How often a process that sends all the time asks which version is current."""

AWAY_SECONDS = 30.0
"""How much longer it waits before it looks again at a store that is away: it looks in the loop that
takes messages, which waits for the store's time-out."""

MAX_VERSIONS = 8
"""The newest versions that are accepted."""

log = get_logger(__name__)


class SigningKey(NamedTuple):
    """One version. `sign` is None if only the public key is known."""

    id: str
    kind: str
    sign: Callable[[bytes], bytes] | None
    verify: Callable[[bytes, bytes], bool]

    def __repr__(self) -> str:
        return f"SigningKey(id={self.id!r}, kind={self.kind!r})"


def new_key(kind: str) -> dict[str, str]:
    """The fields of a new random key, `kind` hmac or ed25519."""
    if kind == "hmac":
        return {"key": random_bytes.token_urlsafe(48)}
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    return {
        "private_key": base64.b64encode(private.private_bytes_raw()).decode(),
        "public_key": base64.b64encode(private.public_key().public_bytes_raw()).decode(),
    }


def signing_key(secret: Secret) -> SigningKey:
    """The key in a version of the secret. Raises `InvalidConfig` if it holds none."""
    return key_of(str(secret.version), secret.fields)


def key_of(key_id: str, fields: Mapping[str, str]) -> SigningKey:
    """The key in the fields of a version. Raises `InvalidConfig` if they hold none."""
    if "private_key" in fields or "public_key" in fields:
        return _ed25519(key_id, fields)
    key = fields.get("key", "")
    if len(key) < MIN_CHARACTERS:
        raise InvalidConfig(
            f"version {key_id} of secret {PATH} has no field `key` of at least {MIN_CHARACTERS} "
            "characters, and no `private_key` and `public_key`; write one with "
            "`fleet secrets set messages/signing key`"
        )
    return _hmac(key_id, key.encode())


def _hmac(key_id: str, key: bytes) -> SigningKey:
    def sign(text: bytes) -> bytes:
        return hmac.digest(key, text, "sha256")

    def verify(text: bytes, code: bytes) -> bool:
        return hmac.compare_digest(hmac.digest(key, text, "sha256"), code)

    return SigningKey(key_id, "hmac", sign, verify)


def _ed25519(key_id: str, fields: Mapping[str, str]) -> SigningKey:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    try:
        private = fields.get("private_key")
        signer = Ed25519PrivateKey.from_private_bytes(_raw(private)) if private else None
        public = signer.public_key() if signer else None
        if "public_key" in fields:
            given = Ed25519PublicKey.from_public_bytes(_raw(fields["public_key"]))
            if public is not None and public.public_bytes_raw() != given.public_bytes_raw():
                raise ValueError("the two keys are no pair")
            public = given
        assert public is not None
    except ValueError:
        raise InvalidConfig(
            f"version {key_id} of secret {PATH} is no Ed25519 key: private_key and public_key are "
            "base64 of 32 bytes each, and belong together; write one with "
            "`fleet secrets set messages/signing key`"
        ) from None

    def verify(text: bytes, code: bytes) -> bool:
        try:
            public.verify(code, text)
        except InvalidSignature:
            return False
        return True

    return SigningKey(key_id, "ed25519", signer.sign if signer else None, verify)


def _raw(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def ensure_key(secrets: Secrets, kind: str) -> bool:
    """Write a new key if no store has one. Whether one was written. Raises the errors of the
    stores."""
    try:
        secrets.read(PATH)
    except SecretNotFound:
        secrets.writable.write(PATH, new_key(kind), 0)
        secrets.forget(PATH)
        return True
    return False


class SigningKeys:
    """The keys of a process: the current one signs, all valid ones check. Threads may share it.

    `kind` is what `messages.signing` says. While the stores are away, the known keys stay in use.
    """

    def __init__(self, secrets: Secrets, kind: str, monotonic: Callable[[], float]) -> None:
        self._secrets = secrets
        self._kind = kind
        self._monotonic = monotonic
        self._lock = Lock()
        self._current: tuple[Secret, SigningKey] | None = None
        self._current_until = 0.0
        self._known: dict[str, SigningKey] = {}
        self._read_at: float | None = None

    def current(self) -> SigningKey:
        """The key that signs. Raises `NotAllowed` if this process may only check, `InvalidConfig`
        if it is of another kind, and the errors of the stores."""
        now, seen = self._monotonic(), self._current
        if seen is not None and now < self._current_until:
            return seen[1]
        secret = self._secrets.read(PATH)
        if seen is None or seen[0] is not secret:
            seen = self._current = (secret, self._checked(signing_key(secret)))
        self._current_until = now + CURRENT_SECONDS
        return seen[1]

    def _checked(self, key: SigningKey) -> SigningKey:
        if key.kind != self._kind:
            raise InvalidConfig(
                f'messages.signing is "{self._kind}", and version {key.id} of secret {PATH} is an '
                f"{key.kind} key; write one of this kind, or change messages.signing"
            )
        if key.sign is None:
            raise NotAllowed(
                f"this process may check messages and not send any: secret {PATH} has no "
                "private_key here; send from a process that has it"
            )
        return key

    def verifier(self, key_id: str) -> Callable[[bytes, bytes], bool] | None:
        """The check of a key id; None if no version is valid under it. Raises the errors of the
        stores if none was ever read."""
        if self._is_due(REFRESH_SECONDS) or (
            key_id not in self._known and self._is_due(RETRY_SECONDS)
        ):
            self.load()
        key = self._known.get(key_id)
        return None if key is None else key.verify

    def _is_due(self, seconds: float) -> bool:
        return self._read_at is None or self._monotonic() - self._read_at >= seconds

    def load(self) -> None:
        """Read which versions are valid. Raises the errors of the stores if none was ever read."""
        with self._lock:
            wait = 0.0
            try:
                self._known = self._valid()
            except SecretsUnavailable as error:
                if not self._known:
                    raise
                wait = AWAY_SECONDS
                log.warning(
                    "keys of messages could not be read, the known ones stay in use",
                    error=str(error),
                )
            self._read_at = self._monotonic() + wait

    def _valid(self) -> dict[str, SigningKey]:
        for store in self._secrets.stores:
            try:
                versions = store.versions(PATH)
            except SecretNotFound:
                continue
            found: dict[str, SigningKey] = {}
            for each in [each for each in versions if not each.destroyed][-MAX_VERSIONS:]:
                known = self._known.get(str(each.version))
                try:
                    found[str(each.version)] = known or signing_key(store.read(PATH, each.version))
                except (InvalidConfig, SecretNotFound) as error:
                    log.warning("a key of messages is not used", error=str(error))
            return found
        raise SecretNotFound(
            f"messages.signing is on, and no secret is stored at {PATH}; write a key with "
            f"`fleet secrets set {PATH} key`, or set messages.signing to \"off\""
        )
