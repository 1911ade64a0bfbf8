"""Whether a model thinks by default, and where its thoughts are. Not every provider shows thoughts,
but all bill them."""

from __future__ import annotations

from pydantic_ai.models import Model as ChatModel
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.profiles.anthropic import anthropic_model_profile
from pydantic_ai.profiles.google import google_model_profile
from pydantic_ai.profiles.openai import openai_model_profile

from fleet.models.rules.thoughts import TAGS
from fleet.settings.providers import ProviderKind

MAY_THINK: tuple[ProviderKind, ...] = ("google", "groq")
"""For these makers it is only known which models can think. These may think by default."""

THOUGHTS_IN_TEXT: tuple[ProviderKind, ...] = ("openai", "groq", "mistral")
"""Protocols whose servers may leave a model's thoughts in its text."""


def tags_in_text(kind: ProviderKind) -> tuple[str, str] | None:
    """The tags around thoughts in the text, or None for protocols without them."""
    return TAGS if kind in THOUGHTS_IN_TEXT else None


def thinks_unasked(kind: ProviderKind, chat: ChatModel) -> bool:
    """Whether the model is known by its name to think by default."""
    maker, profile = _by_name(chat.model_name) if kind == "openai" else (kind, chat.profile)
    if maker in MAY_THINK and profile.get("supports_thinking"):
        return True
    flags = ("thinking_always_enabled", "thinking_enabled_by_default")
    return any(profile.get(flag) for flag in flags)


def _by_name(name: str) -> tuple[ProviderKind, ModelProfile]:
    """The maker of a model that is reached by the OpenAI protocol. A router of many providers puts
    the maker before the name."""
    bare = name.rpartition("/")[2]
    if bare.startswith("claude-"):
        return "anthropic", anthropic_model_profile(bare) or ModelProfile()
    if bare.startswith("gemini-"):
        return "google", google_model_profile(bare) or ModelProfile()
    return "openai", openai_model_profile(bare)
