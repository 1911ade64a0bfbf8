"""The request fields of servers that speak the OpenAI protocol.

OpenAI has renamed the field that limits an answer. Its reasoning models refuse the old name,
`max_tokens`. Nearly all other servers know only the old name. Some of them ignore the new name, so
that nothing limits their answers, and some refuse unknown fields. So each server gets one field:

    OpenAI, its models at Azure and GitHub     max_completion_tokens
    a model named as one of OpenAI's that      max_completion_tokens: a gateway passes it on to
    reason, at any address                     OpenAI
    all others                                 max_tokens
"""

from __future__ import annotations

from typing import cast
from urllib.parse import urlsplit

from pydantic_ai.profiles import ModelProfile
from pydantic_ai.profiles.openai import OpenAIModelProfile, openai_model_profile
from pydantic_ai.providers.azure import AzureProvider

from fleet.settings.providers import LimitField, ProviderKind

OPENAI = "api.openai.com"
AZURE = ("openai.azure.com", "services.ai.azure.com", "cognitiveservices.azure.com")
OTHERS_AT_AZURE = (
    *("ai21", "codestral", "cohere", "deepseek", "grok", "jais", "kimi", "llama", "mai-", "meta-"),
    *("microsoft-", "ministral", "mistral", "phi-", "qwen"),
)
"""The names of other makers' models at Azure, whose field is `max_tokens`."""

COPILOT = "githubcopilot.com"
GITHUB_MODELS = ("models.github.ai", "models.inference.ai.azure.com")
"""Addresses with the maker before the model's name, which forward requests unchanged."""

MISTRAL = "api.mistral.ai"

KEEPS_LIMITS = (
    OPENAI,
    *AZURE,
    COPILOT,
    MISTRAL,
    "api.anthropic.com",
    "generativelanguage.googleapis.com",
    "api.groq.com",
    "api.deepseek.com",
)
"""Addresses of makers that document the field that limits an answer."""

REASONING = (
    "openai_supports_reasoning",
    "openai_supports_reasoning_effort_none",
    "thinking_enabled_by_default",
)
"""The profile keys of OpenAI's models that refuse a temperature."""


def limit_field(name: str, base_url: str | None, given: LimitField | None) -> LimitField:
    """The field that limits an answer of the model at an address. `given` is the configured
    field."""
    if given is not None:
        return given
    if _is_at(base_url, AZURE):
        knows_new = _knows_new(AzureProvider.model_profile(name) or ModelProfile())
        knows_new = knows_new and not name.lower().startswith(OTHERS_AT_AZURE)
    elif _is_at(base_url, (OPENAI, COPILOT)) or base_url is None:
        knows_new = True
    else:
        if _is_at(base_url, GITHUB_MODELS):
            name = name.removeprefix("openai/")
        knows_new = bool(openai_model_profile(name).get("openai_supports_reasoning"))
    return "max_completion_tokens" if knows_new else "max_tokens"


def chat_profile(name: str, base_url: str | None, given: LimitField | None) -> OpenAIModelProfile:
    """The client's profile of a model, beside what it knows by the name."""
    maker, _, bare = name.rpartition("/")
    known = openai_model_profile(bare) if maker.rpartition("/")[2] == "openai" else {}
    field = limit_field(name, base_url, given)
    profile = OpenAIModelProfile(
        openai_chat_supports_max_completion_tokens=field == "max_completion_tokens"
    )
    reasoning = {each: value for each, value in known.items() if each in REASONING}
    return cast(OpenAIModelProfile, {**profile, **reasoning})


def asks_for_usage(base_url: str | None, given: bool | None) -> bool:
    """Whether a request asks for the usage at the end of a stream. Mistral reports it always, and
    refuses unknown fields."""
    return given if given is not None else not _is_at(base_url, (MISTRAL,))


def keeps_limits(kind: ProviderKind, base_url: str | None, given: LimitField | None) -> bool:
    """Whether answers from an address are known to keep their limit."""
    if given == "none":
        return False
    if base_url is None:
        return True
    return _is_at(base_url, KEEPS_LIMITS)


def _knows_new(profile: ModelProfile) -> bool:
    return bool(profile.get("openai_chat_supports_max_completion_tokens", True))


def _is_at(url: str | None, hosts: tuple[str, ...]) -> bool:
    host = (urlsplit(url).hostname or "") if url else ""
    return any(host == each or host.endswith(f".{each}") for each in hosts)
