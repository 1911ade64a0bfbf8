"""What installed packages add by entry points: agents, strategies, policies, stores and others."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoints, entry_points
from typing import TypeVar

from fleet.errors import InvalidConfig

T = TypeVar("T")


@lru_cache(maxsize=4)
def announced(path: tuple[str, ...]) -> EntryPoints:
    """The entry points of all packages on a path of modules. Reading them takes some 30 ms, and
    every connection needs several groups."""
    found = entry_points()
    groups = (found.select(group=name) for name in found.groups)
    return EntryPoints(entry for group in groups for entry in group)


def installed(group: str, kind: str, own: Mapping[str, object], wanted: type[T]) -> dict[str, T]:
    """Fleet's `own` extensions of a kind and those of the entry points of a `group`, by name.

    `wanted` is the type that an entry point has to name, `kind` what the errors call one, such as
    `strategy`. Raises `InvalidConfig` for an entry point that names something else, that cannot be
    imported, or whose name is taken.
    """
    found = {name: each for name, each in own.items() if isinstance(each, wanted)}
    for entry in announced(tuple(sys.path)).select(group=group):
        if entry.name in found:
            raise InvalidConfig(
                f"entry point {entry.value} of {group} is called {entry.name}, like another "
                f"{kind}; rename it"
            )
        try:
            extension = entry.load()
        except (ImportError, AttributeError) as error:
            raise InvalidConfig(
                f"entry point {entry.name} of {group} names {entry.value}, which cannot be "
                f"imported ({error}); install or correct its package"
            ) from error
        if not isinstance(extension, wanted):
            raise InvalidConfig(
                f"entry point {entry.name} of {group} names {entry.value}, which is no "
                f"{wanted.__name__}; name a {wanted.__name__}"
            )
        found[entry.name] = extension
    return found
