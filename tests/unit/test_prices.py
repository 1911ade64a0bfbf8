"""What tokens cost: by hand, and as genai-prices itself computes it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from genai_prices import Usage, calc_price
from hypothesis import given
from hypothesis import strategies as st

from fleet.adapters.price_files import parsed, store
from fleet.adapters.prices import PriceBook, current_prices, installed_prices
from fleet.core.prices import NANODOLLARS, Price, Rate, Tier, Tokens
from fleet.errors import InvalidConfig, InvalidRequest

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
REAL_MODELS = (
    ("openai", "gpt-5"),
    ("openai", "gpt-4o"),
    ("anthropic", "claude-opus-4-1"),
    ("anthropic", "claude-sonnet-4-5"),  # tiers of 200,000
    ("google", "gemini-2.5-flash"),
    ("google", "gemini-2.5-pro"),  # tiers of 200,000
    ("perplexity", "sonar"),  # a price for each request
    ("anthropic", "claude-opus-4-6"),  # another price since a date
    ("groq", "llama-3.3-70b-versatile"),
    ("mistral", "mistral-large-latest"),
)
TIERED = Price(
    Rate(Decimal(3), (Tier(200_000, Decimal(6)),)),
    Rate(Decimal(15), (Tier(100_000, Decimal(20)), Tier(200_000, Decimal("22.5")))),
    Rate(Decimal("0.3"), (Tier(200_000, Decimal("0.6")),)),
)
counts = st.integers(0, 2_000_000)


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
    ],
)
def test_a_tier_holds_for_all_tokens_of_a_call(used: Tokens, expected: int) -> None:
    assert TIERED.cost(used) == expected


def test_without_a_rate_of_their_own_cached_tokens_cost_as_any_input() -> None:
    price = Price.per_thousand(0.002, 0.006)
    assert price.cost(Tokens(1000, 0, 700)) == price.cost(Tokens(1000, 0)) == 2_000_000


def test_a_price_is_the_decimal_that_was_written_down() -> None:
    # 0.1 in binary is a little more than a tenth, which would round a cost up by one
    assert Price.per_thousand(0.1, 0.1).cost(Tokens(10**9, 0)) == 10**5 * NANODOLLARS
    assert Price.per_thousand(0.0015, 0.0).input == Rate(Decimal("1.5"))


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


@pytest.mark.parametrize(("provider", "model"), REAL_MODELS)
@given(data=st.data())
def test_our_cost_of_a_real_model_is_that_of_genai_prices(
    provider: str, model: str, data: st.DataObject
) -> None:
    into, out = data.draw(counts), data.draw(counts)
    cached = data.draw(st.integers(0, into))
    price = installed_prices().find(provider, model, NOW).price
    assert price is not None
    usage = Usage(input_tokens=into, output_tokens=out, cache_read_tokens=cached)
    theirs = calc_price(usage, model, provider_id=provider, genai_request_timestamp=NOW)
    exact = theirs.total_price * NANODOLLARS
    assert price.cost(Tokens(into, out, cached)) == exact.to_integral_value(ROUND_CEILING)


def test_the_real_models_have_tiers_cached_rates_and_a_price_for_each_request() -> None:
    book = installed_prices()
    prices = [book.find(provider, model, NOW).price for provider, model in REAL_MODELS]
    assert any(price and price.input.tiers for price in prices)
    assert any(price and price.cached_input for price in prices)
    assert any(price and price.request for price in prices)


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
        Price(Rate(Decimal(1)), Rate(Decimal(2))),
        Price(Rate(Decimal(3)), Rate(Decimal(4))),
    )


def test_stored_prices_come_before_the_installed_which_fill_the_gaps(tmp_path: Path) -> None:
    store(tmp_path, document(**{"gpt-5": 7.5}), "here")
    book = current_prices(tmp_path)
    stored, gap = (book.find("openai", name, NOW) for name in ("gpt-5", "gpt-4o"))
    assert stored.price == Price(Rate(Decimal("7.5")), Rate(Decimal(15)))
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
