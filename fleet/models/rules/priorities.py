"""The weights of a model's quality and speed for a task, with their origins.

Each of the two comes from the first level that sets it: the submission, its request type, its
tenant, the configuration. The rest to 1 is the weight of a low cost, so the sum is at most 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fleet.errors import InvalidRequest
from fleet.text import brief, is_number

ROUNDING = 1e-9
SUBMISSION = "submission"


class Level(NamedTuple):
    """The priorities that one level sets; None if it does not set one."""

    origin: str
    quality: float | None = None
    speed: float | None = None


class Priorities(NamedTuple):
    """The priorities of a task, each 0 to 1, with their origins."""

    quality: float
    speed: float
    quality_origin: str
    speed_origin: str

    @property
    def asked(self) -> tuple[float | None, float | None]:
        """Quality and speed if the submission itself set them, else None."""
        return (
            self.quality if self.quality_origin == SUBMISSION else None,
            self.speed if self.speed_origin == SUBMISSION else None,
        )


def in_force(levels: Sequence[Level]) -> Priorities:
    """The priorities of a task. Levels go from the narrowest to the widest, which sets both.

    Raises `InvalidRequest` for a priority that is no number from 0 to 1, and for a sum over 1.
    """
    quality, quality_origin = _first([(each.quality, each.origin) for each in levels], "quality")
    speed, speed_origin = _first([(each.speed, each.origin) for each in levels], "speed")
    if quality + speed > 1.0 + ROUNDING:
        raise InvalidRequest(
            f"quality priority {quality:g} ({quality_origin}) and speed priority {speed:g} "
            f"({speed_origin}) are {quality + speed:g} together, and may be at most 1; give both, "
            f"such as quality {quality:g} and speed {1.0 - quality:g} or less"
        )
    return Priorities(quality, speed, quality_origin, speed_origin)


def _first(named: Sequence[tuple[object, str]], what: str) -> tuple[float, str]:
    """The first priority that is set, with its origin."""
    value, origin = next(pair for pair in named if pair[0] is not None)
    if not is_number(value) or not 0.0 <= value <= 1.0:
        raise InvalidRequest(
            f"{what} priority ({origin}) is {brief(value)}; give a number from 0 to 1"
        )
    return float(value), origin
