"""`fleet secrets`: set and look at secrets. No value is on a command line, nor shown unasked."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli import rotation
from fleet.cli.connect import guarded_connection
from fleet.cli.output import JsonOption, WhyOption, console, moment, print_json, say
from fleet.cli.rows import Column, CsvOption, figure, print_rows, table

if TYPE_CHECKING:
    from fleet.access.rules import Role
    from fleet.secrets.store import SecretStore
    from fleet.secrets.values import Secret, SecretVersion
    from fleet.tasks.connection import Connection

DEFAULT_FIELD = "api_key"
HIDDEN = "********"
MAX_INPUT_BYTES = 1_000_000

app = typer.Typer(
    no_args_is_help=True,
    help="Set, show and rotate secrets, such as the keys of providers."
    "\n\nExample: `fleet secrets set providers/openai`",
)

PathArgument = Annotated[
    str, typer.Argument(help="The path of the secret, such as providers/openai.")
]
FieldsArgument = Annotated[
    list[str] | None, typer.Argument(help="Names of fields. Default: api_key. Never values.")
]


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    rotation.add_to(app)
    parent.add_typer(app, name="secrets")


@app.command("set")
def set_(
    path: PathArgument,
    fields: FieldsArgument = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the value from standard input.")
    ] = False,
    file: Annotated[Path | None, typer.Option(help="Read the value from this file.")] = None,
    expected: Annotated[
        int | None,
        typer.Option(
            min=0, help="Write only if this is the newest version; 0: if there is none."
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Drop the fields that are not named.")
    ] = False,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write the next version of a secret. Values are asked for, without showing them.

    The other fields of the secret stay as they are. --stdin and --file give the value of one field,
    or of several as a JSON object.

    Example: `fleet secrets set providers/openai`
    """
    from fleet.secrets.values import check_field, check_fields, check_path

    names = fields or [DEFAULT_FIELD]
    check_path(path)
    for name in names:
        check_field(name)
    connection = connection_of("administer", path)
    store = connection.secrets.writable
    newest, kept = _newest(store, path)
    if expected is None:
        expected = newest
    rotation.check_writable(connection, path)
    values = values_of(names, stdin, file)
    check_fields(values)
    _note(connection, "set", path, expected + 1, why)
    version = store.write(path, values if replace else {**kept, **values}, expected)
    connection.secrets.forget(path)
    rotation.note_written(connection, path, version, why)
    hidden_by = _hidden_by(connection, path)
    if as_json:
        print_json(
            {"path": path, "version": version, "store": store.name, "hidden_by": hidden_by}
        )
        return
    say(f"{path}: version {version} written to the store {store.name}")
    if hidden_by:
        say(f"the store {hidden_by} comes first and has {path} too: processes use that one")


@app.command()
def get(
    path: PathArgument,
    fields: FieldsArgument = None,
    version: Annotated[
        int | None, typer.Option(min=0, help="A version. Default: the one in use.")
    ] = None,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show the values. This is written to the audit.")
    ] = False,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the fields of a secret, its version and its store. Values are hidden without --reveal.

    With --reveal and one field, only its value is printed.

    Example: `fleet secrets get providers/openai api_key --reveal`
    """
    connection = connection_of("administer" if reveal else "read", path)
    found = _version(connection, path, version)
    shown = _chosen(found, fields)
    if reveal:
        names = ", ".join(sorted(shown))
        _note(connection, "reveal", found.path, found.version, why or f"fields: {names}")
    values = shown if reveal else dict.fromkeys(shown, HIDDEN)
    if as_json:
        facts = {"path": found.path, "version": found.version, "store": found.store}
        print_json({**facts, "at": found.epoch, "fields": values if reveal else sorted(shown)})
    elif reveal and fields and len(fields) == 1:
        sys.stdout.write(f"{values[fields[0]]}\n")
    else:
        say(
            f"{found.path}: version {found.version} in the store {found.store}, written "
            f"{moment(found.epoch)}"
        )
        console().print(table(sorted(values.items()), FIELDS))


@app.command("list")
def list_(
    prefix: Annotated[str, typer.Argument(help="Only paths that begin with this.")] = "",
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List the paths of all secrets, and the stores that have them. No value is read.

    Example: `fleet secrets list providers/`
    """
    places: dict[str, list[str]] = {}
    connection, guard = guarded_connection()
    beginning = guard.secret_prefix(prefix)
    guard.check_secret("read", beginning)
    for store in connection.secrets.stores:
        for path in store.paths(beginning):
            places.setdefault(path, []).append(store.name)
    if places or as_json or as_csv:
        print_rows(sorted(places.items()), PATHS, _place_json, as_json, as_csv)
    else:
        say("no secrets yet; set one with `fleet secrets set PATH`")


@app.command()
def history(
    path: PathArgument,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show every version of a secret, newest first. No value is read.

    Example: `fleet secrets history providers/openai`
    """
    from fleet.errors import SecretNotFound

    rows: list[tuple[str, SecretVersion]] = []
    stores = connection_of("read", path).secrets.stores
    for store in stores:
        try:
            rows += [(store.name, each) for each in reversed(store.versions(path))]
        except SecretNotFound:
            continue
    if not rows:
        names = ", ".join(store.name for store in stores)
        raise SecretNotFound(f"no secret is stored at {path} (stores: {names})")
    print_rows(rows, VERSIONS, _version_json, as_json, as_csv)


def _note(connection: Connection, what: str, path: str, version: int, why: str) -> None:
    """Write an act to the audit before it is done. Raises `Unavailable` if Redis does not answer:
    then it is not done."""
    from fleet.access.access import Guard
    from fleet.audit.origin import origin_here

    guard = Guard(connection.access, connection.settings.environment.token)
    connection.policy.audit.act(what, path, version, origin_here(guard.actor("")), why)


def connection_of(role: Role, path: str) -> Connection:
    """The connection, if FLEET_TOKEN may use the secrets of this path. A tenant's token may use
    those under `tenants/NAME/`. Raises `NotAllowed`."""
    connection, guard = guarded_connection()
    guard.check_secret(role, path)
    return connection


def _newest(store: SecretStore, path: str) -> tuple[int, Mapping[str, str]]:
    """The newest version in a store, 0 if there is none, and the fields of the newest that is not
    destroyed."""
    from fleet.errors import SecretNotFound
    from fleet.secrets.store import newest_of

    newest = 0
    try:
        newest = newest_of(store.versions(path))
        return newest, store.read(path).fields
    except SecretNotFound:
        return newest, {}


def _version(connection: Connection, path: str, version: int | None) -> Secret:
    """A version of a secret: the one in use, else that of the store that secrets are written to."""
    if version is None:
        return connection.secrets.read(path)
    return connection.secrets.writable.read(path, version)


def _chosen(secret: Secret, fields: Sequence[str] | None) -> dict[str, str]:
    """The fields that are asked for, by default all. Raises `InvalidRequest` for an unknown one."""
    from fleet.errors import InvalidRequest
    from fleet.text import unknown

    for name in fields or ():
        if name not in secret.fields:
            raise InvalidRequest(unknown(f"field of {secret.path}", name, secret.fields))
    return {name: secret.fields[name] for name in fields or secret.fields}


def _hidden_by(connection: Connection, path: str) -> str | None:
    """The store that is asked before the one that secrets are written to, and has this path."""
    from fleet.errors import SecretNotFound

    secrets = connection.secrets
    for store in secrets.stores[: secrets.stores.index(secrets.writable)]:
        try:
            store.read(path)
        except SecretNotFound:
            continue
        return store.name
    return None


def values_of(names: Sequence[str], stdin: bool, file: Path | None) -> dict[str, str]:
    """The values of fields: asked for, or read from standard input or a file."""
    from fleet.errors import InvalidRequest

    if stdin and file is not None:
        raise InvalidRequest("give --stdin or --file, not both")
    if not stdin and file is None:
        return {name: _asked(name) for name in names}
    content = _content(file)
    if len(names) == 1:
        return {names[0]: content.removesuffix("\n").removesuffix("\r")}
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict) or set(found) != set(names):
        raise InvalidRequest(
            f"several fields are read as one JSON object with the keys {', '.join(names)}"
        )
    return found


def _content(file: Path | None) -> str:
    """The text of a file, or of standard input."""
    from fleet.errors import InvalidRequest

    try:
        if file is None:
            content = sys.stdin.buffer.read(MAX_INPUT_BYTES)
        else:
            with file.open("rb") as opened:
                content = opened.read(MAX_INPUT_BYTES)
        return content.decode()
    except OSError as error:
        raise InvalidRequest(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        raise InvalidRequest(f"{file or 'standard input'}: is no UTF-8 text") from None


def _asked(name: str) -> str:
    """A value that somebody types twice, without showing it."""
    from fleet.errors import InvalidRequest

    if not sys.stdin.isatty():
        raise InvalidRequest(
            "there is no terminal to ask for the value on; give it with --stdin or --file"
        )
    value: str = typer.prompt(name, hide_input=True, confirmation_prompt=True)
    return value


def _place_json(place: tuple[str, list[str]]) -> dict[str, Any]:
    path, stores = place
    return {"path": path, "stores": stores}


def _version_json(row: tuple[str, SecretVersion]) -> dict[str, Any]:
    store, found = row
    facts = {"version": found.version, "store": store, "at": found.epoch}
    return {**facts, "destroyed": found.destroyed}


FIELDS: tuple[Column[tuple[str, str]], ...] = (
    Column("field", lambda row: row[0]),
    Column("value", lambda row: row[1]),
)
PATHS: tuple[Column[tuple[str, list[str]]], ...] = (
    Column("path", lambda row: row[0]),
    Column("stores", lambda row: ", ".join(row[1])),
)
VERSIONS: tuple[Column[tuple[str, SecretVersion]], ...] = (
    figure("version", lambda row: str(row[1].version)),
    Column("store", lambda row: row[0]),
    Column("written", lambda row: moment(row[1].epoch)),
    Column("", lambda row: "destroyed" if row[1].destroyed else ""),
)
