"""What fleet.toml may say of a provider of models, and where its keys are."""

from __future__ import annotations

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from fleet.settings.addresses import is_loopback
from fleet.settings.budgets import Dollars
from fleet.settings.names import Name, SecretPath, Section

ProviderKind = Literal["openai", "anthropic", "google", "bedrock", "mistral", "groq"]

VARIABLE = r"^[A-Z][A-Z0-9_]*$"

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


class PoolKey(Section):
    """One of several keys of a provider. Its value is in a secret or in an environment variable.

    Calls are spread over the keys by their shares. A key that cools down, has no place left or has
    spent its budget gets no calls, and the others serve.
    """

    secret: SecretPath | None = Field(
        None,
        description="The path of the secret that holds the key, in the field api_key.",
        examples=["providers/openai-batch"],
    )
    variable: str | None = Field(
        None,
        pattern=VARIABLE,
        description="The environment variable that holds the key, instead of a secret.",
        examples=["OPENAI_BATCH_KEY"],
    )
    share: float = Field(
        1.0,
        gt=0,
        le=1_000_000,
        description="The key's part of the calls, in proportion to the other keys.",
    )
    concurrency: int | None = Field(
        None,
        ge=1,
        description="The most calls of a model in flight with the key, whatever is learned.",
        examples=[20],
    )
    daily_usd: Dollars | None = Field(
        None, description="US dollars in a UTC day with the key.", examples=[50]
    )

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if (self.secret is None) == (self.variable is None):
            raise ValueError("set secret or variable, one of them: where the key is")
        return self


class Provider(Section):
    """Where models are served, and which protocol is spoken there.

    A provider counts as configured when the variable of its key is set, or when it names a secret.
    `openai` is any endpoint that speaks OpenAI's protocol. Each other kind has an address of its
    own, and needs an extra: `pip install 'fleet[KIND]'`. `bedrock` takes its credentials from the
    variables of AWS.
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
        pattern=VARIABLE,
        description="The environment variable that holds the key. Every kind but bedrock needs "
        "this, a secret, or keys.",
        examples=["EXAMPLE_API_KEY"],
    )
    secret: SecretPath | None = Field(
        None,
        description="The path of the secret that holds the key, in the field api_key.",
        examples=["providers/openai"],
    )
    keys: dict[Name, PoolKey] = Field(
        default_factory=dict, description="Several keys, each with its own share and limits."
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
        self._has_one_place_of_keys()
        if not aws and self.region is not None:
            raise ValueError(f"region is for kind bedrock, and this is {self.kind}; remove it")
        self._has_fields_of_its_kind()
        return self

    def _has_one_place_of_keys(self) -> None:
        """Raise `ValueError` unless the table says in one way where the key is."""
        places = ("key_variable", "secret", "keys")
        named = [name for name in places if getattr(self, name)]
        if self.kind == "bedrock" and named:
            known = ", ".join(AWS_VARIABLES[:3])
            raise ValueError(f"kind bedrock has no {named[0]}; remove it, and set one of {known}")
        if self.kind != "bedrock" and not named:
            raise ValueError(
                "set key_variable, the name of the variable that holds the key, or secret"
            )
        if len(named) > 1:
            raise ValueError(f"set one of {' and '.join(named)}; remove the others")

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
        """The environment variables that may hold the provider's keys."""
        if self.kind == "bedrock":
            return AWS_VARIABLES
        if self.key_variable:
            return (self.key_variable,)
        return tuple(key.variable for key in self.keys.values() if key.variable)


def _is_known(url: str) -> bool:
    """Whether one of `MAKERS` answers there, also in one of its regions, or this machine."""
    host = urlsplit(url).hostname or ""
    return is_loopback(host) or any(
        host == maker or host.endswith(f".{maker}") for maker in MAKERS
    )
