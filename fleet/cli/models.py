"""`fleet models`: the model catalogue, its prices, and what the fleet has learned."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.connect import check_alone, connect, guarded_connection
from fleet.cli.output import JsonOption, console, print_json, say
from fleet.cli.rows import Column, figure, table

if TYPE_CHECKING:
    from fleet.models.key_listing import KeyLine
    from fleet.models.listing import CatalogueLine, Learned
    from fleet.models.price_refresh import Refreshed
    from fleet.models.prices import PriceBook
    from fleet.models.rules.difficulty.evidence import Evidence
    from fleet.models.rules.difficulty.training import TrainingReport
    from fleet.money import Price, TokenRate
    from fleet.settings import Settings
    from fleet.tasks.connection import Connection

app = typer.Typer()


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="models", invoke_without_command=True)


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    request_type: Annotated[
        str | None, typer.Option(help="Show each model's learned quality and speed on this type.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the models of the catalogue, refresh their prices, or train the difficulty model.

    Prices are US dollars per million tokens. Quality and speed are from 0 to 1. The first table has
    the catalogue's figures. The second one has the providers' keys: which serve, what each has
    spent today, and how many calls its provider allows at once, once that is known. The third one
    has the estimates learned from outcomes.

    Example: `fleet models --request-type code_generation`
    """
    if context.invoked_subcommand is None:
        _show(request_type, as_json)


@app.command()
def refresh(
    url: Annotated[
        str | None, typer.Option(help="Fetch from this URL. Default: genai-prices.")
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option("--from", help="Read this file of price data, if there is no network."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the newest prices, check them, share them with the fleet, and show the changes.

    The prices are stored in the data folder and in Redis. Running workers and applications on all
    machines use them within a minute.

    The exit status is 1 if no prices can be fetched; the present ones stay in use. It is also 1 if
    Redis does not accept the prices; then only this machine has them, in its data folder.

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
    check_alone(settings, "operate", "fleet models refresh")
    done = refresh_prices(settings, shared_prices(settings), url or DEFAULT_UPDATE_URL, given)
    if as_json:
        print_json(_refreshed_json(done))
    else:
        _report(done)
    if done.not_shared and _names_redis(settings):
        raise Unavailable(
            f"the prices are stored in {done.path}, but not in Redis: {done.not_shared}. Other "
            "machines do not have them. Run `fleet models refresh` again when Redis works"
        )


def _names_redis(settings: Settings) -> bool:
    """Whether FLEET_BROKER_URL is set. Without it, Redis belongs to a `fleet up` that may not run
    yet and reads the prices from the data folder."""
    return settings.environment.broker_url is not None


@app.command()
def resume(
    model: Annotated[str, typer.Argument(help="The model's name, as listed by `fleet models`.")],
    as_json: JsonOption = False,
) -> None:
    """End the cool-down of a model and of its provider's key, so that the fleet calls it at once.

    Use it when the cause is fixed: the account has credit, the limit is raised, the key is
    unblocked. A replaced key needs no command; set the new key.

    Example: `fleet models resume gpt-4o`
    """
    import os

    from fleet.errors import InvalidRequest
    from fleet.models.catalogue import catalogue
    from fleet.models.keys import ProviderKeys
    from fleet.models.listing import end_cool_downs
    from fleet.settings import load_settings
    from fleet.text import unknown

    settings = load_settings()
    keys = ProviderKeys(settings.config.providers, os.environ)
    known = {each.name: each for each in catalogue(settings, keys)}
    if model not in known:
        raise InvalidRequest(unknown("model", model, known))
    state = connect("operate", "fleet models resume").models.state
    ended = end_cool_downs(state, known[model])
    reasons = [each.reason for each in ended]
    if as_json:
        print_json({"model": model, "ended": reasons})
    elif not reasons:
        say(f"{model} is not cooling down")
    for reason in () if as_json else reasons:
        say(f"{model}: cool-down ended; its cause was {reason}")


@app.command()
def train(as_json: JsonOption = False) -> None:
    """Learn from recorded outcomes how difficult a task is, from the text of its payload.

    From the next task on, the fleet estimates the complexity of tasks submitted without one. No
    text is stored for this: workers record text features without words. If there are too few
    outcomes, outcomes of one model only, or none that distinguish the models, the exit status is 2
    and nothing changes.

    Example: `fleet models train`
    """
    from functools import partial

    from fleet.access.rules import Need
    from fleet.policy.actor import routine_actor

    fleet, guard = guarded_connection()
    guard.check(Need("operate", whole_fleet=True), "fleet models train")
    cause = routine_actor(guard.actor(""), "fleet models train")
    show_training(fleet, partial(fleet.policy.store.set_difficulty, actor=cause), as_json)


def show_training(fleet: Connection, save: Callable[[bytes], object], as_json: bool) -> None:
    """Train, save, and show the data, and how well the result distinguishes tasks."""
    from fleet.models.difficulty import believed, train_difficulty
    from fleet.tasks.submission.model_planning import model_policy

    config, (now, facts) = fleet.settings.config, fleet.models.state.look()
    # The qualities that the choice of a model uses now: training must mean the same by "better".
    qualities = believed(
        fleet.models.catalogue, config.request_types, facts, model_policy(config), now
    )
    if as_json:
        print_json(_training_json(train_difficulty(fleet.models.examples, qualities, save)))
        return
    with console().status("learning from the recorded outcomes"):
        report = train_difficulty(fleet.models.examples, qualities, save)
    _show_report(report)


def _training_json(report: TrainingReport) -> dict[str, Any]:
    """The report for programs. Gains are shares of a success."""
    return {
        "examples": report.examples,
        "passed": report.passed,
        "words": report.words,
        "text": report.text._asdict(),
        "length": report.length._asdict(),
        "spread": list(report.spread),
        "by_type_and_model": [
            {"request_type": request_type, "model": model, "examples": count}
            for (request_type, model), count in sorted(report.counts.items())
        ],
    }


def _show_report(report: TrainingReport) -> None:
    say(f"Learned from {report.examples} tasks; {report.passed} of them passed.")
    console().print(table(sorted(report.counts.items()), EXAMPLES))
    low, middle, high = report.spread
    say(
        "On tasks not used for training, the advantage of the better models grows from the easiest "
        f"to the most difficult tasks by {_points(report.text)}; with the length of the text alone "
        f"by {_points(report.length)}.\n"
        f"In the estimates, the words of a text count {report.words:.0%} and its length "
        f"{1 - report.words:.0%}.\n"
        f"Estimates: 5 % are below {low:.2f}, half below {middle:.2f}, 95 % below {high:.2f}."
    )


def _points(found: Evidence) -> str:
    return f"{100 * found.gain:.0f} points (standard error {100 * found.error:.0f})"


def _show(request_type: str | None, as_json: bool) -> None:
    from fleet.models.key_listing import keys_json
    from fleet.models.listing import has_learned

    lines, keys, source = _lines(request_type)
    if as_json:
        models = [_line_json(line) for line in lines]
        print_json({"prices": source, "models": models, "keys": keys_json(keys)})
        return
    screen = console()
    screen.print(table(lines, MODELS))
    if keys:
        screen.print("\nKeys:")
        screen.print(table(keys, KEYS))
    if has_learned(lines):
        screen.print("\nLearned estimates, 0 to 1:")
        learned = ((line, each) for line in lines for each in line.learned)
        screen.print(table(learned, LEARNED))
    screen.print(f"\nPrices by {source}.")


def _lines(request_type: str | None) -> tuple[list[CatalogueLine], list[KeyLine], str]:
    """The models, the keys, and the source of the prices."""
    import os

    from fleet.errors import InvalidRequest
    from fleet.models.catalogue import catalogue
    from fleet.models.key_listing import key_lines
    from fleet.models.keys import ProviderKeys
    from fleet.models.listing import listing
    from fleet.settings import load_settings
    from fleet.tasks.submission.model_planning import model_policy
    from fleet.text import unknown

    settings = load_settings()
    if request_type is not None and request_type not in settings.config.request_types:
        raise InvalidRequest(unknown("request type", request_type, settings.config.request_types))
    book, problem = _book(settings)
    keys = ProviderKeys(settings.config.providers, os.environ)
    found = catalogue(settings, keys, price_all=True, book=book)
    state = connect("read", "fleet models").models.state
    now, facts = state.look()
    lines = listing(found, facts, model_policy(settings.config), now, request_type)
    return lines, key_lines(keys, state, facts, now), book.source + problem


def _book(settings: Settings) -> tuple[PriceBook, str]:
    """The prices in use, and a note on what is wrong with those in Redis."""
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


def _report(done: Refreshed) -> None:
    say(f"{done.listed_models} models of {done.source} are stored in {done.path}")
    for change in done.changes:
        old, new = (" / ".join(_rates(price)) for price in (change.before, change.after))
        say(f"{change.model}: {old} -> {new}  ($/M in / out / cached)")
    if not done.changes:
        say("no price in the catalogue has changed")
    for name in done.unpriced:
        say(f"{name}: has no price; set input_price and output_price, or remove the model")
    if done.not_shared:
        say("processes that share this data folder use these prices within seconds")
    else:
        say("all workers and applications of the fleet use these prices within a minute")


def _state(line: CatalogueLine) -> str:
    if line.state == "cooling down":
        return f"cooling down for {line.seconds:.0f} s after {line.reason}"
    return line.reason or line.state


def _key_state(line: KeyLine) -> str:
    if line.state == "ready":
        return line.state
    of_some = f" for {', '.join(line.cooling)}" if line.cooling else ""
    return f"cooling down{of_some}, {line.seconds:.0f} s after {line.reason}"


def _key_calls(line: KeyLine) -> str:
    """Such as `gpt-4o 3 of 12`."""
    return ",\n".join(
        f"{each.model} {each.in_flight}" + (f" of {each.allowed}" if each.allowed else "")
        for each in line.calls
    )


def _key_spend(line: KeyLine) -> str:
    from fleet.money import dollars

    spent, daily = dollars(line.spent_nanodollars), line.key.daily_nanodollars
    return spent if daily is None else f"{spent} of {dollars(daily)}"


def _rates(price: Price | None, between: str = ", ") -> list[str]:
    """The rates for input, output and cached input. A dash stands for no price."""
    if price is None:
        return ["-", "-", "-"]
    kinds = (price.input, price.output, price.cached_input or price.input)
    return [_rate(rate, between) for rate in kinds]


def _rate(rate: TokenRate, between: str) -> str:
    """Such as `3`, or with a tier `3, over 200k 6`."""
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
    """A price for programs: US dollars per million tokens, and per request."""
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
    """Decimals stay text, because a float may differ from them."""
    tiers = [{"above_input_tokens": t.above, "dollars": _plain(t.dollars)} for t in rate.tiers]
    return {"dollars": _plain(rate.dollars), "tiers": tiers}


def _priced(part: int) -> Callable[[CatalogueLine], str]:
    def cell(line: CatalogueLine) -> str:
        return "free" if line.model.free else _rates(line.model.price, ",\n")[part]

    return cell


def _window(line: CatalogueLine) -> str:
    return f"{line.model.context_tokens:,}" if line.model.context_tokens else "-"


MODELS: tuple[Column[CatalogueLine], ...] = (
    Column("model", lambda line: line.model.name, whole=True),
    Column("provider", lambda line: line.model.provider),
    figure("$/M in", _priced(0)),
    figure("out", _priced(1)),
    figure("cached", _priced(2)),
    figure("quality", lambda line: f"{line.model.quality:.2f}"),
    figure("speed", lambda line: f"{line.model.speed:.2f}"),
    figure("window", _window),
    Column("state", _state),
    Column("capabilities", lambda line: ", ".join(sorted(line.model.capabilities)) or "-"),
    Column("region", lambda line: line.model.region or "-"),
    Column("tenants", lambda line: ", ".join(sorted(line.model.tenants)) or "all"),
)
KEYS: tuple[Column[KeyLine], ...] = (
    Column("provider", lambda line: line.key.provider, whole=True),
    Column("key", lambda line: line.key.name),
    Column("from", lambda line: f"secret {line.key.secret}" if line.key.secret else "environment"),
    Column("state", _key_state),
    figure("share", lambda line: f"{line.key.share:g}"),
    figure("today", _key_spend),
    Column("calls in flight", _key_calls),
)
LEARNED: tuple[Column[tuple[CatalogueLine, Learned]], ...] = (
    Column("model", lambda each: each[0].model.name, whole=True),
    Column("request type", lambda each: each[1].request_type),
    figure("quality", lambda each: f"{each[0].model.quality:.2f}"),
    figure("learned", lambda each: f"{each[1].belief.quality:.3f}"),
    figure("std. dev.", lambda each: f"{each[1].belief.quality_sd:.3f}"),
    figure("speed", lambda each: f"{each[0].model.speed:.2f}"),
    figure("learned", lambda each: f"{each[1].belief.speed:.3f}"),
    figure("rewards", lambda each: f"{each[1].belief.rewards:.1f}"),
    figure("calls", lambda each: f"{each[1].belief.calls:.1f}"),
)
EXAMPLES: tuple[Column[tuple[tuple[str, str], int]], ...] = (
    Column("request type", lambda each: each[0][0]),
    Column("model", lambda each: each[0][1]),
    figure("examples", lambda each: str(each[1])),
)
