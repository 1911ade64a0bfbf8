"""The catalogue's models and their prices, as tables and for programs."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from fleet.models.listing import Line
    from fleet.money import Price, Rate

HEADINGS = ("model", "provider", "can", "region", "tenants")
FIGURES = ("window", "$/M in", "out", "cached", "quality", "speed")
LEARNED = ("quality", "believed", "sd", "speed", "believed", "rewards", "calls")


def models_table(lines: list[Line]) -> Table:
    """One line a model: what it costs and can, and whether it can be had."""
    table = _table(HEADINGS, FIGURES, "state")
    for line in lines:
        model = line.model
        table.add_row(
            model.name,
            model.provider,
            ", ".join(sorted(model.capabilities)) or "-",
            model.region or "-",
            ", ".join(sorted(model.tenants)) or "all",
            f"{model.context_tokens:,}" if model.context_tokens else "-",
            *(["free"] * 3 if model.free else rates(model.price, ",\n")),
            f"{model.quality:.2f}",
            f"{model.speed:.2f}",
            _state(line),
        )
    return table


def learned_table(lines: list[Line]) -> Table:
    """One line for each model and request type: the catalogue's figures, and what is believed."""
    table = _table(("model", "request type"), LEARNED)
    for line in lines:
        for learned in line.learned:
            belief = learned.belief
            table.add_row(
                line.model.name,
                learned.request_type,
                f"{line.model.quality:.2f}",
                f"{belief.quality:.3f}",
                f"{belief.quality_sd:.3f}",
                f"{line.model.speed:.2f}",
                f"{belief.speed:.3f}",
                f"{belief.rewards:.1f}",
                f"{belief.calls:.1f}",
            )
    return table


def _table(headings: tuple[str, ...], figures: tuple[str, ...], *last: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=heading == "model", overflow="fold")
    for figure in figures:
        table.add_column(figure, justify="right", no_wrap=True)
    for heading in last:
        table.add_column(heading, overflow="fold")
    return table


def _state(line: Line) -> str:
    if line.state == "cooling down":
        return f"cools down for {line.seconds:.0f} s after {line.reason}"
    return line.reason or line.state


def rates(price: Price | None, between: str = ", ") -> list[str]:
    """A price's three rates for people; a dash where there is none."""
    if price is None:
        return ["-", "-", "-"]
    kinds = (price.input, price.output, price.cached_input or price.input)
    return [_rate(rate, between) for rate in kinds]


def _rate(rate: Rate, between: str) -> str:
    """`3`, or with a tier `3, over 200k 6`."""
    tiers = (f"over {tier.above // 1000}k {_plain(tier.dollars)}" for tier in rate.tiers)
    return between.join([_plain(rate.dollars), *tiers])


def _plain(dollars: Decimal) -> str:
    return f"{dollars.normalize():f}"


def line_json(line: Line) -> dict[str, Any]:
    """A model for programs."""
    model = line.model
    return {
        "model": model.name,
        "provider": model.provider,
        "state": line.state,
        "reason": line.reason,
        "cools_down_seconds": line.seconds,
        "context_tokens": model.context_tokens,
        "capabilities": sorted(model.capabilities),
        "region": model.region,
        "tenants": sorted(model.tenants),
        "free": model.free,
        "dollars_per_million": price_json(model.price),
        "quality": model.quality,
        "speed": model.speed,
        "efficiency": model.efficiency,
        "learned": [
            {"request_type": each.request_type, **each.belief._asdict()} for each in line.learned
        ],
    }


def price_json(price: Price | None) -> dict[str, Any] | None:
    """A price for programs: US dollars for a million tokens, and for a request."""
    if price is None:
        return None
    return {
        "input": _rate_json(price.input),
        "output": _rate_json(price.output),
        "cached_input": _rate_json(price.cached_input or price.input),
        "cache_write": _rate_json(price.cache_write or price.input),
        "reasoning": _rate_json(price.reasoning or price.output),
        "request": str(price.request),
    }


def _rate_json(rate: Rate) -> dict[str, Any]:
    """Decimals stay text: a float would be another number."""
    tiers = [{"above_input_tokens": t.above, "dollars": _plain(t.dollars)} for t in rate.tiers]
    return {"dollars": _plain(rate.dollars), "tiers": tiers}
