"""Prices of models, from the genai-prices data that is installed with Fleet."""

from __future__ import annotations

from genai_prices import Usage, calc_price

from fleet.core.model_choice import PRICED_TOKENS


def price_per_thousand(provider: str, model: str) -> tuple[float, float] | None:
    """US dollars for a thousand tokens in and out, or None where no price is known."""
    usage = Usage(input_tokens=PRICED_TOKENS, output_tokens=PRICED_TOKENS)
    try:
        price = calc_price(usage, model, provider_id=provider)
    except LookupError:
        return None
    return float(price.input_price), float(price.output_price)
