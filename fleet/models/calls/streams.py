"""Streamed answers, and the received part of an answer whose call is cut.

Each end of the wait closes the connection, so the provider notices it.
"""

from __future__ import annotations

import time

from pydantic_ai import ModelRequest, ModelResponse, ModelSettings
from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.models import Model as ChatModel
from pydantic_ai.models import StreamedResponse
from pydantic_ai.usage import RequestUsage

from fleet.models.calls.written import Tags, text_of, texts_of, written
from fleet.models.rules.cut_calls import CallProgress, Cut, shows_all
from fleet.models.rules.upper_bound import WordCount, least_tokens
from fleet.models.rules.usage import Reading, read_usage, told_so_far
from fleet.money import Tokens
from fleet.telemetry.logger import get_logger

TOLD = "usage"
"""The key in a response's details for the usage as its provider reports it."""

log = get_logger(__name__)


async def streamed(
    chat: ChatModel,
    request: ModelRequest,
    settings: ModelSettings,
    progress: CallProgress,
    trusted: bool,
    tags: Tags | None,
    max_tokens: int,
) -> ModelResponse:
    """The complete answer of a stream. Raises the client's errors, and `UnexpectedModelBehavior`
    for an answer that ends without a finish reason.

    `progress` has the received part if the call is cut. `trusted` says whether the model is assumed
    to show all of its output. `tags` are as in `written`. An answer longer than `max_tokens` is cut
    there: `progress` has the received part, and the finish reason is `length`.
    """
    count = WordCount()
    over: ModelResponse | None = None
    try:
        async with model_request_stream(chat, [request], model_settings=settings) as stream:
            last = time.monotonic()
            try:
                async for event in stream:
                    last = time.monotonic()
                    if count.add(text_of(event)) > max_tokens:
                        progress.cut = _over(stream, trusted, tags, max_tokens)
                        over = _ended_for_length(stream.get())
                        break
                return over or _whole(stream.get())
            except BaseException:
                progress.cut = _progress(stream, time.monotonic() - last, trusted, tags)
                raise
    except Exception:
        # Keep the answer although closing its connection failed.
        if over is None:
            raise
        return over


def usage_of(response: ModelResponse) -> Reading:
    """The usage of a complete answer."""
    shown = " ".join(texts_of(response.parts))
    return read_usage(_told(response), least_tokens(shown), wrote=bool(shown.strip(" ")))


def _told(response: ModelResponse) -> object:
    """The usage as the provider reports it, or as the protocol's client has converted it."""
    raw = (response.provider_details or {}).get(TOLD)
    if raw is not None:
        return raw
    usage = response.usage
    if usage.unmeasured_requests:
        return None
    cached, written = usage.cache_read_tokens, usage.cache_write_tokens
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "reasoning_tokens": _reasoning_tokens(usage),
    }


def hides_nothing(
    response: ModelResponse, tags: Tags | None = None, told: Tokens | None = None
) -> bool:
    """Whether the shown part of an answer accounts for its reported usage.

    `told` is the usage of an answer that has not ended.
    """
    seen = written(response, tags)
    used = usage_of(response).tokens if told is None else told
    return shows_all(seen.shown_bytes, seen.thought_bytes, used)


def _progress(
    stream: StreamedResponse, silent_seconds: float, trusted: bool, tags: Tags | None
) -> Cut | None:
    """The received part, or the upper bound if it is unreadable. No error of the reading replaces a
    cancellation."""
    try:
        return _cut(stream.get(), silent_seconds, trusted, tags)
    except Exception as error:
        # Without its message, which may repeat the answer.
        log.warning("received part of a cut answer is unreadable", error=type(error).__name__)
        return Cut(None, silent_seconds, Tokens(0, 0))


def _cut(
    response: ModelResponse, silent_seconds: float, trusted: bool, tags: Tags | None
) -> Cut | None:
    told = told_so_far(_told(response))
    if not response.parts and not told.input:
        # The server may write the whole answer before it sends any part.
        return None
    trusted = trusted and hides_nothing(response, tags, told)
    shown = written(response, tags).shown_bytes if trusted else None
    return Cut(shown, silent_seconds, told)


def _over(
    stream: StreamedResponse, trusted: bool, tags: Tags | None, max_tokens: int
) -> Cut | None:
    """The received part of an answer that exceeds its limit."""
    cut = _progress(stream, 0.0, trusted, tags)
    if cut is None:
        return None
    # Only the limit bounds the hidden output.
    shown = written(stream.get(), tags).shown_bytes
    hidden = 0 if cut.shown_bytes is not None else max_tokens
    return cut._replace(over=True, shown_bytes=shown + hidden)


def _ended_for_length(response: ModelResponse) -> ModelResponse:
    response.finish_reason = "length"
    details = response.provider_details or {}
    response.provider_details = {**details, TOLD: None, "finish_reason": "length"}
    return response


def _whole(response: ModelResponse) -> ModelResponse:
    """The response, if it has a finish reason: a connection closed early may look like the end of a
    stream."""
    told = response.provider_details or {}
    if response.finish_reason == "content_filter" or "finish_reason" in told:
        return response
    raise UnexpectedModelBehavior("the answer ended without a reason")


def _reasoning_tokens(usage: RequestUsage) -> int:
    """The reasoning tokens in the output: the client's figure, or else a detail of the provider."""
    details = usage.details
    told = details.get("reasoning_tokens") or details.get("thoughts_tokens") or 0
    return usage.output_reasoning_tokens or told
