"""The audit as JSON lines: an entry on each line, oldest first, and the head on the last one.

    {"id": "1796092150756-0", "fields": {"seq": "1", "at": "1796092150756", ..., "hash": "..."}}
    {"head": [1, "..."], "trimmed": [0, "..."]}

The fields are in the order written, on which the hashes depend.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from fleet.audit.rules import AuditEntry, Chain, Head, Point
from fleet.errors import InvalidRequest


def export_lines(chain: Chain) -> Iterator[str]:
    """The lines of a chain, without line ends."""
    for entry in chain.entries:
        yield json.dumps({"id": entry.id, "fields": entry.fields})
    yield json.dumps({"head": chain.head.last, "trimmed": chain.head.trimmed})


def read_lines(lines: Iterable[str]) -> Chain:
    """The chain of an export. Without the last line the chain has no head, and is not intact.

    Raises `InvalidRequest` for a line that no export has.
    """
    entries: list[AuditEntry] = []
    head = Head()
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
            if "head" in found:
                head = Head(_point(found["head"]), _point(found["trimmed"]))
            else:
                entries.append(_entry(found))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InvalidRequest(
                f"line {number} is no line of `fleet audit export`; write the file anew"
            ) from None
    return Chain(entries, head)


def _point(found: Any) -> Point:
    seq, text = found
    return Point(int(seq), str(text))


def _entry(found: Any) -> AuditEntry:
    fields = {str(name): str(value) for name, value in found["fields"].items()}
    return AuditEntry(str(found["id"]), fields)
