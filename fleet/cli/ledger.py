"""`fleet ledger`: show, verify, export and correct the entries; compare them with bills."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fleet.cli.connect import connect, guarded_connection
from fleet.cli.output import (
    JsonOption,
    LimitOption,
    console,
    counting,
    dollars,
    moment,
    print_json,
    say,
)
from fleet.cli.rows import Column, CsvOption, figure, print_rows, table

if TYPE_CHECKING:
    from fleet.ledger.reading import LedgerFilter
    from fleet.ledger.rules.entries import LedgerEntry
    from fleet.ledger.rules.reconciliation import Billed, Compared
    from fleet.ledger.stores import LedgerStores
    from fleet.ledger.verification import Difference

app = typer.Typer(
    no_args_is_help=True,
    help="Show, verify, export and correct the ledger of all spend."
    "\n\nExample: `fleet ledger verify`",
)

DAY = "%Y-%m-%d"
ONLY = "Only entries"
Form = Literal["csv", "parquet", "json"]
FormOption = Annotated[Form, typer.Option("--format", help="The format to write.")]
Kind = Literal["step", "lost", "correction"]


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="ledger")


@app.command()
def show(
    limit: LimitOption = 20,
    tenant: Annotated[str | None, typer.Option(help=f"{ONLY} of this tenant.")] = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show the entries that are still in Redis, newest first.

    Example: `fleet ledger show --limit 50`
    """
    from fleet import Fleet

    entries = Fleet.from_env().ledger(limit, tenant)
    print_rows(entries, ENTRIES, lambda entry: entry._asdict(), as_json, as_csv)


@app.command()
def verify(as_json: JsonOption = False) -> None:
    """Recompute every counter and roll-up from the entries, and list the differences.

    The exit status is 0 without differences, else 1. The fleet may keep charging meanwhile.

    Example: `fleet ledger verify`
    """
    from fleet.ledger.verification import verify as verify_ledger

    with counting("entries read") as seen:
        found = verify_ledger(connect("read", "fleet ledger verify").ledger, seen)
    if as_json:
        shown = found._asdict() | {"differences": [each._asdict() for each in found.differences]}
        print_json({"adds_up": not found.differences, **shown})
    else:
        compared = f"{found.counters} counters and {found.rollups} sums of the roll-ups"
        say(f"{found.entries} entries, {dollars(found.amount)}; compared with {compared}")
        if found.differences:
            console().print(table(found.differences, DIFFERENCES))
        else:
            say("no differences: the ledger adds up")
    if found.differences:
        raise typer.Exit(1)


@app.command()
def export(
    form: FormOption = "csv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file. Default: standard output.")
    ] = None,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=[DAY], help="The first UTC day.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=[DAY], help="The last UTC day.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help=f"{ONLY} of this tenant.")] = None,
    request_type: Annotated[str | None, typer.Option(help=f"{ONLY} of this request type.")] = None,
    agent_type: Annotated[str | None, typer.Option(help=f"{ONLY} of this agent type.")] = None,
    pool: Annotated[str | None, typer.Option(help=f"{ONLY} of this pool.")] = None,
    model: Annotated[str | None, typer.Option(help=f"{ONLY} of this model.")] = None,
    provider: Annotated[str | None, typer.Option(help=f"{ONLY} of this provider.")] = None,
    kind: Annotated[Kind | None, typer.Option(help=f"{ONLY} of this kind.")] = None,
    task: Annotated[str | None, typer.Option(help=f"{ONLY} of this task.")] = None,
) -> None:
    """Write entries for other tools, archived ones included. Amounts are nano-dollars.

    An entry belongs to the day that it is counted in. A correction is counted on the day of the
    entry that it corrects.

    Example: `fleet ledger export --format parquet --from 2026-11-01 -o november.parquet`
    """
    from fleet.access.rules import Need
    from fleet.errors import InvalidRequest
    from fleet.ledger.reading import LedgerFilter

    if form == "parquet" and output is None:
        raise InvalidRequest("Parquet is a binary format; name a file with --output")
    days = (first.date() if first else None, last.date() if last else None)
    if days[0] and days[1] and days[1] < days[0]:
        raise InvalidRequest(f"--to {days[1]} is before --from {days[0]}; exchange them")
    connection, guard = guarded_connection()
    guard.check(Need("read"), "fleet ledger export")
    names = (guard.narrowed(tenant), request_type, agent_type, pool, model, provider)
    _export(connection.ledger, form, output, LedgerFilter(*days, *names, kind, task))


def _export(ledger: LedgerStores, form: Form, output: Path | None, wanted: LedgerFilter) -> None:
    import sys

    from fleet.ledger.exports import export as write
    from fleet.ledger.files import load_arrow
    from fleet.ledger.reading import LedgerReader

    if form == "parquet":
        # Checked before the slow reading of the ledger: the extra may be missing.
        load_arrow()
    reader = LedgerReader(ledger)
    with counting("entries read", reader.length()) as seen:
        count = write(reader.matching(wanted, seen), form, output, sys.stdout.buffer)
    say(f"{count} entries written" + (f" to {output}" if output else ""), err=True)


@app.command()
def correct(
    entry: Annotated[str, typer.Argument(help="The entry's id, as `fleet ledger show` lists it.")],
    amount: Annotated[
        str, typer.Option(help="US dollars to add to the charge; negative to reduce it.")
    ],
    why: Annotated[str, typer.Option(help="The reason, shown in the ledger.")],
    once: Annotated[
        str | None, typer.Option(help="A name of your own. Repeating it corrects nothing twice.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Correct the charge of an entry. This adds an entry, in the same windows as the first one.

    Example: `fleet ledger correct 1795560000000-0 --amount -0.25 --why "the provider billed less"`
    """
    from getpass import getuser
    from uuid import uuid4

    from fleet.access.rules import Need
    from fleet.errors import InvalidRequest
    from fleet.ledger.reading import LedgerReader
    from fleet.ledger.usage_exports import nanodollars

    try:
        nano = nanodollars(amount)
    except ValueError as error:
        raise InvalidRequest(f"--amount: {error}; write US dollars, such as -0.25") from None
    connection, guard = guarded_connection()
    guard.check(Need("administer", whole_fleet=True), "fleet ledger correct")
    ledger, by = connection.ledger, guard.actor(getuser())
    found = LedgerReader(ledger).find(entry)
    made = ledger.entries.correct(found, nano, by, why, once or uuid4().hex)
    if as_json:
        print_json({"correction": made, "of": entry, "amount": nano})
    else:
        say(f"{entry} is corrected by {made}: {_signed(nano)}")


@app.command()
def reconcile(
    file: Annotated[Path, typer.Argument(help="A provider's usage export, as CSV.")],
    tolerance: Annotated[
        str, typer.Option(help="US dollars by which a model's day may differ.")
    ] = "0.01",
    provider: Annotated[
        str | None, typer.Option(help="Compare all ledger entries of this provider.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a provider's usage export with the ledger, by UTC day and model.

    The file has the columns date (YYYY-MM-DD), model, input_tokens (cached tokens included),
    output_tokens and cost_usd. The columns cached_input_tokens and requests are optional. Lines of
    the same day and model, such as those of several keys, are summed. A difference is the bill
    minus the ledger. The exit status is 1 if a day and model differ by more than the tolerance.

    Example: `fleet ledger reconcile openai-november.csv --provider openai`
    """
    from fleet.errors import InvalidRequest
    from fleet.ledger.reconciliation import reconcile as compare
    from fleet.ledger.usage_exports import nanodollars

    try:
        allowed = nanodollars(tolerance)
    except ValueError as error:
        raise InvalidRequest(f"--tolerance: {error}; write US dollars, such as 0.01") from None
    ledger = connect("read", "fleet ledger reconcile").ledger
    found = compare(ledger.rollups, file, allowed, provider)
    if as_json:
        lines = [_compared_json(line) for line in found.differing]
        print_json({"agrees": found.agrees, "compared": len(found.lines), "differences": lines})
    else:
        say(f"{len(found.lines)} days and models compared; {len(found.differing)} differ")
        if found.differing:
            console().print(table(found.differing, COMPARED))
    if not found.agrees:
        raise typer.Exit(1)


def _compared_json(line: Compared) -> dict[str, Any]:
    """A day and model for programs. Amounts are nano-dollars."""
    return {
        **line.key._asdict(),
        "billed": line.billed._asdict(),
        "ledger": line.ledger._asdict(),
        "difference": line.difference._asdict(),
    }


def _signed(nanodollars: int) -> str:
    """An amount that may be negative."""
    return f"-{dollars(-nanodollars)}" if nanodollars < 0 else dollars(nanodollars)


def _surplus(of: Callable[[Billed], int]) -> Callable[[Compared], str]:
    return lambda line: f"{of(line.difference):+d}"


ENTRIES: tuple[Column[LedgerEntry], ...] = (
    Column("id", lambda entry: entry.id, whole=True),
    Column("time", lambda entry: moment(entry.epoch)),
    Column("kind", lambda entry: entry.kind),
    Column("task", lambda entry: entry.task, whole=True),
    Column("tenant", lambda entry: entry.tenant),
    Column("pool", lambda entry: entry.pool),
    Column("model", lambda entry: entry.model),
    figure("in", lambda entry: str(entry.input)),
    figure("out", lambda entry: str(entry.output)),
    figure("amount", lambda entry: _signed(entry.amount)),
    Column("usage", lambda entry: f"of {entry.of}: {entry.why}" if entry.of else entry.usage),
)
DIFFERENCES: tuple[Column[Difference], ...] = (
    Column("where", lambda each: str(each[0])),
    Column("of", lambda each: str(each[1])),
    Column("window", lambda each: str(each[2])),
    Column("figure", lambda each: str(each[3])),
    figure("entries", lambda each: str(each[4])),
    figure("stored", lambda each: str(each[5])),
)
COMPARED: tuple[Column[Compared], ...] = (
    Column("day", lambda line: line.key[0]),
    Column("model", lambda line: line.key[1]),
    figure("billed", lambda line: _signed(line.billed.amount)),
    figure("ledger", lambda line: _signed(line.ledger.amount)),
    figure("difference", lambda line: _signed(line.difference.amount)),
    figure("input", _surplus(lambda billed: billed.input)),
    figure("cached", _surplus(lambda billed: billed.cached)),
    figure("output", _surplus(lambda billed: billed.output)),
    figure("requests", _surplus(lambda billed: billed.requests)),
)
