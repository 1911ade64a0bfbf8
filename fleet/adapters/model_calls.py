"""Calls to language models through Pydantic AI, with Fleet's errors and Fleet's money."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pydantic_ai import ModelRequest, ModelSettings
from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import AgentRunError, ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from fleet.agent import ModelReply
from fleet.core.model_choice import Model, Tokens, cost_nanodollars
from fleet.errors import NeverRetry, NotAllowed, Unavailable

TRY_LATER = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is served. The key never shows in a repr."""

    base_url: str
    api_key: str

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r})"


class ModelCaller:
    """Calls one model at one endpoint. Use it from one event loop only: it keeps connections."""

    def __init__(self, model: Model, endpoint: Endpoint, timeout: float) -> None:
        provider = OpenAIProvider(base_url=endpoint.base_url, api_key=endpoint.api_key)
        self.model = model
        self.timeout = timeout
        self.chat = OpenAIChatModel(model.name, provider=provider)

    async def ask(
        self, prompt: str, instructions: str, max_tokens: int, temperature: float
    ) -> ModelReply:
        """One answer.

        Raises `Unavailable` where the model does not answer within `timeout` seconds or asks
        to come back later, `NotAllowed` for a key that is refused, `NeverRetry` otherwise.
        """
        settings = ModelSettings(
            max_tokens=max_tokens, temperature=temperature, timeout=self.timeout
        )
        request = ModelRequest.user_text_prompt(prompt, instructions=instructions or None)
        try:
            async with asyncio.timeout(self.timeout):
                response = await model_request(self.chat, [request], model_settings=settings)
        except TimeoutError as error:
            raise Unavailable(
                f"model {self.model.name} did not answer within {self.timeout:g} s"
            ) from error
        except AgentRunError as error:
            raise _translated(self.model.name, error) from error
        usage = response.usage
        return ModelReply(
            text=response.text or "",
            model=self.model.name,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_nanodollars=cost_nanodollars(
                self.model, Tokens(usage.input_tokens, usage.output_tokens)
            ),
        )


def _translated(model: str, error: AgentRunError) -> Exception:
    status = error.status_code if isinstance(error, ModelHTTPError) else None
    if status in (401, 403):
        return NotAllowed(f"the provider of {model} refused the key (HTTP {status}); check it")
    if status is None or status in TRY_LATER:
        return Unavailable(f"model {model} cannot be had now ({_reason(error, status)})")
    return NeverRetry(f"model {model} refused the request (HTTP {status})")


def _reason(error: AgentRunError, status: int | None) -> str:
    return f"HTTP {status}" if status else type(error).__name__
