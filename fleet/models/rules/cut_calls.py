"""What a model call has taken at most whose answer was cut while it came in.

A provider tells what an answer took when it has ended. Of one that was cut there is what had
arrived. A token is at least one byte of it (see `fleet.models.rules.upper_bound`), so its bytes
bound the tokens that wrote it. What was on the way is bounded by time: as much as a quick model
writes from the last arrival to the moment when the provider hears of the end. After a longer
silence it is the worst: over a network that is gone the provider hears of no end, and writes on.

It holds for a model that shows all that it writes, at a provider that stops when the connection
closes. `shows_all` is for finding out where the first is not so.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from fleet.models.rules.upper_bound import FRAME_TOKENS
from fleet.money import Tokens

TOKENS_A_SECOND = 250
"""What a quick model of a large provider writes."""

NOTICE_SECONDS = 1.0
"""From the end here to the end there: the way of the last words, and that of the news."""

SILENCE_SECONDS = 2.0
"""The longest silence after which the provider is taken to hear of the end. A network that has lost
some packets has sent them again by then, and a model that writes is not quiet for so long."""


class Cut(NamedTuple):
    """What had arrived of an answer when its call was cut.

    `shown_bytes` are the UTF-8 bytes of it, None where the model may have written what it does not
    show. `silent_seconds` had passed since something last arrived. `told` is what the provider had
    told by then, whose `input` is 0 where it had told nothing of that.
    """

    shown_bytes: int | None
    silent_seconds: float
    told: Tokens
    over: bool = False


@dataclass(slots=True)
class Progress:
    """How far one call came that has ended without an answer. `cut` is None where none had begun to
    come in, or it was whole."""

    cut: Cut | None = None


def cut_tokens(worst: Tokens, cut: Cut) -> Tokens:
    """A bound on the tokens of the call, which was `worst` before it was made."""
    known = cut.told if cut.told.input else worst
    output = max(cut.told.output, _most_output(worst.output, cut))
    return known._replace(output=output, reasoning=0)


def shows_all(shown_bytes: int, thought_bytes: int, told: Tokens) -> bool:
    """Whether an answer took no more tokens than its bytes allow for, and no more of them to reason
    than the bytes of the thoughts among them.

    A token has some four bytes, so the first alone would let pass three hidden tokens for each that
    is shown.
    """
    return told.output <= shown_bytes + FRAME_TOKENS and told.reasoning <= thought_bytes


def _most_output(worst: int, cut: Cut) -> int:
    under_way = ceil(TOKENS_A_SECOND * (cut.silent_seconds + NOTICE_SECONDS))
    if cut.over:
        return (worst if cut.shown_bytes is None else cut.shown_bytes) + under_way
    if cut.shown_bytes is None or cut.silent_seconds > SILENCE_SECONDS:
        return worst
    return min(worst, cut.shown_bytes + under_way)
