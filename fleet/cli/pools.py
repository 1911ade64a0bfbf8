"""`fleet pools` and `fleet agents`: list them, and put them into or out of maintenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fleet.cli.output import JsonOption, say, seconds, state
from fleet.cli.rows import Column, CsvOption, figure, print_rows

if TYPE_CHECKING:
    from rich.text import Text

    from fleet.routing.agents_store import AgentRecord
    from fleet.routing.rules.pools import PoolFacts
    from fleet.scaling.administration import PoolSize
    from fleet.settings import Settings
    from fleet.tasks.waiting.queue_index_store import Waiting

AgentArgument = Annotated[str, typer.Argument(help="The agent's id, as listed by `fleet agents`.")]

PoolArgument = Annotated[str, typer.Argument(help="The pool's name, as listed by `fleet pools`.")]

pools_app = typer.Typer()
agents_app = typer.Typer()


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    app.add_typer(pools_app, name="pools", invoke_without_command=True)
    app.add_typer(agents_app, name="agents", invoke_without_command=True)


@pools_app.callback(invoke_without_command=True)
def pools(
    context: typer.Context, as_json: JsonOption = False, as_csv: CsvOption = False
) -> None:
    """List, drain or resume pools.

    Example: `fleet pools`
    """
    if context.invoked_subcommand is None:
        list_pools(as_json, as_csv)


@pools_app.command("list")
def list_pools(as_json: JsonOption = False, as_csv: CsvOption = False) -> None:
    """List the pools with their load, success rate, response time, health and waiting tasks.

    `desired` is how many workers the pool should have: `fleet scale` says why.
    `waiting` counts the messages in the pool's queue. `oldest` is how long the oldest of them has
    waited. Tasks that wait for any pool of an agent type are in an overflow queue, listed below.

    Example: `fleet pools list --json`
    """
    from fleet import Fleet

    fleet = Fleet.from_env()
    waiting = fleet.waiting()
    sizes = {size.pool: size for size in fleet.sizes()}
    found = [
        PoolRow(pool, *_queues(fleet.settings, pool, waiting), sizes[pool.name])
        for pool in fleet.pools()
    ]
    print_rows(found, POOL_COLUMNS, _pool_json, as_json, as_csv)
    if as_json or as_csv:
        return
    for queue, overflow in {row.overflow_queue: row.overflow for row in found}.items():
        if overflow.messages:
            oldest = _age(overflow)
            say(f"overflow queue {queue}: {overflow.messages:,} waiting, the oldest for {oldest}")


@pools_app.command("drain")
def drain_pool(pool: PoolArgument) -> None:
    """Drain a pool: it gets no new tasks, and its waiting tasks go to other pools.

    Example: `fleet pools drain codegen`
    """
    from fleet import Fleet

    Fleet.from_env().drain_pool(pool)
    say(f"{pool} is draining and gets no new tasks. Undo: `fleet pools resume {pool}`")


@pools_app.command("resume")
def resume_pool(pool: PoolArgument) -> None:
    """Resume a pool that was drained, or that was ejected because of its health.

    Example: `fleet pools resume codegen`
    """
    from fleet import Fleet

    Fleet.from_env().resume_pool(pool)
    say(f"{pool} takes tasks again")


@agents_app.callback(invoke_without_command=True)
def agents(
    context: typer.Context, as_json: JsonOption = False, as_csv: CsvOption = False
) -> None:
    """List, drain or resume agents.

    Example: `fleet agents`
    """
    if context.invoked_subcommand is None:
        list_agents(as_json, as_csv)


@agents_app.command("list")
def list_agents(as_json: JsonOption = False, as_csv: CsvOption = False) -> None:
    """List the agents with pool, status, load and time of the last heartbeat.

    Example: `fleet agents list --json`
    """
    from fleet import Fleet

    print_rows(Fleet.from_env().agents(), AGENT_COLUMNS, asdict, as_json, as_csv)


@agents_app.command()
def drain(agent: AgentArgument) -> None:
    """Drain an agent: it finishes its tasks and takes no new ones.

    Example: `fleet agents drain codegen-4711@host`
    """
    from fleet import Fleet

    Fleet.from_env().drain(agent)
    say(f"{agent} is draining and takes no new tasks. Undo: `fleet agents resume {agent}`")


@agents_app.command()
def resume(agent: AgentArgument) -> None:
    """Resume an agent that was drained.

    Example: `fleet agents resume codegen-4711@host`
    """
    from fleet import Fleet

    Fleet.from_env().resume(agent)
    say(f"{agent} takes tasks again")


class PoolRow(NamedTuple):
    """A pool, its own queue, the overflow queue of its agent type, and its size."""

    pool: PoolFacts
    own: Waiting
    overflow_queue: str
    overflow: Waiting
    size: PoolSize


def _queues(
    settings: Settings, pool: PoolFacts, waiting: Mapping[str, Waiting]
) -> tuple[Waiting, str, Waiting]:
    overflow = settings.overflow_queue(pool.agent_type)
    return waiting[pool.queue], overflow, waiting[overflow]


def _pool_json(row: PoolRow) -> dict[str, Any]:
    """A pool for programs. `standing` is the health state, `because` its reason, and `helps` names
    the agent types that it takes spillover of."""
    facts = asdict(row.pool)
    return {
        "helps": sorted(facts.pop("spillover")),
        "standing": facts.pop("health_state"),
        "because": facts.pop("reason"),
        **facts,
        "waiting": row.own.messages,
        "oldest_waiting_seconds": row.own.oldest_seconds,
        "overflow_waiting": row.overflow.messages,
        "oldest_overflow_seconds": row.overflow.oldest_seconds,
        "desired_workers": row.size.desired,
        "starting_workers": row.size.starting,
    }


def _age(waiting: Waiting) -> str:
    return "-" if waiting.oldest_seconds is None else f"{waiting.oldest_seconds:.0f} s"


def _health(pool: PoolFacts) -> Text:
    from rich.text import Text

    from fleet.routing.rules.health import describe_health
    from fleet.routing.rules.pools import IN

    if pool.health_state == IN:
        return Text("in" if pool.live_agents else "no live agent", style="dim")
    return Text(describe_health(pool.health_state, pool.reason, pool.openings), style="yellow")


POOL_COLUMNS: tuple[Column[PoolRow], ...] = (
    Column("pool", lambda row: row.pool.name),
    Column("agent type", lambda row: row.pool.agent_type),
    Column("queue", lambda row: row.pool.queue),
    figure("weight", lambda row: str(row.pool.weight)),
    figure("agents", lambda row: str(row.pool.live_agents)),
    figure("desired", lambda row: "-" if row.size.desired is None else str(row.size.desired)),
    figure("busy", lambda row: str(row.pool.in_flight)),
    figure("slots", lambda row: str(row.pool.capacity)),
    figure("success", lambda row: f"{row.pool.success_rate:.0%}"),
    figure("response", lambda row: seconds(row.pool.response_seconds or None)),
    figure("waiting", lambda row: f"{row.own.messages:,}"),
    figure("oldest", lambda row: _age(row.own)),
    Column("health", lambda row: _health(row.pool)),
)
AGENT_COLUMNS: tuple[Column[AgentRecord], ...] = (
    Column("id", lambda agent: agent.id, whole=True),
    Column("pool", lambda agent: agent.pool),
    Column("status", lambda agent: state(agent.status)),
    Column("host", lambda agent: agent.host),
    figure("process", lambda agent: str(agent.pid)),
    figure("running", lambda agent: str(agent.running)),
    figure("slots", lambda agent: str(agent.slots)),
    figure("heartbeat", lambda agent: f"{agent.heartbeat_age:.0f} s ago"),
)
