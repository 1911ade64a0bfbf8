"""Calls to language models through Pydantic AI, with Fleet's errors and Fleet's money."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from pydantic_ai import ModelRequest, ModelResponse, ModelSettings
from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.models import Model as ChatModel

from fleet.agent import ModelReply
from fleet.errors import ModelRefused, NotAllowed, Unavailable
from fleet.models.calls.clients import Clients, KeyedClient
from fleet.models.calls.endpoint import Endpoint
from fleet.models.calls.errors import translated
from fleet.models.calls.request_fields import keeps_limits
from fleet.models.calls.streams import hides_nothing, streamed, usage_of
from fleet.models.calls.thinking import tags_in_text, thinks_unasked
from fleet.models.calls.written import finish_reason, written
from fleet.models.keys import KeyAccess, UsedKey
from fleet.models.rules.choice import Model, cost_nanodollars
from fleet.models.rules.cut_calls import CallProgress
from fleet.models.rules.usage import CONTRADICTORY, MISSING

UNREADABLE = (
    *(LookupError, AttributeError, TypeError, ValueError, AssertionError),
    # For one whose parts are nested too deep.
    RecursionError,
)
"""The errors of clients for an answer that lacks a part of its protocol."""


class _Asked(NamedTuple):
    """One request. `model` has the price that applies to it."""

    request: ModelRequest
    settings: ModelSettings
    progress: CallProgress
    max_tokens: int
    model: Model


class ModelCaller:
    """Calls one model at one endpoint. Use it from one event loop only: it keeps connections.

    `now` returns the model with its current price. With `access` each call looks its key up,
    otherwise the endpoint has the key. Raises `InvalidConfig` if the package for the endpoint's
    protocol is not installed, and the errors of `ProviderKeys.use`.
    """

    def __init__(
        self,
        model: Model,
        endpoint: Endpoint,
        timeout: float,
        now: Callable[[], Model] | None = None,
        access: KeyAccess | None = None,
    ) -> None:
        self._now = now or (lambda: model)
        self.clients = Clients(model.name, endpoint, timeout, access)
        self.key = access.key if access else None
        self.endpoint = endpoint
        self.timeout = timeout
        self.is_limited = endpoint.limit_field != "none"
        """Whether requests set an output limit."""
        self.keeps_limits = keeps_limits(endpoint.kind, endpoint.base_url, endpoint.limit_field)
        """Whether answers are known to keep the limit."""
        self.streams = endpoint.streams
        self.shows_all = not thinks_unasked(endpoint.kind, self.clients.first())
        """Whether all output is shown, until an answer has more tokens than its shown text."""
        self.tags = tags_in_text(endpoint.kind)

    @property
    def model(self) -> Model:
        """The model with its current price."""
        return self._now()

    @property
    def used_key(self) -> UsedKey | None:
        """The key of the last call, None for a model without keys."""
        return UsedKey(self.key.id, self.clients.version) if self.key else None

    async def ask(
        self,
        prompt: str,
        instructions: str,
        max_tokens: int,
        temperature: float,
        progress: CallProgress | None = None,
        model: Model | None = None,
    ) -> ModelReply:
        """One answer to one request, without retries. If the call raises or is cancelled,
        `progress` has the part that had arrived. `model` has the price of the admission; by default
        the price at the start of the call counts.

        Raises `RateLimited` if the provider accepts no more calls for now, `Unavailable` if it does
        not answer in time or fails. Both have `retry_after` in seconds, from the provider if it
        gives one. Raises `ContextWindowExceeded` for a prompt that does not fit, `ModelRefused` for
        a prompt that the model or the provider refuses, `QuotaExhausted`, `NotAllowed` for a
        refused key, `ModelNotServed`, and `NeverRetry` for a request that is refused otherwise. The
        `reason` of an error says what a person must fix. A key that was turned over since it was
        read is read again, and the call is made once more, before the key counts as refused.
        """
        settings = self._settings(max_tokens, temperature)
        request = ModelRequest.user_text_prompt(prompt, instructions=instructions or None)
        model, progress = model or self.model, progress or CallProgress()
        asked = _Asked(request, settings, progress, max_tokens, model)
        async with self.clients.use() as client:
            try:
                return await self._answer(client, asked)
            except NotAllowed as error:
                refused, refusal = client.version, error
        if refused:
            self.clients.forget()
            async with self.clients.use() as client:
                if client.version != refused:
                    return await self._answer(client, asked)
        raise refusal

    async def _answer(self, client: KeyedClient, asked: _Asked) -> ModelReply:
        model, progress = asked.model, asked.progress
        began = time.perf_counter()
        try:
            response = await self._response(client.chat, asked)
        # Never with its cause: a traceback would show the provider's answer or the client's
        # message, and either may repeat the key.
        except AgentRunError as error:
            raise translated(model.name, error, [client.key]) from None
        except UNREADABLE as error:
            raise Unavailable(
                f"model {model.name} gave an answer that cannot be read ({type(error).__name__})",
                may_be_served=True,
            ) from None
        reply = self._reply(model, response, time.perf_counter() - began)
        if progress.cut is not None:
            reply = reply.model_copy(update={"usage_missing": True})
        if reply.finish_reason == "content_filter":
            raise ModelRefused(f"model {model.name} would not answer the prompt", reply)
        if reply.finish_reason == "error" and not reply.text:
            raise Unavailable(
                f"model {model.name} failed before it wrote any text",
                may_be_served=written(response, self.tags).shown_bytes > 0,
                reply=None if reply.usage_missing else reply,
            )
        return reply

    def _settings(self, max_tokens: int, temperature: float) -> ModelSettings:
        """The request's settings beside the prompt, without those that the server does not accept.
        """
        asked = ModelSettings()
        if self.endpoint.limit_field != "none":
            asked["max_tokens"] = max_tokens
        if self.endpoint.temperature:
            asked["temperature"] = temperature
        return asked

    async def _response(self, chat: ChatModel, asked: _Asked) -> ModelResponse:
        request, settings, progress, max_tokens, _ = asked
        if not self.streams:
            return await model_request(chat, [request], model_settings=settings)
        response = await streamed(
            chat, request, settings, progress, self.shows_all, self.tags, max_tokens
        )
        # Of a filtered answer it is the provider that shows less, not the model.
        if finish_reason(response) != "content_filter":
            self.shows_all = self.shows_all and hides_nothing(response, self.tags)
        return response

    def _reply(self, model: Model, response: ModelResponse, seconds: float) -> ModelReply:
        used, status = usage_of(response)
        unpriced = model.price is None and not model.free
        return ModelReply(
            text=written(response, self.tags).text,
            model=model.name,
            input_tokens=used.input,
            output_tokens=used.output,
            cached_input_tokens=used.cached_input,
            cache_write_tokens=used.cache_write,
            # The tokens are used up, and a paid answer is kept.
            cost_nanodollars=0 if unpriced else cost_nanodollars(model, used),
            seconds=seconds,
            usage_missing=status == MISSING,
            usage_contradictory=status == CONTRADICTORY,
            reasoning_tokens=used.reasoning,
            unpriced=unpriced,
            finish_reason=finish_reason(response),
        )
