"""`fleet deploy`: what a delivery pipeline asks before and after it switches to a new version."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.connect import connect
from fleet.cli.output import JsonOption, console, counting, dollars, print_json, say, seconds, state
from fleet.cli.rows import Column, figure, table

if TYPE_CHECKING:
    from fleet import Fleet, Task
    from fleet.operations.canaries import Canary
    from fleet.operations.rollout import VersionWatch
    from fleet.operations.rules.rollout import TypeComparison, Verdict

POLL_SECONDS = 5.0
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

app = typer.Typer(
    no_args_is_help=True,
    help="Try a deployment, and compare its agents with those of the old version."
    "\n\nExample: `fleet deploy smoke`",
)


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="deploy")


@dataclass(frozen=True, slots=True)
class Tried:
    """The outcome of a canary. `problem` is empty if it succeeded."""

    agent_type: str
    request_type: str
    task: str
    agent: str
    state: str
    seconds: float | None
    cost_usd: float
    problem: str


@app.command()
def smoke(
    pool: Annotated[
        list[str] | None,
        typer.Option(metavar="POOL", help="Try only this pool. May be repeated."),
    ] = None,
    payloads: Annotated[
        Path | None,
        typer.Option(help="A JSON file with payloads by request type, instead of the canaries."),
    ] = None,
    version: Annotated[
        str, typer.Option(help="Try until an agent of this version has run each canary.")
    ] = "",
    tenant: Annotated[str, typer.Option(help="The tenant of the canaries.")] = "default",
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds in which all canaries must have succeeded.")
    ] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Submit a small task to each agent type, and wait for the results.

    The exit status is 0 if all of them succeeded, else 1. Tasks that have not ended in time are
    cancelled. The canaries cost what such tasks cost. While an old version works on the same
    queues, --version submits a canary again when an old agent has taken it.

    Example: `fleet deploy smoke --version 1.4.0 --timeout 60`
    """
    from fleet import Fleet
    from fleet.agent import installed_agents
    from fleet.operations.canaries import canaries

    fleet = Fleet.from_env()
    given = _read_payloads(payloads)
    chosen, notes = canaries(fleet.settings.config, installed_agents(), pool or [], given)
    deadline = time.monotonic() + timeout
    tried = [_try(fleet, canary, tenant, version, deadline) for canary in chosen]
    passed = bool(tried) and not any(each.problem for each in tried)
    if as_json:
        rows = [asdict(each) for each in tried]
        print_json({"passed": passed, "canaries": rows, "notes": notes})
    else:
        console().print(table(tried, TRIED_COLUMNS))
        for note in notes:
            say(note)
        say("all canaries succeeded" if passed else "the deployment does not work", err=not passed)
    raise typer.Exit(0 if passed else 1)


@app.command()
def watch(
    version: Annotated[
        str, typer.Option(help="The new version. Default: that of the newest agent.")
    ] = "",
    watch_for: Annotated[
        str,
        typer.Option("--for", metavar="TIME", help="How long to watch: 90s, 10m. 0s: judge now."),
    ] = "10m",
    baseline: Annotated[
        str, typer.Option(metavar="TIME", help="Tasks that ended in this time before count too.")
    ] = "1h",
    max_errors: Annotated[
        float, typer.Option(min=0, max=1, help="How much higher its error rate may be.")
    ] = 0.02,
    max_slower: Annotated[
        float, typer.Option(min=1, help="By which factor its p95 run time may be longer.")
    ] = 1.25,
    max_dearer: Annotated[
        float, typer.Option(min=1, help="By which factor its tasks may cost more.")
    ] = 1.25,
    min_tasks: Annotated[
        int, typer.Option(min=1, help="Tasks of a request type that are needed to judge it.")
    ] = 20,
    as_json: JsonOption = False,
) -> None:
    """Watch a new version, then compare its error rate, p95 run time and cost with the old one.

    The version is FLEET_VERSION of the workers. All other agents are the old version. The exit
    status is 0 if the new version does no worse, else 1 with the reasons; also if there were too
    few tasks to judge. A difference counts if it is no accident (1 %).

    Example: `fleet deploy watch --version 1.4.0 --for 10m`
    """
    from fleet.operations.rollout import VersionWatch, newest_version
    from fleet.operations.rules.rollout import Tolerance, compare

    watch_seconds, before = duration(watch_for, "--for"), duration(baseline, "--baseline")
    connection = connect("read", "fleet deploy watch")
    chosen = version or newest_version(connection)
    seen = VersionWatch(connection, chosen)
    since = connection.tasks.records.now_us() / 1e6 - before
    _watch(seen, chosen, watch_seconds)
    old, new = seen.runs(since)
    verdict = compare(old, new, Tolerance(max_errors, max_slower, max_dearer, min_tasks))
    if as_json:
        print_json({"version": chosen, **asdict(verdict)})
    else:
        _show(verdict, chosen)
    raise typer.Exit(0 if verdict.passed else 1)


def duration(text: str, option: str) -> float:
    """Seconds from `90s`, `10m`, `1h`, `2d`. Raises `InvalidRequest`."""
    from fleet.errors import InvalidRequest

    number, unit = text[:-1], text[-1:]
    if unit not in UNITS or not number.isascii() or not number.isdigit():
        raise InvalidRequest(f"{option} {text}: no time; give a number and s, m, h or d: 10m")
    return float(int(number) * UNITS[unit])


def _read_payloads(path: Path | None) -> dict[str, dict[str, Any]]:
    import json

    from fleet.errors import InvalidRequest

    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"--payloads {path}: cannot be read as JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise InvalidRequest(f"--payloads {path}: has to be an object of request types: payloads")
    return found


def _try(fleet: Fleet, canary: Canary, tenant: str, version: str, deadline: float) -> Tried:
    """Submit a canary, again while agents of other versions take it, and wait for its end."""
    from fleet.errors import FleetError

    while True:
        try:
            task = fleet.submit(
                canary.request_type, canary.payload, tenant=tenant, pool=canary.pool
            )
        except FleetError as error:
            reason = str(error)
            return Tried(canary.agent_type, canary.request_type, "", "", "refused", None, 0, reason)
        tried = _await(canary, task, max(0.0, deadline - time.monotonic()))
        if not version or tried.agent in _agents_of(fleet, version):
            return tried
        if time.monotonic() > deadline:
            return replace(tried, problem=f"no agent of version {version} took it in time")


def _agents_of(fleet: Fleet, version: str) -> set[str]:
    return {agent.id for agent in fleet.agents() if agent.version == version}


def _await(canary: Canary, task: Task, seconds_left: float) -> Tried:
    from fleet.errors import ResultTimeout

    try:
        record = task.wait(seconds_left)
        problem = "" if record.state == "succeeded" else f"it ended as {record.state}"
        if record.error:
            problem += f": {record.error['message']}"
    except ResultTimeout:
        record = task.record()
        task.cancel()
        problem = f"it had not ended in time and was {record.state}; it is cancelled"
    return Tried(
        canary.agent_type,
        canary.request_type,
        task.id,
        record.agent,
        record.state,
        record.run_seconds,
        record.cost_nanodollars / 1e9,
        problem,
    )


def _watch(seen: VersionWatch, version: str, watch_seconds: float) -> None:
    """Note the version's agents until the time is over. Redis may be away for a while."""
    from fleet.errors import InvalidRequest, RetryLater

    began = time.monotonic()
    with counting(f"watching {version}", round(watch_seconds)) as show:
        while True:
            with suppress(RetryLater):
                seen.note_agents()
            left = began + watch_seconds - time.monotonic()
            show(round(watch_seconds - left))
            if left <= 0:
                break
            time.sleep(min(POLL_SECONDS, left))
    if not seen.agents:
        raise InvalidRequest(
            f"no agent of version {version} has been seen; start workers with "
            f"FLEET_VERSION={version}, or correct --version. `fleet agents --json` shows versions"
        )


def _show(verdict: Verdict, version: str) -> None:
    console().print(table(verdict.types, TYPE_COLUMNS))
    if verdict.passed:
        say(f"version {version} does no worse than the old one")
    for reason in verdict.reasons:
        say(reason, err=True)


def _pair(old: str, new: str) -> str:
    return f"{old} -> {new}"


def _usd(amount: float) -> str:
    return dollars(round(amount * 1e9))


TRIED_COLUMNS: tuple[Column[Tried], ...] = (
    Column("agent type", lambda row: row.agent_type),
    Column("task", lambda row: row.task, whole=True),
    Column("agent", lambda row: row.agent),
    Column("state", lambda row: state(row.state)),
    figure("seconds", lambda row: seconds(row.seconds)),
    Column("problem", lambda row: row.problem),
)
TYPE_COLUMNS: tuple[Column[TypeComparison], ...] = (
    Column("request type", lambda row: row.request_type),
    figure("tasks", lambda row: _pair(str(row.old.tasks), str(row.new.tasks))),
    figure("errors", lambda r: _pair(f"{r.old.error_rate:.1%}", f"{r.new.error_rate:.1%}")),
    figure("p95", lambda row: _pair(seconds(row.old.p95_seconds), seconds(row.new.p95_seconds))),
    figure("cost", lambda row: _pair(_usd(row.old.mean_usd), _usd(row.new.mean_usd))),
    Column("judged", lambda row: "yes" if row.judged else "too few tasks"),
)
