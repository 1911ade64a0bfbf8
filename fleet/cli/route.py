"""`fleet route`: how tasks are routed, changed while the fleet runs, and tried without sending."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.controls import ByOption, WhyOption
from fleet.cli.output import JsonOption, console, print_json, say, tasks_of
from fleet.cli.rows import Column, print_rows, table

if TYPE_CHECKING:
    from fleet.policy.store import Scope
    from fleet.routing.routes import Route

route_app = typer.Typer(
    help="Show, change or try how tasks are routed. Example: `fleet route set least_loaded`"
)

RequestTypeOption = Annotated[
    str, typer.Option("--request-type", help="Only tasks of this request type.")
]
TenantOption = Annotated[str, typer.Option("--tenant", help="Only tasks of this tenant.")]


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    app.add_typer(route_app, name="route", invoke_without_command=True)


@route_app.callback(invoke_without_command=True)
def route(
    context: typer.Context,
    dry_run: Annotated[
        str | None,
        typer.Option("--dry-run", metavar="REQUEST_TYPE", help="Decide on a task, send nothing."),
    ] = None,
    payload: Annotated[
        str | None, typer.Option(help="JSON, @FILE with JSON, or - for standard input.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the payload.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="On whose behalf.")] = "default",
    complexity: Annotated[float | None, typer.Option(help="How hard it is, 0 to 1.")] = None,
    quality: Annotated[
        float | None, typer.Option(help="What a model's quality counts, 0 to 1.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="What its speed counts; both together at most 1.")
    ] = None,
    pool: Annotated[str | None, typer.Option(help="This pool and no other.")] = None,
    model: Annotated[str | None, typer.Option(help="This model and no other.")] = None,
    max_cost_usd: Annotated[float | None, typer.Option(help="No model that costs more.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show, change or try how tasks are routed. Without more it shows what is in force.

    Example: `fleet route --dry-run code_generation --set instruction="Write add(a, b)."`
    """
    if context.invoked_subcommand is not None:
        return
    from fleet.errors import InvalidRequest

    asked = (payload, sets, complexity, quality, speed, pool, model, max_cost_usd)
    if dry_run is None and any(value is not None for value in asked):
        raise InvalidRequest("name what to decide on: `fleet route --dry-run REQUEST_TYPE ...`")
    if dry_run is None:
        show(as_json)
        return
    from fleet.cli.payload import read_payload
    from fleet.tasks.submission.checks import Submission

    _try(
        Submission(
            dry_run,
            read_payload(None, payload, sets or []),
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
    strategy: Annotated[str, typer.Argument(help="As `fleet route strategies` lists them.")],
    request_type: RequestTypeOption = "",
    tenant: TenantOption = "",
    weights: Annotated[
        list[str] | None,
        typer.Option("--weight", help="TERM=NUMBER of ai_optimized, such as load=0.4."),
    ] = None,
    why: WhyOption = "",
    by: ByOption = "",
) -> None:
    """Route by another strategy from the next task on, in every process.

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
    say(f"{tasks_of(request_type, tenant)} go by {strategy} from now on")


@route_app.command()
def clear(
    request_type: RequestTypeOption = "",
    tenant: TenantOption = "",
    why: WhyOption = "",
    by: ByOption = "",
) -> None:
    """Go back to what the configuration says.

    Example: `fleet route clear --tenant acme`
    """
    from fleet import Fleet

    if Fleet.from_env().clear_route(request_type=request_type, tenant=tenant, why=why, by=by):
        say(f"{tasks_of(request_type, tenant)} go by the configuration again")
    else:
        say(f"nothing was set for {tasks_of(request_type, tenant)}")


@route_app.command()
def show(as_json: JsonOption = False) -> None:
    """Show the routes in force: the narrowest that fits a task holds.

    Example: `fleet route show --json`
    """
    from fleet import Fleet

    routes = Fleet.from_env().routes().items()
    print_rows(routes if as_json else sorted(routes), ROUTES, _route_json, as_json)


@route_app.command()
def strategies(as_json: JsonOption = False) -> None:
    """List the strategies that are installed here, and what they go by.

    Example: `fleet route strategies`
    """
    from fleet.routing.strategies import installed_strategies

    installed = installed_strategies()
    found = {name: _first_line(strategy.rule.__doc__) for name, strategy in installed.items()}
    if as_json:
        print_json(found)
    else:
        console().print(table(found.items(), STRATEGIES))


def _try(asked: Any, as_json: bool) -> None:
    from fleet import Fleet
    from fleet.cli.decision import decision_view, model_json
    from fleet.models.rules.downgrade_reasons import describe_downgrade

    found = Fleet.from_env().dry_run(asked)
    if as_json:
        money = {
            "held_for": found.chosen or None,
            "because": describe_downgrade(found.because),
            "refusal": found.refusal._asdict() if found.refusal else None,
        }
        shown = {"route": found.route.to_json(), "model": model_json(found.models)}
        print_json({**shown, "money": money})
        return
    console().print(decision_view(found.route, found.models))
    if found.because:
        say(f"Money: would be held for {found.chosen}, since {describe_downgrade(found.because)}")
    if found.refusal:
        say(f"Money: does not fit: {found.refusal.sentence}")


def _weights(pairs: list[str]) -> dict[str, float]:
    from fleet.errors import InvalidRequest

    weights = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        try:
            weights[name] = float(number)
        except ValueError:
            example = "write TERM=NUMBER, such as load=0.4"
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
        "said in",
        lambda each: "fleet route set" if each[1].origin == "set" else "the configuration",
    ),
    Column("weights", lambda each: _weights_shown(each[1])),
)
STRATEGIES: tuple[Column[tuple[str, str]], ...] = (
    Column("strategy", lambda each: each[0]),
    Column("goes by", lambda each: each[1]),
)
