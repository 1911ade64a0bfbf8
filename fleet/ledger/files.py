"""Parquet files of ledger entries: the archive, and exports for other tools.

A file of the archive is complete or does not exist: it is written under another name, synced to
disk and renamed. Its name has the ids of its first and last entry, so writing the same entries
again makes the same file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fleet.errors import InvalidConfig, Unavailable, extra_missing
from fleet.ledger.rules.entries import NUMBERS, LedgerEntry
from fleet.settings.data_folder import make_private

FOLDER = "ledger"
ROWS = 2000
"""The number of entries in memory while a file is read."""

PART = ".part"
LEFT_OVER_SECONDS = 86_400
"""A partial file of this age belongs to a process that died."""

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def load_arrow() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`: 60 MB that only the archive and Parquet need.

    Raises `InvalidConfig` if they are not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise extra_missing("a Parquet file of the ledger", "parquet") from error
    return pa, pq


def schema() -> pa.Schema:
    """The columns for an entry."""
    pa, _ = load_arrow()
    return pa.schema(
        [(name, pa.int64() if name in NUMBERS else pa.string()) for name in LedgerEntry._fields]
    )


class LedgerFiles:
    """The archive under a data folder. Every worker and reader must see the same folder."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / FOLDER

    def write(self, entries: Sequence[LedgerEntry]) -> str:
        """Write entries, in order, to one file. Returns its name.

        Raises `Unavailable` if this fails, `InvalidConfig` without pyarrow.
        """
        _, pq = load_arrow()
        day = datetime.fromtimestamp(entries[0].epoch, UTC).date()
        name = f"{day}/{entries[0].id}_{entries[-1].id}.parquet"
        path = self.folder / name
        try:
            make_private(self.folder.parent)
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_left_over(path.parent)
            with whole_file(path) as part:
                pq.write_table(as_table(entries), part, row_group_size=ROWS)
        except OSError as error:
            raise Unavailable(
                f"{path}: cannot be written ({error.strerror}); the entries stay in Redis"
            ) from error
        return name

    def read(self, name: str) -> Iterator[list[LedgerEntry]]:
        """The entries of a file, in order. Raises `InvalidConfig` if the file is missing or pyarrow
        is not installed."""
        with self._opened(name) as file:
            for batch in file.iter_batches(ROWS, columns=list(LedgerEntry._fields)):
                yield [LedgerEntry(**row) for row in batch.to_pylist()]

    def length(self, name: str) -> int:
        """The number of entries in a file. Raises `InvalidConfig` if the file is missing."""
        with self._opened(name) as file:
            return int(file.metadata.num_rows)

    @contextmanager
    def _opened(self, name: str) -> Iterator[pq.ParquetFile]:
        pa, pq = load_arrow()
        path = self.folder / name
        try:
            with pq.ParquetFile(path) as file:
                yield file
        except (OSError, pa.ArrowException) as error:
            raise InvalidConfig(
                f"{path}: a file of the ledger's archive cannot be read ({error}); set "
                "FLEET_DATA_DIR to the folder that the fleet's workers share"
            ) from error


def as_table(entries: Iterable[LedgerEntry]) -> pa.Table:
    """Entries as an Arrow table, one column for each field."""
    pa, _ = load_arrow()
    fields = schema()
    columns = list(zip(*entries, strict=True)) or [()] * len(fields)
    arrays = [pa.array(each, field.type) for each, field in zip(columns, fields, strict=True)]
    return pa.table(arrays, fields)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file to write, which replaces `path` once it is complete and on disk."""
    part = path.with_name(f".{path.name}.{uuid4().hex}{PART}")
    try:
        yield part
        _sync(part)
        part.replace(path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _drop_left_over(folder: Path) -> None:
    for path in folder.glob(f".*{PART}"):
        if time.time() - path.stat().st_mtime > LEFT_OVER_SECONDS:
            path.unlink(missing_ok=True)
