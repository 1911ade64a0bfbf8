"""How often, and for how long, a task is tried again: `[retries]`."""

from __future__ import annotations

from typing import Annotated, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from fleet import errors
from fleet.errors import OverLimit, RetryLater
from fleet.settings.section import Section

Most = Annotated[int, Field(ge=0, le=1000)]
Wait = Annotated[float, Field(gt=0, le=86_400)]
Age = Annotated[float, Field(gt=0, le=30 * 86_400)]

RETRIED = tuple(
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type)
    and issubclass(kind, RetryLater)
    and not issubclass(kind, OverLimit)
)
"""The classes of errors that a task may be tried again for."""


class RetryPolicy(NamedTuple):
    """How often, and for how many seconds after the first failure, a task is tried again."""

    most: int
    base_seconds: float
    cap_seconds: float
    most_age_seconds: float


class ErrorRetries(Section):
    """What differs for one class of errors."""

    most: Most | None = None
    base_seconds: Wait | None = None
    cap_seconds: Wait | None = None
    most_age_seconds: Age | None = None


class Retries(Section):
    """The rule for all errors that time may heal, and for single classes of them."""

    most: Most = 5
    base_seconds: Wait = 2
    cap_seconds: Wait = 300
    most_age_seconds: Age = 21_600
    errors: dict[str, ErrorRetries] = Field(default_factory=dict)

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
