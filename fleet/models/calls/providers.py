"""The clients of model providers. Pydantic AI has one for each protocol.

Their packages are extras of Fleet, so they are imported for the first model of a kind. No client
retries by itself: Fleet decides about retries and the next model, within the task's budget of time
and money.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, cast

from openai import omit
from openai.types import CompletionUsage
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionStreamOptionsParam,
)
from openai.types.chat.chat_completion_chunk import Choice
from pydantic_ai import ModelResponse, ModelSettings
from pydantic_ai.messages import ModelResponseStreamEvent
from pydantic_ai.models import Model as ChatModel
from pydantic_ai.models.openai import (
    OpenAIChatModel,
    OpenAIChatModelSettings,
    OpenAIStreamedResponse,
)
from pydantic_ai.profiles import ModelProfile, merge_profile
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import RequestUsage

from fleet.errors import InvalidConfig, extra_missing
from fleet.models.answers.client import ANTHROPIC, CHAT, GOOGLE, MISTRAL, AnswerClient
from fleet.models.calls.endpoint import Endpoint
from fleet.models.calls.request_fields import asks_for_usage, chat_profile
from fleet.models.calls.streams import TOLD
from fleet.models.rules.usage import larger_usage
from fleet.settings.providers import ProviderKind

UNSPLIT = ModelProfile(thinking_tags=("\ud800", "\ud800"))
"""Tags that appear in no answer. `fleet.models.rules.thoughts` splits a complete answer instead: a
client looks for tags in the pieces of a stream, which may cut them."""


class _OpenAIStream(OpenAIStreamedResponse):
    """A stream of the OpenAI protocol. OpenAI reports the usage at its end. Some servers report the
    usage so far with each piece, which must not be added up."""

    told: object = None

    def _map_usage(self, response: ChatCompletionChunk) -> RequestUsage:
        self.told = larger_usage(self.told, _usage(response))
        return RequestUsage()

    def get(self) -> ModelResponse:
        return _with_usage(super().get(), self.told)

    def _map_text_delta(self, choice: Choice) -> Iterable[ModelResponseStreamEvent]:
        """All text is one part, as in a complete answer, even with thoughts in between."""
        text = choice.delta.content
        if not text:
            return ()
        return self._parts_manager.handle_text_delta(vendor_part_id="content", content=text)


class _OpenAIModel(OpenAIChatModel):
    """A model of the OpenAI protocol. Its answers keep the server's reported usage: malformed
    counts do not make an answer invalid."""

    asks_for_usage = True

    @property
    def _streamed_response_cls(self) -> type[OpenAIStreamedResponse]:
        return _OpenAIStream

    def _get_stream_options(
        self, model_settings: OpenAIChatModelSettings
    ) -> ChatCompletionStreamOptionsParam:
        if self.asks_for_usage:
            return super()._get_stream_options(model_settings)
        return cast(ChatCompletionStreamOptionsParam, omit)

    def _process_response(self, response: ChatCompletion | str, **options: bool) -> ModelResponse:
        told = None
        if isinstance(response, ChatCompletion):
            told, response.usage = _usage(response), None
        return _with_usage(super()._process_response(response, **options), told)


def _usage(response: ChatCompletion | ChatCompletionChunk) -> object:
    """The reported usage, unchanged: the client does not check its type."""
    told = response.usage
    return told.model_dump(warnings=False) if isinstance(told, CompletionUsage) else told


def _with_usage(response: ModelResponse, told: object) -> ModelResponse:
    response.provider_details = {**(response.provider_details or {}), TOLD: told}
    return response


class Client(NamedTuple):
    """A client for a model. `http` is its network, None where the client brings its own."""

    chat: ChatModel
    http: AnswerClient | None = None


def chat_client(name: str, endpoint: Endpoint, timeout: float) -> Client:
    """The client for a model, with a timeout of `timeout` seconds and without retries.

    Raises `InvalidConfig` if the package for the protocol is not installed.
    """
    try:
        return _MAKERS[endpoint.kind](name, endpoint, timeout)
    except ImportError as error:
        what = f"model {name}, of a provider of kind {endpoint.kind},"
        raise extra_missing(what, endpoint.kind) from error


def _settings(timeout: float) -> ModelSettings:
    return ModelSettings(timeout=timeout, request_timeout=timeout, max_retries=0)


def _openai(name: str, endpoint: Endpoint, timeout: float) -> Client:
    http = AnswerClient(CHAT, timeout)
    provider = OpenAIProvider(
        api_key=endpoint.api_key, base_url=endpoint.base_url, http_client=http
    )
    known = chat_profile(name, endpoint.base_url, endpoint.limit_field)
    profile = merge_profile(known, UNSPLIT)
    model = _OpenAIModel(name, provider=provider, profile=profile, settings=_settings(timeout))
    model.asks_for_usage = asks_for_usage(endpoint.base_url, endpoint.stream_usage)
    return Client(model, http)


def _anthropic(name: str, endpoint: Endpoint, timeout: float) -> Client:
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    http = AnswerClient(ANTHROPIC, timeout)
    provider = AnthropicProvider(
        api_key=endpoint.api_key, base_url=endpoint.base_url, http_client=http
    )
    return Client(AnthropicModel(name, provider=provider, settings=_settings(timeout)), http)


def _google(name: str, endpoint: Endpoint, timeout: float) -> Client:
    from pydantic_ai.providers.google import GoogleProvider

    from fleet.models.calls.google import ToldGoogleModel

    http = AnswerClient(GOOGLE, timeout)
    provider = GoogleProvider(
        api_key=endpoint.api_key, base_url=endpoint.base_url, http_client=http
    )
    return Client(ToldGoogleModel(name, provider=provider, settings=_settings(timeout)), http)


def _mistral(name: str, endpoint: Endpoint, timeout: float) -> Client:
    from pydantic_ai.models.mistral import MistralModel
    from pydantic_ai.providers.mistral import MistralProvider

    http = AnswerClient(MISTRAL, timeout)
    provider = MistralProvider(
        api_key=endpoint.api_key, base_url=endpoint.base_url, http_client=http
    )
    return Client(MistralModel(name, provider=provider, settings=_settings(timeout)), http)


def _groq(name: str, endpoint: Endpoint, timeout: float) -> Client:
    from pydantic_ai.models.groq import GroqModel
    from pydantic_ai.providers.groq import GroqProvider

    provider = GroqProvider(api_key=endpoint.api_key, base_url=endpoint.base_url)
    chat = GroqModel(name, provider=provider, profile=UNSPLIT, settings=_settings(timeout))
    return Client(chat)


def _bedrock(name: str, endpoint: Endpoint, timeout: float) -> Client:
    # Imported first, because their import errors name the extra.
    import boto3
    from botocore.config import Config
    from botocore.exceptions import NoRegionError
    from pydantic_ai.models.bedrock import BedrockConverseModel
    from pydantic_ai.providers.bedrock import BedrockProvider

    # Bedrock has timeouts and retries for its client only, not for each call.
    once = Config(read_timeout=timeout, connect_timeout=timeout, retries={"total_max_attempts": 1})
    try:
        client = boto3.client(
            "bedrock-runtime",
            region_name=endpoint.region,
            endpoint_url=endpoint.base_url,
            config=once,
        )
    except NoRegionError as error:
        raise InvalidConfig(
            f"model {name} is of Bedrock, and no region is known; set region beside kind = "
            '"bedrock", or AWS_DEFAULT_REGION'
        ) from error
    settings = ModelSettings(request_timeout=timeout)
    provider = BedrockProvider(bedrock_client=client)
    return Client(BedrockConverseModel(name, provider=provider, settings=settings))


_MAKERS: Mapping[ProviderKind, Callable[[str, Endpoint, float], Client]] = MappingProxyType(
    {
        "openai": _openai,
        "anthropic": _anthropic,
        "google": _google,
        "bedrock": _bedrock,
        "mistral": _mistral,
        "groq": _groq,
    }
)
