"""`fleet secrets rotate`, `revoke` and `status`: new versions, and who still uses the old ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.connect import guarded_connection
from fleet.cli.output import ByOption, JsonOption, WhyOption, console, moment, print_json, say
from fleet.cli.rows import Column, figure, table

if TYPE_CHECKING:
    from fleet.secrets.rotation import Rotations, SecretStatus, Who
    from fleet.secrets.rules.rotation import ProcessReport, Rotation
    from fleet.tasks.connection import Connection

PathArgument = Annotated[str, typer.Argument(help="The path of the secret.")]


def add_to(app: typer.Typer) -> None:
    """Give the command group `fleet secrets` these commands."""
    app.command()(rotate)
    app.command()(revoke)
    app.command()(status)


def rotate(
    path: PathArgument,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an unfinished rotation.")
    ] = False,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the new value from standard input.")
    ] = False,
    file: Annotated[Path | None, typer.Option(help="Read the new value from this file.")] = None,
    by: ByOption = "",
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make, test and finish a new version of a secret. Every process uses it from then on.

    The previous version is revoked by beat when no process uses it any more. If the rotator makes
    no values, the new one is asked for, without showing it. Exit status 1: the current version
    stays.

    Example: `fleet secrets rotate providers/openai`
    """
    from fleet.cli.secrets import DEFAULT_FIELD, connection_of, values_of

    connection = connection_of("administer", path)
    rotations = _rotations(connection)
    brought = None
    if rotations.needs_value(path) or stdin or file is not None:
        brought = values_of([DEFAULT_FIELD], stdin, file)
    if resume:
        rotation = rotations.resume(path, brought)
    else:
        rotation = rotations.rotate(path, _who(connection, by, why or "by hand"), brought)
    assert rotation.current is not None
    if as_json:
        print_json(_rotation_json(rotation))
        return
    say(f"{path}: version {rotation.current.version} is current")
    for each in rotation.previous:
        say(f"version {each.version} is revoked when no process uses it: `fleet secrets status`")


def revoke(
    path: PathArgument,
    version: Annotated[int, typer.Argument(min=1, help="The version.")],
    force: Annotated[
        bool, typer.Option("--force", help="Even if processes use it. Their calls may fail.")
    ] = False,
    by: ByOption = "",
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Revoke a previous version, or abandon an unfinished rotation by its version.

    Refused while a live process may use the version, unless --force is given with --why.

    Example: `fleet secrets revoke providers/openai 3`
    """
    from fleet.cli.secrets import connection_of
    from fleet.errors import InvalidRequest

    if force and not why.strip():
        raise InvalidRequest("--force: give the reason with --why")
    connection = connection_of("administer", path)
    who = _who(connection, by, why or "by hand")
    _rotations(connection).revoke(path, version, who, force=force)
    if as_json:
        print_json({"path": path, "version": version, "stage": "revoked"})
    else:
        say(f"{path}: version {version} is revoked")


def status(
    path: Annotated[str, typer.Argument(help="A path. Default: all that are rotated.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show the rotation of secrets: stages, what is due, and which processes have which version.

    Example: `fleet secrets status providers/openai`
    """
    connection, guard = guarded_connection()
    beginning = guard.secret_prefix(path)
    guard.check_secret("read", beginning)
    rotations = _rotations(connection)
    found, reports = rotations.status(path), rotations.reports()
    found = [each for each in found if each.rotation.path.startswith(beginning)]
    if as_json:
        print_json([_status_json(each, reports) for each in found])
    elif not found:
        say('no secret is rotated; add [secrets.rotation."PATH"] to fleet.toml')
    else:
        console().print(table(found, STATUS))
        _print_details(found, reports, is_single=bool(path))


def _print_details(
    found: Sequence[SecretStatus], reports: Sequence[ProcessReport], is_single: bool
) -> None:
    for each in found:
        if each.rotation.failure:
            say(
                f"\n{each.rotation.path}: failed {each.rotation.failures} times, tried again at "
                f"{moment(each.rotation.retry_at)}: {each.rotation.failure}"
            )
    if is_single:
        rows = [(each, report) for each in found for report in reports]
        say(f"\n{len(rows)} live processes read secrets that are rotated")
        if rows:
            console().print(table(rows, PROCESSES))


def check_writable(connection: Connection, path: str) -> None:
    """Raise `InvalidRequest` if the path's rotation is unfinished: nobody may write it then."""
    if path in connection.settings.config.secrets.rotation:
        _rotations(connection).check_writable(path)


def note_written(connection: Connection, path: str, version: int, why: str) -> None:
    """Have every process use the version that was written by hand, if the path is rotated."""
    if path in connection.settings.config.secrets.rotation:
        who = _who(connection, "", why or "set by hand")
        _rotations(connection).note_written(path, version, who)


def _rotations(connection: Connection) -> Rotations:
    from fleet.secrets.configured_rotations import rotations_of

    return rotations_of(
        connection.settings, connection.rotations, connection.secrets, connection.policy.audit
    )


def _who(connection: Connection, by: str, why: str) -> Who:
    from fleet.access.access import Guard
    from fleet.policy.actor import routine_actor
    from fleet.secrets.rotation import Who

    guard = Guard(connection.access, connection.settings.environment.token)
    actor = routine_actor(guard.actor(by), why)
    return Who(actor.by, actor.why)


def _rotation_json(rotation: Rotation) -> dict[str, Any]:
    """A rotation for programs. Times are in seconds since 1970; an absent value is null."""
    current, unfinished = rotation.current, rotation.unfinished
    return {
        "path": rotation.path,
        "current": current.version if current else None,
        "unfinished": unfinished.version if unfinished else None,
        "versions": [
            {"version": each.version, "stage": each.stage, "since": each.since}
            for each in rotation.versions
        ],
        "by": rotation.by or None,
        "why": rotation.why or None,
        "failures": rotation.failures,
        "failure": rotation.failure or None,
        "retry_at": rotation.retry_at or None,
    }


def _status_json(found: SecretStatus, reports: Sequence[ProcessReport]) -> dict[str, Any]:
    rotation = found.rotation
    return {
        **_rotation_json(rotation),
        "set": found.rule.set if found.rule else None,
        "due": found.due,
        "held_by": {version: len(holders) for version, holders in found.held_by.items()},
        "processes": [_process_json(found, report) for report in reports],
    }


def _process_json(found: SecretStatus, report: ProcessReport) -> dict[str, Any]:
    path = found.rotation.path
    return {
        "process": report.process,
        "agent": report.agent or None,
        "seconds_ago": round(report.age, 3),
        "acknowledged": report.generation >= found.generation,
        "version": report.loaded.get(path),
        "in_use": {version: uses for (at, version), uses in report.in_use.items() if at == path},
    }


def _stage(found: SecretStatus) -> str:
    unfinished = found.rotation.unfinished
    return f"{unfinished.stage} (version {unfinished.version})" if unfinished else "finished"


def _current(found: SecretStatus) -> str:
    current = found.rotation.current
    return str(current.version) if current else "-"


def _previous(found: SecretStatus) -> str:
    held = (
        f"{version} ({len(holders)} processes)" for version, holders in found.held_by.items()
    )
    return ", ".join(held) or "-"


def _due(found: SecretStatus) -> str:
    if found.due is None:
        return "by hand"
    needs = " (bring a value)" if found.rule and found.rule.by_person else ""
    return ("now" if found.due <= time.time() else moment(found.due)) + needs


def _uses(row: tuple[SecretStatus, ProcessReport]) -> str:
    uses = _process_json(*row)["in_use"]
    return ", ".join(f"{count} of version {version}" for version, count in uses.items()) or "-"


STATUS: tuple[Column[SecretStatus], ...] = (
    Column("path", lambda each: each.rotation.path, whole=True),
    figure("current", _current),
    Column("rotation", _stage),
    Column("previous, held by", _previous),
    Column("next due", _due),
    Column("last by", lambda each: each.rotation.by or "-"),
)
PROCESSES: tuple[Column[tuple[SecretStatus, ProcessReport]], ...] = (
    Column("process", lambda row: row[1].process),
    Column("agent", lambda row: row[1].agent or "-"),
    figure("version", lambda row: str(row[1].loaded.get(row[0].rotation.path, "-"))),
    Column("new one acknowledged", lambda row: _yes(_process_json(*row)["acknowledged"])),
    Column("calls in progress", _uses),
    figure("reported", lambda row: f"{row[1].age:.0f} s ago"),
)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
