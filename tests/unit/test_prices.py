"""What tokens cost: by hand, and as genai-prices itself computes it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidConfig, InvalidRequest
from fleet.models.price_files import parsed, store
from fleet.models.prices import PriceBook, current_prices, installed_prices
from fleet.money import NANODOLLARS, Price, Tier, TokenRate, Tokens
from fleet.settings import parse_config

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PROVIDERS = ("openai", "anthropic", "google", "aws", "groq", "mistral", "perplexity", "azure")
TIERED = Price(
    TokenRate(Decimal(3), (Tier(200_000, Decimal(6)),)),
    TokenRate(Decimal(15), (Tier(100_000, Decimal(20)), Tier(200_000, Decimal("22.5")))),
    TokenRate(Decimal("0.3"), (Tier(200_000, Decimal("0.6")),)),
    cache_write=TokenRate(Decimal("3.75"), (Tier(200_000, Decimal("7.5")),)),
    reasoning=TokenRate(Decimal(10)),
)
counts = st.integers(0, 2_000_000)
parts = st.floats(0, 1)


class RealModel(NamedTuple):
    """A model that genai-prices knows, and what Fleet makes of its price."""

    provider: str
    name: str
    price: Price


def priced_models() -> Iterator[RealModel]:
    """Every model of the default catalogue, and every other one of its kinds of provider."""
    book = installed_prices()
    catalogue = parse_config("", "defaults").catalogue
    named = [(line.provider, name) for name, line in catalogue.items() if not line.free]
    known = [
        (provider.id, model.id)
        for provider in get_snapshot().providers
        for model in provider.models
        if provider.id in PROVIDERS
    ]
    for provider, name in (*named, *known):
        price = book.find(provider, name, NOW).price
        assert price is not None or (provider, name) not in named
        if price is not None:
            yield RealModel(provider, name, price)


REAL_MODELS = tuple(priced_models())


def used_tokens(into: int, out: int, cached: float, written: float, thought: float) -> Tokens:
    """Tokens of which some share was cached, then some of the rest written, some was reasoning."""
    hits = int(into * cached)
    return Tokens(into, out, hits, int((into - hits) * written), int(out * thought))


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        # 3 dollars a million are 3,000 nano-dollars a token
        (Tokens(1000, 0), 3_000_000),
        (Tokens(1000, 0, 1000), 300_000),
        (Tokens(1000, 10, 400), 600 * 3000 + 10 * 15_000 + 400 * 300),
        # at a threshold the lower rate holds, one above it the higher one for every token
        (Tokens(200_000, 1), 200_000 * 3000 + 20_000),
        (Tokens(200_001, 1), 200_001 * 6000 + 22_500),
        (Tokens(200_001, 0, 200_001), 200_001 * 600),
        # output has a tier of its own from 100,000 input tokens
        (Tokens(100_000, 1), 100_000 * 3000 + 15_000),
        (Tokens(100_001, 1), 100_001 * 3000 + 20_000),
        # what is written to a cache, and what is reasoning, are of the input and the output
        (Tokens(1000, 10, 400, 500, 4), 100 * 3000 + 400 * 300 + 500 * 3750 + 6 * 15_000 + 40_000),
        (Tokens(200_001, 0, 0, 200_001), 200_001 * 7500),
        # a provider that counts them beside the others is charged for both
        (Tokens(100, 10, 60, 60, 12), 100 * 3000 + 60 * 300 + 60 * 3750 + 10 * 15_000 + 120_000),
    ],
)
def test_a_tier_holds_for_all_tokens_of_a_call(used: Tokens, expected: int) -> None:
    assert TIERED.cost(used) == expected


def test_without_a_rate_of_their_own_cached_tokens_cost_as_any_input() -> None:
    price = Price.per_thousand(0.002, 0.006)
    assert price.cost(Tokens(1000, 0, 700)) == price.cost(Tokens(1000, 0)) == 2_000_000


def test_without_rates_of_their_own_other_kinds_cost_as_any_input_and_output() -> None:
    price = Price.per_thousand(0.002, 0.006, cache_write=0.0025)
    assert price.cost(Tokens(1000, 0, 0, 1000)) == 2_500_000
    assert Price.per_thousand(0.002, 0.006).cost(Tokens(10, 10, 3, 4, 5)) == 80_000


def test_a_price_is_the_decimal_that_was_written_down() -> None:
    # 0.1 in binary is a little more than a tenth, which would round a cost up by one
    assert Price.per_thousand(0.1, 0.1).cost(Tokens(10**9, 0)) == 10**5 * NANODOLLARS
    assert Price.per_thousand(0.0015, 0.0).input == TokenRate(Decimal("1.5"))


def test_a_cost_is_rounded_up() -> None:
    # 0.0000001 dollars a thousand are a tenth of a nano-dollar for each token
    price = Price.per_thousand(0.0000001, 0.0)
    assert [price.cost(Tokens(n, 0)) for n in (0, 1, 10, 11)] == [0, 1, 1, 2]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), counts, counts, st.floats(0, 1))
def test_no_cost_is_off_by_as_much_as_a_nanodollar(
    into: float, out: float, cached: float, input_tokens: int, output_tokens: int, share: float
) -> None:
    hits = int(input_tokens * share)
    exact = (
        Fraction(repr(into)) * (input_tokens - hits)
        + Fraction(repr(out)) * output_tokens
        + Fraction(repr(cached)) * hits
    ) * Fraction(NANODOLLARS, 1000)
    cost = Price.per_thousand(into, out, cached).cost(Tokens(input_tokens, output_tokens, hits))
    assert 0 <= cost - exact < 1


def theirs(model: RealModel, used: Tokens) -> int:
    """What genai-prices makes of it, rounded up to a nano-dollar."""
    usage = Usage(
        input_tokens=used.input,
        output_tokens=used.output,
        cache_read_tokens=used.cached_input,
        cache_write_tokens=used.cache_write,
        output_reasoning_tokens=used.reasoning,
    )
    found = calc_price(usage, model.name, provider_id=model.provider, genai_request_timestamp=NOW)
    return int((found.total_price * NANODOLLARS).to_integral_value(ROUND_CEILING))


@given(st.sampled_from(REAL_MODELS), st.builds(used_tokens, counts, counts, parts, parts, parts))
def test_our_cost_of_a_real_model_is_that_of_genai_prices(model: RealModel, used: Tokens) -> None:
    assert model.price.cost(used) == theirs(model, used)


def test_each_real_model_costs_what_genai_prices_says() -> None:
    used_up = (
        Tokens(1000, 300),
        Tokens(1000, 300, 400, 500, 200),
        Tokens(200_000, 1, 200_000),
        Tokens(300_001, 777, 1, 300_000, 777),
    )
    wrong = [
        (model.provider, model.name, used)
        for model in REAL_MODELS
        for used in used_up
        if model.price.cost(used) != theirs(model, used)
    ]
    assert wrong == []


@given(st.sampled_from(REAL_MODELS), st.builds(used_tokens, counts, counts, parts, parts, parts))
def test_no_call_costs_more_than_the_most_whatever_its_tokens_are(
    model: RealModel, used: Tokens
) -> None:
    assert model.price.cost(used) <= model.price.most(used.input, used.output)


def test_the_real_models_have_every_kind_of_rate() -> None:
    prices = [model.price for model in REAL_MODELS]
    for has in (
        lambda price: price.input.tiers,
        lambda price: price.cached_input,
        lambda price: price.request,
        lambda price: price.cache_write and price.cache_write.tiers,
        lambda price: price.reasoning,
    ):
        assert any(map(has, prices))


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-none"),
        ("nobody", "gpt-5"),
        ("openai", "text-embedding-3-small"),  # no price for output
    ],
)
def test_a_model_without_a_price_for_both_ways_has_none(provider: str, model: str) -> None:
    assert installed_prices().find(provider, model, NOW).price is None


def document(**prices: float) -> list[dict[str, object]]:
    """Price data as genai-prices publishes it, with models of OpenAI alone."""
    models = [
        {
            "id": name,
            "match": {"equals": name},
            "context_window": 1000,
            "prices": {"input_mtok": price, "output_mtok": 2 * price},
        }
        for name, price in prices.items()
    ]
    provider = {"id": "openai", "name": "OpenAI", "api_pattern": "x", "models": models}
    return [provider]


def test_a_price_changes_with_its_date() -> None:
    raw = document(new=1.0)
    raw[0]["models"][0]["prices"] = [  # type: ignore[index]
        {"prices": {"input_mtok": 1, "output_mtok": 2}},
        {
            "constraint": {"start_date": "2026-07-01"},
            "prices": {"input_mtok": 3, "output_mtok": 4},
        },
    ]
    book = PriceBook([parsed(raw, "here")], "here")
    june, july = (book.find("openai", "new", NOW.replace(month=month)).price for month in (6, 7))
    assert (june, july) == (
        Price(TokenRate(Decimal(1)), TokenRate(Decimal(2))),
        Price(TokenRate(Decimal(3)), TokenRate(Decimal(4))),
    )


def test_stored_prices_come_before_the_installed_which_fill_the_gaps(tmp_path: Path) -> None:
    store(tmp_path, document(**{"gpt-5": 7.5}), "here")
    book = current_prices(tmp_path)
    stored, gap = (book.find("openai", name, NOW) for name in ("gpt-5", "gpt-4o"))
    assert stored.price == Price(TokenRate(Decimal("7.5")), TokenRate(Decimal(15)))
    assert stored.context_tokens == 1000
    assert gap == installed_prices().find("openai", "gpt-4o", NOW)


def test_prices_stored_beside_another_release_do_not_count(tmp_path: Path) -> None:
    path = store(tmp_path, document(**{"gpt-5": 7.5}), "here")
    path.write_text(path.read_text().replace('"release": "', '"release": "0.before.'))
    book = current_prices(tmp_path)
    assert book.find("openai", "gpt-5", NOW) == installed_prices().find("openai", "gpt-5", NOW)
    assert "is not used" in book.source


def test_a_stored_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text("{")
    with pytest.raises(InvalidConfig, match=r"prices.json: cannot be read.*fleet models refresh"):
        current_prices(tmp_path)


@pytest.mark.parametrize("raw", [{}, [], "no", [{"id": "openai"}], [3]])
def test_what_is_no_price_data_is_refused(raw: object) -> None:
    with pytest.raises(InvalidRequest, match=r"here: is no price data"):
        parsed(raw, "here")
