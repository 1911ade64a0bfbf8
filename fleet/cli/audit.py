"""`fleet audit`: who changed controls, secrets and grants, who read secrets, and whether the audit
was tampered with."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from fleet.cli.connect import connect
from fleet.cli.output import (
    ByOption,
    JsonOption,
    LimitOption,
    WhyOption,
    console,
    dollars,
    moment,
    print_json,
    say,
)
from fleet.cli.rows import Column, CsvOption, figure, print_rows, table

if TYPE_CHECKING:
    from fleet.access.rules import Role
    from fleet.audit.log import AuditLog
    from fleet.audit.rules import AuditEntry, Chain, Head, Problem, Verdict
    from fleet.secrets.anchor import Anchors

app = typer.Typer(
    invoke_without_command=True,
    help="Show, verify and export the audit: changes of controls, secrets and grants, and reads of "
    "secrets.\n\nExample: `fleet audit verify`",
)

Kind = Literal["changes", "policy", "secret", "grant", "reads", "all"]
KindOption = Annotated[
    Kind,
    typer.Option("--kind", help="Which entries. `changes` are all but `reads`, reads of secrets."),
]
FileOption = Annotated[
    Path | None, typer.Option("--file", help="An export to verify, instead of the fleet's audit.")
]
AnchorOption = Annotated[
    str,
    typer.Option(
        "--anchor", metavar="SEQ:HASH", help="An anchor from beat's log, `audit anchored`."
    ),
]


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="audit")


@app.callback()
def audit(
    context: typer.Context,
    limit: LimitOption = 20,
    kind: KindOption = "changes",
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Without a command, it shows the newest entries."""
    if context.invoked_subcommand is None:
        show(limit, kind, as_json, as_csv)


@app.command()
def show(
    limit: LimitOption = 20,
    kind: KindOption = "changes",
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show entries, newest first. About 50,000 are kept.

    Example: `fleet audit show --kind reads --limit 50 --json`
    """
    rows = list(islice(_rows(_log(), kind), limit))
    if rows or as_json:
        print_rows(rows, ROWS, Row._asdict, as_json, as_csv)
    else:
        say("no changes yet" if kind == "changes" else "no entries yet")


@app.command()
def verify(file: FileOption = None, anchor: AnchorOption = "", as_json: JsonOption = False) -> None:
    """Check the chain of hashes, and compare it with the anchor in the store of secrets.

    The exit status is 0 if the chain is intact, else 1. The fleet may go on meanwhile.

    Example: `fleet audit verify`
    """
    from fleet.audit.rules import verify as verify_chain

    chain, anchors = _chain_of(file)
    at = _anchor(anchor, chain) if anchor else anchors.read() if anchors else None
    verdict = verify_chain(chain, at)
    if as_json:
        print_json(_verdict_json(verdict))
    else:
        _describe(verdict)
    if verdict.problems:
        raise typer.Exit(1)


@app.command()
def export(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file. Default: standard output.")
    ] = None,
) -> None:
    """Write all entries with their hashes as JSON lines, oldest first.

    Check the file with `fleet audit verify --file`.

    Example: `fleet audit export -o audit.jsonl`
    """
    from fleet.audit.export import export_lines
    from fleet.errors import InvalidRequest

    lines = export_lines(_log().chain())
    if output is None:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return
    try:
        with output.open("w") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        reason = f"{output} cannot be written ({error.strerror}); name another file"
        raise InvalidRequest(reason) from None


@app.command()
def accept(why: WhyOption, by: ByOption = "", as_json: JsonOption = False) -> None:
    """Let beat anchor the audit again after a break that was looked into.

    The broken places are still found. This is noted in the audit.

    Example: `fleet audit accept --why 'Redis was restored from a backup'`
    """
    from fleet.audit.origin import origin_here
    from fleet.policy.actor import actor_of
    from fleet.secrets.anchor import accept_broken

    actor = actor_of(by, why)
    log, anchors = _log_and_anchors("administer")
    problems = accept_broken(log, anchors, origin_here(actor.by), actor.why)
    if as_json:
        print_json({"accepted": [_problem_json(each) for each in problems]})
    else:
        say(f"{len(problems)} problems accepted; the anchor is at the end of the audit")


def _log() -> AuditLog:
    return _log_and_anchors()[0]


def _log_and_anchors(role: Role = "read") -> tuple[AuditLog, Anchors | None]:
    from fleet.secrets.anchor import anchors_of

    connection = connect(role, "fleet audit")
    return connection.policy.audit, anchors_of(connection.secrets)


def _chain_of(file: Path | None) -> tuple[Chain, Anchors | None]:
    """The chain to verify. An export is older than the anchor, so none belongs to it."""
    from fleet.audit.export import read_lines
    from fleet.errors import InvalidRequest

    if file is None:
        log, anchors = _log_and_anchors()
        return log.chain(), anchors
    try:
        with file.open() as lines:
            return read_lines(lines), None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} cannot be read ({error}); name an export") from None


def _anchor(text: str, chain: Chain) -> Head:
    """The anchor that a person names. It says nothing about trimming."""
    from fleet.audit.rules import Head, Point
    from fleet.errors import InvalidRequest

    seq, _, digest = text.partition(":")
    if not seq.isdecimal() or len(digest) != len(Head().last.hash):
        raise InvalidRequest(f"{text!r} is no anchor; write SEQ:HASH as in the log of beat")
    return Head(Point(int(seq), digest), chain.head.trimmed)


def _problem_json(problem: Problem) -> dict[str, Any]:
    return {"kind": problem.kind, "seq": problem.seq, "text": problem.text}


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "intact": verdict.is_intact,
        "first": verdict.first,
        "last": verdict.last,
        "trimmed": verdict.trimmed,
        "before_chain": verdict.before_chain,
        "anchored": verdict.anchored,
        "problems": [_problem_json(each) for each in verdict.problems],
    }


def _describe(verdict: Verdict) -> None:
    say(f"entries {verdict.first} to {verdict.last}" if verdict.last else "no entries")
    if verdict.trimmed:
        say(f"entries up to {verdict.trimmed} were trimmed")
    if verdict.before_chain:
        say(f"{verdict.before_chain} older entries have no hash and are not covered: an earlier "
            "version of Fleet wrote them")
    if verdict.anchored is None:
        say("no anchor: a chain that was rewritten as a whole is not found")
    else:
        say(f"anchored up to entry {verdict.anchored}")
    if verdict.problems:
        console().print(table(verdict.problems, PROBLEMS))
    else:
        say("intact")


class Row(NamedTuple):
    """A row of the audit. `at` is in seconds since 1970. An absent value is None."""

    id: str
    seq: int
    version: int | None
    kind: str
    about: tuple[str, ...]
    before: str | None
    after: str | None
    by: str
    where: str
    why: str
    times: int
    at: float


def _rows(log: AuditLog, kind: Kind) -> Iterator[Row]:
    for entry in log.newest():
        if kind in ("all", entry.kind) or (kind == "changes" and entry.kind != "reads"):
            yield from _rows_of(entry)


def _rows_of(entry: AuditEntry) -> Iterator[Row]:
    from fleet.policy.audit_store import is_change, policy_change

    facts, at = entry.facts, entry.at_ms / 1000
    if is_change(entry):
        change = policy_change(entry)
        yield Row(entry.id, entry.seq, change.version, change.kind, change.about,
                  change.before or None, change.after or None, change.by, "", change.why, 1, at)
        return
    by, where, why = (facts.get(name, "") for name in ("by", "where", "why"))
    for read in _reads(facts.get("reads", "")):
        used = (read["what"], read["path"], read["outcome"])
        yield Row(entry.id, entry.seq, read["version"], entry.kind, used, None, None,
                  by, where, why, read["times"], at - read["last_ms_ago"] / 1000)
    if entry.kind != "reads":
        about = tuple(filter(None, map(facts.get, ("what", "path", "about"))))
        version = int(facts.get("version", 0)) or None
        yield Row(entry.id, entry.seq, version, entry.kind, about, None, None,
                  by, where, why, 1, at)


def _reads(text: str) -> list[dict[str, Any]]:
    """The reads of a batch; none where the entry was tampered with."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    names = {"what", "path", "outcome", "version", "times", "last_ms_ago"}
    return [read for read in found if isinstance(read, dict) and names <= set(read)]


def _value(row: Row, value: str | None) -> str:
    """A value in a few words. A dash stands for no value."""
    if not value:
        return "-"
    if row.kind == "limit" and row.about[2] == "dollars" and value.isdigit():
        return dollars(int(value))
    if row.kind == "route":
        return str(json.loads(value)["strategy"])
    if row.kind == "size":
        workers, until_ms = json.loads(value)
        return f"{workers} workers" + (f" until {moment(until_ms / 1000)}" if until_ms else "")
    if row.kind == "emergency":
        tenants = json.loads(value)["tenants"]
        return f"on, except for {', '.join(tenants)}" if tenants else "on"
    return value


def _what(row: Row) -> str:
    version = f"version {row.version}" if row.version and row.kind in ("secret", "reads") else ""
    times = f"x {row.times}" if row.times > 1 else ""
    return " ".join(filter(None, (row.kind, *row.about, version, times)))


ROWS: tuple[Column[Row], ...] = (
    Column("time", lambda row: moment(row.at)),
    Column("by", lambda row: f"{row.by} at {row.where}" if row.where else row.by),
    Column("what", _what),
    Column("before", lambda row: _value(row, row.before)),
    Column("after", lambda row: _value(row, row.after)),
    Column("why", lambda row: row.why),
)
PROBLEMS: tuple[Column[Problem], ...] = (
    figure("entry", lambda problem: str(problem.seq)),
    Column("problem", lambda problem: problem.text),
)
