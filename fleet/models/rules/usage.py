"""The usage of a model call, read from its provider's report.

Providers use different names for the same counts, and equal names with different meanings. Cached
input is included in the input for OpenAI and Google, and separate for Anthropic and Bedrock.
Reasoning is included in the output for OpenAI and Anthropic, and separate for Google. Servers that
speak another maker's protocol mix these. So each reading of the parts is compared with the total:

    a reading equals the total         it is right; of two the one with more output
    the total is above all readings    the rest is hidden output. If reasoning was reported
                                       separately, the counts contradict each other
    the total is below, or in between  the counts contradict each other: the largest counts
    there is no total                  the parts as their protocol documents them

A count that is no whole number from 0 to `MAX_COUNT` counts as not reported. Usage without the
input, or without the output of an answer that has some, is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from math import ceil
from typing import Any, NamedTuple

from fleet.money import Tokens

SEEN = "seen"
MISSING = "missing"
UNPRICED = "unpriced"
CONTRADICTORY = "contradictory"
"""What is known of a call's usage: told, not told, told of a model without a price, and told in two
ways that contradict each other."""

MAX_COUNT = 10_000_000
"""The tokens of the largest context window of any model."""

PLAUSIBLE_WORDS = 4
"""The most words for each reported token: with more, the report is wrong. A token is at most one
word with nearly all tokenizers, and a few words with the others."""

INPUT = (
    *("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count", "inputTokens"),
)
OUTPUT = (
    *("completion_tokens", "output_tokens", "candidatesTokenCount"),
    *("candidates_token_count", "outputTokens"),
)
TOTAL = ("total_tokens", "totalTokenCount", "total_token_count", "totalTokens")
TOOL_INPUT = ("toolUsePromptTokenCount", "tool_use_prompt_token_count")
THOUGHTS = ("thoughtsTokenCount", "thoughts_token_count")
REASONING = (
    "completion_tokens_details.reasoning_tokens",
    "output_tokens_details.reasoning_tokens",
    "output_tokens_details.thinking_tokens",
    "reasoning_tokens",
    *THOUGHTS,
)
CACHED = (
    "prompt_tokens_details.cached_tokens",
    "input_tokens_details.cached_tokens",
    "cached_tokens",
    "prompt_cache_hit_tokens",
    "cachedContentTokenCount",
    "cached_content_token_count",
    "cache_read_input_tokens",
    "cacheReadInputTokens",
)
CACHE_WRITE = (
    "prompt_tokens_details.cache_write_tokens",
    "prompt_tokens_details.cache_creation_tokens",
    "cache_creation_input_tokens",
    "cacheWriteInputTokens",
)
CACHED_BESIDE = ("input_tokens", "inputTokens")
"""Names of an input without the cached tokens, in the protocols that document them."""


class Reading(NamedTuple):
    """Tokens, and their status: `seen`, `missing` or `contradictory`, as in the ledger."""

    tokens: Tokens
    status: str


class _Parts(NamedTuple):
    """The reported counts, None for missing ones. `flawed` says that one is no valid count."""

    input: int | None
    output: int | None
    total: int | None
    cached: int
    cache_write: int
    reasoning: int
    cached_beside: bool
    reasoning_beside: bool
    flawed: bool


def read_usage(told: object, words: int = 0, *, wrote: bool | None = None) -> Reading:
    """The tokens of a call with a complete answer.

    `told` is the usage as the provider reports it. `words` is
    `fleet.models.rules.upper_bound.least_tokens` of the shown answer. `wrote` says whether it shows
    anything, even without words.
    """
    parts = _parts(told)
    found = _with_total(parts, words)
    used = found.tokens
    shows = words > 0 if wrote is None else wrote
    if not used.input or (shows and not used.output) or used.output * PLAUSIBLE_WORDS < words:
        return Reading(used, MISSING)
    return Reading(used, CONTRADICTORY) if parts.flawed else found


def told_so_far(told: object) -> Tokens:
    """The reported parts of an answer that has not ended; 0 for missing ones."""
    parts = _parts(told)
    return _tokens(parts, _inputs(parts)[0], _outputs(parts, 0)[0])


def larger_usage(before: object, after: object) -> object:
    """The larger of each count of two reports about one call: some providers report the usage so
    far, some report parts at different times, and some end with zeros."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = dict.fromkeys([*before, *after])
        return {name: larger_usage(before.get(name), after.get(name)) for name in names}
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        return before if isinstance(before, Mapping) else after
    known = [each for each in (before, after) if _count(each) is not None]
    if known:
        return max(known, key=lambda each: _count(each) or 0)
    return before if after is None else after


def _with_total(parts: _Parts, words: int) -> Reading:
    inputs, outputs = _inputs(parts), _outputs(parts, words)
    total = parts.total
    if total is None:
        return Reading(_tokens(parts, inputs[0], outputs[0]), SEEN)
    if not inputs[0] or (parts.output is None and not parts.reasoning):
        # One of the two is the total minus the other.
        input_tokens = inputs[0] or max(0, total - outputs[0])
        output_tokens = max(outputs[0], total - input_tokens)
        return Reading(_tokens(parts, input_tokens, output_tokens), SEEN)
    exact = [(output, into) for into in inputs for output in outputs if into + output == total]
    if exact:
        output, into = max(exact)
        return Reading(_tokens(parts, into, output), SEEN)
    output = max(*outputs, total - inputs[0])
    unseen = not parts.reasoning and total > max(inputs) + max(outputs)
    return Reading(_tokens(parts, inputs[0], output), SEEN if unseen else CONTRADICTORY)


def _inputs(parts: _Parts) -> list[int]:
    """The input with cached tokens included and separate, the documented reading first."""
    told, cached = parts.input or 0, parts.cached + parts.cache_write
    within = [told] if cached <= told else []
    beside = [told + cached]
    return [*beside, *within] if parts.cached_beside else [*within, *beside]


def _outputs(parts: _Parts, words: int) -> list[int]:
    """The output with reasoning included and separate, the documented reading first."""
    told, reasoning = parts.output or 0, parts.reasoning
    # The tokens beside reasoning must suffice for the shown words.
    is_among = reasoning <= told and words <= (told - reasoning) * PLAUSIBLE_WORDS
    within = [told] if is_among or not reasoning else []
    beside = [told + reasoning]
    return [*beside, *within] if parts.reasoning_beside else [*within, *beside]


def _tokens(parts: _Parts, input_tokens: int, output_tokens: int) -> Tokens:
    cached = min(parts.cached, input_tokens)
    written = min(parts.cache_write, input_tokens - cached)
    unseen = output_tokens - (parts.output or 0) if parts.output else 0
    reasoning = min(max(parts.reasoning, unseen), output_tokens)
    return Tokens(input_tokens, output_tokens, cached, written, reasoning)


def _parts(told: object) -> _Parts:
    found = told if isinstance(told, Mapping) else {}
    flawed = False

    def count(names: Iterable[str]) -> tuple[str, int | None]:
        nonlocal flawed
        named, largest = "", None
        for name in names:
            value = _at(found, name)
            number = _count(value)
            flawed = flawed or (value is not None and number is None)
            if number is not None and (largest is None or number > largest):
                named, largest = name, number
        return named, largest

    input_name, into = count(INPUT)
    _, output = count(OUTPUT)
    _, total = count(TOTAL)
    _, tools = count(TOOL_INPUT)
    reasoning_name, reasoning = count(REASONING)
    _, cached = count(CACHED)
    _, written = count(CACHE_WRITE)
    if into is not None:
        into += tools or 0
    return _Parts(
        into,
        output,
        # A total of 0 beside other counts was not reported: some servers fill it in so.
        total or None,
        cached or 0,
        written or 0,
        reasoning or 0,
        input_name in CACHED_BESIDE,
        reasoning_name in THOUGHTS,
        flawed,
    )


def _at(told: Mapping[Any, Any], name: str) -> object:
    first, _, rest = name.partition(".")
    value = told.get(first)
    if not rest:
        return value
    return value.get(rest) if isinstance(value, Mapping) else None


def _count(value: object) -> int | None:
    """A count of tokens, rounded up; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = Decimal(value)
        return ceil(number) if 0 <= number <= MAX_COUNT else None
    except (InvalidOperation, ValueError, OverflowError):
        return None
