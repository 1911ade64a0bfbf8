"""Exports entries of the ledger for other tools: CSV, JSON or Parquet, page by page.

Amounts and estimates are nano-dollars. CSV and JSON also have the time, as ISO 8601 in UTC.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from fleet.errors import InvalidRequest
from fleet.ledger.files import as_table, load_arrow, schema, whole_file
from fleet.ledger.rules.entries import LedgerEntry

Pages = Iterable[list[LedgerEntry]]

COLUMNS = ("time", *LedgerEntry._fields)


def export(pages: Pages, form: str, target: Path | None, output: IO[bytes]) -> int:
    """Write entries to the `target` file, or to `output` without one. Returns how many.

    The file appears once it is complete. Raises `InvalidRequest` if it cannot be written.
    """
    try:
        with _opened(target, output) as file:
            return FORMATS[form](pages, file)
    except OSError as error:
        raise InvalidRequest(
            f"{target or 'the output'}: cannot be written ({error.strerror}); name another file"
        ) from error


def _opened(target: Path | None, output: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    return _whole(target) if target else nullcontext(output)


@contextmanager
def _whole(target: Path) -> Any:
    with whole_file(target) as part, part.open("wb") as file:
        yield file
        file.flush()


def _csv(pages: Pages, file: IO[bytes]) -> int:
    writer = csv.writer(_Text(file))
    writer.writerow(COLUMNS)
    count = 0
    for entries in pages:
        writer.writerows((_time(entry), *entry) for entry in entries)
        count += len(entries)
    return count


def _json(pages: Pages, file: IO[bytes]) -> int:
    """One array with an object for each entry, one line each."""
    count = 0
    file.write(b"[")
    for entries in pages:
        for entry in entries:
            shown = json.dumps({"time": _time(entry), **entry._asdict()})
            file.write(b"%s\n%s" % (b"," if count else b"", shown.encode()))
            count += 1
    file.write(b"\n]\n")
    return count


def _parquet(pages: Pages, file: IO[bytes]) -> int:
    _, pq = load_arrow()
    count = 0
    with pq.ParquetWriter(file, schema()) as writer:
        for entries in pages:
            if entries:
                writer.write_table(as_table(entries))
            count += len(entries)
    return count


FORMATS: dict[str, Callable[[Pages, IO[bytes]], int]] = {
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
}


class _Text:
    """Writes text to a binary file."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def write(self, text: str) -> int:
        return self.file.write(text.encode())


def _time(entry: LedgerEntry) -> str:
    return datetime.fromtimestamp(entry.epoch, UTC).isoformat(timespec="milliseconds")
