"""Calls to language models through Pydantic AI, with Fleet's errors and Fleet's money."""

from __future__ import annotations

import time

from pydantic_ai import ModelRequest, ModelResponse, ModelSettings
from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.usage import RequestUsage

from fleet.adapters.model_errors import translated
from fleet.adapters.providers import Endpoint, chat_model
from fleet.agent import ModelReply
from fleet.core.model_choice import Model, Tokens, cost_nanodollars
from fleet.errors import ModelRefused, Unavailable

UNREADABLE = (LookupError, AttributeError, TypeError, ValueError)
"""What clients raise over an answer that lacks a part which its protocol has."""


class ModelCaller:
    """Calls one model at one endpoint. Use it from one event loop only: it keeps connections.

    Raises `InvalidConfig` where the package for the endpoint's protocol is not installed.
    """

    def __init__(self, model: Model, endpoint: Endpoint, timeout: float) -> None:
        self.model = model
        self.chat = chat_model(model.name, endpoint, timeout)

    async def ask(
        self, prompt: str, instructions: str, max_tokens: int, temperature: float
    ) -> ModelReply:
        """One answer to one request: nothing is tried a second time.

        Raises `RateLimited` where the provider takes no more for now, `Unavailable` where it does
        not answer in time or fails, both with `retry_after` in seconds, which is the provider's
        where it said. Raises `ContextWindowExceeded` for a prompt that does not fit,
        `ModelRefused` for one that model or provider will not answer, `NotAllowed` for a key that
        is refused, `NeverRetry` otherwise.
        """
        settings = ModelSettings(max_tokens=max_tokens, temperature=temperature)
        request = ModelRequest.user_text_prompt(prompt, instructions=instructions or None)
        began = time.perf_counter()
        try:
            response = await model_request(self.chat, [request], model_settings=settings)
        # Never with its cause: a traceback would show what the provider's answer or the client's
        # complaint says, and either may repeat the key.
        except AgentRunError as error:
            raise translated(self.model.name, error) from None
        except UNREADABLE as error:
            raise Unavailable(
                f"model {self.model.name} gave an answer that cannot be read "
                f"({type(error).__name__})",
                may_be_served=True,
            ) from None
        reply = self._reply(response, time.perf_counter() - began)
        if response.finish_reason == "content_filter":
            raise ModelRefused(f"model {self.model.name} would not answer the prompt", reply)
        return reply

    def _reply(self, response: ModelResponse, seconds: float) -> ModelReply:
        usage = response.usage
        used = Tokens(
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            _reasoning_tokens(usage),
        )
        unpriced = self.model.price is None and not self.model.free
        return ModelReply(
            text=response.text or "",
            model=self.model.name,
            input_tokens=used.input,
            output_tokens=used.output,
            cached_input_tokens=used.cached_input,
            cache_write_tokens=used.cache_write,
            # The tokens are burned, and an answer that was paid for is not thrown away.
            cost_nanodollars=0 if unpriced else cost_nanodollars(self.model, used),
            seconds=seconds,
            # There is no prompt of no tokens.
            usage_missing=used.input == 0,
            reasoning_tokens=used.reasoning,
            unpriced=unpriced,
        )


def _reasoning_tokens(usage: RequestUsage) -> int:
    """How much of the output was reasoning: where a provider's client has no figure of its own for
    it, as a detail in the provider's words."""
    details = usage.details
    told = details.get("reasoning_tokens") or details.get("thoughts_tokens") or 0
    return usage.output_reasoning_tokens or told
