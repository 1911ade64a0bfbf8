"""Signed messages for tests: keys in memory, good messages, and what a worker says of a message."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from kombu import Connection

from fleet.broker.messages import agent_tasks_of, content_of, message_encoder
from fleet.broker.rules.signatures import SIGNATURE, Content, MessageCheck
from fleet.broker.signing import MessageSigner, content_of_message, message_check
from fleet.broker.transport.malformed import check_task, read_envelope
from fleet.broker.transport.set_aside import Message
from fleet.errors import MalformedMessage, SecretNotFound, SecretsUnavailable
from fleet.secrets.secrets import Secrets
from fleet.secrets.signing_keys import SigningKeys, new_key
from fleet.secrets.values import Secret, SecretVersion
from fleet.settings import FleetConfig
from fleet.settings.messages import SIGNING_PATH
from fleet.tasks.submission.checks import Checked

NOW = 1_800_000_000.0
CHANNEL = Connection("memory://").channel()
HMAC, ED25519 = new_key("hmac"), new_key("ed25519")


class KeyStore:
    """A store of secrets in memory, which holds versions of the key of messages."""

    name = "memory"
    is_writable = True

    def __init__(self, *versions: Mapping[str, str]) -> None:
        self.kept = dict(enumerate(versions, 1))
        self.away = False
        self.reads = 0

    def read(self, path: str, version: int | None = None) -> Secret:
        """A version; the newest by default."""
        self._check()
        found = max(self.kept, default=0) if version is None else version
        if path != SIGNING_PATH or found not in self.kept:
            raise SecretNotFound(path)
        return Secret(path, found, self.kept[found], 0.0, self.name)

    def write(self, path: str, fields: Mapping[str, str], expected: int) -> int:
        """Write the next version."""
        self.kept[expected + 1] = fields
        return expected + 1

    def versions(self, path: str) -> list[SecretVersion]:
        """The versions that are not destroyed."""
        self._check()
        self.reads += 1
        if path != SIGNING_PATH or not self.kept:
            raise SecretNotFound(path)
        return [SecretVersion(number, 0.0, False) for number in sorted(self.kept)]

    def paths(self, prefix: str = "") -> list[str]:
        """The one path."""
        return [SIGNING_PATH]

    def destroy(self, path: str, version: int) -> None:
        """Forget a version."""
        self.kept.pop(version, None)

    def _check(self) -> None:
        if self.away:
            raise SecretsUnavailable("the store is away")


def keys_of(
    store: KeyStore,
    kind: str = "hmac",
    monotonic: Callable[[], float] = lambda: 0.0,
    current: int | None = None,
) -> SigningKeys:
    """The keys in a store. `current` is the version that signs, by default the newest."""
    return SigningKeys(Secrets([store], lambda _: current, 1.0, monotonic), kind, monotonic)


def config_of(**messages: Any) -> FleetConfig:
    """A configuration with signed messages."""
    return FleetConfig.model_validate({"messages": {"signing": "hmac", **messages}})


def signer_of(keys: SigningKeys, config: FleetConfig | None = None) -> MessageSigner:
    """A signer whose clock stands at `NOW`."""
    config = config or config_of()
    return MessageSigner(keys, config, agent_tasks_of(config), lambda: NOW)


def check_of(keys: SigningKeys, config: FleetConfig | None = None) -> MessageCheck:
    """What a worker checks with these keys."""
    config = config or config_of()
    return message_check(config, keys, agent_tasks_of(config))


def submitted(signer: MessageSigner, task_id: str = "the-id") -> dict[str, Any]:
    """The message of a submission."""
    checked = Checked(
        "code_generation", "code_generator", '{"a": "\\u2603"}', "acme", 0.25, None, None, None, 7
    )
    return dict(json.loads(message_encoder(signer)(task_id, checked)))


def signed(signer: MessageSigner, message: dict[str, Any]) -> dict[str, Any]:
    """Any message, signed as it is."""
    header = signer.sign(content_of(message))
    return {**message, "headers": {**message["headers"], SIGNATURE: header}}


def content(message: Mapping[str, Any]) -> Content:
    """The content of a message, by Kombu, as a worker has it. Raises `MalformedMessage`."""
    return content_of_message(delivered(json.dumps(message).encode()))


def delivered(raw: bytes, max_bytes: int | None = None) -> Message:
    """A message as Kombu makes it of what is in a queue. Raises `MalformedMessage`."""
    return Message(read_envelope(raw, max_bytes), channel=CHANNEL)


def refusal(
    check: MessageCheck,
    message: Mapping[str, Any] | bytes,
    now: float = NOW,
    recorded: tuple[str, ...] = (),
) -> str:
    """Why a worker does not make a task of a message; '' if it does."""
    raw = message if isinstance(message, bytes) else json.dumps(message).encode()
    try:
        found = delivered(raw, 4 * check.max_bytes)
        refused = check.refusal(content_of_message(found), now, lambda each: each in recorded)
        if not refused:
            found.accept = {"application/json"}
            check_task(found)
        return refused
    except MalformedMessage as error:
        return str(error)
