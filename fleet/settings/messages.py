"""What a message has to be before a worker makes a task of it: `[messages]`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fleet.settings.limits import Bytes, TimeToLive
from fleet.settings.names import Section

SIGNING_PATH = "messages/signing"
"""The path of the secret that holds the key."""


class Messages(Section):
    """Which messages workers accept. What does not fit is refused and kept: `fleet dead list`."""

    signing: Literal["off", "hmac", "ed25519"] = Field(
        "off",
        description="How messages are signed, with the key in the secret messages/signing. hmac: "
        "who can check can sign. ed25519: a process that has the public key alone can check. "
        "Senders and workers need the key before this is changed.",
    )
    accept_unsigned: bool = Field(
        False,
        description="Accept messages without a signature. For the time in which signing is "
        "introduced, while old messages wait and not all senders sign. A wrong signature is "
        "refused all the same.",
    )
    valid_seconds: TimeToLive = Field(
        7 * 86400,
        description="How long after its sending, or its ETA, a signed message may run. That of an "
        "agent's task: at most limits.result_ttl_seconds and limits.dead_ttl_seconds, but always "
        "while its record is kept.",
    )
    max_bytes: Bytes = Field(
        8 * 1024 * 1024,
        description="The arguments of one message and what follows it, as they are sent. A payload "
        "that limits.payload_bytes allows always fits.",
    )
