"""Options of the command line that hold several figures."""

from __future__ import annotations

from fleet.errors import InvalidRequest


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
