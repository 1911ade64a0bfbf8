"""A task and its result for people, by what the result holds.

Results are shown from the JSON that is stored with the task, since the command line may not
know the agents' own code. A result of a user's own agent is shown as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from textwrap import indent
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from fleet.cli.dead_tables import dead_note
from fleet.cli.history import history_view
from fleet.cli.money_notes import model_note, parked_note, uncertain_note
from fleet.cli.output import dollars, moment, seconds
from fleet.cli.saved import saved_view
from fleet.cli.steps import steps_view
from fleet.cli.tables import state

if TYPE_CHECKING:
    from fleet.tasks.checkpoints_store import Saved
    from fleet.tasks.store import TaskRecord

WIDE_PLACE = 48
SEVERITY_STYLES = {"high": "bold red", "medium": "yellow", "low": "cyan"}


def record_view(record: TaskRecord, saved: Sequence[Saved] = ()) -> Group:
    """All of a task: its facts, its steps, what is saved of them, its error if it has one, its
    result if it has one."""
    parts: list[RenderableType] = [_facts(record), *steps_view(record), *saved_view(saved)]
    parts += history_view(record)
    if record.error:
        parts.append(Text(f"{record.error['type']}: {record.error['message']}", style="red"))
    if record.result is not None:
        parts += [Text(), result_view(record.agent_type, record.result)]
    return Group(*parts)


def result_view(agent_type: str, result: dict[str, Any], most_findings: int | None = None) -> Group:
    """A result in the way of its agent type; the gravest `most_findings` only, where given."""
    if agent_type == "code_generator":
        return code_view(result)
    if agent_type == "security_scanner":
        return findings_view(result, most_findings)
    if agent_type == "performance_tester":
        return timings_view(result)
    return Group(_highlighted(json.dumps(result, indent=2), "json"))


def code_view(result: dict[str, Any]) -> Group:
    """Generated code and whether it passed its checks."""
    attempts = result["attempts"]
    tries = f"{len(attempts)} attempt{'' if len(attempts) == 1 else 's'}"
    if not result["verified"]:
        # The code that is shown is the best attempt's, which need not be the last one.
        shown = [each["message"] for each in attempts if each["code"] == result["code"]]
        problem = shown[-1] if shown else "there was no answer"
        verdict = Text(f"not verified after {tries}: {problem}", style="bold yellow")
    elif result["tests_run"]:
        passed = result["asserts_passed"]
        verdict = Text(f"its tests passed ({passed} asserts held, {tries})", style="green")
    else:
        verdict = Text(f"it parses and has no errors; no tests were given ({tries})", "green")
    return Group(_highlighted(indent(result["code"], "  "), "python"), verdict)


def _highlighted(text: str, language: str) -> Text:
    """Code in colours. As a text, since a `Syntax` fills its lines with spaces to the margin."""
    coloured = Syntax("", language, background_color="default").highlight(text.strip("\n"))
    coloured.rstrip()
    return coloured


def findings_view(result: dict[str, Any], most: int | None = None) -> Group:
    """Findings of a scan as a table, gravest first, with the triage."""
    findings = result["findings"]
    counts = ", ".join(f"{number} {grade}" for grade, number in result["counts"].items())
    head = f"{len(findings)} findings ({counts}) in {result['files_scanned']} files"
    parts: list[RenderableType] = [Text(head, style="bold")]
    if findings:
        parts.append(_findings_table(findings[:most]))
    if most is not None and len(findings) > most:
        parts.append(Text(f"and {len(findings) - most} more"))
    triage = result.get("triage")
    if triage:
        parts += [Text(f"Fix first (written by {triage['written_by']}):"), Text(triage["text"])]
    return Group(*parts)


def _findings_table(findings: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id")
    table.add_column("severity")
    places = [f"{finding['file']}:{finding['line']}" for finding in findings]
    table.add_column("where", overflow="fold", min_width=min(WIDE_PLACE, max(map(len, places))))
    table.add_column("CWE", justify="right")
    table.add_column("what")
    for finding, place in zip(findings, places, strict=True):
        table.add_row(
            finding["id"],
            Text(finding["severity"], style=SEVERITY_STYLES[finding["severity"]]),
            place,
            str(finding["cwe"] or "-"),
            _in_short(finding["message"]),
        )
    return table


def _in_short(message: str) -> str:
    """What a scanner says up to its first break, unless that comes after a word or two."""
    return re.split(r"(?<=.{20})[.,;:] ", message, maxsplit=1)[0].rstrip(".")


def timings_view(result: dict[str, Any]) -> Group:
    """Timings of a performance test, with their intervals and the verdict on each variant."""
    confidence = f"{result['confidence']:.0%}"
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("variant")
    for heading in ("median", f"{confidence} interval", "p95", "spread"):
        table.add_column(heading, justify="right", no_wrap=True)
    for timing in result["timings"]:
        interval = f"{short(timing['median_low'])} to {short(timing['median_high'])}"
        figures = (short(timing[name]) for name in ("p95", "spread"))
        table.add_row(timing["name"], short(timing["median"]), interval, *figures)
    verdicts = [Text(_verdict(each, confidence)) for each in result["comparisons"]]
    if result["same_result"] is False:
        verdicts.append(Text("the variants do not give the same result", style="bold red"))
    return Group(table, *verdicts)


def _verdict(comparison: dict[str, Any], confidence: str) -> str:
    """The verdict in words: `193 times as fast` reads better than 0.00518 times as long."""
    ratio, low, high = (comparison[key] for key in ("ratio", "low", "high"))
    relation = "takes {:.3g} times as long as"
    if comparison["verdict"] == "faster":
        relation = "is {:.3g} times as fast as"
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    return (
        f"{comparison['verdict']}: {comparison['name']} {relation.format(ratio)} "
        f"{comparison['reference']} ({confidence} interval {low:.3g} to {high:.3g})"
    )


def short(duration: float) -> str:
    """A time in seconds in the unit that suits it, with three digits: `1.25 ms`."""
    for length, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if duration >= length:
            return f"{duration / length:.3g} {unit}"
    return f"{duration / 1e-9:.3g} ns"


def _attempts(record: TaskRecord) -> str:
    crashes = f", {record.crashes} ended in a crash" if record.crashes else ""
    retries = f", {record.retries} put back to be tried again" if record.retries else ""
    return f"{record.attempts}{crashes}{retries}"


def isolation_note(result: dict[str, Any] | None) -> str:
    """In which isolation the task's code ran; empty where it is no task that runs code."""
    if not result or "isolation" not in result:
        return ""
    isolation = result["isolation"]
    if isolation == "rlimits":
        return "rlimits: limits only, the code could read files and use the network"
    return str(isolation) or "none: no code was run"


def _facts(record: TaskRecord) -> Table:
    table = Table.grid(padding=(0, 2))
    tokens = f"{record.input_tokens} in, {record.output_tokens} out"
    rows: tuple[tuple[str, str | Text], ...] = (
        ("task", record.id),
        ("state", state(record.state)),
        ("waits", parked_note(record)),
        ("not before", moment(record.not_before) if record.state == "delayed" else ""),
        ("request", f"{record.request_type} for {record.tenant}, complexity {record.complexity:g}"),
        ("where", f"{record.agent or 'no agent yet'}, pool {record.pool or '-'}"),
        ("model", f"{record.model or '-'}, tokens {tokens}, {dollars(record.cost_nanodollars)}"),
        ("downgrade", model_note(record)),
        ("uncertain", uncertain_note(record)),
        ("submitted", moment(record.submitted)),
        ("took", f"wait {seconds(record.wait_seconds)}, run {seconds(record.run_seconds)}"),
        ("attempts", _attempts(record)),
        ("dead letter", dead_note(record)),
        ("retry of", record.retry_of),
        ("retried as", record.retried_as),
        ("progress", record.progress or "-"),
        ("summary", record.summary or "-"),
        ("isolation", isolation_note(record.result)),
        ("rating", "-" if record.rating is None else f"{record.rating:g}"),
    )
    for name, value in rows:
        if not value:
            continue
        table.add_row(Text(name, style="dim"), value)
    return table
