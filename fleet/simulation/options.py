"""Options of the command line that belong together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.errors import InvalidRequest
from fleet.simulation.source import SyntheticLoad


def figures(option: str, pairs: str) -> dict[str, float]:
    """`NAME=NUMBER,...` of an option; empty for no text. Raises `InvalidRequest`."""
    found: dict[str, float] = {}
    for pair in filter(None, pairs.split(",")):
        name, _, figure = pair.partition("=")
        try:
            found[name.strip()] = float(figure)
        except ValueError:
            raise InvalidRequest(
                f"{option}: {pair!r} is no NAME=NUMBER; write such pairs with commas between them"
            ) from None
    return found


def synthetic_load(wanted: bool, tasks: int, given: Mapping[str, Any]) -> SyntheticLoad | None:
    """The load to draw, by the options that were given, if it is wanted; the others are None.

    Raises `InvalidRequest` where none is wanted and an option says how to draw it all the same.
    """
    fields = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        for name in fields:
            option = name.replace("_", "-")
            raise InvalidRequest(f"--{option} is for a load drawn by --synthetic; leave it out")
        return None
    if "mix" in fields:
        fields["mix"] = figures("--mix", fields["mix"])
    return SyntheticLoad(tasks, **fields)
