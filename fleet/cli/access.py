"""`fleet access`: tokens of tenants and operators, with their roles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fleet.cli.deploy import duration
from fleet.cli.output import ByOption, JsonOption, WhyOption, moment, print_json, say
from fleet.cli.rows import Column, CsvOption, print_rows
from fleet.errors import InvalidRequest

if TYPE_CHECKING:
    from fleet.access.administration import NewToken
    from fleet.access.rules import Grant, Identity

OWNER_ONLY = 0o600

app = typer.Typer(
    no_args_is_help=True,
    help="Grant tokens to tenants and operators, list, rotate and revoke them."
    "\n\nExample: `fleet access list`",
)

IdArgument = Annotated[str, typer.Argument(help="The token's id, as `fleet access list` shows it.")]
ExpiresOption = Annotated[
    str,
    typer.Option(
        "--expires", metavar="TIME", help="How long the token is valid: 12h, 90d."
    ),
]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", help="Write the token to this new file, for its owner's eyes only."),
]


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="access")


@app.command()
def grant(
    tenant: Annotated[str, typer.Argument(help="The tenant. None with --all-tenants.")] = "",
    role: Annotated[
        list[str] | None,
        typer.Option(help="submit, read, operate or administer. May be repeated."),
    ] = None,
    all_tenants: Annotated[
        bool, typer.Option("--all-tenants", help="A token for the whole fleet.")
    ] = False,
    expires: ExpiresOption = "",
    file: FileOption = None,
    why: WhyOption = "",
    by: ByOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a token, and show it once. It is valid until it expires or is revoked.

    Roles: submit (submit, cancel and rate tasks), read, operate (pools and routes; of the whole
    fleet), administer (everything). Tokens count where `access.mode` in fleet.toml is `tokens`.

    Example: `fleet access grant acme --role submit --role read --expires 90d --file acme.token`
    """
    from fleet import Fleet

    if bool(tenant) == all_tenants:
        raise InvalidRequest("name a tenant, or give --all-tenants for a token of the whole fleet")
    _check_file(file)
    seconds = duration(expires, "--expires") if expires else None
    fleet = Fleet.from_env()
    _show(fleet.grant_token(tenant, role or [], seconds=seconds, why=why, by=by), file, as_json)


@app.command("list")
def list_(as_json: JsonOption = False, as_csv: CsvOption = False) -> None:
    """List the tokens with their tenants, roles and expiry. A token itself cannot be shown again.

    Example: `fleet access list --json`
    """
    from fleet import Fleet

    found = [Row(*item) for item in Fleet.from_env().tokens().items()]
    if found or as_json:
        print_rows(found, TOKENS, lambda row: _json(row.id, row.grant), as_json, as_csv)
    else:
        say("no tokens yet; `fleet access grant` makes one")


@app.command()
def rotate(
    token: IdArgument,
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="How long the old token stays valid.")
    ] = "1h",
    expires: ExpiresOption = "",
    file: FileOption = None,
    why: WhyOption = "",
    by: ByOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a token with the rights of another, and show it once. The old one ends after a grace.

    The new token is valid for as long as the old one was, unless --expires says otherwise.

    Example: `fleet access rotate 3f9c2a7b1d04 --grace 24h --file acme.token`
    """
    from fleet import Fleet

    _check_file(file)
    left = duration(grace, "--grace")
    seconds = duration(expires, "--expires") if expires else None
    fleet = Fleet.from_env()
    made = fleet.rotate_token(token, grace=left, seconds=seconds, why=why, by=by)
    _show(made, file, as_json)


@app.command()
def revoke(
    token: IdArgument, why: WhyOption = "", by: ByOption = "", as_json: JsonOption = False
) -> None:
    """Take a token back. Every process refuses it within five seconds.

    Example: `fleet access revoke 3f9c2a7b1d04 --why "it was in a log"`
    """
    from fleet import Fleet
    from fleet.access.rules import whose

    found = Fleet.from_env().revoke_token(token, why=why, by=by)
    if as_json:
        print_json(_json(token, found))
    else:
        say(f"token {token} of {whose(found.tenant)} is revoked")


@app.command()
def whoami(as_json: JsonOption = False) -> None:
    """Show the tenant, the roles and the expiry of FLEET_TOKEN.

    Example: `fleet access whoami`
    """
    from fleet import Fleet
    from fleet.access.rules import EVERYBODY, in_order

    found = Fleet.from_env().identity()
    if as_json:
        print_json({**_identity_json(found), "mode": "open" if found == EVERYBODY else "tokens"})
    elif found == EVERYBODY:
        say("access is open: each process that reaches Redis may do everything")
    else:
        roles = ", ".join(in_order(found.roles))
        say(f"{found.name}: {roles}; valid until {_until(found.expires)}")


def _check_file(file: Path | None) -> None:
    """Raise `InvalidRequest` before a token is made that could not be written."""
    if file is None:
        return
    if file.exists():
        raise InvalidRequest(f"--file {file}: it exists already; name a new file")
    if not file.absolute().parent.is_dir():
        raise InvalidRequest(f"--file {file}: its folder does not exist; create it or name another")


def _show(made: NewToken, file: Path | None, as_json: bool) -> None:
    """Show a new token, or write it to its file. It cannot be read again."""
    token = made.token.get_secret_value()
    if file is not None:
        try:
            file.touch(OWNER_ONLY, exist_ok=False)
            file.write_text(f"{token}\n")
        except OSError as error:
            raise InvalidRequest(
                f"--file {file}: {error.strerror}. Token {made.id} was made, but is "
                f"not written anywhere: `fleet access revoke {made.id}`, then name another file"
            ) from error
    if as_json:
        shown = {"token": token} if file is None else {"file": str(file)}
        print_json({**_json(made.id, made.grant), **shown})
    elif file is not None:
        say(f"token {made.id} is in {file}")
    else:
        say(token)
        say(f"token {made.id}: keep it now, it is not shown again; set it as FLEET_TOKEN", err=True)


class Row(NamedTuple):
    """A token's id, and what the token grants."""

    id: str
    grant: Grant


def _json(token_id: str, grant: Grant) -> dict[str, Any]:
    """A token for programs. Times are seconds since 1970; a tenant of null is the whole fleet."""
    from fleet.access.rules import in_order

    return {
        "id": token_id,
        "tenant": grant.tenant or None,
        "roles": in_order(grant.roles),
        "made": grant.made,
        "by": grant.by,
        "expires": grant.expires,
        "successor": grant.successor or None,
    }


def _identity_json(found: Identity) -> dict[str, Any]:
    from fleet.access.rules import in_order

    return {
        "id": found.token_id or None,
        "tenant": found.tenant or None,
        "roles": in_order(found.roles),
        "expires": found.expires,
    }


def _until(expires: float | None) -> str:
    return "it is revoked" if expires is None else moment(expires)


def _roles(row: Row) -> str:
    from fleet.access.rules import in_order

    return ", ".join(in_order(row.grant.roles))


TOKENS: tuple[Column[Row], ...] = (
    Column("id", lambda row: row.id, whole=True),
    Column("tenant", lambda row: row.grant.tenant or "(whole fleet)"),
    Column("roles", _roles),
    Column("made", lambda row: moment(row.grant.made)),
    Column("by", lambda row: row.grant.by),
    Column("valid until", lambda row: _until(row.grant.expires)),
    Column("replaced by", lambda row: row.grant.successor or "-", whole=True),
)
