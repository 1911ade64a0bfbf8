"""What fleet.toml may say of a provider of models, and which of its variables hold its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from fleet.errors import InvalidConfig
from fleet.settings.addresses import is_loopback
from fleet.settings.names import Section

ProviderKind = Literal["openai", "anthropic", "google", "bedrock", "mistral", "groq"]

LimitField = Literal["max_tokens", "max_completion_tokens", "none"]

STREAMED: tuple[ProviderKind, ...] = ("openai", "anthropic")
"""The protocols of the providers and servers that are known to stop when a stream is closed."""

MAKERS = ("api.openai.com", "api.anthropic.com")
"""The providers that stop, and bill no further, when a stream is closed in the middle of an answer.
Of the others that is not known: a closed stream may be billed in full, so there it is of no use."""

AWS_VARIABLES = (
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Those by which AWS's own client finds credentials. An instance's role is named by a profile."""


class Provider(Section):
    """Where models are served, and which protocol is spoken there.

    A provider counts as configured when the variable of its key is set. `openai` is any endpoint
    that speaks OpenAI's protocol. Each other kind has an address of its own, and needs an extra:
    `pip install 'fleet[KIND]'`. `bedrock` takes its credentials from the variables of AWS.
    """

    kind: ProviderKind = Field("openai", description="The protocol.")
    base_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="The address. Kind openai needs one.",
        examples=["https://api.example.com/v1"],
    )
    key_variable: str | None = Field(
        None,
        pattern=r"^[A-Z][A-Z0-9_]*$",
        description="The environment variable that holds the key. Every kind but bedrock needs "
        "one.",
        examples=["EXAMPLE_API_KEY"],
    )
    region: str | None = Field(
        None,
        pattern=r"^[a-z0-9\-]+$",
        description="The region of kind bedrock; else that of AWS_DEFAULT_REGION.",
        examples=["eu-central-1"],
    )
    stream: bool | None = Field(
        None,
        description="Whether answers are requested as a stream. Then a cut call is charged for "
        "what had arrived. Set it where the provider stops, and bills no further, when the "
        "connection closes, and its models show all that they write. By default this is assumed "
        "of OpenAI, of Anthropic and of this machine. Elsewhere a cut call is charged its upper "
        "bound.",
        examples=[True],
    )
    limit_field: LimitField | None = Field(
        None,
        description="The field that limits an answer, for kind openai. By default "
        "max_completion_tokens for OpenAI and max_tokens for nearly all others. none: the server "
        "takes no limit, so an answer may fill the context window.",
        examples=["max_completion_tokens"],
    )
    temperature: bool = Field(
        True, description="false: send no temperature, for models that refuse it."
    )
    stream_usage: bool | None = Field(
        None,
        description="false: send no stream_options.include_usage, for servers of kind openai that "
        "refuse it.",
        examples=[False],
    )

    @field_validator("base_url")
    @classmethod
    def _has_a_host(cls, url: str | None) -> str | None:
        if url is not None and not urlsplit(url).hostname:
            raise ValueError("base_url needs a host, such as https://api.openai.com/v1")
        return url

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        aws = self.kind == "bedrock"
        if self.kind == "openai" and self.base_url is None:
            raise ValueError("kind openai needs base_url, such as https://api.openai.com/v1")
        if not aws and self.key_variable is None:
            raise ValueError("set key_variable, the name of the variable that holds the key")
        if aws and self.key_variable is not None:
            known = ", ".join(AWS_VARIABLES[:3])
            raise ValueError(f"kind bedrock has no key_variable; remove it, and set one of {known}")
        if not aws and self.region is not None:
            raise ValueError(f"region is for kind bedrock, and this is {self.kind}; remove it")
        self._has_fields_of_its_kind()
        return self

    def _has_fields_of_its_kind(self) -> None:
        """Raise `ValueError` for a field of the request that is not this kind's to choose."""
        for name in ("limit_field", "stream_usage"):
            if self.kind != "openai" and getattr(self, name) is not None:
                raise ValueError(
                    f"{name} is for kind openai, and this is {self.kind}, whose client knows its "
                    "fields; remove it"
                )
        if self.stream is False and self.stream_usage is not None:
            raise ValueError("stream_usage is for streams, and stream is false; remove one of them")

    @property
    def streams(self) -> bool:
        """Whether answers are asked for piece by piece."""
        if self.stream is not None:
            return self.stream
        return self.kind in STREAMED and (self.base_url is None or _is_known(self.base_url))

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables of which one has to be set."""
        return (self.key_variable,) if self.key_variable else AWS_VARIABLES

    def key(self, environment: Mapping[str, str]) -> str | None:
        """The key without white space around it, or for `bedrock` what stands for the credentials.

        None where there is none. Raises `InvalidConfig` for a key that no request can carry: a
        client would show it in its complaint.
        """
        stripped = (environment.get(name, "").strip() for name in self.variables)
        key = next(filter(None, stripped), None)
        if key and self.key_variable and not (key.isascii() and key.isprintable()):
            raise InvalidConfig(
                f"{self.key_variable}: the key holds characters that are not printable ASCII; "
                "copy it again from the provider"
            )
        return key


def _is_known(url: str) -> bool:
    """Whether one of `MAKERS` answers there, also in one of its regions, or this machine."""
    host = urlsplit(url).hostname or ""
    return is_loopback(host) or any(
        host == maker or host.endswith(f".{maker}") for maker in MAKERS
    )
