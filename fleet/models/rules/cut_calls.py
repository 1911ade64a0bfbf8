"""The upper bound of the tokens of a model call whose streamed answer was cut.

A provider reports the usage of an answer when it has ended. Of a cut answer only the received part
is known. A token has at least one byte (see `fleet.models.rules.upper_bound`), so the received
bytes bound the tokens of this part. Time bounds the part in transit: a quick model's output from
the last arrival until the provider notices the end. After a longer silence the upper bound of the
whole call counts: if the network is gone, the provider notices no end and writes on.

This holds for a model that shows all of its output, at a provider that stops when the connection
closes. `shows_all` detects models that hide output.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from fleet.models.rules.upper_bound import FRAME_TOKENS
from fleet.money import Tokens

TOKENS_A_SECOND = 250
"""The output of a quick model at a large provider."""

NOTICE_SECONDS = 1.0
"""From the end here to the end at the provider: the latency of both directions."""

SILENCE_SECONDS = 2.0
"""The longest silence after which the provider is assumed to notice the end. By then a network has
resent lost packets, and a model that writes is not silent for so long."""


class Cut(NamedTuple):
    """The received part of an answer when its call was cut.

    `shown_bytes` are its UTF-8 bytes, None if the model may have hidden output. `silent_seconds` is
    the time since the last arrival. `told` is the usage reported so far; its `input` is 0 if none
    was reported. `over` says that the call was cut because the answer exceeded its limit.
    """

    shown_bytes: int | None
    silent_seconds: float
    told: Tokens
    over: bool = False


@dataclass(slots=True)
class CallProgress:
    """The progress of a call that ended without an answer. `cut` is None if no part of the answer
    had arrived, or if it was complete."""

    cut: Cut | None = None


def cut_tokens(worst: Tokens, cut: Cut) -> Tokens:
    """The upper bound of the tokens of a cut call. `worst` was its upper bound before the call."""
    known = cut.told if cut.told.input else worst
    output = max(cut.told.output, _most_output(worst.output, cut))
    return known._replace(output=output, reasoning=0)


def shows_all(shown_bytes: int, thought_bytes: int, told: Tokens) -> bool:
    """Whether the tokens of an answer fit its shown bytes, and its reasoning tokens fit the bytes
    of the shown thoughts.

    A token has some four bytes. So the first check alone would miss three hidden tokens for each
    shown one.
    """
    return told.output <= shown_bytes + FRAME_TOKENS and told.reasoning <= thought_bytes


def _most_output(worst: int, cut: Cut) -> int:
    under_way = ceil(TOKENS_A_SECOND * (cut.silent_seconds + NOTICE_SECONDS))
    if cut.over:
        return (worst if cut.shown_bytes is None else cut.shown_bytes) + under_way
    if cut.shown_bytes is None or cut.silent_seconds > SILENCE_SECONDS:
        return worst
    return min(worst, cut.shown_bytes + under_way)
