"""`fleet route`: show or change how tasks are routed, or try a decision without sending a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli import work
from fleet.cli.output import (
    ByOption,
    JsonOption,
    RequestTypeOption,
    TenantOption,
    WhyOption,
    console,
    print_json,
    say,
    tasks_of,
)
from fleet.cli.rows import Column, print_rows, table

if TYPE_CHECKING:
    from fleet.policy.store import Scope
    from fleet.routing.routes import Route
    from fleet.tasks.submission.checks import Submission

route_app = typer.Typer()
DryRunOption = Annotated[
    str | None,
    typer.Option(metavar="REQUEST_TYPE", help="Show the decision for such a task. Send nothing."),
]


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    app.add_typer(route_app, name="route", invoke_without_command=True)


@route_app.callback(invoke_without_command=True)
def route(
    context: typer.Context,
    dry_run: DryRunOption = None,
    payload: work.PayloadOption = None,
    sets: work.SetOption = None,
    tenant: work.TenantOption = "default",
    complexity: work.ComplexityOption = None,
    quality: work.QualityOption = None,
    speed: work.SpeedOption = None,
    pool: work.PoolOption = None,
    model: work.ModelOption = None,
    max_cost_usd: work.MaxCostOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show or change how tasks are routed, or try a decision.

    Without --dry-run and without a command, the routes in force are shown.

    Example: `fleet route set least_loaded`

    Example: `fleet route --dry-run code_generation --set instruction="Write add(a, b)."`
    """
    if context.invoked_subcommand is not None:
        return
    from fleet.errors import InvalidRequest

    asked = (payload, sets, complexity, quality, speed, pool, model, max_cost_usd)
    if dry_run is None and any(value is not None for value in asked):
        raise InvalidRequest("name a request type to try: `fleet route --dry-run REQUEST_TYPE ...`")
    if dry_run is None:
        show(as_json)
        return
    from fleet.tasks.submission.checks import Submission

    _try(
        Submission(
            dry_run,
            work.read_payload(None, payload, sets or []),
            tenant,
            complexity,
            pool,
            model,
            max_cost_usd,
            quality=quality,
            speed=speed,
        ),
        as_json,
    )


@route_app.command("set")
def set_(
    strategy: Annotated[str, typer.Argument(help="One of `fleet route strategies`.")],
    request_type: RequestTypeOption = "",
    tenant: TenantOption = "",
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weight",
            metavar="TERM=NUMBER",
            help="A weight of ai_optimized, such as load=0.4. May be repeated.",
        ),
    ] = None,
    why: WhyOption = "",
    by: ByOption = "",
) -> None:
    """Use another strategy. Every process applies it from its next task on.

    Example: `fleet route set ai_optimized --tenant acme --weight load=0.4`
    """
    from fleet import Fleet

    Fleet.from_env().set_route(
        strategy,
        request_type=request_type,
        tenant=tenant,
        weights=_weights(weights or []),
        why=why,
        by=by,
    )
    say(f"{tasks_of(request_type, tenant)} are now routed by {strategy}")


@route_app.command()
def clear(
    request_type: RequestTypeOption = "",
    tenant: TenantOption = "",
    why: WhyOption = "",
    by: ByOption = "",
) -> None:
    """Return to the routes of the configuration.

    Example: `fleet route clear --tenant acme`
    """
    from fleet import Fleet

    if Fleet.from_env().clear_route(request_type=request_type, tenant=tenant, why=why, by=by):
        say(f"{tasks_of(request_type, tenant)} are routed by the configuration again")
    else:
        say(f"no route was set at run time for {tasks_of(request_type, tenant)}")


@route_app.command()
def show(as_json: JsonOption = False) -> None:
    """Show the routes in force. If several match a task, the most specific one applies.

    Example: `fleet route show --json`
    """
    from fleet import Fleet

    routes = Fleet.from_env().routes().items()
    print_rows(routes if as_json else sorted(routes), ROUTES, _route_json, as_json)


@route_app.command()
def strategies(as_json: JsonOption = False) -> None:
    """List the installed strategies.

    Example: `fleet route strategies`
    """
    from fleet.routing.strategies import installed_strategies

    installed = installed_strategies()
    found = {name: _first_line(strategy.rule.__doc__) for name, strategy in installed.items()}
    if as_json:
        print_json(found)
    else:
        console().print(table(found.items(), STRATEGIES))


def _try(asked: Submission, as_json: bool) -> None:
    from fleet import Fleet
    from fleet.cli.decision import decision_view, model_json
    from fleet.models.rules.downgrade_reasons import describe_downgrade

    found = Fleet.from_env().dry_run(asked)
    if as_json:
        money = {
            "held_for": found.chosen or None,
            "because": describe_downgrade(found.reason),
            "refusal": found.refusal._asdict() if found.refusal else None,
        }
        shown = {"route": found.route.to_json(), "model": model_json(found.models)}
        print_json({**shown, "money": money})
        return
    console().print(decision_view(found.route, found.models))
    if found.reason:
        why = describe_downgrade(found.reason)
        say(f"Money: would be reserved for {found.chosen}, since {why}")
    if found.refusal:
        say(f"Money: refused: {found.refusal.sentence}")


def _weights(pairs: list[str]) -> dict[str, float]:
    from fleet.errors import InvalidRequest

    weights = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        try:
            weights[name] = float(number)
        except ValueError:
            example = "give TERM=NUMBER, such as load=0.4"
            raise InvalidRequest(f"--weight {pair!r}: {example}") from None
    return weights


def _route_json(found: tuple[Scope, Route]) -> dict[str, Any]:
    scope, route = found
    return {
        "request_type": scope.request_type or None,
        "tenant": scope.tenant or None,
        "strategy": route.strategy,
        "weights": route.weights._asdict(),
        "said": route.origin,
    }


def _first_line(documentation: str | None) -> str:
    return (documentation or "").strip().partition("\n")[0]


def _weights_shown(route: Route) -> str:
    return ", ".join(f"{name} {weight:g}" for name, weight in route.weights._asdict().items())


ROUTES: tuple[Column[tuple[Scope, Route]], ...] = (
    Column("request type", lambda each: each[0].request_type or "any"),
    Column("tenant", lambda each: each[0].tenant or "any"),
    Column("strategy", lambda each: each[1].strategy),
    Column(
        "set in",
        lambda each: "fleet route set" if each[1].origin == "set" else "the configuration",
    ),
    Column("weights", lambda each: _weights_shown(each[1])),
)
STRATEGIES: tuple[Column[tuple[str, str]], ...] = (
    Column("strategy", lambda each: each[0]),
    Column("rule", lambda each: each[1]),
)
