"""`fleet pools` and `fleet agents`: who is there, and who or what shall rest."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from fleet.cli.output import JsonOption, console, print_json, say

AgentArgument = Annotated[str, typer.Argument(help="The agent's id, as `fleet agents` lists it.")]

PoolArgument = Annotated[str, typer.Argument(help="The pool's name, as `fleet pools` lists it.")]

pools_app = typer.Typer(help="List the pools, or give one a rest. Example: `fleet pools`")
agents_app = typer.Typer(help="List the agents, or give one a rest. Example: `fleet agents`")


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    app.add_typer(pools_app, name="pools", invoke_without_command=True)
    app.add_typer(agents_app, name="agents", invoke_without_command=True)


@pools_app.callback(invoke_without_command=True)
def pools(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the pools, or give one a rest.

    Example: `fleet pools`
    """
    if context.invoked_subcommand is None:
        list_pools(as_json)


@pools_app.command("list")
def list_pools(as_json: JsonOption = False) -> None:
    """List the pools with their load, success rate, response time and standing.

    Example: `fleet pools list --json`
    """
    from fleet import Fleet
    from fleet.cli.tables import pools_table

    found = Fleet.from_env().pools()
    if as_json:
        print_json([{**asdict(pool), "helps": sorted(pool.helps)} for pool in found])
    else:
        console().print(pools_table(found))


@pools_app.command("drain")
def drain_pool(pool: PoolArgument) -> None:
    """Put a pool into maintenance: it gets nothing, and what waits for it goes to others.

    Example: `fleet pools drain codegen`
    """
    from fleet import Fleet

    Fleet.from_env().drain_pool(pool)
    say(f"{pool} gets nothing; `fleet pools resume {pool}` ends its maintenance")


@pools_app.command("resume")
def resume_pool(pool: PoolArgument) -> None:
    """End a pool's maintenance, or put it back at once where its health took it out.

    Example: `fleet pools resume codegen`
    """
    from fleet import Fleet

    Fleet.from_env().resume_pool(pool)
    say(f"{pool} takes tasks again")


@agents_app.callback(invoke_without_command=True)
def agents(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the agents, or give one a rest.

    Example: `fleet agents`
    """
    if context.invoked_subcommand is None:
        list_agents(as_json)


@agents_app.command("list")
def list_agents(as_json: JsonOption = False) -> None:
    """List the agents: pool, status, load and last sign of life.

    Example: `fleet agents list --json`
    """
    from fleet import Fleet
    from fleet.cli.tables import agents_table

    found = Fleet.from_env().agents()
    if as_json:
        print_json([asdict(agent) for agent in found])
    else:
        console().print(agents_table(found))


@agents_app.command()
def drain(agent: AgentArgument) -> None:
    """Put an agent into maintenance: it ends what it has and takes nothing new.

    Example: `fleet agents drain codegen-4711@host`
    """
    from fleet import Fleet

    Fleet.from_env().drain(agent)
    say(f"{agent} takes nothing new; `fleet agents resume {agent}` ends its maintenance")


@agents_app.command()
def resume(agent: AgentArgument) -> None:
    """End an agent's maintenance.

    Example: `fleet agents resume codegen-4711@host`
    """
    from fleet import Fleet

    Fleet.from_env().resume(agent)
    say(f"{agent} takes tasks again")
