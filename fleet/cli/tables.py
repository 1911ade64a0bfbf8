"""Listings: tasks, pools and agents as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from fleet.cli.output import dollars, moment, seconds

if TYPE_CHECKING:
    from fleet.policy.store import Scope
    from fleet.routing.agents_store import AgentRecord
    from fleet.routing.routes import Route
    from fleet.routing.rules.pools import PoolFacts
    from fleet.tasks.store import TaskRecord

STYLES = {
    "queued": "yellow",
    "delayed": "blue",
    "parked": "magenta",
    "running": "cyan",
    "succeeded": "green",
    "unverified": "bold yellow",
    "failed": "bold red",
    "cancelled": "dim",
    "idle": "green",
    "busy": "cyan",
    "maintenance": "yellow",
}
TASK_HEADINGS = ("id", "request type", "state", "pool", "model")
TASK_FIGURES = ("tokens in", "out", "cost", "wait", "run")


def state(name: str) -> Text:
    """The state of a task or the status of an agent, in its colour."""
    return Text(name, style=STYLES.get(name, ""))


def tasks_table(records: Iterable[TaskRecord]) -> Table:
    """One line a task, with its id in full, for somebody to copy."""
    table = headed((*TASK_HEADINGS, "tenant"), TASK_FIGURES)
    for record in records:
        table.add_row(
            record.id,
            record.request_type,
            _task_state(record),
            record.pool or "-",
            record.model or "-",
            record.tenant,
            str(record.input_tokens),
            str(record.output_tokens),
            dollars(record.cost_nanodollars),
            seconds(record.wait_seconds),
            seconds(record.run_seconds),
        )
    return table


def _task_state(record: TaskRecord) -> Text:
    """The state; of a delayed or parked task with until when."""
    if record.state == "delayed":
        return state(record.state).append(f" to {moment(record.not_before)}")
    if record.state != "parked":
        return state(record.state)
    return state(record.state).append(f" to {moment(record.parked_until)}")


def pools_table(pools: Iterable[PoolFacts]) -> Table:
    """One line a pool."""
    figures = ("weight", "agents", "busy", "slots", "success", "response")
    table = headed(("pool", "agent type", "queue"), figures)
    table.add_column("standing")
    for pool in pools:
        table.add_row(
            pool.name,
            pool.agent_type,
            pool.queue,
            str(pool.weight),
            str(pool.live_agents),
            str(pool.in_flight),
            str(pool.capacity),
            f"{pool.success_rate:.0%}",
            seconds(pool.response_seconds or None),
            _standing(pool),
        )
    return table


def _standing(pool: PoolFacts) -> Text:
    from fleet.routing.rules.health import said
    from fleet.routing.rules.pools import IN

    if pool.standing == IN:
        return Text("in" if pool.live_agents else "no live agent", style="dim")
    return Text(said(pool.standing, pool.because, pool.openings), style="yellow")


def routes_table(routes: Mapping[Scope, Route]) -> Table:
    """One line a route, the widest scope first."""
    table = headed(("request type", "tenant", "strategy", "said in", "weights"), ())
    for scope, route in sorted(routes.items()):
        table.add_row(
            scope.request_type or "any",
            scope.tenant or "any",
            route.strategy,
            "fleet route set" if route.said == "set" else "the configuration",
            ", ".join(f"{name} {weight:g}" for name, weight in route.weights._asdict().items()),
        )
    return table


def strategies_table(strategies: Mapping[str, str]) -> Table:
    """One line a strategy."""
    table = headed(("strategy", "goes by"), ())
    for name, what in strategies.items():
        table.add_row(name, what)
    return table


def agents_table(agents: Iterable[AgentRecord]) -> Table:
    """One line an agent."""
    table = headed(("id", "pool", "status", "host"), ("process", "running", "slots", "last sign"))
    for agent in agents:
        table.add_row(
            agent.id,
            agent.pool,
            state(agent.status),
            agent.host,
            str(agent.pid),
            str(agent.running),
            str(agent.slots),
            f"{agent.heartbeat_age:.0f} s ago",
        )
    return table


def headed(headings: Sequence[str], figures: Sequence[str]) -> Table:
    """An empty table: columns of words, then of figures."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=heading == "id")
    for heading in figures:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
