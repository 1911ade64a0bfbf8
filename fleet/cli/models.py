"""`fleet models`: what there is to choose from, what was learned of it, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.output import JsonOption, console, print_json, say
from fleet.cli.rows import Column, figure, table

if TYPE_CHECKING:
    from fleet.models.listing import CatalogueLine, Learned
    from fleet.models.price_refresh import Refreshed
    from fleet.models.prices import PriceBook
    from fleet.money import Price, TokenRate
    from fleet.settings import Settings

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
    """Fetch the newest prices, check them, share them with the fleet, and show what changed.

    They are kept in the data folder and in Redis: workers and applications that run, on whatever
    machine, take them with their next tasks and model calls, within a minute.

    Exit status 1 where no prices can be had; those that are here stay then. Also where Redis does
    not take them: they are kept in the data folder then, for this machine alone.

    Example: `fleet models refresh --from prices.json`
    """
    from genai_prices.update_prices import DEFAULT_UPDATE_URL

    from fleet.errors import InvalidRequest, Unavailable
    from fleet.models.price_refresh import refresh as refresh_prices
    from fleet.models.price_refresh import shared_prices
    from fleet.settings import load_settings

    if url and given:
        raise InvalidRequest("give --url or --from, not both")
    settings = load_settings()
    done = refresh_prices(settings, shared_prices(settings), url or DEFAULT_UPDATE_URL, given)
    if as_json:
        print_json(_refreshed_json(done))
    else:
        _tell(done)
    if done.not_shared and _names_redis(settings):
        raise Unavailable(
            f"the prices are kept in {done.path} and reach no other machine: {done.not_shared}. "
            "Run `fleet models refresh` again once Redis takes them"
        )


def _names_redis(settings: Settings) -> bool:
    """Whether somebody has said where Redis is. Else it is that of `fleet up`, which need not run
    yet: it reads the data folder."""
    return settings.environment.broker_url is not None


@app.command()
def resume(
    model: Annotated[str, typer.Argument(help="The model's name in the catalogue.")],
    as_json: JsonOption = False,
) -> None:
    """End a model's cool-down, and that of its provider's keys, so that it is asked again at once.

    Use it once what was wrong is mended: an account topped up, a limit raised, a key unblocked. A
    key that was replaced needs no more than to be set.

    Example: `fleet models resume gpt-4o`
    """
    import os

    from fleet.errors import InvalidRequest
    from fleet.models.catalogue import catalogue
    from fleet.models.listing import end_cool_downs
    from fleet.settings import load_settings
    from fleet.tasks.connection import open_connection
    from fleet.text.brief import unknown

    settings = load_settings()
    known = {each.name: each for each in catalogue(settings, os.environ)}
    if model not in known:
        raise InvalidRequest(unknown("model", model, known))
    ended = end_cool_downs(open_connection(settings).models.state, known[model])
    reasons = [each.reason for each in ended]
    if as_json:
        print_json({"model": model, "ended": reasons})
    elif not reasons:
        say(f"{model} does not cool down")
    for reason in () if as_json else reasons:
        say(f"{model} no longer cools down after {reason}")


@app.command()
def train(as_json: JsonOption = False) -> None:
    """Learn from recorded outcomes which tasks need a better model, by their text.

    From the next task on it says how complex one is whose caller did not. No text is kept for
    it: workers record a sketch without words. Exit status 2, and nothing is changed, where there
    are too few outcomes yet, of one model alone, or none that tell the models apart.

    Example: `fleet models train`
    """
    from functools import partial

    from fleet.cli.train import show_training
    from fleet.policy.actor import routine_actor
    from fleet.settings import load_settings
    from fleet.tasks.connection import open_connection

    fleet = open_connection(load_settings())
    cause = routine_actor(why="fleet models train")
    show_training(fleet, partial(fleet.policy.store.set_difficulty, actor=cause), as_json)


def _show(request_type: str | None, as_json: bool) -> None:
    from fleet.models.listing import has_learned

    lines, source = _lines(request_type)
    if as_json:
        print_json({"prices": source, "models": [_line_json(line) for line in lines]})
        return
    screen = console()
    screen.print(table(lines, MODELS))
    if has_learned(lines):
        screen.print("\nLearned, of 0 to 1 each:")
        learned = ((line, each) for line in lines for each in line.learned)
        screen.print(table(learned, LEARNED))
    screen.print(f"\nPrices by {source}.")


def _lines(request_type: str | None) -> tuple[list[CatalogueLine], str]:
    """The models, and where their prices are from."""
    import os

    from fleet.errors import InvalidRequest
    from fleet.models.catalogue import catalogue
    from fleet.models.listing import listing
    from fleet.settings import load_settings
    from fleet.tasks.connection import open_connection
    from fleet.tasks.submission.model_planning import model_policy
    from fleet.text.brief import unknown

    settings = load_settings()
    if request_type is not None and request_type not in settings.config.request_types:
        raise InvalidRequest(unknown("request type", request_type, settings.config.request_types))
    book, problem = _book(settings)
    found = catalogue(settings, os.environ, price_all=True, book=book)
    now, facts = open_connection(settings).models.state.look()
    policy = model_policy(settings.config)
    return listing(found, facts, policy, now, request_type), book.source + problem


def _book(settings: Settings) -> tuple[PriceBook, str]:
    """The prices that the fleet goes by, and what is wrong with those in Redis."""
    from fleet.errors import InvalidConfig
    from fleet.models.price_refresh import shared_prices
    from fleet.models.priced import read_shared
    from fleet.models.prices import current_prices

    shared, problem = None, ""
    try:
        shared = read_shared(shared_prices(settings))
    except InvalidConfig as error:
        problem = f"; {error}"
    return current_prices(settings.environment.data_dir, shared), problem


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
        "not_shared": done.not_shared,
    }


def _tell(done: Refreshed) -> None:
    say(f"{done.listed_models} models of {done.source} are kept in {done.path}")
    for change in done.changes:
        old, new = (" / ".join(_rates(price)) for price in (change.before, change.after))
        say(f"{change.model}: {old} -> {new}  ($/M in / out / cached)")
    if not done.changes:
        say("no price of the catalogue has changed")
    for name in done.unpriced:
        say(f"{name}: has no price; set input_price and output_price, or remove it")
    if done.not_shared:
        say("processes that share this folder use these prices within seconds")
    else:
        say("all workers and applications of the fleet use these prices within a minute")


def _state(line: CatalogueLine) -> str:
    if line.state == "cooling down":
        return f"cools down for {line.seconds:.0f} s after {line.reason}"
    return line.reason or line.state


def _rates(price: Price | None, between: str = ", ") -> list[str]:
    """A price's three rates for people; a dash where there is none."""
    if price is None:
        return ["-", "-", "-"]
    kinds = (price.input, price.output, price.cached_input or price.input)
    return [_rate(rate, between) for rate in kinds]


def _rate(rate: TokenRate, between: str) -> str:
    """`3`, or with a tier `3, over 200k 6`."""
    tiers = (f"over {tier.above // 1000}k {_plain(tier.dollars)}" for tier in rate.tiers)
    return between.join([_plain(rate.dollars), *tiers])


def _plain(dollars: Decimal) -> str:
    return f"{dollars.normalize():f}"


def _line_json(line: CatalogueLine) -> dict[str, Any]:
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
        "dollars_per_million": _price_json(model.price),
        "quality": model.quality,
        "speed": model.speed,
        "efficiency": model.efficiency,
        "learned": [
            {"request_type": each.request_type, **each.belief._asdict()} for each in line.learned
        ],
    }


def _price_json(price: Price | None) -> dict[str, Any] | None:
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


def _rate_json(rate: TokenRate) -> dict[str, Any]:
    """Decimals stay text: a float would be another number."""
    tiers = [{"above_input_tokens": t.above, "dollars": _plain(t.dollars)} for t in rate.tiers]
    return {"dollars": _plain(rate.dollars), "tiers": tiers}


def _priced(part: int) -> Callable[[CatalogueLine], str]:
    def cell(line: CatalogueLine) -> str:
        return "free" if line.model.free else _rates(line.model.price, ",\n")[part]

    return cell


def _window(line: CatalogueLine) -> str:
    return f"{line.model.context_tokens:,}" if line.model.context_tokens else "-"


MODELS: tuple[Column[CatalogueLine], ...] = (
    Column("model", lambda line: line.model.name, whole=True, overflow="fold"),
    Column("provider", lambda line: line.model.provider, overflow="fold"),
    Column("can", lambda line: ", ".join(sorted(line.model.capabilities)) or "-", overflow="fold"),
    Column("region", lambda line: line.model.region or "-", overflow="fold"),
    Column("tenants", lambda line: ", ".join(sorted(line.model.tenants)) or "all", overflow="fold"),
    figure("window", _window),
    figure("$/M in", _priced(0)),
    figure("out", _priced(1)),
    figure("cached", _priced(2)),
    figure("quality", lambda line: f"{line.model.quality:.2f}"),
    figure("speed", lambda line: f"{line.model.speed:.2f}"),
    Column("state", _state, overflow="fold"),
)
LEARNED: tuple[Column[tuple[CatalogueLine, Learned]], ...] = (
    Column("model", lambda each: each[0].model.name, whole=True, overflow="fold"),
    Column("request type", lambda each: each[1].request_type, overflow="fold"),
    figure("quality", lambda each: f"{each[0].model.quality:.2f}"),
    figure("believed", lambda each: f"{each[1].belief.quality:.3f}"),
    figure("sd", lambda each: f"{each[1].belief.quality_sd:.3f}"),
    figure("speed", lambda each: f"{each[0].model.speed:.2f}"),
    figure("believed", lambda each: f"{each[1].belief.speed:.3f}"),
    figure("rewards", lambda each: f"{each[1].belief.rewards:.1f}"),
    figure("calls", lambda each: f"{each[1].belief.calls:.1f}"),
)
