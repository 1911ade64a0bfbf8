"""`fleet models`: what there is to choose from, what was learned of it, and what it costs."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.output import JsonOption, console, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from fleet.core.prices import Price, Rate
    from fleet.services.model_listing import Line
    from fleet.services.price_refresh import Refreshed

HEADINGS = ("model", "provider", "can", "region", "tenants")
FIGURES = ("window", "$/M in", "out", "cached", "quality", "speed")
LEARNED = ("quality", "believed", "sd", "speed", "believed", "rewards", "calls")

app = typer.Typer(
    help="Show the models of the catalogue. Example: `fleet models --request-type code_generation`"
)


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="models", invoke_without_command=True)


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    request_type: Annotated[
        str | None, typer.Option(help="Show what is believed of each model on this type.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the models: prices, what they can, whether they can be had, what was learned.

    Prices are US dollars for a million tokens. Quality and speed are 0 to 1: first the catalogue's
    figure, then what is believed since there is evidence.

    Example: `fleet models --request-type code_generation`
    """
    if context.invoked_subcommand is None:
        _show(request_type, as_json)


@app.command()
def refresh(
    url: Annotated[
        str | None, typer.Option(help="Where to fetch from, if not from genai-prices itself.")
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option("--from", help="A file of price data, where there is no network."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the newest prices, check them, keep them in the data folder, and show what changed.

    Exit status 1 where no prices can be had; those that are here stay then.

    Example: `fleet models refresh --from prices.json`
    """
    from fleet.adapters.price_files import DEFAULT_UPDATE_URL
    from fleet.errors import InvalidRequest
    from fleet.services.price_refresh import refresh as refresh_prices
    from fleet.settings import load_settings

    if url and given:
        raise InvalidRequest("give --url or --from, not both")
    done = refresh_prices(load_settings(), url or DEFAULT_UPDATE_URL, given)
    if as_json:
        print_json(_refreshed_json(done))
    else:
        _tell(done)


def _show(request_type: str | None, as_json: bool) -> None:
    from fleet.services.model_listing import has_learned

    lines, source = _lines(request_type)
    if as_json:
        print_json({"prices": source, "models": [_line_json(line) for line in lines]})
        return
    screen = console()
    screen.print(_models_table(lines))
    if has_learned(lines):
        screen.print("\nLearned, of 0 to 1 each:")
        screen.print(_learned_table(lines))
    screen.print(f"\nPrices by {source}.")


def _lines(request_type: str | None) -> tuple[list[Line], str]:
    """The models, and where their prices are from."""
    import os
    import time

    from fleet.adapters.prices import current_prices
    from fleet.errors import InvalidRequest
    from fleet.services.catalogue import catalogue
    from fleet.services.connection import open_connection
    from fleet.services.model_facts import fleet_facts
    from fleet.services.model_listing import listing
    from fleet.services.planning import model_policy
    from fleet.services.requests import unknown
    from fleet.settings import load_settings

    settings = load_settings()
    if request_type is not None and request_type not in settings.config.request_types:
        raise InvalidRequest(unknown("request type", request_type, settings.config.request_types))
    found = catalogue(settings, os.environ, price_all=True)
    facts = fleet_facts(open_connection(settings))
    policy = model_policy(settings.config)
    source = current_prices(settings.environment.data_dir).source
    return listing(found, facts, policy, time.time(), request_type), source


def _models_table(lines: list[Line]) -> Table:
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
            *(["free"] * 3 if model.free else _rates(model.price, ",\n")),
            f"{model.quality:.2f}",
            f"{model.speed:.2f}",
            _state(line),
        )
    return table


def _learned_table(lines: list[Line]) -> Table:
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
    from rich.table import Table

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


def _rates(price: Price | None, between: str = ", ") -> list[str]:
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


def _line_json(line: Line) -> dict[str, Any]:
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
        "dollars_per_million": _price_json(model.price),
        "quality": model.quality,
        "speed": model.speed,
        "efficiency": model.efficiency,
        "learned": [
            {"request_type": each.request_type, **each.belief._asdict()} for each in line.learned
        ],
    }


def _price_json(price: Price | None) -> dict[str, Any] | None:
    if price is None:
        return None
    return {
        "input": _rate_json(price.input),
        "output": _rate_json(price.output),
        "cached_input": _rate_json(price.cached_input or price.input),
        "request": str(price.request),
    }


def _rate_json(rate: Rate) -> dict[str, Any]:
    """Decimals stay text: a float would be another number."""
    tiers = [{"above_input_tokens": t.above, "dollars": _plain(t.dollars)} for t in rate.tiers]
    return {"dollars": _plain(rate.dollars), "tiers": tiers}


def _refreshed_json(done: Refreshed) -> dict[str, Any]:
    return {
        "source": done.source,
        "path": str(done.path),
        "listed_models": done.listed_models,
        "changed": [
            {
                "model": each.model,
                "before": _price_json(each.before),
                "after": _price_json(each.after),
            }
            for each in done.changes
        ],
        "unpriced": list(done.unpriced),
    }


def _tell(done: Refreshed) -> None:
    typer.echo(f"{done.listed_models} models of {done.source} are kept in {done.path}")
    for change in done.changes:
        old, new = (" / ".join(_rates(price)) for price in (change.before, change.after))
        typer.echo(f"{change.model}: {old} -> {new}  ($/M in / out / cached)")
    if not done.changes:
        typer.echo("no price of the catalogue has changed")
    for name in done.unpriced:
        typer.echo(f"{name}: has no price; set input_price and output_price, or remove it")
