"""Which key of a provider gets the next call."""

from __future__ import annotations

from collections.abc import Iterable
from math import log
from typing import Protocol, TypeVar


class UniformDraws(Protocol):
    """Random numbers from 0, included, to 1, excluded."""

    def random(self) -> float: ...


class Shared(Protocol):
    """Something that gets its share. A share is over 0."""

    @property
    def share(self) -> float: ...


K = TypeVar("K", bound=Shared)


def by_share(keys: Iterable[K], rng: UniformDraws) -> list[K]:
    """The keys in random order: each is the first with the probability of its share, and each next
    one is drawn from the rest in the same way.

    (P. S. Efraimidis and P. G. Spirakis, Weighted random sampling with a reservoir, 2006: the order
    of u^(1/share) with u uniform.)
    """
    drawn = [(log(1.0 - rng.random()) / key.share, key) for key in keys]
    return [key for _, key in sorted(drawn, key=lambda pair: -pair[0])]
