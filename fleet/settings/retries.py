"""How often, and for how long, a task is tried again: `[retries]`."""

from __future__ import annotations

from typing import Annotated, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from fleet import errors
from fleet.errors import OverLimit, RetryLater
from fleet.settings.names import Section

Most = Annotated[int, Field(ge=0, le=1000)]
Wait = Annotated[float, Field(gt=0, le=86_400)]
Age = Annotated[float, Field(gt=0, le=30 * 86_400)]

RETRIED = tuple(
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, RetryLater) and not issubclass(kind, OverLimit)
)
"""The classes of errors that a task may be tried again for."""


class RetryPolicy(NamedTuple):
    """How often, and for how many seconds after the first failure, a task is tried again."""

    most: int
    base_seconds: float
    cap_seconds: float
    most_age_seconds: float


class ErrorRetries(Section):
    """What differs for one class of errors, by the name of the class. A key that is left out has
    the value of [retries]."""

    most: Most | None = Field(None, description="How often a task is retried.", examples=[10])
    base_seconds: Wait | None = Field(None, description="The base of the wait.", examples=[5])
    cap_seconds: Wait | None = Field(None, description="The longest wait.", examples=[600])
    most_age_seconds: Age | None = Field(
        None, description="How long after its first failure a task is retried.", examples=[3600]
    )


class Retries(Section):
    """When a task is retried after an error that time may heal, such as a provider's outage.

    It waits as long as the error asks for, plus a random part of base x 2^n, at most cap.
    """

    most: Most = Field(5, description="How often a task is retried. 0: never.")
    base_seconds: Wait = Field(2, description="The base of the wait.")
    cap_seconds: Wait = Field(300, description="The longest wait.")
    most_age_seconds: Age = Field(
        21_600, description="How long after its first failure a task is retried."
    )
    errors: dict[str, ErrorRetries] = Field(default_factory=dict, examples=["RateLimited"])

    def policy(self, error: Exception) -> RetryPolicy:
        """The rule for an error: that of its class, or of the nearest one above it that has one."""
        said = next((self.errors[c] for c in _classes(error) if c in self.errors), ErrorRetries())
        return self._with(said)

    def _with(self, said: ErrorRetries) -> RetryPolicy:
        usual = (self.most, self.base_seconds, self.cap_seconds, self.most_age_seconds)
        return RetryPolicy(*usual)._replace(**said.model_dump(exclude_none=True))

    @field_validator("errors")
    @classmethod
    def _errors_are_retried(cls, given: dict[str, ErrorRetries]) -> dict[str, ErrorRetries]:
        for name in given:
            if name not in RETRIED:
                known = ", ".join(RETRIED)
                raise ValueError(f"{name!r} is no error that is tried again; use one of: {known}")
        return given

    @model_validator(mode="after")
    def _waits_fit(self) -> Self:
        for name, said in {"": ErrorRetries(), **self.errors}.items():
            policy = self._with(said)
            if policy.base_seconds > policy.cap_seconds:
                of = f"errors.{name}: " if name else ""
                raise ValueError(
                    f"{of}base_seconds ({policy.base_seconds:g}) is over cap_seconds "
                    f"({policy.cap_seconds:g}); lower it, or raise the cap"
                )
        return self


def _classes(error: Exception) -> list[str]:
    return [kind.__name__ for kind in type(error).__mro__]
