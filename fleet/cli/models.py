"""`fleet models`: what there is to choose from, what was learned of it, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.output import JsonOption, console, print_json, say

if TYPE_CHECKING:
    from fleet.models.listing import Line
    from fleet.models.price_refresh import Refreshed
    from fleet.models.prices import PriceBook
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
    from fleet.errors import InvalidRequest, Unavailable
    from fleet.models.price_files import DEFAULT_UPDATE_URL
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
    return bool(settings.environment.broker_url or settings.environment.state_url)


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

    from fleet.connection import open_connection
    from fleet.errors import InvalidRequest
    from fleet.models.catalogue import catalogue
    from fleet.models.listing import end_cool_downs
    from fleet.settings import load_settings
    from fleet.tasks.checks import unknown

    settings = load_settings()
    known = {each.name: each for each in catalogue(settings, os.environ)}
    if model not in known:
        raise InvalidRequest(unknown("model", model, known))
    ended = end_cool_downs(open_connection(settings).model_state, known[model])
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
    from fleet.connection import open_connection
    from fleet.policy.actor import routine_cause
    from fleet.settings import load_settings

    fleet = open_connection(load_settings())
    cause = routine_cause(why="fleet models train")
    show_training(fleet, partial(fleet.policies.set_difficulty, cause=cause), as_json)


def _show(request_type: str | None, as_json: bool) -> None:
    from fleet.cli.model_tables import learned_table, line_json, models_table
    from fleet.models.listing import has_learned

    lines, source = _lines(request_type)
    if as_json:
        print_json({"prices": source, "models": [line_json(line) for line in lines]})
        return
    screen = console()
    screen.print(models_table(lines))
    if has_learned(lines):
        screen.print("\nLearned, of 0 to 1 each:")
        screen.print(learned_table(lines))
    screen.print(f"\nPrices by {source}.")


def _lines(request_type: str | None) -> tuple[list[Line], str]:
    """The models, and where their prices are from."""
    import os

    from fleet.connection import open_connection
    from fleet.errors import InvalidRequest
    from fleet.models.catalogue import catalogue
    from fleet.models.facts import fleet_facts
    from fleet.models.listing import listing
    from fleet.settings import load_settings
    from fleet.tasks.checks import unknown
    from fleet.tasks.model_planning import model_policy

    settings = load_settings()
    if request_type is not None and request_type not in settings.config.request_types:
        raise InvalidRequest(unknown("request type", request_type, settings.config.request_types))
    book, problem = _book(settings)
    found = catalogue(settings, os.environ, price_all=True, book=book)
    now, facts = fleet_facts(open_connection(settings))
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
    from fleet.cli.model_tables import price_json

    return {
        "source": done.source,
        "path": str(done.path),
        "listed_models": done.listed_models,
        "changed": [
            {
                "model": each.model,
                "before": price_json(each.before),
                "after": price_json(each.after),
            }
            for each in done.changes
        ],
        "unpriced": list(done.unpriced),
        "not_shared": done.not_shared,
    }


def _tell(done: Refreshed) -> None:
    from fleet.cli.model_tables import rates

    say(f"{done.listed_models} models of {done.source} are kept in {done.path}")
    for change in done.changes:
        old, new = (" / ".join(rates(price)) for price in (change.before, change.after))
        say(f"{change.model}: {old} -> {new}  ($/M in / out / cached)")
    if not done.changes:
        say("no price of the catalogue has changed")
    for name in done.unpriced:
        say(f"{name}: has no price; set input_price and output_price, or remove it")
    if done.not_shared:
        say("processes that share this folder use these prices within seconds")
    else:
        say("all workers and applications of the fleet use these prices within a minute")
