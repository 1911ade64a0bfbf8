"""What tokens cost, in exact arithmetic.

Prices are US dollars for a million tokens, as exact decimals. A cost is a whole number of
nano-US-dollars, rounded up, so that a debt is never understated. All arithmetic in between is in
whole numbers, because the rates of a price share one denominator.

A rate may have tiers. The input tokens of the whole call select the tier, which then holds for all
tokens of the call, not only for those above the threshold. Providers bill this way, and
`genai-prices` computes it this way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from math import ceil, lcm
from typing import NamedTuple, Self

NANODOLLARS = 10**9
RATED_TOKENS = 10**6
THOUSANDS = 1000


class Tokens(NamedTuple):
    """Tokens of one answer.

    `input` includes `cached_input`, read from the provider's cache, and `cache_write`, written to
    it, which a few providers do unasked. `output` includes `reasoning`.
    """

    input: int
    output: int
    cached_input: int = 0
    cache_write: int = 0
    reasoning: int = 0


class Tier(NamedTuple):
    """The rate of a call with more than `above` input tokens."""

    above: int
    dollars: Decimal


@dataclass(frozen=True, slots=True)
class TokenRate:
    """US dollars for a million tokens of one kind; `tiers` by rising threshold."""

    dollars: Decimal
    tiers: tuple[Tier, ...] = ()

    def at(self, input_tokens: int) -> Decimal:
        """The rate of a call with this number of input tokens."""
        applying = [tier.dollars for tier in self.tiers if input_tokens > tier.above]
        return applying[-1] if applying else self.dollars


class _Band(NamedTuple):
    """Nano-dollars for one token of each kind and one request, as whole numbers over `below`."""

    input: int
    output: int
    cached_input: int
    cache_write: int
    reasoning: int
    request: int
    below: int


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's tokens cost. A kind without a rate of its own costs as any input, or output.

    `request` is US dollars for each call, whatever its tokens. Writing to a cache for an hour,
    sounds, pictures, searches and citations have prices too, but Fleet's calls ask for none of
    them.
    """

    input: TokenRate
    output: TokenRate
    cached_input: TokenRate | None = None
    request: Decimal = Decimal(0)
    cache_write: TokenRate | None = None
    reasoning: TokenRate | None = None
    _bands: tuple[tuple[int, _Band], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_bands", tuple(self._banded()))

    @classmethod
    def per_thousand(
        cls,
        input: float,
        output: float,
        cached_input: float | None = None,
        cache_write: float | None = None,
    ) -> Self:
        """A price without tiers from US dollars for a thousand tokens, as configured."""
        cached, written = (
            None if price is None else _rate_of_thousand(price)
            for price in (cached_input, cache_write)
        )
        return cls(
            _rate_of_thousand(input), _rate_of_thousand(output), cached, cache_write=written
        )

    def cost(self, used: Tokens) -> int:
        """Nano-dollars for one call, rounded up to a whole one."""
        rates = self._at(used.input)
        above = (
            _rest(used.input, used.cached_input + used.cache_write) * rates.input
            + used.cached_input * rates.cached_input
            + used.cache_write * rates.cache_write
            + _rest(used.output, used.reasoning) * rates.output
            + used.reasoning * rates.reasoning
            + rates.request
        )
        return -(-above // rates.below)

    def most(self, input_tokens: int, output_tokens: int) -> int:
        """The upper bound of a call's cost in nano-dollars, for tokens of any kind."""
        rates = self._at(input_tokens)
        above = (
            input_tokens * max(rates.input, rates.cached_input, rates.cache_write)
            + output_tokens * max(rates.output, rates.reasoning)
            + rates.request
        )
        return -(-above // rates.below)

    def _at(self, input_tokens: int) -> _Band:
        found = self._bands[0][1]
        for above, band in self._bands[1:]:
            if input_tokens > above:
                found = band
        return found

    def _banded(self) -> Iterator[tuple[int, _Band]]:
        """The rates between one threshold and the next. The first band begins at no tokens."""
        thresholds = {tier.above for rate in self._rates for tier in rate.tiers}
        yield 0, self._band(0)
        for above in sorted(thresholds):
            yield above, self._band(above + 1)

    @property
    def _rates(self) -> tuple[TokenRate, ...]:
        """The rate of each kind, in the order of a band."""
        into, out = self.input, self.output
        kinds = (self.cached_input or into, self.cache_write or into, self.reasoning or out)
        return (into, out, *kinds)

    def _band(self, input_tokens: int) -> _Band:
        rates = [Fraction(rate.at(input_tokens)) / RATED_TOKENS for rate in self._rates]
        exact = [NANODOLLARS * each for each in (*rates, Fraction(self.request))]
        below = lcm(*(each.denominator for each in exact))
        return _Band._make([*(int(each * below) for each in exact), below])


def _rest(tokens: int, among: int) -> int:
    """Tokens that have no rate of their own.

    If a provider counts `among` beside `tokens` and not among them, both are charged.
    """
    return tokens - among if among <= tokens else tokens


def dollars(nanodollars: int) -> str:
    """An amount of nano-US-dollars, exact: `$0`, `$0.02015`."""
    return f"${(Decimal(nanodollars) / NANODOLLARS).normalize():f}"


def nanodollars(dollars: float) -> int:
    """The amount that a number was written as, rounded up to a whole nano-US-dollar."""
    return ceil(Decimal(repr(float(dollars))) * NANODOLLARS)


def _rate_of_thousand(price: float) -> TokenRate:
    """The rate that a number was written as: 0.0015 is 1.5 dollars a million, exactly."""
    return TokenRate(Decimal(repr(float(price))) * THOUSANDS)
