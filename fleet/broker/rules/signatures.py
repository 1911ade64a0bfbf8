"""Signed messages: what is signed, and why a message is refused.

The signature is computed over one canonical JSON text (`signed_text`): a list of

    "fleet-message-1"   the version of this form
    key id              the version of the secret that signs
    valid until         seconds since 1970, by the publisher's clock
    ETA                 as the publisher wrote it, or null
    content type, content encoding
    priority, reply_to, correlation_id
    SHA-256 of the body (arguments, keyword arguments, and what follows the task), as hex
    headers             an object with sorted keys: all headers except `UNSIGNED_HEADERS`

JSON escapes each string, so no two messages have the same text. The signature itself travels in the
header `fleet_signature`: key id, end of validity, ETA, and the code as hex.

A message without an ETA passes for a signed one with an ETA: Redis keeps a delayed message without
it, and its own clock decides when the message is due.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from hashlib import sha256
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, NamedTuple

FORM = "fleet-message-1"
SIGNATURE = "fleet_signature"
"""The header that holds the signature."""

UNSIGNED_HEADERS = frozenset({SIGNATURE, "eta", "redelivered"})
"""Headers that are not signed: Kombu adds `redelivered`, and the signature has its own ETA."""

BROKER_HEADERS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count")
"""How the headers begin that RabbitMQ adds; they are not signed either."""

JSON = "application/json"
MAX_UNTIL = 2**53

Verify = Callable[[bytes, bytes], bool]
"""Whether a code (the second argument) is a key's signature of a text."""

Dump = Callable[[Any], str]
"""Writes a value as JSON with sorted keys."""


class Content(NamedTuple):
    """What of a message is signed. `body` is decoded from base64, and not from JSON."""

    headers: Mapping[str, Any]
    body: bytes
    content_type: str
    content_encoding: str
    priority: int
    reply_to: str
    correlation_id: str


class Signature(NamedTuple):
    """The header `fleet_signature`. `until` is the end of its validity, in seconds since 1970."""

    key_id: str
    until: int
    eta: str | None
    code: bytes

    @property
    def header(self) -> dict[str, Any]:
        """The form in the header."""
        return {"key": self.key_id, "until": self.until, "eta": self.eta, "code": self.code.hex()}

    @classmethod
    def parse(cls, found: object) -> Signature | None:
        """The signature in a header; None if the header has another form."""
        if not isinstance(found, Mapping) or set(found) != {"key", "until", "eta", "code"}:
            return None
        key_id, until, eta, code = (found[name] for name in ("key", "until", "eta", "code"))
        if not (isinstance(key_id, str) and isinstance(code, str)):
            return None
        if type(until) is not int or not 0 <= until < MAX_UNTIL:
            return None
        if not isinstance(eta, str | None):
            return None
        try:
            raw = bytes.fromhex(code)
        except ValueError:
            return None
        return cls(key_id, until, eta, raw) if raw.hex() == code else None


def signed_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers that are signed."""
    return {
        name: value
        for name, value in headers.items()
        if name not in UNSIGNED_HEADERS and not name.startswith(BROKER_HEADERS)
    }


def signed_text(
    key_id: str, until: int, eta: str | None, content: Content, headers: str
) -> bytes:
    """The text that a signature is computed over. `headers` are the signed headers as JSON with
    sorted keys."""
    due = "null" if eta is None else quoted(eta)
    kind = f"{quoted(content.content_type)}, {quoted(content.content_encoding)}"
    address = f"{quoted(content.reply_to)}, {quoted(content.correlation_id)}"
    digest = sha256(content.body).hexdigest()
    return (
        f'["{FORM}", {quoted(key_id)}, {until}, {due}, {kind}, {content.priority}, {address}, '
        f'"{digest}", {headers}]'
    ).encode()


@dataclass(frozen=True, slots=True)
class MessageCheck:
    """Why a message may not run. A check changes nothing and reads no clock.

    `verifier` has the key of a key id, or None. `max_bytes` bounds a body. An agent's task has to
    be JSON, and with `signed` every task. `accepts_unsigned` lets messages without a signature
    pass. `never_sent` are the names of tasks that no message may have.
    """

    verifier: Callable[[str], Verify | None]
    dump: Dump
    max_bytes: int
    signed: bool
    accepts_unsigned: bool
    agent_tasks: Container[str]
    never_sent: Container[str]

    def refusal(
        self, message: Content, now: float, is_recorded: Callable[[str], bool]
    ) -> str:
        """Why the message is refused; '' if it may run.

        `now` is in seconds since 1970. `is_recorded` says whether the task of an id has a record;
        it is asked only if the signature has expired. The record then tells a task that waited for
        long from a replay: a task that has ended does not run again.
        """
        return self._form_refusal(message) or (
            self._signature_refusal(message, now, is_recorded) if self.signed else ""
        )

    def _form_refusal(self, message: Content) -> str:
        name = message.headers.get("task")
        if len(message.body) > self.max_bytes:
            return f"its body has {len(message.body)} bytes, and {self.max_bytes} are allowed"
        if isinstance(name, str) and name in self.never_sent:
            return f"{name} is no task that is sent"
        needs_json = self.signed or (isinstance(name, str) and name in self.agent_tasks)
        if needs_json and message.content_type != JSON:
            return f"its content type is {message.content_type!r:.100}, not {JSON}"
        if self.signed and message.headers.get("compression"):
            return "it is compressed, and signed messages are not"
        return ""

    def _signature_refusal(
        self, message: Content, now: float, is_recorded: Callable[[str], bool]
    ) -> str:
        if SIGNATURE not in message.headers:
            return "" if self.accepts_unsigned else "it is not signed"
        signature = Signature.parse(message.headers[SIGNATURE])
        if signature is None:
            return "its signature has another form"
        verify = self.verifier(signature.key_id)
        if verify is None:
            return f"its signature names key {signature.key_id!r:.40}, which is not valid"
        eta = message.headers.get("eta")
        if eta is not None and eta != signature.eta:
            return "its ETA does not fit its signature"
        headers = self.dump(signed_headers(message.headers))
        signed = (signature.key_id, signature.until, signature.eta)
        if not verify(signed_text(*signed, message, headers), signature.code):
            return "its signature does not fit: it was altered, or signed with another key"
        task_id = message.headers.get("id")
        if now > signature.until and not (isinstance(task_id, str) and is_recorded(task_id)):
            ago = f"{now - signature.until:.0f} s ago"
            return f"its signature expired {ago}, and the fleet has no record of the task"
        return ""
