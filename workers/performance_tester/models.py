"""The payload and the result of the performance tester. Times are in seconds per call."""

from __future__ import annotations

import ast
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from fleet.agent import Payload, Result

TimingVerdict = Literal["faster", "slower", "no difference found"]


def _is_code(text: str) -> str:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"this is no Python code: {error}; correct it") from error
    return text


SourceCode = Annotated[str, Field(max_length=100_000), AfterValidator(_is_code)]
TimedCall = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_is_code)]
# The length is not part of the pattern: as {1,60} of Unicode's \w it would take 6 MB to compile.
VariantName = Annotated[
    str, StringConstraints(max_length=60, pattern=r"^[\w .+\-]+$", strip_whitespace=True)
]


class Variant(BaseModel):
    """One implementation. `code` defines the names that `call`, the timed statement, uses.

    Both see the names of the shared setup. If `call` is an expression, its value is compared with
    those of the other variants.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: VariantName
    code: SourceCode = ""
    call: TimedCall


class PerformanceTestPayload(Payload):
    """Variants to time within about `seconds`. The first is the reference for the others.

    `setup` runs once in each measuring process, untimed, with the random generator of the
    standard library seeded, so that all variants see the same data.
    """

    variants: Annotated[tuple[Variant, ...], Field(min_length=1, max_length=8)]
    setup: SourceCode = ""
    seconds: Annotated[float, Field(ge=1, le=120)] = 10.0
    confidence: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError("two variants have one name; give each a name of its own")
        return self


class Timing(BaseModel):
    """One variant's time per call. `spread` is the median absolute deviation.

    `median_low` and `median_high` bound the median with the confidence asked for. Each of the
    `values` is the mean of `loops` calls in a row.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    median: float
    median_low: float
    median_high: float
    p95: float
    mean: float
    spread: float
    values: int
    loops: int


class Comparison(BaseModel):
    """A variant's median time over the reference's: below 1 it is faster.

    The verdict is `no difference found` if the interval from `low` to `high` includes 1.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    reference: str
    ratio: float
    low: float
    high: float
    verdict: TimingVerdict


class PerformanceTestResult(Result):
    """Timings in the payload's order, and the comparison of each later variant with the first.

    `same_result` is None if nothing could be compared: one variant, a call that is a statement, or
    values without equality. `rounds` is the number of processes that measured each variant, in
    turns. The plot is a PNG image, empty if the worker has no matplotlib.
    """

    timings: tuple[Timing, ...]
    comparisons: tuple[Comparison, ...]
    same_result: bool | None
    confidence: float
    rounds: int
    isolation: Literal["bubblewrap", "landlock", "rlimits"]
    seconds: float
    plot_png_base64: str
