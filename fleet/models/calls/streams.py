"""An answer that comes in piece by piece, and what of it had come where its call is cut.

Whatever ends the wait closes the connection, and so the provider hears of it.
"""

from __future__ import annotations

import time

import structlog
from pydantic_ai import ModelRequest, ModelResponse, ModelSettings
from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.models import Model as ChatModel
from pydantic_ai.models import StreamedResponse
from pydantic_ai.usage import RequestUsage

from fleet.models.calls.written import Tags, text_of, texts_of, written
from fleet.models.rules.cut_calls import Cut, Progress, shows_all
from fleet.models.rules.upper_bound import WordCount, least_tokens
from fleet.models.rules.usage import Reading, read_usage, told_so_far
from fleet.money import Tokens

TOLD = "usage"
"""Where the details of a response have its usage in its provider's own words, if at all."""

log = structlog.get_logger(__name__)


async def streamed(
    chat: ChatModel,
    request: ModelRequest,
    settings: ModelSettings,
    progress: Progress,
    trusted: bool,
    tags: Tags | None,
    max_tokens: int,
) -> ModelResponse:
    """The whole answer, as it would be without a stream. Raises what the client raises, and
    `UnexpectedModelBehavior` for one that ends before its provider has said why.

    `progress` tells what had arrived, also where the call is cut; `trusted` says whether the model
    is taken to show all that it writes. `tags` are as in `written`. An answer that goes on beyond
    `max_tokens` is cut there: `progress` tells what had come, and it ended for its length.
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
        # The answer is kept, though closing its connection has failed.
        if over is None:
            raise
        return over


def usage_of(response: ModelResponse) -> Reading:
    """What a whole answer took."""
    shown = " ".join(texts_of(response.parts))
    return read_usage(_told(response), least_tokens(shown), wrote=bool(shown.strip(" ")))


def _told(response: ModelResponse) -> object:
    """The usage in the provider's words, or what the client of its protocol has made of that."""
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
    """Whether what the provider has told of an answer may have been taken by what is seen of it.

    `told` is for an answer that has not ended.
    """
    seen = written(response, tags)
    used = usage_of(response).tokens if told is None else told
    return shows_all(seen.shown_bytes, seen.thought_bytes, used)


def _progress(
    stream: StreamedResponse, silent_seconds: float, trusted: bool, tags: Tags | None
) -> Cut | None:
    """What had come, at worst where that cannot be read: no error of the reading takes the place of
    a cancellation."""
    try:
        return _cut(stream.get(), silent_seconds, trusted, tags)
    except Exception as error:
        # Its words are left out, for they may repeat the answer.
        log.warning("what arrived of a cut answer cannot be read", error=type(error).__name__)
        return Cut(None, silent_seconds, Tokens(0, 0))


def _cut(
    response: ModelResponse, silent_seconds: float, trusted: bool, tags: Tags | None
) -> Cut | None:
    told = told_so_far(_told(response))
    if not response.parts and not told.input:
        # The server may well write the whole answer before it sends any of it.
        return None
    trusted = trusted and hides_nothing(response, tags, told)
    shown = written(response, tags).shown_bytes if trusted else None
    return Cut(shown, silent_seconds, told)


def _over(
    stream: StreamedResponse, trusted: bool, tags: Tags | None, max_tokens: int
) -> Cut | None:
    """What had come of an answer that goes on beyond its limit."""
    cut = _progress(stream, 0.0, trusted, tags)
    if cut is None:
        return None
    # What is not shown is bounded by the limit, if by anything.
    shown = written(stream.get(), tags).shown_bytes
    hidden = 0 if cut.shown_bytes is not None else max_tokens
    return cut._replace(over=True, shown_bytes=shown + hidden)


def _ended_for_length(response: ModelResponse) -> ModelResponse:
    response.finish_reason = "length"
    details = response.provider_details or {}
    response.provider_details = {**details, TOLD: None, "finish_reason": "length"}
    return response


def _whole(response: ModelResponse) -> ModelResponse:
    """The response, if its provider said why it ended: a connection that is closed early may look
    like the end of a stream."""
    told = response.provider_details or {}
    if response.finish_reason == "content_filter" or "finish_reason" in told:
        return response
    raise UnexpectedModelBehavior("the answer ended without a reason")


def _reasoning_tokens(usage: RequestUsage) -> int:
    """How much of the output was reasoning: where a provider's client has no figure of its own for
    it, as a detail in the provider's words."""
    details = usage.details
    told = details.get("reasoning_tokens") or details.get("thoughts_tokens") or 0
    return usage.output_reasoning_tokens or told
