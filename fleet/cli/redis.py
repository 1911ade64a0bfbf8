"""`fleet redis`: users of Redis with the rights that each kind of process needs."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fleet.cli.output import JsonOption, print_json, say

if TYPE_CHECKING:
    from fleet.operations.redis_users import RedisUser

app = typer.Typer(
    no_args_is_help=True,
    help="Write the rights of Redis users.\n\nExample: `fleet redis acl -o users.acl`",
)

Form = Literal["file", "commands"]
RolesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ROLE]...",
        help="producer, worker, beat, exporter, flower, keda, administrator. Default: all.",
    ),
]
PasswordsOption = Annotated[
    Path | None,
    typer.Option(
        "--passwords",
        help="A folder with a file for each role, which has its password. A file that is missing "
        "is made. Default: redis-passwords in the data folder.",
    ),
]


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="redis")


@app.callback()
def redis() -> None:
    """Commands on users of Redis."""


@app.command()
def acl(
    roles: RolesArgument = None,
    passwords: PasswordsOption = None,
    form: Annotated[
        Form,
        typer.Option("--format", help="An ACL file, or ACL SETUSER commands for redis-cli."),
    ] = "file",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file. Default: standard output.")
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", help="A plain Celery queue that the fleet serves, or a pattern."),
    ] = None,
    without_selectors: Annotated[
        bool,
        typer.Option("--without-selectors", help="For Redis 6.2: wider, rights are not by key."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a user for each role, with the commands and keys that it needs and no others.

    Only hashes of passwords are written. An ACL file turns the user `default` off.

    Example: `fleet redis acl --queue shop -o users.acl`
    """
    from fleet.errors import InvalidRequest
    from fleet.operations.redis_users import redis_users
    from fleet.redis.acl import AclPlace
    from fleet.redis.keys import Keys
    from fleet.redis.roles import ROLES
    from fleet.settings import load_settings
    from fleet.settings.addresses import redis_address
    from fleet.text import unknown

    for name in roles or ():
        if name not in ROLES:
            raise InvalidRequest(unknown("role", name, ROLES))
    for name in queue or ():
        if not name.isprintable() or any(each in " ()" for each in name) or not name:
            reason = "is no name of a queue in a rule; write it without spaces"
            raise InvalidRequest(f"{name!r} {reason}")
    settings = load_settings()
    database = redis_address(settings.broker_url).database
    place = AclPlace(Keys(settings.tag), database, tuple(queue or ()), not without_selectors)
    folder = passwords or settings.environment.data_dir / "redis-passwords"
    users = redis_users(settings.namespace, place, folder, roles or ROLES)
    if as_json:
        print_json([_user_json(user) for user in users])
    else:
        _write(_lines(users, form), output)


def _lines(users: list[RedisUser], form: Form) -> list[str]:
    if form == "commands":
        return [f"ACL SETUSER {' '.join(map(shlex.quote, user.words))}" for user in users]
    return ["user default off", *(f"user {' '.join(user.words)}" for user in users)]


def _write(lines: list[str], output: Path | None) -> None:
    """Write the file for its owner alone: a short password can be guessed from its hash."""
    from fleet.errors import InvalidRequest

    text = "".join(f"{line}\n" for line in lines)
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.unlink(missing_ok=True)
        with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        reason = f"{output} cannot be written ({error.strerror}); name another file"
        raise InvalidRequest(reason) from None
    say(f"{output} has {len(lines)} users; start Redis with --aclfile {output}, or run ACL LOAD")


def _user_json(user: RedisUser) -> dict[str, Any]:
    return {
        "user": user.name,
        "role": user.role.name,
        "purpose": user.role.purpose,
        "password_file": str(user.password_file),
        "password_hash": user.password_hash,
        "rule": list(user.rule),
    }
